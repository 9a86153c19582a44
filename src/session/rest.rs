//! Does the service wait for its client, and if so, does the client have all that it asked for?
//!
//! A service that waits for its client does no work, for whatever reason: the client reads its
//! answer slowly or not at all, stops in the middle of a push, or has sent no command. Other
//! requests can use its permit until it works again. [`observe`] says whether it waits, once next
//! to nothing ([`LITTLE`]) has moved for [`STILL`].
//!
//! Such a client may be stuck, and `--timeout` ends its session. But a client of protocol version 2
//! keeps its connection open until it exits: after the pack has arrived it unpacks, resolves deltas
//! and writes a working tree, and sends no more commands. Such a session is *at rest*. It is at
//! rest when the service is upload-pack in version 2, the client has sent a command, the service
//! has answered, the client has acknowledged the whole answer, nothing has moved since, and git
//! waits in a read of the connection, so no answer is under way. (Counters are read every 25 ms
//! while they move. A client that gets an answer, begins the next command between two looks, and
//! stops in the middle of it counts as at rest too. So does any client that completes a command.)

use std::sync::OnceLock;
use std::time::Duration;
use std::{fs, process, thread};

use crate::net::watch::Counters;
use crate::protocol::request::Request;
use crate::protocol::service::Service;

/// How long next to nothing must have moved.
pub const STILL: Duration = Duration::from_millis(250);

/// The limit for next to nothing, in bytes: so few bytes occupy neither a processor nor a disk.
pub const LITTLE: u64 = 4 * 1024;

/// The limit for little memory, in pages: 16 MiB with pages of 4 KiB.
const LITTLE_MEMORY: u64 = 4096;

/// What has been sent in which direction, as far as counters can tell.
#[derive(Debug)]
pub struct Exchange {
    /// The length of the request; bytes after it are git's. `None` if the session cannot be at
    /// rest.
    request: Option<u64>,
    /// Whether the last bytes seen were the service's.
    answered: bool,
}

impl Exchange {
    /// Begins with `request`, which has so many bytes.
    pub fn new(request: &Request, bytes: usize) -> Self {
        let may_rest = request.version() == 2 && request.service == Service::UploadPack;
        Exchange { request: may_rest.then_some(bytes as u64), answered: false }
    }

    /// Whether a session of this kind can be at rest.
    pub fn may_rest(&self) -> bool {
        self.request.is_some()
    }

    /// Records what has moved since the last look.
    pub fn look(&mut self, before: Option<&Counters>, seen: &Counters) {
        let (sent, received) = before.map_or((0, 0), |before| (before.sent, before.received));
        if seen.sent > sent {
            self.answered = true;
        } else if seen.received > received {
            self.answered = false;
        }
    }

    /// Whether no command is under way, provided that the service waits for its client: see the
    /// module's documentation.
    pub fn is_over(&self, seen: &Counters) -> bool {
        self.request.is_some_and(|request| seen.received > request)
            && self.answered
            && seen.unacknowledged == 0
    }
}

/// The result of a look at a service's processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Observation {
    /// Whether the service waits for its client.
    pub waits: bool,
    /// Whether it waits in a read of its own, and not in a child's.
    pub reads: bool,
    /// Whether its own memory is little.
    pub light: bool,
}

impl Observation {
    /// The value for a service about which nothing is known.
    pub const WORKS: Observation = Observation { waits: false, reads: false, light: false };
}

/// What the service does, according to the last looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activity {
    /// It works.
    Works,
    /// It waits for its client.
    Waits {
        /// Whether it waits in a read, in which it may be stopped.
        reads: bool,
        /// Whether it holds little memory.
        light: bool,
    },
    /// Not looked at since bytes stopped moving.
    Unknown,
}

/// Looks at a service's processes. May block for as long as the file system from which one of them
/// executes a program: the kernel blocks the read until that is done.
pub fn observe(pid: u32) -> Observation {
    let waiting = waits_for_client(pid);
    let waits = waiting.is_some();
    Observation { waits, reads: waiting == Some(In::OwnRead), light: waits && holds_little(pid) }
}

/// Looks at a service that was just sent SIGSTOP. Until it has left the processor it seems to run.
pub fn observe_stopped(pid: u32) -> Observation {
    const TRIES: u32 = 200;
    for _ in 0..TRIES {
        if is_stopped(pid) {
            break;
        }
        thread::sleep(Duration::from_millis(1));
    }
    observe(pid)
}

/// Whether a process is stopped: the third field of proc_pid_stat(5), behind a name that may hold anything.
fn is_stopped(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T'))
}

/// Where a service waits for its client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum In {
    /// In a read of its own. It holds no lock there that other processes wait for.
    OwnRead,
    /// In a read of a child's, or in a write.
    Other,
}

/// Whether a service sleeps until its client sends or reads something. For receive-pack and
/// upload-archive a child reads from the client, through an inherited descriptor. A child that
/// produces an answer works until it is blocked in a write too.
fn waits_for_client(pid: u32) -> Option<In> {
    if !shows_our_processes() {
        return None;
    }
    let call = blocked_on(pid);
    if call == Some((libc::SYS_read, 0)) {
        return Some(In::OwnRead);
    }
    // Without CONFIG_PROC_CHILDREN it is unknown what else works for this service.
    let mut children = children(pid)?.into_iter();
    if call == Some((libc::SYS_write, 1)) {
        let writes = |child| blocked_on(child).is_some_and(|(call, _)| call == libc::SYS_write);
        let idle = |child| writes(child) || has_ended(child);
        return children.all(idle).then_some(In::Other);
    }
    let reads = |child| {
        let input = |pid| fs::read_link(format!("/proc/{pid}/fd/0")).ok();
        blocked_on(child) == Some((libc::SYS_read, 0))
            && input(child).is_some_and(|connection| input(pid) == Some(connection))
    };
    children.any(reads).then_some(In::Other)
}

/// Whether a process has ended and was not reaped. Any user may read this; only root may read its
/// system call.
fn has_ended(pid: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status.lines().any(|line| line.starts_with("State:\tZ"))
}

/// Whether /proc belongs to our own PID namespace. In another namespace's, our numbers are other
/// processes'.
fn shows_our_processes() -> bool {
    static SHOWS: OnceLock<bool> = OnceLock::new();
    *SHOWS.get_or_init(|| {
        fs::read_link("/proc/self")
            .is_ok_and(|name| name.as_os_str() == &*process::id().to_string())
    })
}

fn children(pid: u32) -> Option<Vec<u32>> {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
    Some(children.split_whitespace().filter_map(|child| child.parse().ok()).collect())
}

/// Whether a process has little memory of its own, not counting mapped files. After an answer
/// upload-pack may keep every commit of a long history in memory for the next one.
fn holds_little(pid: u32) -> bool {
    let pages = fs::read_to_string(format!("/proc/{pid}/statm")).unwrap_or_default();
    let mut pages = pages.split(' ').skip(1).map_while(|number| number.parse::<u64>().ok());
    let (Some(resident), Some(shared)) = (pages.next(), pages.next()) else { return false };
    resident.saturating_sub(shared) <= LITTLE_MEMORY
}

/// The system call that a process sleeps in, and its first argument. The kernel lets a parent read
/// this of its descendants; where it does not, no service counts as waiting and no session as at
/// rest.
fn blocked_on(pid: u32) -> Option<(libc::c_long, u64)> {
    let call = fs::read_to_string(format!("/proc/{pid}/syscall")).ok()?;
    let mut words = call.split_whitespace();
    let number = words.next()?.parse().ok()?;
    Some((number, u64::from_str_radix(words.next()?.strip_prefix("0x")?, 16).ok()?))
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command, Stdio};
    use std::time::Instant;

    use super::*;
    use crate::net::watch::Transport;

    fn exchange(payload: &[u8]) -> Exchange {
        let request = Request::parse(payload).unwrap();
        Exchange::new(&request, 50)
    }

    fn counters(sent: u64, received: u64, unacknowledged: u64) -> Counters {
        let (idle, transport) = (Duration::ZERO, Transport::Tcp);
        Counters { sent, received, unacknowledged, idle, transport }
    }

    #[test]
    fn only_version_2_of_upload_pack() {
        for (payload, rests) in [
            (&b"git-upload-pack /a\0host=x\0\0version=2\0"[..], true),
            (b"git-upload-pack /a\0host=x\0\0foo\0version=2\0", true),
            (b"git-upload-pack /a\0host=x\0\0version=20\0", false),
            (b"git-upload-pack /a\0host=x\0\0version=1\0", false),
            (b"git-upload-pack /a\0host=x\0", false),
            (b"git-receive-pack /a\0host=x\0\0version=2\0", false),
        ] {
            assert_eq!(exchange(payload).request.is_some(), rests, "{payload:?}");
        }
    }

    fn shell(script: &str) -> Command {
        let mut shell = Command::new("sh");
        shell.args(["-c", script]).stdin(Stdio::piped()).stdout(Stdio::piped());
        shell
    }

    /// A process that is killed when the test ends, even by a panic.
    struct Process(Child);

    impl Process {
        fn start(mut command: Command) -> Self {
            Process(command.spawn().unwrap())
        }

        fn id(&self) -> u32 {
            self.0.id()
        }

        #[track_caller]
        fn wait_until(&self, condition: impl Fn(u32) -> bool) {
            let deadline = Instant::now() + Duration::from_secs(30);
            while !condition(self.id()) {
                assert!(Instant::now() < deadline, "in vain");
                std::thread::yield_now();
            }
        }
    }

    impl Drop for Process {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    #[test]
    fn services_that_wait() {
        for script in ["exec cat", "exec cat /dev/zero", "cat; :"] {
            Process::start(shell(script)).wait_until(|pid| waits_for_client(pid).is_some());
        }
    }

    #[test]
    fn services_that_work() {
        let child = Process::start(shell("exec sleep 9"));
        child.wait_until(|pid| {
            blocked_on(pid).is_some_and(|call| call.0 == libc::SYS_clock_nanosleep)
        });
        assert_eq!(waits_for_client(child.id()), None);
        // A child that waits for something else, here for the pipe that is its standard output.
        let (another, _open) = std::io::pipe().unwrap();
        let mut command = shell("(exec cat <&1 >/dev/null); :");
        command.stdout(another);
        let child = Process::start(command);
        let reads = |pid| blocked_on(pid) == Some((libc::SYS_read, 0));
        child.wait_until(|pid| children(pid).unwrap().into_iter().any(reads));
        assert_eq!(waits_for_client(child.id()), None);
    }

    #[test]
    fn a_child_at_work_on_an_answer() {
        // The shell's own printf fills the pipe that is the connection.
        let filled = "sleep 9 & while :; do printf 0123456789abcdef; done";
        let child = Process::start(shell(filled));
        child.wait_until(|pid| blocked_on(pid) == Some((libc::SYS_write, 1)));
        assert_eq!(waits_for_client(child.id()), None);
        let [worker] = children(child.id()).unwrap()[..] else { panic!("one child") };
        // The shell is blocked in its write, so it does not reap the process.
        Command::new("kill").arg(worker.to_string()).status().unwrap();
        child.wait_until(|pid| waits_for_client(pid).is_some());
    }

    #[test]
    fn memory_of_its_own() {
        let mut child = Process::start(shell("exec tail -c 40000000"));
        assert!(holds_little(child.id()));
        let zeros = vec![0; 40_000_000];
        std::io::Write::write_all(child.0.stdin.as_mut().unwrap(), &zeros).unwrap();
        child.wait_until(|pid| !holds_little(pid));
        assert!(!holds_little(u32::MAX), "nothing is known of it");
    }

    #[test]
    fn an_answer_must_follow_a_command() {
        let mut exchange = exchange(b"git-upload-pack /a\0host=x\0\0version=2\0");
        let mut last = None;
        let mut over = |seen: Counters| {
            exchange.look(last.as_ref(), &seen);
            last = Some(seen);
            exchange.is_over(&seen)
        };
        assert!(!over(counters(300, 50, 0)), "the greeting alone");
        assert!(!over(counters(300, 90, 0)), "a command without an answer");
        assert!(!over(counters(300, 90, 700)), "an answer on its way");
        assert!(over(counters(1000, 90, 0)));
        assert!(!over(counters(1000, 93, 0)), "half of the next command");
        assert!(over(counters(1500, 120, 0)), "both between two looks");
    }
}
