//! Services that wait for their clients are idle: they give their permit back, and go on later.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use super::{Gates, asking, assert_busy, from};
use crate::support::process::{children, wait_until};
use crate::support::scratch::head;
use crate::support::{
    Client, DEADLINE, Daemon, End, Gitd, Packet, Scratch, needs_root, pkt, request,
};

fn version_2(daemon: &Daemon) -> Client {
    let mut client = daemon.connect();
    client.send(pkt("git-upload-pack /repo.git\0host=x\0\0version=2\0"));
    client.packets_to_flush();
    client
}

/// One command of protocol v2 and its whole answer.
fn list(client: &mut Client) {
    client.send(
        [pkt("command=ls-refs\n"), b"0001".to_vec(), pkt("peel\n"), b"0000".to_vec()].concat(),
    );
    assert!(!client.packets_to_flush().is_empty());
}

fn server(scratch: &Scratch, options: &[&str]) -> Daemon {
    scratch.bare("repo.git");
    Gitd.serve(scratch).arg("--max-connections=1").args(options).start()
}

/// Everything was answered and acknowledged: the next request is served beside it, and the session can go on at any
/// time.
#[test]
fn an_idle_session_gives_its_permit_back() {
    let scratch = Scratch::new();
    let daemon = server(&scratch, &[]);
    let mut working = version_2(&daemon);
    list(&mut working);
    others_are_served(&daemon);
    list(&mut working);
    working.send("0000");
    assert_eq!(working.rest(), (vec![], End::Closed));
    wait_until("all have ended", || children(daemon.pid()).is_empty());
}

/// Three others are served one after another, with the only permit.
fn others_are_served(daemon: &Daemon) {
    for _ in 0..3 {
        let mut next = asking(daemon, 2, "/repo.git");
        assert!(!next.packets_to_flush().is_empty());
        next.finish();
    }
}

/// Clients that got the greeting, or sent a request or half of one, and then are silent.
#[test]
fn silent_sessions_delay_no_others() {
    let scratch = Scratch::new();
    let head = head(&scratch.bare("pushed.git"));
    let daemon = server(&scratch, &["--enable=receive-pack", "--enable=upload-archive"]);
    let mut greeted = version_2(&daemon);
    others_are_served(&daemon);
    list(&mut greeted);

    let mut wanting = asking(&daemon, 3, "/repo.git");
    wanting.packets_to_flush();
    others_are_served(&daemon);
    wanting.finish();

    let mut archive = from(&daemon, 4);
    archive.send([request("upload-archive", "/repo.git"), pkt("argument HEAD\n")].concat());
    others_are_served(&daemon);
    archive.send("0000");
    assert_eq!(archive.packet(), Packet::Data(b"ACK\n".to_vec()));
    archive.rest();

    let mut push = from(&daemon, 5);
    push.send(request("receive-pack", "/pushed.git"));
    push.packets_to_flush();
    let update = format!("{} {head} refs/heads/new\0 report-status\n", "0".repeat(40));
    push.send([pkt(update), b"0000PACK\0\0\0\x02".to_vec()].concat());
    others_are_served(&daemon);
    // No object, and the checksum of that.
    push.send(
        b"\0\0\0\0\x02\x9d\x08\x82\x3b\xd8\xa8\xea\xb5\x10\xad\x6a\xc7\x5c\x82\x3c\xfd\x3e\xd3\x1e",
    );
    let report = String::from_utf8(push.rest().0).unwrap();
    assert!(report.contains("unpack ok") && report.contains("ok refs/heads/new"), "{report}");
}

/// With one permit, one service may be idle in the middle of an answer, because that takes memory; the second keeps the
/// permit.
#[test]
fn idle_sessions_in_mid_answer_are_bounded() {
    let scratch = Scratch::new();
    let daemon = server(&scratch, &["--queue-timeout=3"]);
    let stalled = [3, 4].map(|last| {
        let mut client = asking(&daemon, last, "/repo.git");
        client.packets_to_flush();
        client
    });
    assert_busy(&mut asking(&daemon, 2, "/repo.git"));
    stalled.into_iter().for_each(Client::finish);
}

/// A service that works keeps its permit, however long nothing moves.
#[test]
fn a_working_service_keeps_its_permit() {
    let scratch = Scratch::new();
    let gates = Gates::set_up(&scratch);
    let daemon = server(&scratch, &["--queue-timeout=3"]);
    let working = gates.keep(&daemon, 1);
    assert_busy(&mut asking(&daemon, 2, "/repo.git"));
    working.finish();
}

/// The kernel counts no bytes of a Unix socket: a service keeps its permit, also when its client sends a byte now and
/// then.
#[test]
fn no_session_is_idle_over_a_unix_socket() {
    let scratch = Scratch::new();
    let socket = scratch.root().join("socket");
    let unix = format!("--listen=unix:{}", socket.display());
    let daemon = server(&scratch, &[&unix, "--queue-timeout=1"]);
    let mut holder = UnixStream::connect(&socket).unwrap();
    holder.set_read_timeout(Some(DEADLINE)).unwrap();
    holder.write_all(&request("upload-pack", "/repo.git")).unwrap();
    holder.read_exact(&mut [0]).unwrap();
    // A packet that is never whole. One byte more after each wait, until the next has waited in vain.
    holder.write_all(b"0fff").unwrap();
    let next = asking(&daemon, 2, "/repo.git");
    next.stream().set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    let mut answer = [0; 64];
    let read = loop {
        match next.stream().read(&mut answer) {
            Ok(read) => break read,
            Err(_) => holder.write_all(b"x").unwrap(),
        }
    };
    let answer = &answer[..read];
    assert!(answer.windows(4).any(|word| word == b"busy"), "{answer:?}");
}

/// --timeout ends a session that is stuck, and allows ten times as long to a client that has its answer.
#[test]
#[ignore = "waits for many seconds"]
fn an_idle_session_has_a_longer_timeout() {
    let scratch = Scratch::new();
    scratch.bare("repo.git");
    let daemon = Gitd.serve(&scratch).args(["--timeout=1", "--init-timeout=9"]).start();
    let mut working = version_2(&daemon);
    list(&mut working);
    let mut stuck = version_2(&daemon);
    assert_eq!(stuck.rest(), (vec![], End::Closed));
    let mut stuck = version_2(&daemon);
    assert_eq!(stuck.rest(), (vec![], End::Closed));
    list(&mut working);
    // But not for ever.
    assert_eq!(working.rest(), (vec![], End::Closed));
}

/// A service that has answered and works on in silence is not idle, whether or not permits are limited.
#[test]
fn work_after_an_answer_times_out() {
    let scratch = Scratch::new();
    scratch.bare("repo.git");
    let fake = scratch.fake_git("printf 0000\nhead -c 4 >/dev/null\nprintf 0000\nexec sleep 60\n");
    for places in ["--max-connections=1", "--max-connections=0"] {
        let daemon = Gitd.serve(&scratch).path_first(&fake).args([places, "--timeout=2"]).start();
        let mut client = version_2(&daemon);
        client.send("0000");
        client.packets_to_flush();
        let begin = Instant::now();
        client.rest();
        // If it were idle, it would be ten times as long.
        assert!(begin.elapsed() < Duration::from_secs(12), "{places}: {:?}", begin.elapsed());
    }
}

/// In the /proc of another PID namespace gitd's process ids belong to other processes. So gitd cannot observe its
/// services: they count as working, and keep their permits.
#[test]
fn services_that_proc_does_not_show() {
    needs_root!();
    let scratch = Scratch::new();
    scratch.bare("repo.git");
    // In that namespace two hundred processes that wait in a read have the low ids, as gitd's services have in theirs.
    let others = "for other in $(seq 200); do { read -r line; } <&3 & done";
    let daemon = Gitd
        .serve(&scratch)
        .args(["--max-connections=1", "--queue-timeout=3"])
        .namespace("--pid")
        .namespace("--fork")
        .namespace("--mount-proc")
        .shell(format!("mkfifo {0}\nexec 3<>{0}", scratch.root().join("fifo").display()))
        .shell(others)
        .shell("exec 3<&-\nset -- unshare --pid --fork \"$@\"")
        .start();
    let mut holder = version_2(&daemon);
    list(&mut holder);
    assert_busy(&mut asking(&daemon, 2, "/repo.git"));
    list(&mut holder);
}
