//! Mixed work at four times what may run: fetch, clone, push, archive, clients that are killed, bad input. Every
//! answer is correct or says that the server is busy, and gitd's resources do not grow.
//!
//! The suite runs gitd as cargo builds it for tests, with debug assertions and checked arithmetic. A panic is a line of
//! the log, and the test looks for one at the end.
//!
//! It takes about a minute; `GITD_SOAK=1800 cargo test --test suite -- --ignored --nocapture load::soak` works for half
//! an hour. Both print the tables of `docs/benchmarks.md`. All of it has a lower priority than the tests that run
//! beside it.

mod work;

use std::path::Path;
use std::time::Duration;

use rustix::process::Pid;
use work::{CLIENTS, PLACES, Site};

use super::Resources;
use crate::support::process::{children, descriptors, status, wait_until, zombies};
use crate::support::{Daemon, Gitd, Scratch};

/// How many requests may wait. Sixteen clients sometimes exceed this and the permits together.
const QUEUE: usize = 10;

/// Memory that is needed once is not growth; by then all of it has been allocated.
const LONGEST_WARMING: u64 = 60;

#[test]
#[ignore = "works for a minute"]
fn mixed_work() {
    let seconds = std::env::var("GITD_SOAK").map_or(60, |seconds| seconds.parse().unwrap());
    let scratch = Scratch::new();
    let options =
        [("max-connections", PLACES), ("max-queue", QUEUE), ("timeout", 60), ("nice", 10)];
    let daemon = Gitd
        .serve(&scratch)
        .quiet()
        .args(options.map(|(name, value)| format!("--{name}={value}")))
        .args(["--queue-timeout=20", "--enable=receive-pack", "--enable=upload-archive"])
        .start();
    let site = Site::prepare(&scratch, &daemon);
    let start = Resources::of(&daemon);
    let warming = (seconds / 5).min(LONGEST_WARMING);
    let half = (seconds - warming) / 2;
    let mut at_rest = Vec::new();
    let mut columns = Vec::new();
    for (name, duration) in [("warming up", warming), ("first half", half), ("second half", half)] {
        let mut most = Usage::default();
        site.work(Duration::from_secs(duration), || most = most.max(Usage::of(daemon.pid())));
        nothing_is_left(&scratch, &daemon);
        at_rest.push(Resources::of(&daemon));
        columns.push((format!("{name}, at most"), most));
        columns.push(("at rest after it".to_owned(), Usage::of(daemon.pid())));
    }
    report(&site, seconds, &columns);
    assert!(descriptors(daemon.pid()) <= start.descriptors);
    at_rest[1].assert_back(&daemon);
    site.assert_every_kind();
    let log = daemon.log.since(0);
    for wrong in ["internal error", "panicked", "accept returned", "lost track"] {
        assert!(!log.iter().any(|line| line.contains(wrong)), "{log:#?}");
    }
}

/// No service, no zombie, and no process that a service or a client has left behind.
fn nothing_is_left(scratch: &Scratch, daemon: &Daemon) {
    wait_until("no service is left", || children(daemon.pid()).is_empty());
    wait_until("no zombie is left", || zombies(daemon.pid()) == 0);
    wait_until("nobody works in the repositories", || {
        working_below(scratch.root()).iter().all(|pid| *pid == daemon.pid())
    });
}

/// The processes whose working directory is below this one.
fn working_below(directory: &Path) -> Vec<u32> {
    let processes = std::fs::read_dir("/proc").unwrap();
    let pids = processes.filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok());
    let below = |pid: &u32| {
        std::fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd.starts_with(directory))
    };
    pids.filter(below).collect()
}

/// What gitd uses at one time.
#[derive(Debug, Default, Clone, Copy)]
struct Usage {
    services: usize,
    descriptors: usize,
    threads: u64,
    /// In KiB: its own, and with its part of what it shares with others, such as another gitd's code.
    anonymous: u64,
    proportional: u64,
}

impl Usage {
    fn of(pid: u32) -> Self {
        let rollup = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
        let pss = rollup.lines().find_map(|line| line.strip_prefix("Pss:")).unwrap();
        let number = |text: &str| text.trim().split(' ').next().unwrap().parse().unwrap();
        Self {
            services: children(pid).len(),
            descriptors: descriptors(pid),
            threads: number(&status(pid, "Threads").unwrap()),
            anonymous: number(&status(pid, "RssAnon").unwrap()),
            proportional: number(pss),
        }
    }

    fn max(self, other: Self) -> Self {
        Self {
            services: self.services.max(other.services),
            descriptors: self.descriptors.max(other.descriptors),
            threads: self.threads.max(other.threads),
            anonymous: self.anonymous.max(other.anonymous),
            proportional: self.proportional.max(other.proportional),
        }
    }
}

fn report(site: &Site, seconds: u64, columns: &[(String, Usage)]) {
    let cores = std::thread::available_parallelism().unwrap();
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    println!(
        "{seconds} s, {CLIENTS} clients, {PLACES} places, a queue of {QUEUE}; {cores} cores, Linux {}, \
         debug assertions {}\n",
        kernel.trim_end(),
        if cfg!(debug_assertions) { "on" } else { "off" },
    );
    println!("| what | how often |\n|---|---|");
    for (what, count) in site.counts() {
        println!("| {what} | {count} |");
    }
    let row = |name: &str, cell: &dyn Fn(&(String, Usage)) -> String| {
        let cells: Vec<_> = columns.iter().map(cell).collect();
        println!("| {name} | {} |", cells.join(" | "));
    };
    println!();
    row("", &|(name, _)| name.clone());
    println!("|---{}|", "|---".repeat(columns.len()));
    row("services", &|(_, usage)| usage.services.to_string());
    row("descriptors", &|(_, usage)| usage.descriptors.to_string());
    row("threads", &|(_, usage)| usage.threads.to_string());
    row("anonymous memory, KiB", &|(_, usage)| usage.anonymous.to_string());
    row("PSS, KiB", &|(_, usage)| usage.proportional.to_string());
}

/// Lowers the priority of this thread and its children.
fn be_nice() {
    rustix::process::setpriority_process(None::<Pid>, 10).unwrap();
}
