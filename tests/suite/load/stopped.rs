//! gitd stops a service only while it reads from its client, and without its helpers: no other process waits for it,
//! and nothing stays stopped.

use std::io::Read;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::noise::large;
use super::permits::{ask_for_pack, resting};
use super::slow::narrow;
use super::{ask_for_all, from, is_served};
use crate::support::process::{alive, children, descendants, state, wait_until};
use crate::support::scratch::head;
use crate::support::{Client, Daemon, Git, Gitd, Packet, Scratch, pkt, request};

/// A push whose client pauses in the middle of the pack, which has begun to be read; and the rest of it.
fn in_mid_push(scratch: &Scratch, daemon: &Daemon) -> (Client, Vec<u8>) {
    let source = scratch.bare("source.git");
    let id = head(&source);
    let pack = Git::new(scratch).cwd(&source).args(["pack-objects", "--all", "--stdout", "-q"]);
    let pack = pack.output().stdout;
    let mut push = from(daemon, 3);
    push.send(request("receive-pack", "/repo.git"));
    push.packets_to_flush();
    let update = format!("{} {id} refs/heads/pushed\0report-status\n", "0".repeat(40));
    push.send([pkt(update), b"0000".to_vec(), pack[..30].to_vec()].concat());
    wait_until("the pack is being read", || descendants(daemon.pid()).len() == 2);
    (push, pack[30..].to_vec())
}

/// An idle push goes on when gitd has died, as with git daemon.
#[test]
fn a_push_that_outlives_gitd() {
    for signal in [Signal::KILL, Signal::HUP] {
        let scratch = Scratch::new();
        scratch.bare("repo.git");
        let options = ["--enable=receive-pack", "--max-connections=1"];
        let mut daemon = Gitd.serve(&scratch).args(options).start();
        let (mut push, rest) = in_mid_push(&scratch, &daemon);
        // It is idle: another request gets the permit.
        is_served(&daemon);
        daemon.signal(signal);
        daemon.wait();
        push.send(rest);
        assert_eq!(push.packet(), Packet::Data(b"unpack ok\n".to_vec()));
    }
}

/// A process that a service has left in its group may hold a lock.
#[test]
fn helpers_of_an_idle_service_go_on() {
    let scratch = Scratch::new();
    scratch.bare("repo.git");
    let (lock, go) = (scratch.root().join("lock"), scratch.root().join("go"));
    let (lock, gate) = (lock.display(), go.display());
    let hook = scratch.script(
        "pack",
        &format!(
            "#!/bin/sh\nflock '{lock}' true\n( exec 9>'{lock}'; flock 9; while [ ! -e '{gate}' ]; do sleep 0.1; done ) \
             >/dev/null 2>&1 </dev/null &\nexec \"$@\"\n"
        ),
    );
    scratch.global_config(&format!("[uploadpack] packObjectsHook = {}\n", hook.display()));
    let daemon = Gitd.serve(&scratch).start();
    let (mut first, id) = resting(&daemon, 1);
    ask_for_pack(&mut first, &id);
    assert_eq!(first.packet(), Packet::Data(b"packfile\n".to_vec()));
    first.packets_to_flush();
    let [service] = children(daemon.pid())[..] else { panic!("one service") };
    wait_until("it is stopped", || state(service) == Some('T'));
    let (mut second, id) = resting(&daemon, 2);
    ask_for_pack(&mut second, &id);
    std::fs::write(&go, "").unwrap();
    let begin = Instant::now();
    // A service that waits for a lock says every five seconds that it lives.
    while second.packet() != Packet::Flush {
        assert!(begin.elapsed() < Duration::from_secs(20), "it waits for what is stopped");
    }
}

/// A session that was idle does not wait for the end of all requests that came meanwhile.
#[test]
#[ignore = "waits for many seconds"]
fn an_admitted_session_is_served_in_time() {
    let scratch = Scratch::new();
    scratch.bare("repo.git");
    large(&scratch);
    let daemon = Gitd.serve(&scratch).args(["--max-connections=1"]).start();
    let (mut first, id) = resting(&daemon, 1);
    // A reader that is never slow enough to be idle, and has enough to read.
    let mut reader = narrow(&daemon);
    ask_for_all(&mut reader, "/large.git");
    let reading = std::thread::spawn(move || {
        let end = Instant::now() + Duration::from_secs(20);
        let mut piece = [0; 5_000];
        while Instant::now() < end && reader.stream().read_exact(&mut piece).is_ok() {
            std::thread::sleep(Duration::from_millis(25));
        }
    });
    let begin = Instant::now();
    ask_for_pack(&mut first, &id);
    assert_eq!(first.packet(), Packet::Data(b"packfile\n".to_vec()));
    first.packets_to_flush();
    let took = begin.elapsed();
    assert!(!reading.is_finished(), "it has waited for the other one's end");
    println!("served after {took:?}");
    let [one, two] = children(daemon.pid())[..] else { panic!("two services") };
    assert!(alive(one) && alive(two));
}
