//! The end of a server, and the beginning of the next one: B13 of `docs/differences.md`.

use std::os::unix::process::ExitStatusExt;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::busy;
use crate::support::process::{alive, children, listening, signal, wait_until};
use crate::support::scratch::head;
use crate::support::{End, Git, Gitd, Scratch};

/// Twenty clones are under way: the port is free at once, all of them finish and verify, then it is death by the signal.
#[test]
fn twenty_clones() {
    let scratch = Scratch::new();
    let repository = scratch.bare("repo.git");
    // A service that has begun, and goes on when the server is on its way out.
    let gate = scratch.root().join("gate");
    let wait =
        format!("while [ ! -e '{}' ]; do sleep 0.02; done\nexec \"$REAL\" \"$@\"", gate.display());
    let git = scratch.fake_git(&wait);
    let mut daemon = Gitd.serve(&scratch).path_first(&git).start();
    let clones: Vec<_> = (0..20)
        .map(|n| {
            let target = scratch.root().join(format!("clone{n}"));
            let clone =
                Git::new(&scratch).args(["clone", "-q", &daemon.url("/repo.git")]).arg(&target);
            (clone.into_command().spawn().unwrap(), target)
        })
        .collect();
    wait_until("all are being served", || children(daemon.pid()).len() == 20);
    daemon.signal(Signal::TERM);
    wait_until("the port is free", || !listening(daemon.port));
    assert_eq!(daemon.try_status(), None);
    std::fs::write(&gate, "").unwrap();
    for (mut clone, target) in clones {
        assert!(clone.wait().unwrap().success());
        Git::new(&scratch).cwd(&target).args(["fsck", "--strict"]).ok();
        assert_eq!(
            Git::new(&scratch).cwd(&target).args(["rev-parse", "HEAD"]).ok(),
            head(&repository)
        );
    }
    assert_eq!(daemon.wait().signal(), Some(15));
}

/// --shutdown-timeout: who has not finished by then is ended, services and all.
#[test]
fn shutdown_timeout() {
    let scratch = Scratch::new();
    scratch.bare("repo.git");
    let mut daemon = Gitd.serve(&scratch).arg("--shutdown-timeout=1").start();
    let mut clients = [busy(&daemon, 1), busy(&daemon, 2)];
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

/// What finishes in time is not waited for any longer.
#[test]
fn shutdown_timeout_is_a_bound() {
    let scratch = Scratch::new();
    scratch.bare("repo.git");
    let mut daemon = Gitd.serve(&scratch).arg("--shutdown-timeout=1000").start();
    let client = busy(&daemon, 1);
    daemon.signal(Signal::TERM);
    wait_until("the port is free", || !listening(daemon.port));
    super::finish(client);
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
    let _client = super::asking(&daemon, 1, "/repo.git");
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.wait().signal(), Some(15));
}

/// Killed in mid-clone: the clone goes on to its end, and the port is free for the next one at once.
#[test]
fn sigkill_in_mid_clone() {
    let scratch = Scratch::new();
    scratch.bare("repo.git");
    let mut old = Gitd.serve(&scratch).arg("--reuseaddr").start();
    let mut client = busy(&old, 1);
    signal(old.pid(), Signal::KILL);
    assert_eq!(old.wait().signal(), Some(9));
    let new = Gitd.serve(&scratch).arg("--reuseaddr").port(old.port).start();
    super::is_served(&new);
    client.send("0000");
    assert_eq!(client.rest(), (vec![], End::Closed));
}
