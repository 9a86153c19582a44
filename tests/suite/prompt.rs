//! What gitd does to a client's socket while the service has it, as the kernel tells of that very socket: ACKs without
//! delay, and full segments where there is much to send.
//!
//! The tests look through a duplicate of the service's standard input, which is the client's socket.

use std::fs;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::process::{Child, Stdio};

use rustix::net::sockopt::{set_tcp_quickack, tcp_nodelay, tcp_quickack};

use crate::lab::{self, Network, Repository, Server};
use crate::support::process::{await_readable, socket_of_the_service, wait_until};
use crate::support::{Gitd, Packet, Scratch, pkt, skip};

/// In all rounds fewer than the packet has octets that they begin, so that upload-pack waits for the rest in silence.
const PIECES: usize = 100;

const ROUNDS: usize = 5;

/// Four times what gitd counts as small.
const ENOUGH_FOR_BULK: usize = 1 << 20;

/// The kernel begins to delay ACKs when the service answers, so that once would not do: here it is made to begin before
/// each arrival. It also leaves off by itself, when it has delayed one; those it counts, for a whole network namespace.
#[test]
fn each_arrival_is_acknowledged_at_once() {
    if let Some(why) = lab::missing() {
        return skip(&why);
    }
    let repository = Repository::of_megabytes(1);
    let network = Network::new(&[1000]);
    let server = Server::start(&network.server, lab::Daemon::GitdTcp, repository.base());
    let mut client = Piped::start(&network);
    client.send(&pkt("git-upload-pack /r.git\0host=localhost\0\0version=2\0"));
    client.await_flush();
    let socket = socket_of_the_service(server.pid());

    client.send(b"fff0");
    let mut delayed_in_a_round = || {
        let before = network.server.delayed_acks();
        for piece in 0..PIECES {
            // gitd may be about to say it for the last one once more.
            wait_until("ACKs are delayed", || {
                set_tcp_quickack(&socket, false).unwrap();
                !tcp_quickack(&socket).unwrap()
            });
            client.send(b"x");
            let what = format!("arrival {piece} is acknowledged");
            wait_until(&what, || tcp_quickack(&socket).unwrap());
        }
        network.server.delayed_acks() - before
    };
    // A machine that lets gitd wait for longer than the kernel does now and then must not fail the test; without gitd it
    // is all of them, in every round.
    let mut rounds: Vec<_> = (0..ROUNDS).map(|_| delayed_in_a_round()).collect();
    println!("{rounds:?} of {PIECES} ACKs were delayed");
    rounds.sort_unstable();
    assert!(rounds[ROUNDS / 2] <= PIECES as u64 / 4, "{rounds:?} of {PIECES} ACKs were delayed");
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
        let Packet::Data(payload) = client.packet() else { panic!("after {length} octets") };
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

/// A client on the laboratory's other host, which sends each piece as soon as it has it.
struct Piped(Child);

impl Piped {
    fn start(network: &Network) -> Self {
        let mut command = network.client.command(env!("CARGO_BIN_EXE_gitd-connect"));
        command.args(["10.50.1.1", "9418"]).env("GIT_ENABLE_MPTCP", "0");
        Self(command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap())
    }

    fn send(&mut self, bytes: &[u8]) {
        self.0.stdin.as_mut().unwrap().write_all(bytes).unwrap();
    }

    fn await_flush(&mut self) {
        let mut received = Vec::new();
        while !received.ends_with(b"\n0000") {
            let mut buffer = [0; 4096];
            let stdout = self.0.stdout.as_mut().unwrap();
            await_readable("the server answers", &*stdout);
            let length = stdout.read(&mut buffer).unwrap();
            assert!(length > 0, "closed after {:?}", String::from_utf8_lossy(&received));
            received.extend_from_slice(&buffer[..length]);
        }
    }
}

impl Drop for Piped {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
