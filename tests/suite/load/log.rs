//! A log without a reader: gitd cannot write it, and must still serve.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;
use std::sync::mpsc;

use rustix::process::Signal;

use super::Resources;
use crate::support::invocation::free_port;
use crate::support::process::{idle, listening, signal, wait_until};
use crate::support::syslog::Syslog;
use crate::support::{Client, DEADLINE, Gitd, Scratch, request};

/// Some 3 KiB of lines, by a path full of bytes that must be escaped.
fn noise() -> Vec<u8> {
    let path: Vec<u8> = std::iter::repeat_n(0xff, 60_000).collect();
    crate::support::pkt([b"git-upload-pack /".as_slice(), &path].concat())
}

/// Standard error is a full pipe: requests are answered, and a later reader learns how much was lost.
#[test]
fn a_full_pipe() {
    let scratch = Scratch::new();
    scratch.bare("repo.git");
    let port = free_port();
    let invocation = Gitd.serve(&scratch).arg("--reuseaddr");
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], port));
    let mut command = invocation.command(&[
        "--listen=127.0.0.1".to_owned(),
        format!("--port={port}"),
        "--verbose".to_owned(),
    ]);
    let mut child = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    wait_until("it listens", || listening(port));
    // More than the pipe and gitd's queue hold.
    for _ in 0..600 {
        let mut client = Client::connect(address);
        client.send(noise());
        client.rest();
    }
    let mut client = Client::connect(address);
    client.send(request("upload-pack", "/repo.git"));
    assert!(!client.packets_to_flush().is_empty());
    client.send("0000");
    client.rest();
    let mut lines = lines(child.stderr.take().unwrap());
    let lost = lines.find(|line| line.contains(" lines of the log were lost"));
    assert!(lost.unwrap().contains("] warning: "));
    // From here on all lines are logged again.
    let mut client = Client::connect(address);
    client.send(request("upload-pack", "/nothing"));
    client.rest();
    assert!(lines.any(|line| line.ends_with("Request upload-pack for '/nothing'")));
    child.kill().unwrap();
    child.wait().unwrap();
}

/// What is written there from now on; it ends when nothing comes for too long.
fn lines(stream: impl Read + Send + 'static) -> impl Iterator<Item = String> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    std::iter::from_fn(move || receiver.recv_timeout(DEADLINE).ok())
}

/// gitd does not wait for a reader at its end.
#[test]
fn a_full_pipe_at_the_end() {
    let scratch = Scratch::new();
    let port = free_port();
    let first = ["--listen=127.0.0.1".to_owned(), format!("--port={port}"), "--verbose".to_owned()];
    let mut command = Gitd.serve(&scratch).arg("--reuseaddr").command(&first);
    let mut child = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    wait_until("it listens", || listening(port));
    // More than the pipe holds.
    for _ in 0..60 {
        let mut client = Client::connect(([127, 0, 0, 1], port).into());
        client.send(noise());
        client.rest();
    }
    signal(child.id(), Signal::TERM);
    wait_until("it ends", || child.try_wait().unwrap().is_some());
}

/// But a reader that begins then gets all of it. gitd waits for a second; on a loaded machine the reader may be late
/// once.
#[test]
fn the_last_lines() {
    assert!((0..3).any(|_| has_all_lines_at_the_end()));
}

fn has_all_lines_at_the_end() -> bool {
    const CLIENTS: usize = 60;
    let scratch = Scratch::new();
    let port = free_port();
    let pid_file = scratch.root().join("pid");
    let first = ["--listen=127.0.0.1".to_owned(), format!("--port={port}"), "--verbose".to_owned()];
    let invocation = Gitd.serve(&scratch).arg("--reuseaddr").option("--pid-file", &pid_file);
    let mut command = invocation.command(&first);
    let mut child = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    wait_until("it listens", || listening(port));
    // More than the pipe holds, and less than gitd's queue.
    for _ in 0..CLIENTS {
        let mut client = Client::connect(([127, 0, 0, 1], port).into());
        client.send(noise());
        client.rest();
    }
    signal(child.id(), Signal::TERM);
    wait_until("all has been said", || !pid_file.exists());
    wait_until("it waits, or has ended", || idle(child.id()));
    let mut log = String::new();
    child.stderr.take().unwrap().read_to_string(&mut log).unwrap();
    assert_eq!(child.wait().unwrap().signal(), Some(15));
    log.lines().filter(|line| line.contains("] Disconnected (with error), ")).count() == CLIENTS
}

/// Standard error is a pipe without a reader.
#[test]
fn a_broken_pipe() {
    let scratch = Scratch::new();
    scratch.bare("repo.git");
    let port = free_port();
    let first = ["--listen=127.0.0.1".to_owned(), format!("--port={port}"), "--verbose".to_owned()];
    let mut command = Gitd.serve(&scratch).arg("--reuseaddr").command(&first);
    let mut child = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stderr.take());
    wait_until("it listens", || listening(port));
    for _ in 0..3 {
        let mut client = Client::connect(([127, 0, 0, 1], port).into());
        client.send(request("upload-pack", "/repo.git"));
        assert!(!client.packets_to_flush().is_empty());
    }
    assert_eq!(child.try_wait().unwrap(), None);
    child.kill().unwrap();
    child.wait().unwrap();
}

/// syslogd was suspended, then is gone, then there is a new one.
#[test]
fn syslog_comes_and_goes() {
    crate::support::needs_root!();
    let scratch = Scratch::new();
    scratch.bare("repo.git");
    let syslog = Syslog::new(&scratch);
    let daemon = syslog.of(Gitd.serve(&scratch).arg("--syslog")).start();
    let before = Resources::of(&daemon);
    // The socket takes a few messages while syslogd does not read.
    for _ in 0..100 {
        let mut client = daemon.connect();
        client.send(request("upload-pack", "/repo.git"));
        assert!(!client.packets_to_flush().is_empty());
        client.send("0000");
        client.rest();
    }
    let place = scratch.root().join("dev/log");
    drop(syslog);
    std::fs::remove_file(&place).unwrap();
    daemon.ask("upload-pack", "/repo.git").assert_served("repo.git");
    let new = UnixDatagram::bind(&place).unwrap();
    new.set_read_timeout(Some(DEADLINE)).unwrap();
    let mut buffer = [0; 2048];
    daemon.ask("upload-pack", "/nothing");
    loop {
        let length = new.recv(&mut buffer).expect("the log goes to the new one");
        if String::from_utf8_lossy(&buffer[..length]).contains("/nothing") {
            break;
        }
    }
    before.assert_back(&daemon);
}

/// A hook writes more than gitd can log: others are still served, and SIGTERM works.
#[test]
fn a_hook_that_writes_for_ever() {
    let scratch = Scratch::new();
    let repository = scratch.bare("repo.git");
    let talking = scratch.root().join("talking");
    let hook = format!(
        "#!/bin/sh\n: >'{0}'\nyes >&2 &\nwhile [ -e '{0}' ]; do sleep 0.1; done\nkill $!\nexit 1\n",
        talking.display()
    );
    scratch.pre_receive(&repository, &hook);
    let daemon = Gitd.serve(&scratch).arg("--enable=receive-pack").start();
    let mut push = daemon.connect();
    push.send(request("receive-pack", "/repo.git"));
    push.packets_to_flush();
    let head = crate::support::scratch::head(&repository);
    // Without side-band the hook has git's own standard error.
    let command = format!("{head} {} refs/heads/is-repo\0report-status\n", "0".repeat(40));
    push.send([crate::support::pkt(command), b"0000".to_vec()].concat());
    daemon.log.wait(0, |line| line == "y");
    let mut client = daemon.connect();
    client.send(request("upload-pack", "/repo.git"));
    assert!(!client.packets_to_flush().is_empty());
    std::fs::remove_file(talking).unwrap();
    assert!(!push.packets_to_flush().is_empty(), "the push was refused");
}
