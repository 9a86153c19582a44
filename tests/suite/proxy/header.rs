//! The header's address is the client's, wherever gitd uses one; and what follows the header is git's.

use std::fs;
use std::io::{Read, Write};
use std::net::Ipv6Addr;
use std::os::unix::net::UnixStream;

use socket2::{Domain, Protocol, Socket, Type};

use super::{LOOPBACK, inet, lines, server, version_2, with_request};
use crate::support::process::{children, wait_until};
use crate::support::{Client, DEADLINE, End, Gitd, Scratch, Verdict, request};

/// Headers with a client, and how the log names it.
fn headers() -> Vec<(Vec<u8>, &'static str)> {
    let six = |source: &str| {
        let source: Ipv6Addr = source.parse().unwrap();
        let body = [&source.octets()[..], &[0; 15], &[1, 0xdc, 4, 0x24, 0xca]].concat();
        version_2(0x21, 0x21, &body)
    };
    vec![
        (b"PROXY TCP4 192.0.2.7 10.0.0.1 56324 9418\r\n".into(), "192.0.2.7:56324"),
        (b"PROXY TCP6 2001:db8::7 ::1 56324 9418\r\n".into(), "[2001:db8::7]:56324"),
        (b"PROXY TCP6 ::ffff:192.0.2.7 ::1 56324 9418\r\n".into(), "192.0.2.7:56324"),
        (inet([192, 0, 2, 7], 56324, b""), "192.0.2.7:56324"),
        (inet([192, 0, 2, 7], 56324, &[4; 2000]), "192.0.2.7:56324"),
        (six("2001:db8::7"), "[2001:db8::7]:56324"),
        (six("::ffff:192.0.2.7"), "192.0.2.7:56324"),
    ]
}

#[test]
fn in_the_log() {
    let (_scratch, daemon) = server(&[]);
    for (header, client) in headers() {
        let mark = daemon.log.mark();
        let session = daemon.talk(with_request(&header, "/repo.git"));
        session.assert_served("repo.git");
        assert_eq!(session.log[0], format!("Connection from {client}"));
        let lines = lines(&daemon, mark);
        let last = lines.last().unwrap();
        assert!(last.contains(&format!("Disconnected, client {client}, upload-pack ")), "{last}");
        assert!(!lines.iter().any(|line| line.contains("client 127.0.0.1")), "{lines:#?}");
        let mark = daemon.log.mark();
        daemon
            .talk(with_request(&header, "/nothing.git"))
            .assert_refused("access denied or repository not exported: /nothing.git");
        let lines = super::lines(&daemon, mark);
        let told = lines.iter().any(|line| line.contains(&format!("(client {client}")));
        assert!(told, "{lines:#?}");
    }
}

/// The hook and the service get it as REMOTE_ADDR and REMOTE_PORT.
#[test]
fn in_the_environment() {
    let scratch = Scratch::new();
    let repository = scratch.bare("repo.git");
    let show = "printf '%s %s' \"$REMOTE_ADDR\" \"$REMOTE_PORT\"";
    let hook = scratch.script("hook", &format!("#!/bin/sh\n{show} >hook-saw\n"));
    let fake = scratch.fake_git(&format!("{show} >service-saw\nprintf 0000\n"));
    let invocation = Gitd.serve(&scratch).arg(LOOPBACK).option("--access-hook", hook);
    let daemon = invocation.path_first(&fake).env("REMOTE_ADDR", "forged").start();
    for (header, client) in headers() {
        daemon.talk(with_request(header, "/repo.git"));
        let expected = client.rsplit_once(':').unwrap();
        for file in ["hook-saw", "service-saw"] {
            let saw = fs::read_to_string(repository.join(file)).unwrap();
            assert_eq!(saw.split_once(' ').unwrap(), expected, "{file}");
            fs::remove_file(repository.join(file)).unwrap();
        }
    }
}

/// Clients behind one balancer do not share a limit, and one client that comes twice does not get two.
#[test]
fn in_the_limits() {
    let options = ["--max-connections-per-address=1", "--queue-timeout=1"];
    let (_scratch, daemon) = server(&options);
    let busy = |last: u8| {
        let mut client = daemon.connect();
        client.send(with_request(inet([192, 0, 2, last], 1000, b""), "/repo.git"));
        client.packets_to_flush();
        client
    };
    let first = busy(1);
    let second = busy(2);
    assert_eq!(children(daemon.pid()).len(), 2);
    let refused = daemon.talk(with_request(inet([192, 0, 2, 1], 2000, b""), "/repo.git"));
    let text = "server is busy, try again later: /repo.git";
    assert_eq!(refused.verdict, Verdict::Refused(text.to_owned()), "{:#?}", refused.log);
    first.finish();
    second.finish();
}

/// However the bytes come, all of the header is taken, and nothing of what follows.
#[test]
fn to_the_byte() {
    let (_scratch, daemon) = server(&[]);
    let rest = request("upload-pack", "/repo.git");
    for (header, _) in headers().into_iter().chain([(b"PROXY UNKNOWN\r\n".to_vec(), "")]) {
        let whole = [&header[..], &rest].concat();
        for cut in [1, 14, 15, 16, 17, header.len() - 1, header.len(), header.len() + 2] {
            let mut client = daemon.connect();
            client.send(&whole[..cut]);
            // A later client that is served proves that gitd has seen these bytes.
            daemon.talk(with_request(inet([192, 0, 2, 9], 9, b""), "/repo.git"));
            client.send(&whole[cut..]);
            client.packets_to_flush();
            client.finish();
        }
        if header.len() < 200 {
            let mut client = daemon.connect();
            client.send_bytewise(&whole);
            client.packets_to_flush();
            client.finish();
        }
    }
}

/// A header without a client: a health check is quiet, and a request is the balancer's own.
#[test]
fn without_a_client() {
    let headers = [
        b"PROXY UNKNOWN\r\n".to_vec(),
        b"PROXY UNKNOWN 192.0.2.7 10.0.0.1 1 2\r\n".to_vec(),
        version_2(0x20, 0x00, b""),
        version_2(0x20, 0x11, &[7; 12]),
        version_2(0x21, 0x00, b""),
        version_2(0x21, 0x31, &[b'/'; 216]),
    ];
    let scratch = Scratch::new();
    scratch.bare("repo.git");
    let quiet = Gitd.serve(&scratch).arg(LOOPBACK).quiet().start();
    let verbose = Gitd.serve(&scratch).arg(LOOPBACK).start();
    for header in &headers {
        for daemon in [&quiet, &verbose] {
            let mut client = daemon.connect();
            client.send(header);
            client.half_close();
            assert_eq!(client.rest(), (vec![], End::Closed));
        }
        let mark = verbose.log.mark();
        let session = verbose.talk(with_request(header, "/repo.git"));
        session.assert_served("repo.git");
        assert_eq!(session.log.iter().filter(|line| *line == "Connection from CLIENT").count(), 1);
        let last = lines(&verbose, mark).pop().unwrap();
        assert!(last.contains("Disconnected, client 127.0.0.1:"), "{last}");
    }
    // One that closes without a byte is a check too.
    drop(quiet.connect());
    quiet.connect().finish();
    quiet.log.wait(0, |line| line.contains("no PROXY header"));
    assert_eq!(quiet.log.since(0).len(), 1, "{:#?}", quiet.log.since(0));
}

/// The addresses of both families, of listeners for one and for both, and over Multipath TCP.
#[test]
fn on_every_listener() {
    let scratch = Scratch::new();
    scratch.bare("repo.git");
    for (listen, option) in
        [(vec!["::1"], "--no-mptcp"), (vec![], "--no-mptcp"), (vec![], "--mptcp")]
    {
        let daemon = Gitd.serve(&scratch).listen(&listen).arg(LOOPBACK).arg(option).start();
        let served = |mut client: Client| {
            let mark = daemon.log.mark();
            client.send(with_request(inet([192, 0, 2, 7], 5, b""), "/repo.git"));
            client.packets_to_flush();
            client.finish();
            daemon.log.wait(mark, |line| line == "Connection from 192.0.2.7:5");
        };
        served(daemon.connect());
        served(Client::connect((Ipv6Addr::LOCALHOST, daemon.port).into()));
        if option == "--mptcp" {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::MPTCP)).unwrap();
            socket.connect(&daemon.address().into()).unwrap();
            served(Client::from(socket.into()));
            daemon.log.wait_count(0, 3, |line| line == "Disconnected");
            let lines = lines(&daemon, 0);
            assert!(lines.last().unwrap().ends_with(", mptcp, 1 path"), "{lines:#?}");
        }
    }
}

/// `unix` in the list, for a balancer on the same machine.
#[test]
fn on_a_unix_socket() {
    let scratch = Scratch::new();
    scratch.bare("repo.git");
    let path = scratch.root().join("Socket");
    let daemon = |option: &str| {
        let listen = [format!("unix:{}", path.display()), "127.0.0.1".to_owned()];
        let listen: Vec<&str> = listen.iter().rev().map(String::as_str).collect();
        Gitd.serve(&scratch).listen(&listen).arg(option).start()
    };
    let ask = |bytes: &[u8]| {
        let mut client = UnixStream::connect(&path).unwrap();
        client.set_read_timeout(Some(DEADLINE)).unwrap();
        client.write_all(&[bytes, b"0000"].concat()).unwrap();
        let mut answer = Vec::new();
        // It is reset if gitd closes before it has read everything.
        let _ = client.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).into_owned()
    };
    let with_header = with_request(inet([192, 0, 2, 7], 5, b""), "/repo.git");
    let without = request("upload-pack", "/repo.git");
    {
        let daemon = daemon("--proxy-protocol=unix");
        assert!(ask(&with_header).contains("refs/heads/is-repo"));
        daemon.log.wait(0, |line| line == "Connection from 192.0.2.7:5");
        assert_eq!(ask(&without), "");
        daemon.log.wait(0, |line| line == "fatal: no PROXY header");
        // A balancer's own connection has no address.
        let mark = daemon.log.mark();
        assert!(
            ask(&with_request(version_2(0x20, 0, b""), "/repo.git")).contains("refs/heads/is-repo")
        );
        daemon.log.wait(mark, |line| line.starts_with("Connection from unix:uid="));
        daemon.ask("upload-pack", "/repo.git").assert_served("repo.git");
    }
    wait_until("its socket is gone", || !path.exists() || fs::remove_file(&path).is_ok());
    let daemon = daemon(LOOPBACK);
    assert!(ask(&without).contains("refs/heads/is-repo"));
    assert_eq!(ask(&with_header), "");
    daemon.log.wait(0, |line| line.contains("bad line length character"));
}
