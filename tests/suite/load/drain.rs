//! The end of a server, and the beginning of the next one: B13 of `docs/differences.md`.

use std::fs::File;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::{Gates, asking, from, is_served};
use crate::support::process::{alive, children, listening, status, wait_for, wait_until};
use crate::support::scratch::head;
use crate::support::{Daemon, End, Git, Gitd, Scratch, request};

/// Clones by git, all stopped in the middle of their packs until the gate opens.
struct Clones {
    gate: File,
    clones: Vec<(Child, PathBuf)>,
    head: String,
}

impl Clones {
    const COUNT: usize = 20;

    /// Returns when all of them have begun.
    fn begin(scratch: &Scratch, daemon: &Daemon, repository: &Path) -> Self {
        let (begun, gate) = (scratch.root().join("begun"), scratch.root().join("gate"));
        // A lock, because it ends with this process, so no hook waits for ever.
        let script = format!(
            "#!/bin/sh\n\"$@\" | {{ head -c 20; echo >>'{}'; flock -s '{}' true; exec cat; }}\n",
            begun.display(),
            gate.display()
        );
        let hook = scratch.script("pack", &script);
        scratch.global_config(&format!("[uploadpack] packObjectsHook = {}\n", hook.display()));
        let gate = File::create(gate).unwrap();
        gate.lock().unwrap();
        let clone = |n| {
            let target = scratch.root().join(format!("clone{n}"));
            let clone =
                Git::new(scratch).args(["clone", "-q", &daemon.url("/repo.git")]).arg(&target);
            (clone.into_command().spawn().unwrap(), target)
        };
        let clones = (0..Self::COUNT).map(clone).collect();
        wait_until("all are in the middle of their packs", || {
            std::fs::read(&begun).is_ok_and(|begun| begun.len() == Self::COUNT)
        });
        Self { gate, clones, head: head(repository) }
    }

    /// Opens the gate: each clone finishes and is complete.
    fn finish(self, scratch: &Scratch) {
        drop(self.gate);
        for (mut clone, target) in self.clones {
            assert!(wait_for(&mut clone).success());
            let git = || Git::new(scratch).cwd(&target);
            git().args(["fsck", "--strict"]).ok();
            assert_eq!(git().args(["rev-parse", "HEAD"]).ok(), self.head);
        }
    }
}

/// SIGTERM during twenty clones: the port is free at once, all clones finish and verify, then gitd dies by the signal.
#[test]
fn twenty_clones() {
    let scratch = Scratch::new();
    let repository = scratch.bare("repo.git");
    let mut daemon = Gitd.serve(&scratch).start();
    let clones = Clones::begin(&scratch, &daemon, &repository);
    daemon.signal(Signal::TERM);
    wait_until("the port is free", || !listening(daemon.port));
    assert_eq!(daemon.try_status(), None);
    clones.finish(&scratch);
    assert_eq!(daemon.wait().signal(), Some(15));
}

/// After --shutdown-timeout gitd ends the clients that have not finished, with their services.
#[test]
fn shutdown_timeout() {
    let scratch = Scratch::new();
    scratch.bare("repo.git");
    let mut daemon = Gitd.serve(&scratch).arg("--shutdown-timeout=1").start();
    let mut clients = [from(&daemon, 1).busy(), from(&daemon, 2).busy()];
    let services = children(daemon.pid());
    let started = Instant::now();
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.wait().signal(), Some(15));
    assert!(started.elapsed() >= Duration::from_secs(1));
    assert!(!services.into_iter().any(alive));
    for client in &mut clients {
        assert_eq!(client.rest(), (vec![], End::Closed));
    }
    let log = daemon.log.wait_end();
    assert!(
        log.iter().any(|line| line.contains("2 clients have not finished within 1 s")),
        "{log:#?}"
    );
}

/// gitd ends as soon as all clients have finished, before the time is over.
#[test]
fn shutdown_timeout_is_a_bound() {
    let scratch = Scratch::new();
    scratch.bare("repo.git");
    let mut daemon = Gitd.serve(&scratch).arg("--shutdown-timeout=1000").start();
    let client = from(&daemon, 1).busy();
    daemon.signal(Signal::TERM);
    wait_until("the port is free", || !listening(daemon.port));
    client.finish();
    assert_eq!(daemon.wait().signal(), Some(15));
}

/// SIGINT, as from a terminal, waits for clients too.
#[test]
fn interrupted() {
    let scratch = Scratch::new();
    scratch.bare("repo.git");
    let mut daemon = Gitd.serve(&scratch).start();
    let client = from(&daemon, 1).busy();
    daemon.signal(Signal::INT);
    wait_until("the port is free", || !listening(daemon.port));
    assert_eq!(daemon.try_status(), None);
    client.finish();
    assert_eq!(daemon.wait().signal(), Some(2));
}

/// Requests that wait for a permit when the server is told to end are still served.
#[test]
fn the_queue_is_served() {
    let scratch = Scratch::new();
    scratch.bare("repo.git");
    let gates = Gates::set_up(&scratch);
    let mut daemon =
        Gitd.serve(&scratch).args(["--max-connections=1", "--queue-timeout=0"]).start();
    let first = gates.keep(&daemon, 1);
    let mut second = asking(&daemon, 2, "/repo.git");
    daemon.signal(Signal::TERM);
    wait_until("the port is free", || !listening(daemon.port));
    first.finish();
    assert!(!second.packets_to_flush().is_empty());
    second.finish();
    assert_eq!(daemon.wait().signal(), Some(15));
}

/// Clients that the kernel has queued, and that gitd has not accepted when it is told to end, are served too.
#[test]
fn the_kernels_queue_is_served() {
    let scratch = Scratch::new();
    scratch.bare("repo.git");
    let mut daemon = Gitd.serve(&scratch).arg("--max-connections=0").start();
    is_served(&daemon);
    daemon.signal(Signal::STOP);
    wait_until("it stands still", || {
        status(daemon.pid(), "State").is_some_and(|state| state.starts_with('T'))
    });
    let queued = |_| {
        let mut client = daemon.connect();
        client.send(request("upload-pack", "/repo.git"));
        client
    };
    let clients: Vec<_> = (0..100).map(queued).collect();
    daemon.signal(Signal::TERM);
    daemon.signal(Signal::CONT);
    for mut client in clients {
        assert!(!client.packets_to_flush().is_empty());
        client.finish();
    }
    assert_eq!(daemon.wait().signal(), Some(15));
}

/// A check that hangs keeps the server no longer than allowed.
#[test]
fn shutdown_over_a_hanging_hook() {
    let scratch = Scratch::new();
    scratch.bare("repo.git");
    let hook = scratch.script("hook", "#!/bin/sh\nexec sleep 20\n");
    let mut daemon =
        Gitd.serve(&scratch).option("--access-hook", hook).arg("--shutdown-timeout=1").start();
    let _client = asking(&daemon, 1, "/repo.git");
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.wait().signal(), Some(15));
}

/// SIGKILL during twenty clones: the next server listens and serves at once, and all clones finish and verify.
#[test]
fn sigkill_in_mid_clone() {
    let scratch = Scratch::new();
    let repository = scratch.bare("repo.git");
    let mut old = Gitd.serve(&scratch).arg("--reuseaddr").start();
    let clones = Clones::begin(&scratch, &old, &repository);
    old.signal(Signal::KILL);
    assert_eq!(old.wait().signal(), Some(9));
    let new = Gitd.serve(&scratch).arg("--reuseaddr").port(old.port).start();
    is_served(&new);
    clones.finish(&scratch);
}
