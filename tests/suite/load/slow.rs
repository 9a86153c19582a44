//! Clients that are slow or stop: others are served beside them, and nothing of them is left. These tests do not
//! measure time: the slow clients take a step, a good one is served, and so on.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Stdio;

use socket2::{Domain, Socket, Type};

use super::noise::large;
use super::{Resources, ask_for_all, from, is_served};
use crate::support::process::{children, in_network_of, wait_for, wait_until};
use crate::support::scratch::head;
use crate::support::{Client, Daemon, End, Git, Gitd, Packet, Scratch, needs_root, pkt, request};

/// Thirty clients send their requests byte by byte: they take no permit until the request is complete, then they are
/// served.
#[test]
fn byte_by_byte() {
    let scratch = Scratch::new();
    scratch.bare("repo.git");
    let daemon = Gitd.serve(&scratch).args(["--max-connections=1", "--init-timeout=0"]).start();
    is_served(&daemon);
    let before = Resources::of(&daemon);
    let mut slow: Vec<_> = (1..31).map(|last| from(&daemon, last)).collect();
    let whole = request("upload-pack", "/repo.git");
    for (index, byte) in whole.iter().enumerate() {
        slow.iter_mut().for_each(|client| client.send([*byte]));
        if index % 8 == 0 && index + 1 < whole.len() {
            is_served(&daemon);
        }
    }
    // One permit: each is served when those before it have left.
    std::thread::scope(|scope| {
        for client in slow {
            scope.spawn(move || {
                let mut client = client;
                assert!(!client.packets_to_flush().is_empty());
                client.finish();
            });
        }
    });
    before.assert_back(&daemon);
}

/// A client with a tiny receive buffer.
pub(super) fn narrow(daemon: &Daemon) -> Client {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(2048).unwrap();
    socket.connect(&daemon.address().into()).unwrap();
    Client::from(TcpStream::from(socket))
}

/// A reader of a kilobyte now and then leaves the only permit to others, and gets its whole pack in the end.
#[test]
#[ignore = "waits for many seconds"]
fn a_kilobyte_at_a_time() {
    let scratch = Scratch::new();
    scratch.bare("repo.git");
    let head = head(&large(&scratch));
    let daemon = Gitd.serve(&scratch).arg("--max-connections=1").start();
    is_served(&daemon);
    let before = Resources::of(&daemon);
    let mut slow = narrow(&daemon);
    ask_for_all(&mut slow, "/large.git");
    let mut pack = vec![0; 20 * 1024];
    for piece in pack.chunks_mut(1024) {
        slow.stream().read_exact(piece).unwrap();
        is_served(&daemon);
    }
    socket2::SockRef::from(slow.stream()).set_recv_buffer_size(1 << 20).unwrap();
    let (rest, end) = slow.rest();
    assert_eq!(end, End::Closed);
    pack.extend(rest);
    let copy = scratch.bare("copy.git");
    let git = Git::new(&scratch).cwd(&copy).args(["index-pack", "--stdin", "--strict"]);
    let mut index = git.into_command().stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    index.stdin.take().unwrap().write_all(&pack).unwrap();
    assert!(wait_for(&mut index).success());
    Git::new(&scratch).cwd(&copy).args(["cat-file", "-e", &head]).ok();
    before.assert_back(&daemon);
}

/// --timeout ends requests whose answers are not read, and the requests behind them are served.
#[test]
#[ignore = "waits for many seconds"]
fn answers_that_are_not_read() {
    let scratch = Scratch::new();
    scratch.bare("repo.git");
    let head = head(&large(&scratch));
    let daemon = Gitd
        .serve(&scratch)
        .args(["--max-connections=2", "--timeout=1", "--queue-timeout=0"])
        .start();
    is_served(&daemon);
    let before = Resources::of(&daemon);
    let mark = daemon.log.mark();
    let mut deaf = [narrow(&daemon), narrow(&daemon)];
    for client in &mut deaf {
        // With version 2 the service has no time-out of its own.
        client.send(pkt("git-upload-pack /large.git\0host=x\0\0version=2\0"));
        client.packets_to_flush();
        let all = [pkt(format!("want {head}\n")), pkt("done\n"), b"0000".to_vec()].concat();
        client.send([pkt("command=fetch\n"), b"0001".to_vec(), all].concat());
        assert_eq!(client.packet(), Packet::Data(b"packfile\n".to_vec()));
    }
    from(&daemon, 2).busy().finish();
    daemon.log.wait_count(mark, 2, |line| line.starts_with("session stands still: no byte moved"));
    for client in &mut deaf {
        // Cut off in the middle of the pack.
        assert!(client.rest().0.len() < 8_000_000);
    }
    before.assert_back(&daemon);
}

/// A push that stops in mid-pack is ended, leaves nothing in the repository, and the next one is taken.
#[test]
fn a_push_that_stalls() {
    let scratch = Scratch::new();
    let repository = scratch.bare("repo.git");
    let daemon = Gitd
        .serve(&scratch)
        .args(["--enable=receive-pack", "--timeout=1", "--max-connections=1"])
        .start();
    is_served(&daemon);
    let before = Resources::of(&daemon);
    let old = head(&repository);
    let mark = daemon.log.mark();
    let mut stalled = daemon.connect();
    stalled.send(request("receive-pack", "/repo.git"));
    stalled.packets_to_flush();
    let update = format!("{old} {} refs/heads/main\0 report-status\n", "1".repeat(40));
    stalled.send([pkt(update), b"0000".to_vec()].concat());
    // A pack of a thousand objects, of which the first has begun.
    stalled.send(b"PACK\0\0\0\x02\0\0\x03\xe8\x95\x0a\x78\x9c");
    stalled.rest();
    daemon.wait_disconnected(mark);
    wait_until("the service is gone", || children(daemon.pid()).is_empty());
    assert_eq!(head(&repository), old);
    let left: Vec<_> = std::fs::read_dir(repository.join("objects"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with("tmp_"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
    let work = scratch.root().join("work");
    Git::new(&scratch).args(["clone", "-q", &daemon.url("/repo.git")]).arg(&work).ok();
    let git = |arguments: &[&str]| Git::new(&scratch).cwd(&work).args(arguments).ok();
    git(&["commit", "-q", "--allow-empty", "-m", "more"]);
    git(&["push", "-q", "origin", "main"]);
    assert_eq!(head(&repository), git(&["rev-parse", "HEAD"]));
    before.assert_back(&daemon);
}

/// Connections that are never completed, far more than the kernel lists: a client that completes one is served.
#[test]
fn half_open_connections() {
    const HALF_OPEN: u16 = 1_000;
    needs_root!();
    let scratch = Scratch::new();
    scratch.bare("repo.git");
    // Clients in 127.0.2.0/24 do not get the server's SYN-ACK.
    let rule = "nft 'add table ip t; add chain ip t c { type filter hook output priority 0; }; \
                add rule ip t c ip daddr 127.0.2.0/24 tcp flags & (syn|ack) == syn|ack drop'";
    let daemon = Gitd
        .serve(&scratch)
        .namespace("--net")
        .shell("ip link set lo up")
        .shell("sysctl -qw net.core.somaxconn=128")
        .shell(rule)
        .start();
    let pid = daemon.pid();
    let half_open = || {
        let table = std::fs::read_to_string(format!("/proc/{pid}/net/tcp")).unwrap();
        table.lines().filter(|line| line.split_whitespace().nth(3) == Some("03")).count()
    };
    in_network_of(daemon.pid(), || {
        is_served(&daemon);
        let before = Resources::of(&daemon);
        let flood: Vec<_> = (0..HALF_OPEN).map(|n| knock(&daemon, n)).collect();
        wait_until("the server's list is full", || half_open() >= 100);
        for _ in 0..5 {
            is_served(&daemon);
        }
        drop(flood);
        before.assert_back(&daemon);
    });
}

/// Begins to connect, and does not wait.
fn knock(daemon: &Daemon, n: u16) -> Socket {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let [_, last] = (1 + n % 250).to_be_bytes();
    socket.bind(&SocketAddr::from(([127, 0, 2, last], 0)).into()).unwrap();
    socket.set_nonblocking(true).unwrap();
    let begun = socket.connect(&daemon.address().into());
    assert_eq!(
        begun.unwrap_err().raw_os_error(),
        Some(rustix::io::Errno::INPROGRESS.raw_os_error())
    );
    socket
}
