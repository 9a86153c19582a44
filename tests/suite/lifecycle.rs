//! What gitd does better about its own life: start, end and restart; B11 to B14 of `docs/differences.md`.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

use rustix::process::{Pid, Signal, getpgid};

use crate::support::process::{alive, children, listening, signal, wait_until};
use crate::support::{Client, End, Gitd, Packet, Scratch, request};

/// B11: nothing beside the pid file, and nothing of it afterwards.
#[test]
fn pid_file_is_all_there_is() {
    let scratch = Scratch::new();
    let directory = scratch.root().join("run");
    fs::create_dir(&directory).unwrap();
    let list = || -> Vec<_> {
        fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().file_name()).collect()
    };
    for which in [Signal::TERM, Signal::INT] {
        let mut daemon =
            Gitd.serve(&scratch).option("--pid-file", directory.join("gitd.pid")).start();
        assert_eq!(list(), ["gitd.pid"]);
        daemon.signal(which);
        daemon.wait();
        assert!(list().is_empty());
    }
    // Another daemon's is not ours to take away.
    let mut daemon = Gitd.serve(&scratch).option("--pid-file", directory.join("gitd.pid")).start();
    fs::write(directory.join("gitd.pid"), "1\n").unwrap();
    daemon.signal(Signal::TERM);
    daemon.wait();
    assert_eq!(list(), ["gitd.pid"]);
}

/// B12: a probe is no event.
#[test]
fn probes_are_not_logged() {
    let scratch = Scratch::new();
    let daemon = Gitd.serve(&scratch).quiet().start();
    for _ in 0..5 {
        let mut client = daemon.connect();
        client.half_close();
        assert_eq!(client.rest(), (vec![], End::Closed));
    }
    daemon.ask("upload-pack", "/nothing");
    let log = daemon.log.wait(0, |line| line.contains("/nothing"));
    assert_eq!(log.len(), 1, "{log:?}");
}

/// B13: Ctrl-C in the terminal of a daemon goes to its process group, and services must not be in it.
#[test]
fn services_have_a_process_group_of_their_own() {
    let (_scratch, daemon) = Gitd.serve_one();
    let _client = daemon.connect().busy();
    let services = children(daemon.pid());
    assert_eq!(services.len(), 1);
    let pid = Pid::from_raw(services[0].cast_signed());
    assert_eq!(getpgid(pid).unwrap(), pid.unwrap());
}

/// B13: nothing to wait for.
#[test]
fn sigterm_with_nothing_running() {
    for which in [Signal::TERM, Signal::INT] {
        let (_scratch, mut daemon) = Gitd.serve_one();
        daemon.ask("upload-pack", "/repo.git").assert_served("repo.git");
        daemon.signal(which);
        assert_eq!(daemon.wait().signal(), Some(which.as_raw()));
    }
}

/// B13: the second one means it.
#[test]
fn a_second_sigterm() {
    let (_scratch, mut daemon) = Gitd.serve_one();
    let mut client = daemon.connect().busy();
    let service = children(daemon.pid())[0];
    daemon.signal(Signal::TERM);
    wait_until("the port is free", || !listening(daemon.port));
    assert_eq!(daemon.try_status(), None);
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.wait().signal(), Some(15));
    // As with stock, the service goes on.
    assert!(alive(service));
    client.send("0000");
    assert_eq!(client.rest(), (vec![], End::Closed));
}

/// B13: a new gitd can have the port while the old one finishes its work.
#[test]
fn restart_under_a_clone() {
    let scratch = Scratch::new();
    scratch.bare("repo.git");
    let mut old = Gitd.serve(&scratch).arg("--reuseaddr").start();
    let mut client = old.connect().busy();
    old.signal(Signal::TERM);
    wait_until("the port is free", || !listening(old.port));
    let new = Gitd.serve(&scratch).arg("--reuseaddr").port(old.port).start();
    new.ask("upload-pack", "/repo.git").assert_served("repo.git");
    assert_eq!(old.try_status(), None);
    client.send("0000");
    assert_eq!(client.rest(), (vec![], End::Closed));
    assert_eq!(old.wait().signal(), Some(15));
}

/// B14: a burst waits in the kernel, not at the client.
#[test]
fn long_queue() {
    let (_scratch, daemon) = Gitd.serve_one();
    signal(daemon.pid(), Signal::STOP);
    let clients: Vec<_> = (0..100)
        .map(|_| {
            let stream =
                std::net::TcpStream::connect_timeout(&daemon.address(), Duration::from_millis(900));
            stream.map(Client::from)
        })
        .collect();
    signal(daemon.pid(), Signal::CONT);
    for client in clients {
        let mut client = client.expect("there is room in the queue");
        client.send(request("upload-pack", "/nothing"));
        assert!(matches!(client.packet(), Packet::Data(_)));
    }
}

/// B18: gitd warns of an entry that matches nothing.
#[test]
fn warnings_about_directories() {
    let scratch = Scratch::new();
    let directory = format!("{}/", scratch.repos().display());
    let daemon = Gitd
        .serve(&scratch)
        .directory(&directory)
        .directory("/")
        .directory(scratch.repos())
        .start();
    daemon.ask("upload-pack", "/nothing");
    let log = daemon.log.since(0);
    assert_eq!(log[0], "Ready to rumble");
    let warnings: Vec<_> = log.iter().filter(|line| line.starts_with("warning: ")).collect();
    assert_eq!(warnings.len(), 2, "{log:#?}");
    assert!(
        warnings[0].contains(&format!("'{directory}'"))
            && warnings[0].contains(&format!("'{}'", scratch.repos().display())),
        "{warnings:?}"
    );
    assert!(warnings[1].contains("'/'"), "{warnings:?}");
}
