//! What gitd does to a client's socket while the service has it, as the kernel tells of that very socket: ACKs without
//! delay, and full segments where there is much to send.
//!
//! The tests look through a duplicate of the service's standard input, which is the client's socket.

use std::fs;
use std::os::fd::AsFd;

use rustix::net::sockopt::{set_tcp_quickack, tcp_nodelay, tcp_quickack};

use crate::lab::Repository;
use crate::support::process::{socket_of_the_service, wait_until};
use crate::support::strace::Trace;
use crate::support::{Gitd, Packet, Scratch, pkt};

/// Fewer than the packet has bytes that they begin, so that upload-pack waits for the rest in silence.
const PIECES: usize = 100;

/// Four times what gitd counts as small.
const ENOUGH_FOR_BULK: usize = 1 << 20;

/// The kernel begins to delay ACKs when the service answers, so that once would not do: here it is made to begin before
/// each arrival. It also leaves off by itself when it has delayed one; so what counts is what gitd asks of it.
#[test]
fn each_arrival_is_acknowledged_at_once() {
    let (scratch, daemon) = Gitd.serve_one();
    let mut client = daemon.connect();
    client.send(pkt("git-upload-pack /repo.git\0host=localhost\0\0version=2\0"));
    client.packets_to_flush();
    let socket = socket_of_the_service(daemon.pid());
    let Some(trace) = Trace::attach(&scratch, daemon.pid(), &["trace=setsockopt"]) else { return };
    let asked = || trace.calls().matches("TCP_QUICKACK, [1], 4) = 0").count();

    client.send(b"fff0");
    wait_until("the first arrival is acknowledged", || asked() > 0);
    let begin = asked();
    for piece in 0..PIECES {
        set_tcp_quickack(&socket, false).unwrap();
        let before = asked();
        client.send(b"x");
        wait_until(&format!("arrival {piece} is acknowledged"), || asked() > before);
        assert!(tcp_quickack(&socket).unwrap(), "arrival {piece}: another connection's");
    }
    let calls = asked() - begin;
    assert!((PIECES..PIECES + PIECES / 10).contains(&calls), "{calls} for {PIECES} arrivals");
}

#[test]
fn segments_are_prompt_but_in_bulk() {
    let scratch = Scratch::new();
    let repository = Repository::of_megabytes(30);
    scratch.symlink("big.git", repository.path());
    let daemon = Gitd.serve(&scratch).start();
    let mut client = daemon.connect();
    client.send(pkt("git-upload-pack /big.git\0host=localhost\0\0version=2\0"));
    client.packets_to_flush();
    let socket = socket_of_the_service(daemon.pid());
    assert!(tcp_nodelay(&socket).unwrap());
    assert!(is_watched(daemon.pid(), &socket));

    let want = format!("want {}\n", repository.tip());
    client.send(pkt("command=fetch"));
    client.send(pkt("object-format=sha1"));
    client.send("0001");
    for line in ["no-progress", &want, "done\n"] {
        client.send(pkt(line));
    }
    client.send("0000");
    // The service stands in the middle of its pack whenever the client does not read: no buffers hold it all.
    let mut length = 0;
    while length < ENOUGH_FOR_BULK {
        let Packet::Data(payload) = client.packet() else { panic!("after {length} bytes") };
        length += payload.len();
    }
    wait_until("the kernel may fill its segments", || !tcp_nodelay(&socket).unwrap());
    length += client.packets_to_flush().iter().map(Vec::len).sum::<usize>();
    assert!(length as u64 > repository.pack_bytes());
    // The session goes on, and the next answer may be small.
    wait_until("segments are prompt again", || tcp_nodelay(&socket).unwrap());
    wait_until("gitd waits for arrivals again", || is_watched(daemon.pid(), &socket));
}

/// Whether a process has a socket in one of its epolls.
fn is_watched(pid: u32, socket: impl AsFd) -> bool {
    let inode = format!("ino:{:x}", rustix::fs::fstat(socket).unwrap().st_ino);
    let mut entries = fs::read_dir(format!("/proc/{pid}/fdinfo")).unwrap();
    entries.any(|entry| {
        let text = fs::read_to_string(entry.unwrap().path()).unwrap_or_default();
        let mut watched = text.lines().filter(|line| line.starts_with("tfd:"));
        watched.any(|line| line.split_whitespace().any(|word| word == inode))
    })
}
