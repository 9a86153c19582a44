//! Restarts under a steady load, as its clients see them. With a socket that a service manager holds no request fails.
//! With gitd's own socket there is a gap until the new process listens, because the old one closes the socket before it
//! waits for its clients.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::ExitStatusExt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::from;
use crate::deployment::activation::{TWO, passed};
use crate::deployment::server::{Server, gitd, scratch};
use crate::support::process::wait_until;
use crate::support::scratch::label_of;
use crate::support::{Client, DEADLINE, Daemon, End, Gitd, Packet, pkt};

/// Fifty requests a second, whether or not those before have been answered.
const PACE: Duration = Duration::from_millis(20);

const RESTARTS: usize = 6;

/// Systemd, or another program that opened the socket, keeps it while one server follows another.
#[test]
fn with_a_socket_that_is_passed_on() {
    let scratch = scratch();
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let start = || {
        let other = TcpListener::bind("127.0.0.1:0").unwrap();
        let socket = socket.try_clone().unwrap();
        Server::spawn(&mut passed(gitd(&scratch), TWO, socket.into(), other.into()))
    };
    let mut server = start();
    let load = under_load(address, |load| {
        for turn in 0..RESTARTS {
            load.wait_for_more();
            server.signal(Signal::TERM);
            // Both serve for a while, or neither: then clients wait in the socket's queue.
            if turn % 2 == 0 {
                let mut old = std::mem::replace(&mut server, start());
                assert_eq!(old.wait().signal(), Some(15));
            } else {
                assert_eq!(server.wait().signal(), Some(15));
                server = start();
            }
        }
        load.wait_for_more();
    });
    assert!(load.failed.is_empty(), "{:?} of {} failed", load.failed, load.answered);
    println!("{RESTARTS} restarts, {} requests, 0 failed", load.answered);
}

/// The old server goes on with the session that it has; the new one listens meanwhile.
#[test]
fn with_a_socket_of_its_own() {
    let scratch = scratch();
    let serve = || Gitd.serve(&scratch).arg("--reuseaddr");
    let mut server = serve().start();
    let (port, address) = (server.port, server.address());
    let mut gaps = Vec::new();
    let load = under_load(address, |load| {
        for _ in 0..RESTARTS {
            load.wait_for_more();
            let mut session = from(&server, 1).busy();
            let told = Instant::now();
            let (new, gap) = restart(&server, || serve().port(port).start());
            gaps.push((told..Instant::now(), gap));
            let mut old = std::mem::replace(&mut server, new);
            load.wait_for_more();
            assert_eq!(old.try_status(), None, "it still serves");
            session.send("0000");
            assert_eq!(session.rest(), (vec![], End::Closed));
            assert_eq!(old.wait().signal(), Some(15));
        }
    });
    for failure in &load.failed {
        let kind = failure.error.kind();
        assert!(matches!(kind, io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionReset));
        // Causes, not times: only requests that began while no process listened may fail.
        assert!(
            gaps.iter().any(|(span, _)| failure.begun <= span.end && failure.ended >= span.start),
            "{failure:?}"
        );
    }
    let mut gaps: Vec<_> = gaps.into_iter().map(|(_, gap)| gap).collect();
    gaps.sort();
    println!(
        "{RESTARTS} restarts, {} requests answered, {} not; nobody listened for {gaps:.1?}, median {:.1?}",
        load.answered,
        load.failed.len(),
        gaps[RESTARTS / 2]
    );
}

/// Tells the old server to end, and starts the new one as soon as the port is free. The gap is the time from the last
/// connection that the old one took to the first that the new one takes.
fn restart(old: &Daemon, start: impl FnOnce() -> Daemon + Send) -> (Daemon, Duration) {
    let address = old.address();
    let deadline = Instant::now() + DEADLINE;
    let mut last = Instant::now();
    old.signal(Signal::TERM);
    while TcpStream::connect(address).is_ok() {
        last = Instant::now();
        assert!(last < deadline, "it has not stopped to listen");
        thread::sleep(Duration::from_micros(200));
    }
    thread::scope(|scope| {
        let new = scope.spawn(start);
        while TcpStream::connect(address).is_err() {
            assert!(Instant::now() < deadline, "nobody listens");
            thread::sleep(Duration::from_micros(200));
        }
        let gap = last.elapsed();
        (new.join().unwrap(), gap)
    })
}

/// What has become of the requests so far.
#[derive(Default)]
struct Load {
    answered: usize,
    failed: Vec<Failure>,
}

#[derive(Debug)]
struct Failure {
    begun: Instant,
    ended: Instant,
    error: io::Error,
}

/// A load that runs.
struct Running {
    so_far: Mutex<Load>,
    over: AtomicBool,
}

impl Running {
    /// Waits until some more clients have had their answers.
    fn wait_for_more(&self) {
        let answered = || self.so_far.lock().unwrap().answered;
        let enough = answered() + 10;
        wait_until("more requests are answered", || answered() >= enough);
    }

    fn ask(&self, address: SocketAddr, version: usize) {
        let begun = Instant::now();
        let result = ls_remote(address, version);
        let mut so_far = self.so_far.lock().unwrap();
        match result {
            Ok(()) => so_far.answered += 1,
            Err(error) => so_far.failed.push(Failure { begun, ended: Instant::now(), error }),
        }
    }
}

/// Ends the load, also when the test fails.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Does `work` while clients come at their pace; returns once all of them have ended.
fn under_load(address: SocketAddr, work: impl FnOnce(&Running)) -> Load {
    let running = Running { so_far: Mutex::default(), over: AtomicBool::new(false) };
    thread::scope(|scope| {
        let _over = Over(&running.over);
        let running = &running;
        scope.spawn(move || {
            let start = Instant::now();
            for turn in 0_u32.. {
                thread::sleep((start + PACE * turn).saturating_duration_since(Instant::now()));
                if running.over.load(Ordering::Relaxed) {
                    return;
                }
                let version = if turn % 2 == 0 { 2 } else { 0 };
                scope.spawn(move || running.ask(address, version));
            }
        });
        work(running);
    });
    running.so_far.into_inner().unwrap()
}

/// A whole listing, verified. It fails only if there was no answer at all: one that breaks off fails the test.
fn ls_remote(address: SocketAddr, version: usize) -> io::Result<()> {
    let mut client = Client::from(TcpStream::connect_timeout(&address, DEADLINE)?);
    let parameters = if version == 2 { "\0version=2\0" } else { "" };
    client.try_send(pkt(format!("git-upload-pack /repo.git\0host=x\0{parameters}")));
    let mut lines = match client.packet() {
        Packet::Data(first) => vec![first],
        Packet::End(_) => return Err(io::ErrorKind::ConnectionReset.into()),
        other => panic!("{other:?} as the first packet"),
    };
    lines.extend(client.packets_to_flush());
    if version == 2 {
        assert_eq!(lines[0], b"version 2\n");
        client.send([pkt("command=ls-refs\n"), b"0001".to_vec(), b"0000".to_vec()].concat());
        lines = client.packets_to_flush();
    }
    let label = label_of("repo.git");
    let listed = |line: &Vec<u8>| String::from_utf8_lossy(line).contains(&label);
    assert!(lines.iter().any(listed), "{lines:?}");
    client.send("0000");
    assert_eq!(client.rest(), (vec![], End::Closed));
    Ok(())
}
