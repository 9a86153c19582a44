//! --timeout through a Unix socket, where the kernel counts no bytes.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::noise::large;
use crate::support::process::{children, wait_until};
use crate::support::scratch::head;
use crate::support::{DEADLINE, Daemon, Gitd, Scratch, pkt, request};

fn server(scratch: &Scratch, timeout: u32) -> (Daemon, PathBuf) {
    scratch.bare("repo.git");
    let socket = scratch.root().join("socket");
    let daemon = Gitd
        .serve(scratch)
        .option("--listen", format!("unix:{}", socket.display()))
        .args(["--listen=127.0.0.1", "--enable=receive-pack", "--enable=upload-archive"])
        .arg(format!("--timeout={timeout}"))
        .start();
    (daemon, socket)
}

fn connect(socket: &PathBuf, request: impl AsRef<[u8]>) -> UnixStream {
    let mut client = UnixStream::connect(socket).unwrap();
    client.set_read_timeout(Some(DEADLINE)).unwrap();
    client.write_all(request.as_ref()).unwrap();
    client
}

/// What came, and how long it took until the end.
fn rest(mut client: &UnixStream) -> (Vec<u8>, Duration) {
    let begin = Instant::now();
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).unwrap();
    (answer, begin.elapsed())
}

/// Every service and version: a push and an archive after the time-out, as does a client of version 2 that has stopped
/// in the middle of an answer; one that has its answer may work for ten times as long.
#[test]
#[ignore = "waits for many seconds"]
fn silence_is_ended() {
    let scratch = Scratch::new();
    let (daemon, socket) = server(&scratch, 1);
    let version_2 = pkt("git-upload-pack /repo.git\0host=x\0\0version=2\0");
    let cases = [
        (request("receive-pack", "/repo.git"), 1),
        (request("upload-archive", "/repo.git"), 1),
        ([request("receive-pack", "/repo.git"), b"00".to_vec()].concat(), 1),
        (version_2, 10),
    ];
    std::thread::scope(|scope| {
        for (request, least) in &cases {
            let client = connect(&socket, request);
            scope.spawn(move || {
                let (_, time) = rest(&client);
                assert!(
                    time >= Duration::from_secs(*least) - Duration::from_millis(50),
                    "{time:?}"
                );
            });
        }
    });
    wait_until("all have ended", || children(daemon.pid()).is_empty());
}

/// A client that stops reading in mid-pack is ended too.
#[test]
fn a_client_that_stops_reading() {
    let scratch = Scratch::new();
    large(&scratch);
    let (daemon, socket) = server(&scratch, 1);
    let mut client = connect(&socket, request("upload-archive", "/large.git"));
    client.write_all(&[pkt("argument HEAD\n"), b"0000".to_vec()].concat()).unwrap();
    client.read_exact(&mut [0; 8]).unwrap();
    wait_until("it has ended", || children(daemon.pid()).is_empty());
    assert!(!rest(&client).0.is_empty());
}

/// A client of version 2 that stops reading in mid-answer does not have its answer: the session is not idle.
#[test]
fn half_an_answer_is_not_idle() {
    let scratch = Scratch::new();
    let repository = large(&scratch);
    let (daemon, socket) = server(&scratch, 1);
    let fetch = [
        pkt("git-upload-pack /large.git\0host=x\0\0version=2\0"),
        pkt("command=fetch\n"),
        b"0001".to_vec(),
        pkt(format!("want {}\n", head(&repository))),
        pkt("done\n"),
        b"0000".to_vec(),
    ];
    let begin = Instant::now();
    let mut client = connect(&socket, fetch.concat());
    client.read_exact(&mut [0; 8]).unwrap();
    wait_until("it has ended", || children(daemon.pid()).is_empty());
    assert!(begin.elapsed() < Duration::from_secs(9), "{:?}", begin.elapsed());
}

/// A client that has sent something and then is silent times out: its bytes count once.
#[test]
fn silence_after_movement() {
    let scratch = Scratch::new();
    let (daemon, socket) = server(&scratch, 2);
    let mut client = connect(&socket, request("receive-pack", "/repo.git"));
    // A packet that is never whole, in pieces that come between gitd's looks.
    for piece in [b"0f", b"ff", b"xx"] {
        std::thread::sleep(Duration::from_millis(300));
        client.write_all(piece).unwrap();
    }
    let begin = Instant::now();
    wait_until("it has ended", || children(daemon.pid()).is_empty());
    assert!(begin.elapsed() >= Duration::from_secs(1), "{:?}", begin.elapsed());
}

/// A client that sends a byte now and then, or takes its answer in small pieces, works.
#[test]
#[ignore = "waits for many seconds"]
fn whatever_moves_goes_on() {
    let scratch = Scratch::new();
    large(&scratch);
    let (daemon, socket) = server(&scratch, 2);
    let mut push = connect(&socket, request("receive-pack", "/repo.git"));
    // A packet that is never whole.
    push.write_all(b"0fff").unwrap();
    let mut archive = connect(&socket, request("upload-archive", "/large.git"));
    archive.write_all(&[pkt("argument HEAD\n"), b"0000".to_vec()].concat()).unwrap();
    let mut piece = vec![0; 32 * 1024];
    // Longer than a client may be silent; a byte a turn is what keeps it.
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(6) {
        push.write_all(b"x").unwrap();
        archive.read_exact(&mut piece).unwrap();
        push.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        loop {
            match push.read(&mut piece) {
                Ok(0) => panic!("it was ended"),
                Ok(_) => {}
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::WouldBlock);
                    break;
                }
            }
        }
    }
    assert_eq!(children(daemon.pid()).len(), 2);
    drop((push, archive));
    wait_until("all have ended", || children(daemon.pid()).is_empty());
}

/// A packet now and then, which the service reads at once: gitd finds nothing of it in a queue.
#[test]
#[ignore = "waits for many seconds"]
fn packets_now_and_then() {
    let scratch = Scratch::new();
    let (daemon, socket) = server(&scratch, 3);
    let mut push = connect(&socket, request("receive-pack", "/repo.git"));
    let zeros = "0".repeat(40);
    for n in 0..8 {
        let command = pkt(format!("{zeros} {zeros} refs/heads/new-{n}"));
        push.write_all(&command).unwrap();
        // The pause is what is tested.
        std::thread::sleep(Duration::from_secs(1));
    }
    assert_eq!(children(daemon.pid()).len(), 1);
    drop(push);
    wait_until("it has ended", || children(daemon.pid()).is_empty());
}

/// Without a time-out gitd does not look, and sleeps.
#[test]
fn gitd_sleeps_beside_an_idle_session() {
    let scratch = Scratch::new();
    let (daemon, socket) = server(&scratch, 0);
    let mut client = connect(&socket, request("upload-pack", "/repo.git"));
    client.read_exact(&mut [0; 4]).unwrap();
    let switches = || {
        let count = crate::support::process::status(daemon.pid(), "voluntary_ctxt_switches");
        count.unwrap().parse::<u64>().unwrap()
    };
    let mut last = switches();
    wait_until("a second passes without a switch", || {
        std::thread::sleep(Duration::from_secs(1));
        std::mem::replace(&mut last, switches()) == last
    });
}
