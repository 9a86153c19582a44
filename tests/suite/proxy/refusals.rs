//! Who may send a header, who must, and what becomes of bytes that are none.

use std::time::{Duration, Instant};

use super::{inet, lines, server, version_2, with_request};
use crate::support::process::wait_until;
use crate::support::{Client, End, Gitd, Scratch, Verdict, pkt, request};

/// Nobody can pretend to be another: an address that is not listed sends no header.
#[test]
fn from_an_address_that_is_not_listed() {
    let scratch = Scratch::new();
    scratch.bare("repo.git");
    for option in ["--proxy-protocol=192.0.2.0/24,::1", "--no-mptcp"] {
        let daemon = Gitd.serve(&scratch).arg(option).start();
        for header in
            [b"PROXY TCP4 192.0.2.1 10.0.0.1 1 2\r\n".to_vec(), inet([192, 0, 2, 1], 1, b"")]
        {
            let mark = daemon.log.mark();
            let session = daemon.talk(with_request(&header, "/repo.git"));
            session.assert_silent();
            assert_eq!(session.log[0], "Connection from CLIENT");
            let lines = lines(&daemon, mark);
            let words = "; a PROXY header, and --proxy-protocol does not list this address)";
            let prefix = header[..4].escape_ascii();
            let begin = format!(
                "fatal: protocol error: bad line length character: {prefix} (client 127.0.0.1:"
            );
            let told = |line: &String| line.contains(&begin) && line.ends_with(words);
            assert_eq!(lines.iter().filter(|line| told(line)).count(), 1, "{lines:#?}");
        }
        daemon.ask("upload-pack", "/repo.git").assert_served("repo.git");
    }
}

/// A listed balancer that sends no header is set up wrongly. To serve its clients under its own address would let them
/// past every limit for addresses.
#[test]
fn without_a_header() {
    let (_scratch, daemon) = server(&[]);
    let session = daemon.ask("upload-pack", "/repo.git");
    session.assert_silent();
    session.assert_logged(&["fatal: no PROXY header"]);
    let lines = lines(&daemon, 0);
    let told = lines.iter().any(|line| {
        line.contains("(client 127.0.0.1:")
            && line.ends_with("; --proxy-protocol lists this address)")
    });
    assert!(told, "{lines:#?}");
}

#[test]
fn malformed() {
    let (_scratch, daemon) = server(&[]);
    for (header, reason) in [
        (b"PROXY TCP4 192.0.2.1 10.0.0.1 1 2\n".to_vec(), "malformed line"),
        (b"PROXY TCP4 2001:db8::1 ::1 1 2\r\n".to_vec(), "malformed line"),
        (b"PROXY TCP4 192.0.2.1\n10.0.0.1 1 2\r\n".to_vec(), "malformed line"),
        ([b"PROXY UNKNOWN ", &[b'x'; 200][..], b"\r\n"].concat(), "too long"),
        (version_2(0x31, 0x11, &[1; 12]), "version and command 0x31"),
        (version_2(0x21, 0x12, &[1; 12]), "family and transport 0x12"),
        (version_2(0x21, 0x21, &[1; 12]), "too short for its addresses"),
        (version_2(0x21, 0x11, &[0; 4097]), "too long"),
    ] {
        let session = daemon.talk(with_request(header, "/repo.git"));
        session.assert_silent();
        session.assert_logged(&[&format!("fatal: bad PROXY header: {reason}")]);
    }
    // Its client cannot speak for another.
    let twice = [inet([192, 0, 2, 1], 1, b""), inet([192, 0, 2, 2], 2, b"")].concat();
    let session = daemon.talk(with_request(twice, "/repo.git"));
    session.assert_silent();
    let words = "fatal: protocol error: bad line length character: \\r\\n\\r\\n";
    assert_eq!(session.log[..2], ["Connection from 192.0.2.1:1", words]);
}

/// A header that stops is as a request that stops.
#[test]
fn cut_off() {
    let (_scratch, daemon) = server(&[]);
    for header in [&b"PROXY TCP4 192.0.2.1"[..], &inet([192, 0, 2, 1], 1, b"")[..20]] {
        let mark = daemon.log.mark();
        let mut client = daemon.connect();
        client.send(header);
        client.half_close();
        assert_eq!(client.rest(), (vec![], End::Closed));
        daemon.log.wait(mark, |line| line == "fatal: the remote end hung up unexpectedly");
    }
}

/// One deadline for the header and the request, from accept on, however slowly the bytes come.
#[test]
fn slow() {
    let (_scratch, daemon) = server(&["--init-timeout=1"]);
    let long = inet([192, 0, 2, 1], 1, &[0; 500]);
    for whole in [&long[..], &[], &inet([192, 0, 2, 1], 1, b"")] {
        let started = Instant::now();
        let mut client = daemon.connect();
        let reader = client.stream().try_clone().unwrap();
        let whole = whole.to_vec();
        let writer = std::thread::spawn(move || {
            for byte in whole {
                if !client.sends([byte]) {
                    break;
                }
                std::thread::sleep(Duration::from_millis(30));
            }
        });
        assert_eq!(Client::from(reader).rest().0, b"");
        let took = started.elapsed();
        assert!((Duration::from_secs(1)..Duration::from_secs(8)).contains(&took), "{took:?}");
        writer.join().unwrap();
    }
    let late = |line: &&String| *line == "fatal: no request within 1 seconds";
    wait_until("all are told", || daemon.log.since(0).iter().filter(late).count() == 3);
}

/// Who waits with its header is a client without a request: past the limit the one silent longest goes.
#[test]
fn dismissed() {
    let (_scratch, daemon) = server(&["--max-pending=2"]);
    let mut first = daemon.connect();
    first.send("PROXY TCP4 192");
    let mut others: Vec<_> = (0..2).map(|_| daemon.connect()).collect();
    assert_eq!(first.rest().0, b"");
    daemon.log.wait(0, |line| line.starts_with("no request, and no room for more clients"));
    others[0].send(with_request(inet([192, 0, 2, 1], 1, b""), "/repo.git"));
    others[0].packets_to_flush();
}

#[test]
fn values_that_are_none() {
    let scratch = Scratch::new();
    for value in ["", "10.0.0.0/33", "example.com", "10.0.0.0/8 ::1", "10.0.0.0/8,,::1"] {
        let outcome = Gitd.invoke(&scratch).arg(format!("--proxy-protocol={value}")).run();
        assert_eq!(outcome.code(), Some(128));
        let text =
            format!("fatal: invalid proxy-protocol '{value}', expecting addresses, networks");
        assert!(outcome.stderr.starts_with(&text), "{}", outcome.stderr);
    }
    let outcome =
        Gitd.invoke(&scratch).args(["--inetd", "--log-destination=stderr", super::LOOPBACK]).run();
    assert_eq!(outcome.code(), Some(128));
    assert!(outcome.stderr.contains("are incompatible with --inetd"), "{}", outcome.stderr);
}

/// Over a balancer's connection a request is what it is without.
#[test]
fn requests_as_ever() {
    let (_scratch, daemon) = server(&[]);
    let header = inet([192, 0, 2, 1], 1, b"");
    for (bytes, line) in [
        (b"zzzz".to_vec(), "fatal: protocol error: bad line length character: zzzz"),
        (b"0009hello".to_vec(), "Protocol error: 'hello'"),
    ] {
        let session = daemon.talk([&header[..], &bytes].concat());
        session.assert_silent();
        assert!(session.log.iter().any(|logged| logged == line), "{:#?}", session.log);
    }
    let session = daemon.talk([&header[..], &request("receive-pack", "/repo.git")].concat());
    assert!(matches!(session.verdict, Verdict::Refused(_)), "{session:#?}");
}

/// The header's bytes are not git's: a client that says nothing after the capabilities has no answer yet to work on, and
/// stands still.
#[test]
fn a_session_that_has_not_begun() {
    let (_scratch, daemon) = server(&["--timeout=1"]);
    let mut client = daemon.connect();
    client.send(inet([192, 0, 2, 1], 1, &[4; 40]));
    client.send(pkt("git-upload-pack /repo.git\0host=localhost\0\0version=2\0"));
    client.packets_to_flush();
    let started = Instant::now();
    assert_eq!(client.rest().0, b"");
    // A client that works on its answer has ten times as long.
    assert!(started.elapsed() < Duration::from_secs(6), "{:?}", started.elapsed());
    daemon.log.wait(0, |line| line.starts_with("session stands still"));
}
