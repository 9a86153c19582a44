//! The server that all of it happens to, with a network and a mount of its own.

use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, mpsc};
use std::time::{Duration, Instant};

use super::fuse::Fuse;
use crate::readiness::line::Place;
use crate::readiness::site::{invocation, scratch};
use crate::support::process::descendants;
use crate::support::{Daemon, Git, Scratch};

/// How many services may be at work.
pub const PLACES: usize = 4;

/// How many connections without a request there may be, and how many requests that wait.
pub const PENDING: usize = 40;
pub const QUEUE: usize = 20;

/// How many repositories there are to push to.
pub const OWN: usize = 4;

/// How long after an outage TCP may take to find its way again.
const RECOVERY: Duration = Duration::from_secs(5);

/// The fields are dropped in this order: processes that wait for the file system can be ended only after it.
pub struct Site {
    pub fuse: Fuse,
    pub daemon: Daemon,
    pub unix: PathBuf,
    pub scratch: Scratch,
    /// Whether all threads are to stop.
    over: AtomicBool,
    network: Mutex<Network>,
}

struct Network {
    up: bool,
    since: Instant,
}

impl Site {
    /// The repositories are those of [`Stage`](crate::readiness::stage::Stage) and `/hang.git`, whose hook hangs for
    /// longer than others; all of them are below `/hung` too, on a file system that can stop.
    pub fn start() -> Self {
        let scratch = scratch();
        let all = ["hang.git".to_owned()].into_iter().chain((0..OWN).map(own));
        all.for_each(|name| drop(scratch.bare(name)));
        let hook = "#!/bin/sh\ncase $2 in */slow.git) sleep 0.5 ;; */hang.git) sleep 3 ;; esac\n";
        let hook = scratch.script("chaotic-hook", hook);
        let unix = scratch.root().join("Socket");
        let limits = [
            ("max-connections", PLACES),
            ("max-queue", QUEUE),
            ("max-pending", PENDING),
            ("queue-timeout", 10),
            ("timeout", 5),
            ("init-timeout", 5),
            // gitd itself comes first.
            ("nice", 5),
        ];
        let invocation = invocation(&scratch)
            .args(limits.map(|(name, value)| format!("--{name}={value}")))
            .option("--access-hook", hook)
            .arg("--mptcp")
            .listen(&["127.0.0.1", &format!("unix:{}", unix.display())])
            .namespace("--net")
            .shell("ip link set lo up");
        let (fuse, invocation) =
            Fuse::mount(invocation, &scratch.repos(), &scratch.directory("hung"));
        let network = Mutex::new(Network { up: true, since: Instant::now() });
        let daemon = invocation.start();
        Self { fuse, daemon, unix, scratch, over: AtomicBool::new(false), network }
    }

    pub fn place(&self) -> Place<'_> {
        Place { address: self.daemon.address(), unix: &self.unix }
    }

    pub fn pid(&self) -> u32 {
        self.daemon.pid()
    }

    pub fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    pub fn end(&self) {
        self.over.store(true, Ordering::Relaxed);
    }

    /// Loopback goes down or up. For a thread in the daemon's network.
    pub fn switch_network(&self, up: bool) {
        let mut network = self.network.lock().unwrap();
        *network = Network { up, since: Instant::now() };
        let state = if up { "up" } else { "down" };
        let status = Command::new("ip").args(["link", "set", "lo", state]).status();
        assert!(status.unwrap().success());
    }

    /// Whether the network has been well since `begun`, and long enough before it.
    pub fn network_was_well(&self, begun: Instant) -> bool {
        let network = self.network.lock().unwrap();
        network.up && begun.checked_duration_since(network.since).is_some_and(|t| t > RECOVERY)
    }

    /// Does `work`. From `late` on, lists what the server's processes do, for as long as it takes.
    pub fn watch_processes<T>(&self, late: Duration, work: impl FnOnce() -> T) -> (T, String) {
        /// Between two lists.
        const PAUSE: Duration = Duration::from_millis(300);
        let (done, wait) = mpsc::channel::<()>();
        std::thread::scope(|scope| {
            let lists = scope.spawn(move || {
                let mut lists = String::new();
                let mut pause = late;
                while wait.recv_timeout(pause) == Err(mpsc::RecvTimeoutError::Timeout) {
                    lists.push_str(&self.processes());
                    pause = PAUSE;
                }
                lists
            });
            let result = work();
            drop(done);
            (result, lists.join().unwrap())
        })
    }

    /// The server's descendants, one a line, and where in the kernel each of them is.
    fn processes(&self) -> String {
        let pids = descendants(self.pid()).into_iter().map(|pid| pid.to_string());
        let mut pids: Vec<String> = pids.collect();
        pids.push(self.pid().to_string());
        let columns = "pid,ppid,pgid,stat,etimes,cputimes,wchan:20,args";
        let ps = Command::new("ps").args(["-o", columns, "-p", &pids.join(",")]).output();
        format!("\n{}", String::from_utf8_lossy(&ps.unwrap().stdout))
    }

    /// A git client's command in the scratch directory.
    pub fn git(&self) -> Git {
        Git::new(&self.scratch)
    }
}

/// A repository to push to.
pub fn own(number: usize) -> String {
    format!("own{number}.git")
}
