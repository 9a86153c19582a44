//! What a server asks of the kernel for a request, counted by strace.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::protocol::{self, Target, Writes};
use crate::repositories::SMALL;
use crate::server::Server;
use crate::{Result, procfs};

/// All divided by the number of requests.
#[derive(Default)]
pub(crate) struct Trace {
    /// By the threads of the server itself, with its service's before exec if it is spawned like by vfork.
    pub(crate) server_calls: f64,
    /// Of those, the ones that look at the file system: what the checks cost.
    pub(crate) file_calls: f64,
    pub(crate) all_calls: f64,
    pub(crate) processes: f64,
    pub(crate) execs: f64,
    /// The server's own, the most frequent first.
    pub(crate) by_name: Vec<(String, f64)>,
}

/// Traces `server`, which ends with it. `None` when there is no strace, or when it may not trace.
pub(crate) fn requests(server: Server, requests: usize, scratch: &Path) -> Result<Option<Trace>> {
    let directory = scratch.join("trace");
    fs::create_dir_all(&directory)?;
    let target = Target::new(&server, SMALL);
    protocol::ls_remote(&target, Writes::Whole)?;
    server.settle()?;
    let Some(mut strace) = attach(&server, &directory)? else {
        return Ok(None);
    };
    for _ in 0..requests {
        protocol::ls_remote(&target, Writes::Whole)?;
        server.settle()?;
    }
    let own_threads = procfs::threads(server.pid())?;
    // With its last tracee strace ends, and has written all.
    drop(server);
    strace.wait()?;
    let trace = count(&directory, &own_threads, requests as f64)?;
    fs::remove_dir_all(&directory)?;
    Ok(Some(trace))
}

fn attach(server: &Server, directory: &Path) -> Result<Option<Child>> {
    let pid = server.pid().to_string();
    let strace = Command::new("strace")
        .args(["-f", "-ff", "-qq", "-o"])
        .arg(directory.join("calls"))
        .args(["-p", &pid])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let Ok(mut strace) = strace else {
        return Ok(None);
    };
    let deadline = Instant::now() + Duration::from_secs(5);
    while !procfs::is_traced(server.pid())? {
        if strace.try_wait()?.is_some() || Instant::now() > deadline {
            let _ = strace.kill();
            strace.wait()?;
            return Ok(None);
        }
        thread::sleep(Duration::from_millis(5));
    }
    Ok(Some(strace))
}

/// strace has written a file for each thread, with its number as extension.
fn count(directory: &Path, own_threads: &[u32], requests: f64) -> Result<Trace> {
    let mut trace = Trace::default();
    let mut by_name: BTreeMap<String, f64> = BTreeMap::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let thread = path
            .extension()
            .and_then(|number| number.to_str())
            .and_then(|number| number.parse().ok());
        let is_own = thread.is_some_and(|thread| own_threads.contains(&thread));
        let text = String::from_utf8_lossy(&fs::read(&path)?).into_owned();
        for (name, line) in text.lines().filter_map(|line| Some((call(line)?, line))) {
            trace.all_calls += 1.0 / requests;
            match name {
                "fork" | "vfork" => trace.processes += 1.0 / requests,
                "clone" | "clone3" if !line.contains("CLONE_THREAD") => {
                    trace.processes += 1.0 / requests
                }
                // A shell's or posix_spawnp's search through PATH fails first.
                "execve" if line.ends_with("= 0") => trace.execs += 1.0 / requests,
                _ => {}
            }
            if is_own {
                trace.server_calls += 1.0 / requests;
                trace.file_calls += if looks_at_files(name, line) { 1.0 / requests } else { 0.0 };
                *by_name.entry(name.to_owned()).or_default() += 1.0 / requests;
            }
        }
    }
    trace.by_name = by_name.into_iter().filter(|(_, count)| *count >= 0.5).collect();
    trace.by_name.sort_by(|(_, one), (_, other)| other.total_cmp(one));
    Ok(trace)
}

/// The name of the system call in a line of strace, unless the line is about a signal or an exit.
fn call(line: &str) -> Option<&str> {
    let (name, _) = line.split_once('(')?;
    name.bytes()
        .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
        .then_some(name)
}

/// Calls that name a file, and reads and closes are left to the total: they also serve the socket.
fn looks_at_files(name: &str, line: &str) -> bool {
    let names_a_file = ["open", "stat", "access", "readlink", "getdents", "getcwd", "getxattr"];
    names_a_file.iter().any(|part| name.contains(part)) && !line.contains("/proc/self/fd")
}
