//! Services that end early: another process kills them in the middle of their work, or gitd does.

use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

use rustix::process::Signal;

use super::noise::large;
use super::slow::narrow;
use super::{Resources, ask_for_all, cut_off, from, is_served};
use crate::support::process::{alive, children, descendants, in_network_of, signal, wait_until};
use crate::support::scratch::{append, config, head};
use crate::support::{Client, Daemon, Git, Gitd, Scratch, needs_root, pkt, request};

/// A client that has stopped reading in the middle of its pack, the service, and its pack-objects.
fn in_mid_pack(daemon: &Daemon) -> (Client, u32, u32) {
    let mut client = narrow(daemon);
    ask_for_all(&mut client, "/large.git");
    client.stream().read_exact(&mut [0; 1024]).unwrap();
    let found = descendants(daemon.pid());
    let [service, pack] = found[..] else { panic!("{found:?}") };
    (client, service, pack)
}

/// The service or its pack-objects dies: one line says so, the client sees the end, and no process is left.
#[test]
fn killed_in_mid_pack() {
    let scratch = Scratch::new();
    scratch.bare("repo.git");
    large(&scratch);
    let daemon = Gitd.serve(&scratch).start();
    is_served(&daemon);
    let before = Resources::of(&daemon);
    for which in ["upload-pack", "pack-objects"] {
        let (mut client, service, pack) = in_mid_pack(&daemon);
        let mark = daemon.log.mark();
        signal(if which == "upload-pack" { service } else { pack }, Signal::KILL);
        assert!(client.rest().0.len() < 8_000_000);
        wait_until("no process is left", || !alive(service) && !alive(pack));
        let log = daemon.wait_disconnected(mark);
        assert!(log.contains(&format!("error: {which} died of signal 9")), "{log:#?}");
        assert_eq!(log.last().unwrap(), "Disconnected (with error)");
        is_served(&daemon);
    }
    before.assert_back(&daemon);
}

/// A push dies in mid-pack: one line says so, its objects are not there, and the next push is taken.
#[test]
fn a_push_that_is_killed_in_mid_pack() {
    let scratch = Scratch::new();
    let repository = scratch.bare("repo.git");
    let old = head(&repository);
    let daemon = Gitd.serve(&scratch).arg("--enable=receive-pack").start();
    is_served(&daemon);
    let before = Resources::of(&daemon);
    let mark = daemon.log.mark();
    let mut push = from(&daemon, 3);
    push.send(request("receive-pack", "/repo.git"));
    push.packets_to_flush();
    let update = format!("{old} {} refs/heads/main\0 report-status\n", "1".repeat(40));
    push.send([pkt(update), b"0000".to_vec()].concat());
    // A pack of a thousand objects, of which the first has begun.
    push.send(b"PACK\0\0\0\x02\0\0\x03\xe8\x95\x0a\x78\x9c");
    let mut found = Vec::new();
    wait_until("the pack is being read", || {
        found = descendants(daemon.pid());
        found.len() == 2
    });
    signal(found[0], Signal::KILL);
    let log = daemon.wait_disconnected(mark);
    let last = ["error: receive-pack died of signal 9", "Disconnected (with error)"];
    assert!(log.ends_with(&last.map(str::to_owned)), "{log:#?}");
    // What reads the pack has the connection too.
    drop(push);
    wait_until("no process is left", || !found.iter().any(|pid| alive(*pid)));
    let work = scratch.root().join("work");
    Git::new(&scratch).args(["clone", "-q", &daemon.url("/repo.git")]).arg(&work).ok();
    let git = |arguments: &[&str]| Git::new(&scratch).cwd(&work).args(arguments).ok();
    assert_eq!(git(&["rev-parse", "HEAD"]), old);
    git(&["fsck", "--strict"]);
    git(&["commit", "-q", "--allow-empty", "-m", "more"]);
    git(&["push", "-q", "origin", "main"]);
    assert_eq!(head(&repository), git(&["rev-parse", "HEAD"]));
    Git::new(&scratch).cwd(&repository).args(["fsck", "--strict"]).ok();
    before.assert_back(&daemon);
}

/// A git whose services ignore the end of their connection and SIGTERM, in `deaf.git` SIGHUP too.
fn git_that_ignores_signals(scratch: &Scratch) -> std::path::PathBuf {
    scratch.bare("repo.git");
    std::fs::write(scratch.bare("deaf.git").join("deaf"), "").unwrap();
    // It ends when the repository is removed.
    scratch.fake_git(
        "trap '' PIPE TERM\n[ ! -e deaf ] || trap '' HUP\nprintf 0000\n\
         while [ -e HEAD ]; do sleep 0.1; [ ! -e more ] || { rm more; printf 0000; }; done\n",
    )
}

/// A network whose kernel gives a connection up within seconds.
const IMPATIENT: &str = "ip link set lo up; echo 3 >/proc/sys/net/ipv4/tcp_retries2";

#[track_caller]
fn assert_died(log: &[String], which: Signal) {
    let line = format!("error: upload-pack died of signal {}", which.as_raw());
    assert!(log.contains(&line), "{log:#?}");
}

/// A service that stands still for too long gets SIGHUP, and if that does not help, SIGKILL.
#[test]
#[ignore = "waits for many seconds"]
fn a_stuck_service_that_ignores_signals() {
    let scratch = Scratch::new();
    let git = git_that_ignores_signals(&scratch);
    let daemon =
        Gitd.serve(&scratch).path_first(&git).args(["--timeout=2", "--init-timeout=60"]).start();
    let before = Resources::of(&daemon);
    for (pathname, which) in [("/repo.git", Signal::HUP), ("/deaf.git", Signal::KILL)] {
        let mark = daemon.log.mark();
        let mut client = from(&daemon, 3);
        client.send(request("upload-pack", pathname));
        client.rest();
        let log = daemon.wait_disconnected(mark);
        assert!(log.iter().any(|line| line.starts_with("session stands still")), "{log:#?}");
        assert_died(&log, which);
    }
    before.assert_back(&daemon);
}

/// The same when the client has closed its side and the kernel gives the connection up.
#[test]
fn a_service_without_a_client_that_ignores_signals() {
    needs_root!();
    let scratch = Scratch::new();
    let git = git_that_ignores_signals(&scratch);
    let daemon = Gitd.serve(&scratch).path_first(&git).namespace("--net").shell(IMPATIENT).start();
    in_network_of(daemon.pid(), || {
        let before = Resources::of(&daemon);
        let clients = ["/repo.git", "/deaf.git"].map(|pathname| {
            let mut client = from(&daemon, 3);
            client.send(request("upload-pack", pathname));
            client.packets_to_flush();
            client
        });
        cut_off([127, 0, 1, 3].into());
        let mark = daemon.log.mark();
        drop(clients);
        for name in ["repo.git", "deaf.git"] {
            std::fs::write(scratch.path(name).join("more"), "").unwrap();
        }
        daemon.log.wait_count(mark, 2, |line| line.starts_with("Disconnected"));
        let log = daemon.log.since(mark);
        let gone = log.iter().filter(|line| line.starts_with("client is gone"));
        assert_eq!(gone.count(), 2, "{log:#?}");
        assert_died(&log, Signal::HUP);
        assert_died(&log, Signal::KILL);
        before.assert_back(&daemon);
    });
}

/// The same when --shutdown-timeout has passed: no service is left.
#[test]
#[ignore = "waits for many seconds"]
fn a_service_that_ignores_the_shutdown() {
    let scratch = Scratch::new();
    let git = git_that_ignores_signals(&scratch);
    let mut daemon = Gitd.serve(&scratch).path_first(&git).arg("--shutdown-timeout=1").start();
    let clients = ["/repo.git", "/deaf.git"].map(|pathname| {
        let mut client = from(&daemon, 3);
        client.send(request("upload-pack", pathname));
        // By now it has set its traps.
        client.packets_to_flush();
        client
    });
    let services = children(daemon.pid());
    assert_eq!(services.len(), 2);
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.wait().signal(), Some(15));
    assert!(!services.into_iter().any(alive));
    let log = daemon.log.wait_end();
    assert_died(&log, Signal::HUP);
    assert_died(&log, Signal::KILL);
    drop(clients);
}

/// A push that may have arrived whole: its hook runs to its end although the client has left.
#[test]
fn a_hook_whose_client_has_left() {
    needs_root!();
    let scratch = Scratch::new();
    let repository = scratch.bare("repo.git");
    let head = head(&repository);
    append(&repository.join("packed-refs"), &format!("{head} refs/heads/other\n"));
    // Otherwise it sends something every five seconds.
    config(&repository, "[receive] keepAlive = 0\n");
    let hook = "#!/bin/sh\n: >working\nwhile [ ! -e more ]; do sleep 0.1; done\necho noise >&2\n\
                while [ -e working ]; do sleep 0.1; done\n: >finished\n";
    scratch.pre_receive(&repository, hook);
    let daemon = Gitd
        .serve(&scratch)
        .arg("--enable=receive-pack")
        .namespace("--net")
        .shell(IMPATIENT)
        .start();
    in_network_of(daemon.pid(), || {
        let mut client = from(&daemon, 3);
        client.send(request("receive-pack", "/repo.git"));
        client.packets_to_flush();
        let zero = "0".repeat(40);
        let command = format!("{head} {zero} refs/heads/other\0report-status side-band-64k\n");
        client.send([pkt(command), b"0000".to_vec()].concat());
        wait_until("the hook works", || repository.join("working").exists());
        cut_off([127, 0, 1, 3].into());
        let mark = daemon.log.mark();
        drop(client);
        std::fs::write(repository.join("more"), "").unwrap();
        daemon.log.wait(mark, |line| line.starts_with("client is gone"));
        // Any other service would have been killed by then.
        std::thread::sleep(Duration::from_secs(7));
        std::fs::remove_file(repository.join("working")).unwrap();
        wait_until("the hook ends by itself", || repository.join("finished").exists());
        daemon.wait_disconnected(mark);
    });
}

/// A push dies in the middle of its hook: gitd does not end the hook, because it has not ended the push.
#[test]
fn a_hook_that_outlives_its_push() {
    let scratch = Scratch::new();
    let repository = scratch.bare("repo.git");
    let head = head(&repository);
    append(&repository.join("packed-refs"), &format!("{head} refs/heads/other\n"));
    let hook = "#!/bin/sh\n: >working\nwhile [ -e working ]; do sleep 0.1; done\n: >finished\n";
    scratch.pre_receive(&repository, hook);
    let daemon = Gitd.serve(&scratch).arg("--enable=receive-pack").start();
    let mark = daemon.log.mark();
    let mut client = from(&daemon, 3);
    client.send(request("receive-pack", "/repo.git"));
    client.packets_to_flush();
    let command = format!("{head} {} refs/heads/other\0report-status\n", "0".repeat(40));
    client.send([pkt(command), b"0000".to_vec()].concat());
    wait_until("the hook works", || repository.join("working").exists());
    let [service] = children(daemon.pid())[..] else { panic!("one service") };
    signal(service, Signal::KILL);
    daemon.wait_disconnected(mark);
    std::fs::remove_file(repository.join("working")).unwrap();
    wait_until("the hook ends by itself", || repository.join("finished").exists());
}
