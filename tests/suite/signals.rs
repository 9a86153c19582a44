//! Signals, the wrapper, and closed descriptors: contract 15 to 17.

use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;

use rustix::process::Signal;

use crate::support::process::{
    alive, children, descriptor, listening, signal, wait_for, wait_until,
};
use crate::support::{
    Client, Daemon, Git, Gitd, Implementation, Scratch, Stock, compliance, request,
};

compliance! {
    ignored_by_the_caller,
    death_by_signal,
    a_running_service_goes_on,
    before_the_request,
    right_before_the_request,
    killing_the_wrapper,
    killing_the_daemon_behind_the_wrapper,
    closed_descriptors,
}

/// Contract 15: the status gives the signal, and nothing is logged.
fn death_by_signal(d: Implementation) {
    let scratch = Scratch::new();
    for which in [
        Signal::TERM,
        Signal::INT,
        Signal::HUP,
        Signal::QUIT,
        Signal::USR1,
        Signal::USR2,
        Signal::ALARM,
    ] {
        let mut daemon = d.serve(&scratch).start();
        daemon.signal(which);
        let status = daemon.wait();
        assert_eq!(status.signal(), Some(which.as_raw()), "{status}");
        let log = daemon.log.wait_end();
        let said: Vec<_> = log.iter().skip(1).collect();
        match d {
            Stock => assert!(said.is_empty(), "{said:?}"),
            // Only what B13 adds for the two that it drains on.
            Gitd => assert!(
                said.len() <= usize::from(matches!(which, Signal::TERM | Signal::INT)),
                "{said:?}"
            ),
        }
        assert!(!listening(daemon.port));
    }
}

/// Contract 15, B13: a clone goes on when the daemon gets SIGTERM.
fn a_running_service_goes_on(d: Implementation) {
    let (_scratch, mut daemon) = d.serve_one();
    let mut client = daemon.connect();
    client.send(request("upload-pack", "/repo.git"));
    client.packets_to_flush();
    daemon.signal(Signal::TERM);
    wait_until("the port is free", || !listening(daemon.port));
    if d == Stock {
        assert_eq!(daemon.wait().signal(), Some(15));
    } else {
        assert_eq!(daemon.try_status(), None);
    }
    client.send("0000");
    assert_eq!(client.rest().0, b"");
    assert_eq!(daemon.wait().signal(), Some(15));
}

/// Contract 15, B13: a client that has connected before the end.
fn before_the_request(d: Implementation) {
    let (_scratch, mut daemon) = d.serve_one();
    let mut client = told_to_end(&daemon);
    assert_eq!(daemon.wait().signal(), Some(15));
    // gitd has waited for it, for a second.
    client.try_send([request("upload-pack", "/repo.git"), b"0000".to_vec()].concat());
    assert_eq!(!client.rest().0.is_empty(), d.differs("B13", true, false));
}

/// Contract 15, B13: a client that has connected before the end, and asks within a second.
fn right_before_the_request(d: Implementation) {
    // On a machine that is busy a second may be over before the client has its turn.
    let served = (0..20).any(|_| {
        let (_scratch, mut daemon) = d.serve_one();
        let mut client = told_to_end(&daemon);
        wait_until("nobody listens", || !listening(daemon.port));
        client.try_send([request("upload-pack", "/repo.git"), b"0000".to_vec()].concat());
        let greeted = !client.rest().0.is_empty();
        assert_eq!(daemon.wait().signal(), Some(15));
        greeted
    });
    assert!(served);
}

/// A client that is connected and has sent nothing when the daemon gets SIGTERM.
fn told_to_end(daemon: &Daemon) -> Client {
    let mark = daemon.log.mark();
    let client = daemon.connect();
    daemon.log.wait(mark, |line| line.starts_with("Connection from"));
    daemon.signal(Signal::TERM);
    client
}

/// Contract 16: `git daemon` is two processes, and the outer one takes the inner one with it.
fn killing_the_wrapper(d: Implementation) {
    let scratch = Scratch::new();
    let (mut wrapper, daemon, port) = wrapped(d, &scratch);
    signal(wrapper.id(), Signal::TERM);
    assert_eq!(wait_for(&mut wrapper).signal(), Some(15));
    wait_until("the daemon has gone", || !alive(daemon));
    assert!(!listening(port));
}

/// Contract 16: when the daemon is killed, the wrapper prints how it ended.
fn killing_the_daemon_behind_the_wrapper(d: Implementation) {
    let scratch = Scratch::new();
    let (mut wrapper, daemon, _) = wrapped(d, &scratch);
    signal(daemon, Signal::TERM);
    let status = wait_for(&mut wrapper);
    assert_eq!(status.code(), Some(143), "{status}");
    let stderr = std::io::read_to_string(wrapper.stderr.take().unwrap()).unwrap();
    assert!(stderr.ends_with("error: git-daemon died of signal 15\n"), "{stderr}");
}

/// `git daemon`, the pid of the process behind it and its port.
fn wrapped(d: Implementation, scratch: &Scratch) -> (std::process::Child, u32, u16) {
    let port = crate::support::invocation::free_port();
    let exec_path = d.exec_path(scratch);
    let mut command = Git::of_server(scratch)
        .env("GIT_EXEC_PATH", exec_path)
        .args(["daemon", "--listen=127.0.0.1", "--reuseaddr", "--export-all"])
        .arg(format!("--port={port}"))
        .cwd("/")
        .into_command();
    let wrapper = command.stderr(Stdio::piped()).spawn().unwrap();
    wait_until("it listens", || listening(port));
    let inner = children(wrapper.id());
    assert_eq!(inner.len(), 1, "{inner:?}");
    (wrapper, inner[0], port)
}

/// Contract 17: streams that are closed at the start become /dev/null, and no socket gets their numbers.
fn closed_descriptors(d: Implementation) {
    let scratch = Scratch::new();
    scratch.bare("repo.git");
    for closed in [&[0][..], &[1], &[2], &[0, 1, 2]] {
        let redirections: String = closed.iter().map(|fd| format!(" {fd}>&-")).collect();
        let daemon = d.serve(&scratch).quiet().shell(format!("exec{redirections}")).start();
        for fd in closed {
            assert_eq!(descriptor(daemon.pid(), *fd).unwrap().to_str(), Some("/dev/null"), "{fd}");
        }
        daemon.ask("upload-pack", "/repo.git").assert_served("repo.git");
    }
}

/// Contract 15: what the caller has had ignored stays ignored. A shell without job control ignores SIGINT for what it
/// starts in the background.
fn ignored_by_the_caller(d: Implementation) {
    let scratch = Scratch::new();
    scratch.bare("repo.git");
    let daemon = d.serve(&scratch).shell("trap '' INT TERM".to_owned()).start();
    for signal in [Signal::INT, Signal::TERM] {
        daemon.signal(signal);
        daemon.ask("upload-pack", "/repo.git").assert_served("repo.git");
    }
}
