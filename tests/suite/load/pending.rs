//! Clients that say nothing, or next to nothing: B4 of `docs/differences.md`.

use rustix::process::{Pid, Resource, Rlimit, prlimit};

use super::{Resources, is_served};
use crate::support::process::{descriptors, wait_until};
use crate::support::{Daemon, End, Gitd, Scratch, request};

/// Past --max-pending gitd closes the client that has been silent longest, without a word.
#[test]
fn the_longest_silent_is_dismissed() {
    let scratch = Scratch::new();
    scratch.bare("repo.git");
    let daemon = Gitd.serve(&scratch).arg("--max-pending=3").start();
    let mut clients: Vec<_> = (0..3)
        .map(|_| {
            let mark = daemon.log.mark();
            let client = daemon.connect();
            daemon.log.wait(mark, |line| line.starts_with("Connection from"));
            client
        })
        .collect();
    let whole = request("upload-pack", "/repo.git");
    clients[0].send(&whole[..4]);
    // An answer to a later request proves that gitd has read these bytes; its client was the fourth, so one was
    // dismissed.
    let mark = daemon.log.mark();
    is_served(&daemon);
    assert_eq!(clients[1].rest(), (vec![], End::Closed));
    let log = daemon.log.since(mark);
    let told: Vec<_> = log.iter().filter(|line| line.contains("--max-pending")).collect();
    let line = "3 clients have sent no request; from now on the one silent longest makes room for each new \
                one (--max-pending is the bound)";
    assert_eq!(told, [line], "{log:#?}");
    for client in [0, 2] {
        clients[client].send(&whole[if client == 0 { 4.. } else { 0.. }]);
        assert!(!clients[client].packets_to_flush().is_empty());
    }
}

/// The log names the bound in force, and what it is derived from.
#[test]
fn the_bound_by_descriptors() {
    // Far less than the queue and the sessions may need.
    const FILES: usize = 100;
    let scratch = Scratch::new();
    scratch.bare("repo.git");
    let limit = format!("ulimit -n {FILES}");
    let daemon = Gitd.serve(&scratch).shell(limit).arg("--max-pending=0").start();
    let warning = "warning: the limit of 100 open files suffices for ";
    daemon.log.wait(0, |line| {
        line.starts_with(warning) && line.contains("--max-connections=32; raise it")
    });
    let mark = daemon.log.mark();
    let open = descriptors(daemon.pid());
    let clients: Vec<_> = (0..FILES / 2 + 1).map(|_| daemon.connect()).collect();
    let log = daemon.log.wait(mark, |line| line.contains("clients have sent no request"));
    // 16 are spare, half of the rest is for checks, and a third of the other half for clients that wait.
    let line = log.last().unwrap();
    let (bound, rest) = line.split_once(' ').unwrap();
    let most = (FILES - 16 - open) / 6;
    assert!((1..=most).contains(&bound.parse().unwrap()), "{line} {open}");
    let words = "clients have sent no request; from now on the one silent longest makes room for each new \
                 one (the limit of 100 open files is the bound, --max-pending allows more)";
    assert_eq!(rest, words);
    drop(clients);
    is_served(&daemon);
}

/// A refused client that stays makes room as well.
#[test]
fn a_refused_client_is_dismissed() {
    let scratch = Scratch::new();
    scratch.bare("repo.git");
    let daemon = Gitd.serve(&scratch).arg("--max-pending=1").start();
    let mark = daemon.log.mark();
    let mut refused = daemon.connect();
    refused.send(request("upload-pack", "/nothing.git"));
    // The reason and the end, after which gitd waits for the client's.
    assert!(refused.rest().0[4..].starts_with(b"ERR "));
    let mut next = daemon.connect();
    next.send(request("upload-pack", "/repo.git"));
    assert!(!next.packets_to_flush().is_empty());
    next.send("0000");
    next.rest();
    daemon.log.wait_count(mark, 2, |line| line.starts_with("Disconnected"));
    let log = daemon.log.since(mark);
    let ends: Vec<_> = log.iter().filter(|line| line.starts_with("Disconnected")).collect();
    assert_eq!(ends, ["Disconnected (with error)", "Disconnected"], "{log:#?}");
}

/// Ten thousand silent clients: a good client is served among them, and afterwards everything is as before.
#[test]
#[ignore = "has ten thousand clients"]
fn ten_thousand() {
    const CLIENTS: usize = 10_000;
    let _own = Descriptors::raise(CLIENTS as u64 + 1_000);
    let scratch = Scratch::new();
    scratch.bare("repo.git");
    for (options, kept) in [(&["--max-pending=0"][..], CLIENTS), (&[], 4096)] {
        // However slow the machine is, none of them is silent for too long.
        let daemon = Gitd.serve(&scratch).quiet().args(options).arg("--init-timeout=600").start();
        is_served(&daemon);
        let round = || hold(&daemon, CLIENTS, kept);
        // The allocator may keep the memory of the first round, so its size when all have gone says nothing. A leak for
        // each client adds up when all are in again.
        round();
        let before = round();
        let now = round();
        assert!(now.kilobytes <= before.kilobytes + 4096, "{now:?} after {before:?}");
    }
}

/// What gitd uses when all are in; no descriptor is left over when all are out.
fn hold(daemon: &Daemon, clients: usize, kept: usize) -> Resources {
    let before = Resources::of(daemon).descriptors;
    let mut silent: Vec<_> = (0..clients).map(|n| super::from(daemon, (n / 100) as u8)).collect();
    if let Some(gone) = (clients - kept).checked_sub(1) {
        // It makes room for the last client. Before that as many may be in as are kept, but not all have come.
        assert_eq!(silent[gone].rest(), (vec![], End::Closed));
    }
    wait_until("all are in", || descriptors(daemon.pid()) == before + kept);
    let full = Resources::of(daemon);
    super::from(daemon, 200).busy().finish();
    // The clients that are left can still send requests.
    let last = silent.last_mut().unwrap();
    last.send(request("upload-pack", "/repo.git"));
    assert!(!last.packets_to_flush().is_empty());
    drop(silent);
    wait_until("all are out", || descriptors(daemon.pid()) <= before);
    full
}

/// With fewer descriptors than clients, new clients displace those that have been silent longest.
#[test]
fn more_than_descriptors() {
    let (_scratch, daemon) = Gitd.serve_one();
    let before = Resources::of(&daemon);
    let pid = Pid::from_raw(daemon.pid().cast_signed());
    let limit = |current| {
        prlimit(pid, Resource::Nofile, Rlimit { current: Some(current), maximum: Some(4096) })
    };
    let mut silent = Vec::new();
    // Whatever is left when the last one has come, there is enough to serve the next.
    let idle = before.descriptors as u64;
    for count in idle + 20..idle + 40 {
        limit(count).unwrap();
        silent.extend((0..60).map(|_| daemon.connect()));
        is_served(&daemon);
    }
    let log = daemon.log.since(0);
    let told = log.iter().filter(|line| line.starts_with("accept returned: Too many open files"));
    assert!((1..60).contains(&told.count()), "{log:#?}");
    drop(silent);
    limit(4096).unwrap();
    before.assert_back(&daemon);
}

/// Connect and close, five thousand times as fast as can be: a good client among them is served.
#[test]
fn connect_and_close() {
    let (_scratch, daemon) = Gitd.serve_one();
    is_served(&daemon);
    let rest = Resources::of(&daemon);
    let storm = || {
        std::thread::scope(|scope| {
            for last in 1..6 {
                let daemon = &daemon;
                scope.spawn(move || (0..1_000).for_each(|_| drop(super::from(daemon, last))));
            }
            for _ in 0..5 {
                super::from(&daemon, 9).busy().finish();
            }
        });
        // All others stood before it in the kernel's queue.
        is_served(&daemon);
        let now = Resources::of(&daemon);
        assert!(now.descriptors <= rest.descriptors, "{now:?} after {rest:?}");
        now.kilobytes
    };
    // The allocator may keep the memory of a storm. How much depends on how many clients were in at once, which varies
    // with the machine; but a leak for each client adds up.
    let before = storm().max(storm());
    let is_back = |kilobytes: &u64| *kilobytes <= before + 4096;
    let mut after = Vec::new();
    while after.len() < 5 && !after.last().is_some_and(is_back) {
        after.push(storm());
    }
    assert!(after.last().is_some_and(is_back), "{after:?} KiB after {before}");
    let log = daemon.log.since(0);
    assert!(!log.iter().any(|line| line.contains("--max-pending")), "they did not pile up");
}

/// A higher limit for the test's own process, restored at the end. Other tests in this process have it too, without
/// harm.
struct Descriptors(Rlimit);

impl Descriptors {
    fn raise(to: u64) -> Self {
        let before = rustix::process::getrlimit(Resource::Nofile);
        let enough = Rlimit { current: before.current.map(|soft| soft.max(to)), ..before };
        rustix::process::setrlimit(Resource::Nofile, enough).unwrap();
        Self(before)
    }
}

impl Drop for Descriptors {
    fn drop(&mut self) {
        rustix::process::setrlimit(Resource::Nofile, self.0).unwrap();
    }
}
