//! git through `gitd-connect`, against the stock daemon.

use std::ffi::OsStr;
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use socket2::Protocol;

use super::support::{CONNECT, Stock, accept, git, listen, succeed, text};
use crate::support::process::{output, wait_for};

/// A PATH in which git finds `gitd-connect`.
fn path() -> impl AsRef<OsStr> {
    let directory = PathBuf::from(CONNECT).parent().unwrap().to_owned();
    let rest = std::env::var_os("PATH").unwrap_or_default();
    std::env::join_paths(std::iter::once(directory).chain(std::env::split_paths(&rest))).unwrap()
}

/// Lists, clones, pushes and fetches through `proxied` git, and checks what arrived.
fn round_trip(server: &Stock, proxied: impl Fn() -> Command, name: &str) {
    let url = server.url();
    let listed = succeed(proxied().args(["ls-remote", &url]));
    assert_eq!(listed.lines().count(), 3, "{listed}");

    succeed(proxied().args(["clone", "-q", &url, name]));
    let home = server.home();
    assert_eq!(succeed(git(home).args(["-C", name, "rev-parse", "HEAD"])), server.tip("master"));
    succeed(git(home).args(["-C", name, "fsck", "--strict"]));

    succeed(git(home).args(["-C", name, "commit", "-q", "--allow-empty", "-m", "two"]));
    let branch = format!("HEAD:refs/heads/{name}");
    succeed(proxied().args(["-C", name, "push", "-q", "origin", &branch]));
    assert_eq!(succeed(git(home).args(["-C", name, "rev-parse", "HEAD"])), server.tip(name));

    succeed(proxied().args(["-C", name, "fetch", "-q", "origin"]));
    succeed(proxied().args(["-C", name, "push", "-q", "origin", &format!(":refs/heads/{name}")]));
}

#[test]
fn git_works_through_core_gitproxy() {
    let server = Stock::start("127.0.0.1:0", Protocol::TCP);
    for version in ["0", "1", "2"] {
        let proxied = || {
            let mut git = git(server.home());
            git.env("PATH", path()).args(["-c", "core.gitProxy=gitd-connect"]);
            git.args(["-c", &format!("protocol.version={version}")]);
            git
        };
        round_trip(&server, proxied, &format!("v{version}"));
    }
}

#[test]
fn git_works_through_git_proxy_command() {
    let server = Stock::start("127.0.0.1:0", Protocol::MPTCP);
    let proxied = || {
        let mut git = git(server.home());
        git.env("GIT_PROXY_COMMAND", CONNECT);
        git
    };
    round_trip(&server, proxied, "copy");
}

#[test]
fn git_works_over_ipv6() {
    let server = Stock::start("[::1]:0", Protocol::TCP);
    let proxied = || {
        let mut git = git(server.home());
        git.env("GIT_PROXY_COMMAND", CONNECT);
        git
    };
    round_trip(&server, proxied, "copy");
}

#[test]
fn a_refused_repository_is_told_by_git_alone() {
    let server = Stock::start("127.0.0.1:0", Protocol::TCP);
    let url = server.url().replace("r.git", "none.git");
    let mut git = git(server.home());
    git.env("GIT_PROXY_COMMAND", CONNECT).args(["ls-remote", &url]).stdin(Stdio::null());
    let output = output(&mut git);
    assert_eq!(output.status.code(), Some(128));
    let expected = "fatal: remote error: access denied or repository not exported: /none.git\n";
    assert_eq!(text(&output.stderr), expected);
}

#[test]
fn nothing_is_left_when_git_is_killed() {
    let (listener, address) = listen("127.0.0.1:0", Protocol::TCP);
    let home = tempfile::tempdir().unwrap();
    let mut client = git(home.path())
        .env("GIT_PROXY_COMMAND", CONNECT)
        .args(["ls-remote", &format!("git://{address}/r.git")])
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut server = accept(&listener);
    server.read_exact(&mut [0; 4]).unwrap();
    client.kill().unwrap();
    wait_for(&mut client);
    // The connection ends only with the process that holds it.
    server.write_all(b"0000").unwrap();
    let mut rest = Vec::new();
    match server.read_to_end(&mut rest) {
        Ok(_) => {}
        Err(error) => assert_eq!(error.kind(), io::ErrorKind::ConnectionReset),
    }
}

#[test]
fn git_reports_a_failed_connect_and_is_not_killed_by_it() {
    let (listener, address) = listen("127.0.0.1:0", Protocol::TCP);
    drop(listener);
    let home = tempfile::tempdir().unwrap();
    for _ in 0..10 {
        let mut git = git(home.path());
        git.env("GIT_PROXY_COMMAND", CONNECT).stdin(Stdio::null());
        let output = output(git.args(["ls-remote", &format!("git://{address}/r.git")]));
        assert_eq!(output.status.code(), Some(128));
        let lines = text(&output.stderr);
        assert!(lines.contains("connection refused; is a git server"), "{lines}");
        assert!(lines.contains("fatal: Could not read from remote repository."), "{lines}");
    }
}

/// After a wrong setting git prints its own error, and is not killed by SIGPIPE.
#[test]
fn git_reports_a_wrong_setting() {
    let home = tempfile::tempdir().unwrap();
    for _ in 0..10 {
        let mut git = git(home.path());
        git.env("GIT_PROXY_COMMAND", CONNECT).env("GIT_ENABLE_MPTCP", "maybe");
        let output = output(git.args(["ls-remote", "git://127.0.0.1/r.git"]));
        assert_eq!(output.status.code(), Some(128));
        let lines = text(&output.stderr);
        assert!(lines.contains("bad boolean value 'maybe'"), "{lines}");
        assert!(lines.contains("fatal: Could not read from remote repository."), "{lines}");
    }
}

#[test]
fn small_packets_are_not_delayed_by_nagle_nor_by_late_acks() {
    // Not by the clock: the socket options that prevent the stall are checked.
    let server = Stock::start("127.0.0.1:0", Protocol::TCP);
    // A file for each thread: in a common one, a call that another thread interrupts takes two lines.
    let traces = server.home().join("traces");
    std::fs::create_dir(&traces).unwrap();
    let wrapper = server.home().join("traced");
    let script = format!(
        "#!/bin/sh\nexec strace -ff -qq -e trace=setsockopt,recvfrom -o {}/of {CONNECT} \"$@\"\n",
        traces.display()
    );
    std::fs::write(&wrapper, script).unwrap();
    succeed(Command::new("chmod").arg("+x").arg(&wrapper));
    succeed(
        git(server.home()).env("GIT_PROXY_COMMAND", &wrapper).args(["ls-remote", &server.url()]),
    );
    let traces = std::fs::read_dir(traces).unwrap();
    let trace: String =
        traces.map(|entry| std::fs::read_to_string(entry.unwrap().path()).unwrap()).collect();
    assert!(trace.contains("TCP_NODELAY, [1], 4) = 0"), "{trace}");
    assert!(trace.contains("SO_KEEPALIVE, [1], 4) = 0"), "{trace}");
    let received = trace.matches("recvfrom(").count();
    let acknowledged = trace.matches("TCP_QUICKACK, [1], 4) = 0").count();
    assert!(acknowledged >= 2 && acknowledged + 1 >= received, "{trace}");
}
