//! --inetd: contract 7, 8, 20, 51, 55 and 60.

use std::ffi::OsStr;
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::process::{Child, Stdio};
use std::time::Duration;

use crate::support::log::Log;
use crate::support::process::{self, end, wait_until};
use crate::support::{
    Client, DEADLINE, GENERIC, Gitd, Implementation, Invocation, Packet, Scratch, Stock,
    compliance, pkt, request,
};

compliance! {
    served,
    refused,
    addresses_from_the_environment,
    addresses_that_are_no_text,
    over_pipes,
    over_a_unix_socket,
    slow_and_ahead,
    status,
    a_silent_client,
    a_slow_client,
    no_pid_file,
    silence,
}

pub struct Inetd {
    child: Child,
    log: Log,
}

impl Inetd {
    fn start(invocation: Invocation, stdin: OwnedFd, stdout: OwnedFd) -> Self {
        let args = ["--inetd", "--log-destination=stderr", "--verbose"].map(str::to_owned);
        let mut child = invocation
            .command(&args)
            .stdin(stdin)
            .stdout(stdout)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        Self { log: Log::read(child.stderr.take().unwrap()), child }
    }

    /// Over a TCP connection, as inetd and systemd do it.
    pub fn tcp(invocation: Invocation) -> (Self, Client) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (server, _) = listener.accept().unwrap();
        let stdin = server.try_clone().unwrap();
        (Self::start(invocation, stdin.into(), server.into()), Client::from(client))
    }

    pub fn code(&mut self) -> Option<i32> {
        let mut status = None;
        wait_until("it ends", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap().code()
    }

    pub fn log(&self) -> Vec<String> {
        self.log.wait_end()
    }

    /// The same as it was written.
    pub fn raw_log(&self) -> String {
        self.log.wait_end();
        String::from_utf8(self.log.raw(0).concat()).unwrap()
    }
}

impl Drop for Inetd {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

fn exported(d: Implementation) -> (Scratch, Invocation) {
    let scratch = Scratch::new();
    scratch.bare("repo.git");
    let invocation = d.serve(&scratch);
    (scratch, invocation)
}

/// Contract 8: one client, and the end.
fn served(d: Implementation) {
    let (_scratch, invocation) = exported(d);
    let (mut inetd, mut client) = Inetd::tcp(invocation);
    client.send(request("upload-pack", "/repo.git"));
    assert!(!client.packets_to_flush().is_empty());
    // The service waits for its client now; no other process runs.
    assert_eq!(process::status(inetd.child.id(), "Threads").as_deref(), Some("1"));
    client.send("0000");
    assert_eq!(client.rest().0, b"");
    assert_eq!(inetd.code(), Some(0));
    let mut expected =
        vec!["Extended attribute \"host\": localhost", "Request upload-pack for '/repo.git'"];
    if d == Gitd {
        // Differs: stock has no parent here that could tell the end, and gitd tells it itself.
        expected.push("Disconnected");
    }
    assert_eq!(inetd.log(), expected);
}

/// Contract 32, 55: an answer, and a status of 255.
fn refused(d: Implementation) {
    let (scratch, invocation) = exported(d);
    let (mut inetd, mut client) = Inetd::tcp(invocation);
    client.send(request("upload-pack", "/nothing"));
    assert_eq!(client.packet(), Packet::Data(format!("ERR {GENERIC}: /nothing").into_bytes()));
    client.half_close();
    client.rest();
    assert_eq!(inetd.code(), Some(255));
    let line =
        format!("'{}' does not appear to be a git repository", scratch.path("nothing").display());
    assert!(inetd.log().contains(&line));
}

/// Contract 51: the environment gives the client's address.
fn addresses_from_the_environment(d: Implementation) {
    for (address, port, logged) in [
        (None, None, None),
        (Some("192.0.2.1"), Some("99"), Some("Connection from 192.0.2.1:99")),
        (Some("[2001:db8::1]"), Some("99"), Some("Connection from [2001:db8::1]:99")),
        (Some("2001:db8::1"), Some("99"), Some("Connection from 2001:db8::1:99")),
        (
            Some("192.0.2.1"),
            None,
            Some(d.since(
                (2, 55),
                "Connection from 192.0.2.1:?",
                "Connection from 192.0.2.1:(null)",
            )),
        ),
        (None, Some("99"), None),
    ] {
        let (scratch, mut invocation) = exported(d);
        let seen = scratch.root().join("seen");
        let fake = scratch.fake_git(&format!(
            "echo \"${{REMOTE_ADDR-unset}} ${{REMOTE_PORT-unset}}\" >{}\nprintf 0000\n",
            seen.display()
        ));
        invocation = invocation.path_first(&fake);
        if let Some(address) = address {
            invocation = invocation.env("REMOTE_ADDR", address);
        }
        if let Some(port) = port {
            invocation = invocation.env("REMOTE_PORT", port);
        }
        let (mut inetd, mut client) = Inetd::tcp(invocation);
        client.send(request("upload-pack", "/repo.git"));
        assert_eq!(client.packet(), Packet::Flush);
        assert_eq!(inetd.code(), Some(0));
        let log = inetd.log();
        let from = log.iter().find(|line| line.starts_with("Connection from"));
        assert_eq!(from.map(String::as_str), logged);
        let seen = fs::read_to_string(seen).unwrap();
        assert_eq!(seen, format!("{} {}\n", address.unwrap_or("unset"), port.unwrap_or("unset")));
    }
}

/// Contract 51: bytes that are not text are passed on unchanged.
fn addresses_that_are_no_text(d: Implementation) {
    let (scratch, invocation) = exported(d);
    let seen = scratch.root().join("seen");
    let fake = scratch.fake_git(&format!(
        "printf '%s ' \"$REMOTE_ADDR\" \"$REMOTE_PORT\" >>{}\nprintf 0000\n",
        seen.display()
    ));
    let hook = scratch.script(
        "hook",
        &format!(
            "#!/bin/sh\nprintf '%s ' \"$REMOTE_ADDR\" \"$REMOTE_PORT\" >>{}\n",
            seen.display()
        ),
    );
    let invocation = invocation
        .path_first(&fake)
        .option("--access-hook", hook)
        .env("REMOTE_ADDR", OsStr::from_bytes(b"192.0.2.1\xff\n\x1b[1m"))
        .env("REMOTE_PORT", OsStr::from_bytes(b"\xfe"));
    let (mut inetd, mut client) = Inetd::tcp(invocation);
    client.send(request("upload-pack", "/repo.git"));
    assert_eq!(client.packet(), Packet::Flush);
    assert_eq!(inetd.code(), Some(0));
    assert_eq!(fs::read(seen).unwrap(), b"192.0.2.1\xff\n\x1b[1m \xfe ".repeat(2));
    let from = d.differs("B9", "192.0.2.1\u{fffd}", "192.0.2.1\\xff\\n\\u{1b}[1m:\\xfe");
    assert!(inetd.log().contains(&format!("Connection from {from}")));
}

/// Contract 8: whatever stands behind the two descriptors.
fn over_pipes(d: Implementation) {
    let (_scratch, invocation) = exported(d);
    let (stdin, mut to) = std::io::pipe().unwrap();
    let (mut from, stdout) = std::io::pipe().unwrap();
    let mut inetd = Inetd::start(invocation, stdin.into(), stdout.into());
    to.write_all(&request("upload-pack", "/repo.git")).unwrap();
    to.write_all(b"0000").unwrap();
    drop(to);
    // All of it fits into the pipe.
    assert_eq!(inetd.code(), Some(0));
    let mut answer = String::new();
    from.read_to_string(&mut answer).unwrap();
    assert!(answer.contains(" refs/heads/is-repo\n") && answer.ends_with("\n0000"));
}

/// Contract 8: the same over a socket that is not TCP.
fn over_a_unix_socket(d: Implementation) {
    let (_scratch, invocation) = exported(d);
    let (ours, theirs) = UnixStream::pair().unwrap();
    ours.set_read_timeout(Some(DEADLINE)).unwrap();
    let mut inetd = Inetd::start(invocation, theirs.try_clone().unwrap().into(), theirs.into());
    (&ours).write_all(&request("upload-pack", "/nothing")).unwrap();
    let mut answer = String::new();
    (&ours).read_to_string(&mut answer).unwrap();
    assert!(answer.ends_with(&format!("ERR {GENERIC}: /nothing")), "{answer}");
    assert_eq!(inetd.code(), Some(255));
}

/// Contract 23: not a byte more than the request, from a pipe either.
fn slow_and_ahead(d: Implementation) {
    let (_scratch, invocation) = exported(d);
    let (mut inetd, mut client) = Inetd::tcp(invocation);
    let bytes = pkt("git-upload-pack /repo.git\0host=x\0\0version=2\0");
    let (first, last) = bytes.split_at(bytes.len() - 1);
    client.send_bytewise(first);
    let mut last = last.to_vec();
    last.extend(pkt("command=ls-refs\n"));
    last.extend(b"000100000000");
    client.send(last);
    assert_eq!(client.packets_to_flush()[0], b"version 2\n");
    assert!(!client.packets_to_flush().is_empty());
    assert_eq!(inetd.code(), Some(0));
}

/// Contract 24, 55: the service's own status, 255 for refusals.
fn status(d: Implementation) {
    for (bytes, code) in [
        (pkt("git-upload-pack /repo.git\0"), 7),
        (pkt("nonsense"), 255),
        (b"0000".to_vec(), 255),
        (b"zzzz".to_vec(), 128),
        (b"00".to_vec(), 128),
        (pkt("git-upload-pack /repo.git\0x\0"), 128),
        (pkt("git-receive-pack /repo.git\0"), 255),
    ] {
        let (scratch, invocation) = exported(d);
        let fake = scratch.fake_git("exit 7\n");
        let (mut inetd, mut client) = Inetd::tcp(invocation.path_first(&fake));
        client.send(&bytes);
        client.half_close();
        client.rest();
        assert_eq!(inetd.code(), Some(code), "{:?}", String::from_utf8_lossy(&bytes));
    }
}

/// Contract 60: --init-timeout counts from the start.
fn a_silent_client(d: Implementation) {
    let (_scratch, invocation) = exported(d);
    let (mut inetd, mut client) = Inetd::tcp(invocation.arg("--init-timeout=1"));
    assert_eq!(client.rest().0, b"");
    let code = inetd.code();
    if d == Stock {
        assert_eq!(code, None);
    } else {
        assert_ne!(code, Some(0));
    }
}

/// Contract 60: a byte now and then does not put it off.
fn a_slow_client(d: Implementation) {
    let (_scratch, invocation) = exported(d);
    let (mut inetd, mut client) = Inetd::tcp(invocation.arg("--init-timeout=1"));
    let request = request("upload-pack", &format!("/{}", "x".repeat(100)));
    // All of it would take more than ten times as long as there is.
    let taken = request.iter().take_while(|&&byte| {
        std::thread::sleep(Duration::from_millis(100));
        client.sends([byte])
    });
    assert!(taken.count() < request.len(), "the whole request was taken");
    assert_ne!(inetd.code(), Some(0));
}

/// Contract 13: there is nothing to write a pid for.
fn no_pid_file(d: Implementation) {
    let (scratch, invocation) = exported(d);
    let file = scratch.root().join("pid");
    let (mut inetd, mut client) = Inetd::tcp(invocation.option("--pid-file", &file));
    client.send(request("upload-pack", "/nothing"));
    client.rest();
    assert_eq!(inetd.code(), Some(255));
    assert!(!file.exists());
}

/// Contract 20: under inetd standard error is the client's connection; it is redirected when the log goes elsewhere.
fn silence(d: Implementation) {
    let (_scratch, invocation) = exported(d);
    let (mut inetd, mut client) = Inetd::tcp(invocation.arg("--log-destination=none"));
    client.send(request("upload-pack", "/repo.git"));
    assert!(!client.packets_to_flush().is_empty());
    let stderr = process::descriptor(inetd.child.id(), 2).unwrap();
    assert_eq!(stderr.to_str(), Some("/dev/null"));
    client.send("0000");
    assert_eq!(client.rest().0, b"");
    assert_eq!(inetd.code(), Some(0));
    assert_eq!(inetd.log(), [""; 0]);
}
