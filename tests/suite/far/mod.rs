//! What gitd does for clients that are far: it holds back what a service writes first until that pauses, so that a
//! greeting is one segment and not eleven, of which the last would wait for a round trip. And it does so for no other
//! client: near by it would cost more than it saves, and MPTCP keeps for 200 ms more what it is told to hold back.

#[path = "../../bench/tun.rs"]
mod tun;
mod wire;

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::net::sockopt::tcp_cork;
use socket2::Protocol;
use wire::{Place, Wire};

use crate::deployment::server::Server;
use crate::lab;
use crate::support::process::{children, socket_of_the_service, wait_until, write_to_reader};
use crate::support::{Client, Git, Packet, Scratch, needs_root, pkt, skip};

/// From one end of the wire to the other.
const DELAY: Duration = Duration::from_millis(15);

/// The least time for which the kernel holds back corked data, unless it is uncorked.
const CORKED: Duration = Duration::from_millis(200);

const PORT: u16 = 9418;

/// gitd on the server's host, with a PATH that begins with this directory.
fn start(wire: &Wire, scratch: &Scratch, first: &Path) -> Server {
    let mut command = wire.network.server.command(env!("CARGO_BIN_EXE_gitd"));
    lab::isolate(&mut command);
    let mut path = first.as_os_str().to_owned();
    path.push(":");
    path.push(Git::server_path());
    command.args(["--mptcp", "--verbose", "--export-all"]).env("PATH", path);
    command.arg(format!("--base-path={}", scratch.repos().display()));
    Server::spawn(command.stdin(Stdio::null()).stdout(Stdio::null()))
}

/// A service that writes nothing until its gate opens: until then the options of its client's socket stay as they are.
#[test]
fn only_what_goes_far_by_tcp_is_held_back() {
    needs_root!();
    if let Some(why) = lab::missing() {
        return skip(&why);
    }
    let scratch = Scratch::new();
    scratch.bare("repo.git");
    let gate = scratch.root().join("gate");
    rustix::fs::mkfifoat(rustix::fs::CWD, &gate, rustix::fs::Mode::RWXU).unwrap();
    let fake = format!("read go <{}\nprintf 0000\nexec cat >/dev/null\n", gate.display());
    let fake = scratch.fake_git(&fake);
    let wire = Wire::lay(DELAY);
    let server = start(&wire, &scratch, &fake);
    let pid = server.pid();
    for (place, protocol, held) in [
        (Place::Far, Protocol::TCP, true),
        (Place::Far, Protocol::MPTCP, false),
        (Place::Near, Protocol::TCP, false),
        (Place::Near, Protocol::MPTCP, false),
    ] {
        let mut client = wire.connect(place, protocol, PORT);
        client.send(pkt("git-upload-pack /repo.git\0host=localhost\0\0version=2\0"));
        let socket = socket_of_the_service(pid);
        let asked_for = socket2::SockRef::from(&socket).protocol().unwrap();
        assert_eq!(asked_for, Some(protocol), "{place:?}");
        assert_eq!(tcp_cork(&socket).unwrap(), held, "{place:?} {protocol:?}");
        write_to_reader(&gate, "go\n");
        assert_eq!(client.packet(), Packet::Flush);
        // The kernel lets go as well, for once, when the time is over; gitd lets go for good.
        wait_until("nothing is held back", || !tcp_cork(&socket).unwrap());
        drop(client);
        wait_until("the service has ended", || children(pid).is_empty());
    }
}

/// upload-pack writes its greeting in small pieces.
#[test]
fn a_greeting_is_few_segments_and_not_late() {
    needs_root!();
    if let Some(why) = lab::missing() {
        return skip(&why);
    }
    let scratch = Scratch::new();
    scratch.bare("repo.git");
    let wire = Wire::lay(DELAY);
    let _server = start(&wire, &scratch, Git::exec_path());
    let [near, far] = [Place::Near, Place::Far].map(|place| {
        let greet = || greeting(wire.connect(place, Protocol::TCP, PORT));
        greet();
        let (mut segments, mut times): (Vec<_>, Vec<_>) = (0..15).map(|_| greet()).unzip();
        println!("{place:?}: {segments:?} segments, {times:?}");
        segments.sort_unstable();
        times.sort_unstable();
        (segments[segments.len() / 2], times[times.len() / 2])
    });
    assert!(far.0 * 3 <= near.0, "{} segments to the far client, {} to the near", far.0, near.0);
    assert!(far.1 >= 2 * DELAY, "{far:?}: the wire is not that short");
    // What the kernel lets go of by itself needs a round trip more than that.
    assert!(far.1 < near.1 + 2 * DELAY + CORKED, "{far:?}, and near by {near:?}");
}

/// How many segments it was, and how long it took from the request on.
fn greeting(mut client: Client) -> (u32, Duration) {
    let begin = Instant::now();
    client.send(pkt("git-upload-pack /repo.git\0host=localhost\0\0version=2\0"));
    assert_eq!(client.packets_to_flush()[0], b"version 2\n");
    let took = begin.elapsed();
    let segments = segments_with_data(&client);
    client.send("0000");
    client.rest();
    (segments, took)
}

/// That have arrived.
fn segments_with_data(client: &Client) -> u32 {
    // In struct tcp_info.
    const DATA_SEGS_IN: usize = 152;
    let (info, length) = gitd::sys::socket::option::<{ DATA_SEGS_IN + 4 }>(
        client.stream(),
        libc::IPPROTO_TCP,
        libc::TCP_INFO,
    )
    .unwrap();
    assert_eq!(length, info.len(), "Linux 4.6 or later");
    u32::from_ne_bytes(info[DATA_SEGS_IN..].try_into().unwrap())
}
