//! Processes seen through /proc, and signals sent to those the suite has started.

use std::fs;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use gitd::sys::wait::wait_readable;
use rustix::fs::{Mode, OFlags};
use rustix::process::{
    Pid, PidfdFlags, PidfdGetfdFlags, Signal, kill_process, pidfd_getfd, pidfd_open,
    pidfd_send_signal,
};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::DEADLINE;

/// Tries until it is so. The pause is no synchronisation: the condition is what counts.
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(3));
    }
}

/// Waits until there is something to read, or a client to accept, or the end of that.
pub fn await_readable(what: &str, source: impl AsFd) {
    assert!(wait_readable(source, Some(DEADLINE)).unwrap(), "waited in vain until {what}");
}

/// Writes into a named pipe as soon as it has a reader. Without NONBLOCK opening it would wait, for ever
/// without a reader.
pub fn write_to_reader(pipe: &Path, text: &str) {
    let flags = OFlags::WRONLY | OFlags::NONBLOCK;
    let mut opened = None;
    wait_until("the pipe has a reader", || {
        opened = rustix::fs::open(pipe, flags, Mode::empty()).ok();
        opened.is_some()
    });
    fs::File::from(opened.unwrap()).write_all(text.as_bytes()).unwrap();
}

pub fn signal(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(pid.cast_signed()).unwrap();
    kill_process(pid, signal).unwrap();
}

/// The processes whose parent is `pid`, zombies not among them.
pub fn children(pid: u32) -> Vec<u32> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap() {
        let name = entry.unwrap().file_name();
        let Some(candidate) = name.to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        if let Some(stat) = Stat::of(candidate)
            && stat.parent == pid
            && stat.state != 'Z'
        {
            found.push(candidate);
        }
    }
    found
}

/// All processes that there are: each with its parent and its processor time.
pub fn all() -> Vec<(u32, u32, Duration)> {
    let processes = fs::read_dir("/proc").unwrap().filter_map(|entry| {
        let pid = entry.unwrap().file_name().to_str()?.parse().ok()?;
        Stat::of(pid).map(|stat| (pid, stat.parent, stat.cpu))
    });
    processes.collect()
}

/// How many of its children have ended and were not waited for.
pub fn zombies(pid: u32) -> usize {
    let all = fs::read_dir("/proc").unwrap().filter_map(|entry| {
        let candidate = entry.unwrap().file_name().to_str()?.parse().ok()?;
        Stat::of(candidate)
    });
    all.filter(|stat| stat.parent == pid && stat.state == 'Z').count()
}

/// All processes below `pid`.
pub fn descendants(pid: u32) -> Vec<u32> {
    let mut found = children(pid);
    let mut next = 0;
    while next < found.len() {
        found.extend(children(found[next]));
        next += 1;
    }
    found
}

/// Its state as /proc has it: `T` when it is stopped, `Z` for a zombie; `None` when it is gone.
pub fn state(pid: u32) -> Option<char> {
    Stat::of(pid).map(|stat| stat.state)
}

/// Whether it runs: neither gone nor a zombie.
pub fn alive(pid: u32) -> bool {
    Stat::of(pid).is_some_and(|stat| stat.state != 'Z')
}

pub fn session(pid: u32) -> Option<u32> {
    Stat::of(pid).map(|stat| stat.session)
}

/// What a descriptor of a process is: `socket:[123]`, `/dev/null`, …
pub fn descriptor(pid: u32, number: u32) -> Option<PathBuf> {
    fs::read_link(format!("/proc/{pid}/fd/{number}")).ok()
}

/// Ends a child and everything below it: services ignore SIGTERM, and outlive a daemon that is killed.
pub fn end(child: &mut Child) {
    if child.try_wait().unwrap().is_some() {
        return;
    }
    kill_with_descendants(child.id());
    let _ = child.wait();
}

/// Of a process that has not been waited for yet.
fn kill_with_descendants(pid: u32) {
    for pid in [vec![pid], descendants(pid)].concat() {
        if let Some(pid) = Pid::from_raw(pid.cast_signed()) {
            // It may have ended with its parent.
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

/// Kills every process that runs below a directory of the test's own, or has a path below it among its arguments.
pub fn end_all_in(directory: &Path) {
    let is_there = |pid: u32| {
        let arguments = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let path = directory.as_os_str().as_bytes();
        fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd.starts_with(directory))
            || arguments.windows(path.len()).any(|part| part == path)
    };
    // One may start another before it is killed. One that a file system blocks ends later.
    for _ in 0..5 {
        let found: Vec<_> = all().into_iter().filter(|&(pid, ..)| is_there(pid)).collect();
        if found.is_empty() {
            return;
        }
        for (pid, ..) in found {
            let Some(process) = Pid::from_raw(pid.cast_signed()) else { continue };
            // The descriptor names this process alone, whatever its number means by now.
            if let Ok(process) = pidfd_open(process, PidfdFlags::empty())
                && is_there(pid)
            {
                let _ = pidfd_send_signal(&process, Signal::KILL);
            }
        }
        std::thread::sleep(Duration::from_millis(3));
    }
}

/// How long a program may take that does real work, such as a clone; a loaded machine is no failure.
const WORK: Duration = DEADLINE.saturating_mul(4);

/// Waits for the end of a program that ends by itself. One that does not is ended, with all below it, and fails the
/// test.
#[track_caller]
pub fn wait_for(child: &mut Child) -> ExitStatus {
    let deadline = Instant::now() + WORK;
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        if Instant::now() > deadline {
            end(child);
            panic!("a program still ran after {WORK:?}");
        }
        std::thread::sleep(Duration::from_millis(3));
    }
}

/// The same, with what it says on the way where that goes into pipes.
#[track_caller]
pub fn output_of(child: Child) -> Output {
    let pid = child.id();
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || sender.send(child.wait_with_output()));
    let Ok(output) = receiver.recv_timeout(WORK) else {
        kill_with_descendants(pid);
        panic!("a program still ran after {WORK:?}");
    };
    output.unwrap()
}

/// Runs a program to its end.
#[track_caller]
pub fn output(command: &mut Command) -> Output {
    output_of(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap())
}

/// A duplicate of what the only service of a daemon reads from: its client's socket.
pub fn socket_of_the_service(daemon: u32) -> OwnedFd {
    const STDIN: RawFd = 0;
    let mut services = Vec::new();
    wait_until("the service runs", || {
        services = children(daemon);
        // Before it becomes another program it may still lack its standard streams.
        let own = |pid| fs::read_link(format!("/proc/{pid}/exe")).ok();
        services.iter().any(|&service| own(service).is_some_and(|exe| Some(exe) != own(daemon)))
    });
    let [service] = services[..] else { panic!("{services:?}") };
    let service = Pid::from_raw(service.cast_signed()).unwrap();
    let service = pidfd_open(service, PidfdFlags::empty()).unwrap();
    pidfd_getfd(service, STDIN, PidfdGetfdFlags::empty()).unwrap()
}

/// Does something in the network of a process: sockets and devices stay where they were made.
pub fn in_network_of<T: Send>(pid: u32, work: impl FnOnce() -> T + Send) -> T {
    let network = fs::File::open(format!("/proc/{pid}/ns/net")).unwrap();
    std::thread::scope(|scope| {
        let worker = scope.spawn(|| {
            // This thread alone moves; it ends here.
            let kind = Some(LinkNameSpaceType::Network);
            move_into_link_name_space(network.as_fd(), kind).unwrap();
            work()
        });
        worker.join().unwrap()
    })
}

/// Where a program is in PATH.
pub fn installed(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap();
    let mut places = std::env::split_paths(&path).map(|directory| directory.join(program));
    places.find(|place| place.is_file())
}

/// Whether none of its threads runs or waits for its turn.
pub fn idle(pid: u32) -> bool {
    let mut threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    // One that has ended meanwhile does not run either.
    let stat = |thread: fs::DirEntry| fs::read_to_string(thread.path().join("stat")).ok();
    let runs = |text: String| Stat::parse(&text).is_some_and(|stat| stat.state == 'R');
    !threads.any(|thread| stat(thread.unwrap()).is_some_and(runs))
}

/// How many descriptors a process has open.
pub fn descriptors(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

/// The processor time of a process's threads, also of those that have ended; zero once the process has been waited for.
pub fn cpu_time(pid: u32) -> Duration {
    Stat::of(pid).map_or(Duration::ZERO, |stat| stat.cpu)
}

/// A line of /proc/PID/status, e.g. `Uid`.
pub fn status(pid: u32, name: &str) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    Some(line.trim().to_owned())
}

/// Whether some process listens on the port, in this network namespace.
pub fn listening(port: u16) -> bool {
    !listeners(port).is_empty()
}

/// The local addresses on which the port is listened to, as /proc/net/tcp writes them.
pub fn listeners(port: u16) -> Vec<String> {
    let mut found = Vec::new();
    for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
        let Ok(text) = fs::read_to_string(table) else {
            continue;
        };
        for line in text.lines().skip(1) {
            let mut columns = line.split_whitespace().skip(1);
            let (Some(local), Some(_), Some("0A")) =
                (columns.next(), columns.next(), columns.next())
            else {
                continue;
            };
            let Some((address, number)) = local.rsplit_once(':') else {
                continue;
            };
            if u16::from_str_radix(number, 16) == Ok(port) {
                found.push(address.to_owned());
            }
        }
    }
    found
}

struct Stat {
    state: char,
    parent: u32,
    session: u32,
    cpu: Duration,
}

impl Stat {
    fn of(pid: u32) -> Option<Self> {
        Self::parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    fn parse(text: &str) -> Option<Self> {
        // The name in parentheses may hold anything.
        let (_, rest) = text.rsplit_once(") ")?;
        let mut fields = rest.split(' ');
        let state = fields.next()?.chars().next()?;
        let parent = fields.next()?.parse().ok()?;
        let session = fields.nth(1)?.parse().ok()?;
        let ticks = |field: Option<&str>| field?.parse::<u64>().ok();
        // USER_HZ is 100 wherever Linux runs.
        let (user, system) = (ticks(fields.nth(7))?, ticks(fields.next())?);
        Some(Self { state, parent, session, cpu: Duration::from_millis(10 * (user + system)) })
    }
}
