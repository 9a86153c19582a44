//! Who is answered, and within which bounds.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::{Site, converse, status_of};
use crate::support::process::wait_until;
use crate::support::{DEADLINE, Gitd, Scratch, needs_root};

#[test]
fn places() {
    let site = Site::start();
    for (place, status, kind) in [
        ("/", 200, "text/html; charset=utf-8"),
        ("/app.js", 200, "text/javascript; charset=utf-8"),
        ("/style.css", 200, "text/css; charset=utf-8"),
        ("/metrics", 200, "text/plain; version=0.0.4; charset=utf-8"),
        ("/healthz", 200, "text/plain; charset=utf-8"),
        ("/readyz", 200, "text/plain; charset=utf-8"),
        ("/sessions", 200, "text/plain; charset=utf-8"),
        ("/sessions?format=json", 200, "application/json"),
        ("/history", 200, "application/json"),
        ("/sessions?sort=x", 400, "text/plain; charset=utf-8"),
        ("/sessions?by=x", 400, "text/plain; charset=utf-8"),
        ("/sessions?format=x", 400, "text/plain; charset=utf-8"),
        ("/nothing", 404, "text/plain; charset=utf-8"),
        ("/../etc/passwd", 404, "text/plain; charset=utf-8"),
    ] {
        let answer = site.get(place);
        assert_eq!((answer.status, answer.header("content-type")), (status, Some(kind)), "{place}");
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"), "{place}");
        assert_eq!(answer.header("cache-control"), Some("no-store"), "{place}");
        let policy = answer.header("content-security-policy").unwrap();
        assert!(
            policy.starts_with("default-src 'none'; ") && !policy.contains("unsafe"),
            "{policy}"
        );
    }
}

#[test]
fn only_get_and_head() {
    let site = Site::start();
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "GIT"] {
        let answer = site.ask(&format!("{method} /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n"));
        assert_eq!((answer.status, answer.header("allow")), (405, Some("GET, HEAD")), "{method}");
    }
    let head = site.ask("HEAD /style.css HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!((head.status, head.body.as_str()), (200, ""));
    let length = site.get("/style.css").body.len().to_string();
    assert_eq!(head.header("content-length"), Some(length.as_str()));
}

/// A page of any site can lead its own name here, and must not read the answer.
#[test]
fn foreign_names() {
    let site = Site::start();
    for (host, status) in [
        ("localhost", 200),
        ("localhost:9419", 200),
        ("127.0.0.1", 200),
        ("[::1]:1", 200),
        ("evil.example", 403),
        ("127.0.0.1.evil.example:80", 403),
    ] {
        let answer = site.ask(&format!("GET /sessions HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        assert_eq!(answer.status, status, "{host}");
        assert_eq!(answer.body.contains("running"), status == 200, "{host}");
    }
    // A health check of HAProxy.
    assert_eq!(site.ask("GET /readyz HTTP/1.0\r\n\r\n").status, 200);
}

#[test]
fn a_head_is_at_most_8_kib() {
    let site = Site::start();
    let long = format!("GET / HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n", "x".repeat(7000));
    assert_eq!(site.ask(&long).status, 200);
    let mut stream = TcpStream::connect(site.status).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.write_all(format!("GET /{} HTTP/1.1\r\n", "x".repeat(9000)).as_bytes()).unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
}

/// Whoever says nothing, or does not read, has ten seconds.
#[test]
fn ten_seconds() {
    let site = Site::start();
    let begun = Instant::now();
    let mut silent = TcpStream::connect(site.status).unwrap();
    silent.set_read_timeout(Some(DEADLINE)).unwrap();
    silent.write_all(b"GET / HTTP/1.1\r\n").unwrap();
    let mut answer = Vec::new();
    let _ = silent.read_to_end(&mut answer);
    assert!(answer.is_empty(), "{answer:?}");
    let passed = begun.elapsed();
    assert!(passed >= Duration::from_secs(9) && passed < Duration::from_secs(20), "{passed:?}");
}

#[test]
fn over_a_unix_socket() {
    let scratch = Scratch::new();
    let path = scratch.root().join("status");
    let daemon = || {
        let place = format!("unix:{}", path.display());
        Gitd.serve(&scratch).option("--status", place).start()
    };
    let mut first = daemon();
    first.log.wait(0, |line| line.starts_with("Status on unix:/"));
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o660);
    let get = |host| {
        let head = format!("GET /healthz HTTP/1.1\r\nHost: {host}\r\n\r\n");
        converse(UnixStream::connect(&path).unwrap(), &head)
    };
    // No page reaches a Unix socket; a web server before it has any name.
    assert_eq!((get("git.example.org").status, get("x").body.as_str()), (200, "ok\n"));
    // Another gitd serves all the same, and takes the place when it is free.
    let second = daemon();
    second.log.wait(0, |line| {
        line.starts_with("warning: another process") || line.contains("another process")
    });
    first.signal(Signal::TERM);
    first.wait();
    second.log.wait(0, |line| line.starts_with("Status on unix:/"));
    assert_eq!(get("x").status, 200);
}

/// The new gitd serves while the old one finishes its work and tells of it.
#[test]
fn a_place_that_is_taken() {
    let mut site = Site::start();
    let client = site.daemon.connect().busy();
    let place = format!("--status={}", site.status);
    let second = Gitd.serve(&site.scratch).arg(&place).start();
    second.ask("upload-pack", "/repo.git").assert_served("repo.git");
    site.daemon.signal(Signal::TERM);
    wait_until("the first one drains", || site.get("/readyz").status == 503);
    assert_eq!((site.get("/healthz").status, site.metric("gitd_draining")), (200, 1.0));
    client.finish();
    site.daemon.wait();
    assert_eq!(status_of(&second), site.status);
    assert_eq!(site.get("/readyz").status, 200);
}

/// What cannot be followed is told before anybody is served.
#[test]
fn refused_places() {
    let scratch = Scratch::new();
    for (options, words) in [
        (&["--status=0.0.0.0:9419"][..], "--status=0.0.0.0:9419 is no loopback address"),
        (&["--status=9419"], "invalid status '9419'"),
        (&["--status-public"], "--status-public supplied without --status"),
        (&["--inetd", "--status=127.0.0.1:9419"], "--status is incompatible with --inetd"),
        (&["--status=127.0.0.1:0", "--status=unix:/nowhere/status"], "cannot listen for --status"),
    ] {
        let mut gitd = Gitd.serve(&scratch).args(options);
        if options.contains(&"--inetd") {
            gitd = gitd.listen(&[]).arg("--log-destination=stderr");
            let outcome = gitd.run();
            assert_eq!(outcome.code(), Some(128), "{options:?}");
            assert!(outcome.stderr.contains(words), "{outcome:?}");
            continue;
        }
        let outcome = gitd.run_as_server();
        assert_eq!(outcome.code(), Some(128), "{options:?}");
        assert!(outcome.stderr.contains(words), "{outcome:?}");
    }
    let public = Gitd.serve(&scratch).args(["--status=0.0.0.0:0", "--status-public"]).start();
    let address = status_of(&public);
    let stream = TcpStream::connect(("127.0.0.1", address.port())).unwrap();
    let head = "GET /readyz HTTP/1.1\r\nHost: git.example.org\r\n\r\n";
    assert_eq!(converse(stream, head).status, 200);
}

/// The place is opened by root, and told of by a user that may do little.
#[test]
fn after_privileges_are_dropped() {
    needs_root!();
    let scratch = Scratch::new();
    scratch.bare("repo.git");
    // Only root may write there.
    let directory = scratch.directory("run");
    let path = directory.join("status");
    let daemon = Gitd
        .serve(&scratch)
        .args(["--user=nobody", "--socket-owner=daemon"])
        .option("--status", format!("unix:{}", path.display()))
        .start();
    daemon.log.wait(0, |line| line.starts_with("Status on unix:/"));
    let get = |place| {
        let head = format!("GET {place} HTTP/1.1\r\nHost: x\r\n\r\n");
        converse(UnixStream::connect(&path).unwrap(), &head)
    };
    assert_eq!(get("/healthz").body, "ok\n");
    let metrics = get("/metrics").body;
    for figure in ["process_open_fds ", "process_resident_memory_bytes ", "process_max_fds "] {
        let value = metrics.lines().find_map(|line| line.strip_prefix(figure)).unwrap();
        assert!(value.parse::<f64>().unwrap() > 3.0, "{figure}{value}");
    }
    assert_eq!(std::os::unix::fs::MetadataExt::uid(&path.metadata().unwrap()), 1);
}
