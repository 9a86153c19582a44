//! What a server asks of the kernel for a request, counted by strace.

use std::collections::{BTreeMap, HashSet};
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
    /// Of those, the ones about files, reads and closes included: what the checks cost.
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
    let mut total = Counts::default();
    let mut by_name: BTreeMap<String, usize> = BTreeMap::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let number = path.extension().and_then(|number| number.to_str());
        let thread: Option<u32> = number.and_then(|number| number.parse().ok());
        let is_own = thread.is_some_and(|thread| own_threads.contains(&thread));
        let text = String::from_utf8_lossy(&fs::read(&path)?).into_owned();
        let mut files = Files::default();
        for line in text.lines() {
            let Some(name) = call(line) else { continue };
            total.all += 1;
            total.processes += usize::from(starts_a_process(name, line));
            // A search through PATH fails first.
            total.execs += usize::from(name == "execve" && line.ends_with("= 0"));
            if is_own {
                total.server += 1;
                total.files += usize::from(files.are_concerned(name, line));
                *by_name.entry(name.to_owned()).or_default() += 1;
            }
        }
    }
    let each = |count: usize| count as f64 / requests;
    let mut by_name: Vec<(String, f64)> =
        by_name.into_iter().map(|(name, n)| (name, each(n))).collect();
    by_name.retain(|(_, count)| *count >= 0.5);
    by_name.sort_by(|(_, one), (_, other)| other.total_cmp(one));
    Ok(Trace {
        server_calls: each(total.server),
        file_calls: each(total.files),
        all_calls: each(total.all),
        processes: each(total.processes),
        execs: each(total.execs),
        by_name,
    })
}

#[derive(Default)]
struct Counts {
    server: usize,
    files: usize,
    all: usize,
    processes: usize,
    execs: usize,
}

fn starts_a_process(name: &str, line: &str) -> bool {
    matches!(name, "fork" | "vfork" | "clone" | "clone3") && !line.contains("CLONE_THREAD")
}

/// The name of the system call in a line of strace, unless the line is about a signal or an exit.
fn call(line: &str) -> Option<&str> {
    let (name, _) = line.split_once('(')?;
    name.bytes()
        .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
        .then_some(name)
}

/// The files that one thread has open, to tell its reads of them from those of sockets.
#[derive(Default)]
struct Files {
    open: HashSet<String>,
}

impl Files {
    /// Whether the call names a file or acts on one that this thread has opened.
    fn are_concerned(&mut self, name: &str, line: &str) -> bool {
        const NAMING: [&str; 6] = ["open", "stat", "access", "readlink", "chdir", "xattr"];
        let first = line.split_once('(').map_or("", |(_, rest)| rest);
        let descriptor = first.split([',', ')']).next().unwrap_or_default();
        let acts = if name == "close" {
            self.open.remove(descriptor)
        } else {
            self.open.contains(descriptor)
        };
        if name.starts_with("open")
            && let Some((_, opened)) = line.rsplit_once("= ")
            && opened.bytes().all(|byte| byte.is_ascii_digit())
        {
            self.open.insert(opened.to_owned());
        }
        acts || NAMING.iter().any(|part| name.contains(part))
    }
}
