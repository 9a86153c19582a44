//! Sockets that systemd opened: sd_listen_fds(3).

use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::Command;

use rustix::process::Signal;
use socket2::{Domain, Protocol, Socket, Type};

use super::server::{Server, assert_serves, gitd, scratch};
use crate::support::log::Log;
use crate::support::process::{children, descriptor, wait_for};
use crate::support::{DEADLINE, Invocation, needs_root, request};

/// The command with these sockets as descriptors 3 and 4; `environment` is set by the process that becomes gitd.
pub fn passed(
    invocation: Invocation,
    environment: &str,
    first: OwnedFd,
    second: OwnedFd,
) -> Command {
    let mut command = invocation
        .shell("exec 3<&0 4>&1 </dev/null >/dev/null")
        .shell(format!("export {environment}"))
        .command(&[]);
    command.stdin(first).stdout(second);
    command
}

pub const TWO: &str = "LISTEN_PID=$$ LISTEN_FDS=2 LISTEN_FDNAMES=a:b";

fn tcp(address: &str) -> TcpListener {
    TcpListener::bind(address).unwrap()
}

#[test]
fn all_passed_sockets_and_no_other() {
    let scratch = scratch();
    let (v4, v6) = (tcp("127.0.0.1:0"), tcp("[::1]:0"));
    let addresses = [v4.local_addr().unwrap(), v6.local_addr().unwrap()];
    let mut server = Server::spawn(&mut passed(gitd(&scratch), TWO, v4.into(), v6.into()));
    assert_eq!(server.addresses(2), addresses);
    addresses.into_iter().for_each(assert_serves);
    server.signal(Signal::TERM);
    server.wait();
}

/// The service manager keeps the socket: clients that come while no server runs wait for the next one.
#[test]
fn the_socket_outlives_the_server() {
    let scratch = scratch();
    let socket = tcp("127.0.0.1:0");
    let address = socket.local_addr().unwrap();
    let start = || {
        let other = tcp("127.0.0.1:0");
        let socket = socket.try_clone().unwrap();
        Server::spawn(&mut passed(gitd(&scratch), TWO, socket.into(), other.into()))
    };
    let mut first = start();
    assert_serves(address);
    first.signal(Signal::TERM);
    first.wait();
    let waiting = std::thread::spawn(move || assert_serves(address));
    let _second = start();
    waiting.join().unwrap();
}

#[test]
fn named_places_come_on_top() {
    let scratch = scratch();
    let (one, two) = (tcp("127.0.0.1:0"), tcp("127.0.0.1:0"));
    let invocation = gitd(&scratch).args(["--listen=127.0.0.2", "--port=auto"]);
    let server = Server::spawn(&mut passed(invocation, TWO, one.into(), two.into()));
    let addresses = server.addresses(3);
    assert_eq!(addresses[2].ip().to_string(), "127.0.0.2");
    assert_serves(addresses[2]);
}

#[test]
fn unix_and_both_families_in_one() {
    let scratch = scratch();
    let path = scratch.root().join("socket");
    let unix = UnixListener::bind(&path).unwrap();
    let both = Socket::new(Domain::IPV6, Type::STREAM, None).unwrap();
    both.set_only_v6(false).unwrap();
    both.bind(&"[::]:0".parse::<std::net::SocketAddr>().unwrap().into()).unwrap();
    both.listen(16).unwrap();
    let port = both.local_addr().unwrap().as_socket().unwrap().port();
    let mut server = Server::spawn(&mut passed(gitd(&scratch), TWO, unix.into(), both.into()));
    assert_eq!(server.places(2), [format!("unix:{}", path.display()), format!("[::]:{port}")]);
    let mut client = UnixStream::connect(&path).unwrap();
    client.set_read_timeout(Some(DEADLINE)).unwrap();
    client.write_all(&[request("upload-pack", "/repo.git"), b"0000".to_vec()].concat()).unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert!(answer.contains("refs/heads/is-repo"));
    // IPv4 clients are called by their own names, not ::ffff:127.0.0.1.
    let known = format!("Connection from unix:uid={}", rustix::process::getuid());
    server.log.wait(0, |line| line == known);
    let mark = server.log.mark();
    assert_serves(([127, 0, 0, 1], port).into());
    let lines = server.log.wait(mark, |line| line.starts_with("Connection from "));
    assert!(lines.last().unwrap().starts_with("Connection from 127.0.0.1:"), "{lines:#?}");
    server.signal(Signal::TERM);
    server.wait();
    assert!(path.exists(), "the socket is not gitd's to remove");
}

/// Any process that shares the socket can shut it down: gitd logs that, serves the other socket, and can be stopped.
#[test]
fn a_socket_that_was_shut_down() {
    let scratch = scratch();
    let (broken, other) = (tcp("127.0.0.1:0"), tcp("127.0.0.1:0"));
    let ours = broken.try_clone().unwrap();
    let address = other.local_addr().unwrap();
    let mut server = Server::spawn(&mut passed(gitd(&scratch), TWO, broken.into(), other.into()));
    server.addresses(2);
    let mark = server.log.mark();
    socket2::SockRef::from(&ours).shutdown(std::net::Shutdown::Both).unwrap();
    server.log.wait(mark, |line| line == "accept returned: Invalid argument; trying again");
    assert_serves(address);
    server.signal(Signal::TERM);
    server.wait();
}

fn multipath() -> Option<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::MPTCP)).ok()?;
    socket.bind(&"127.0.0.1:0".parse::<std::net::SocketAddr>().unwrap().into()).unwrap();
    socket.listen(16).unwrap();
    Some(socket)
}

#[test]
fn multipath_is_recognised() {
    let Some(socket) = multipath() else { return crate::support::skip("needs MPTCP") };
    let scratch = scratch();
    let other = socket.try_clone().unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    let invocation = gitd(&scratch).arg("--mptcp=require");
    let server = Server::spawn(&mut passed(invocation, TWO, socket.into(), other.into()));
    let client = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::MPTCP)).unwrap();
    client.connect(&address.into()).unwrap();
    (&client).write_all(&request("upload-pack", "/repo.git")).unwrap();
    (&client).write_all(b"0000").unwrap();
    client.set_read_timeout(Some(DEADLINE)).unwrap();
    (&client).read_to_end(&mut Vec::new()).unwrap();
    server.log.wait(0, |line| line == "Disconnected");
    let raw = server.log.raw(0).concat();
    assert!(String::from_utf8_lossy(&raw).contains(", mptcp, 1 path"));
}

#[test]
fn multipath_is_missed() {
    let scratch = scratch();
    let (one, two) = (tcp("127.0.0.1:0"), tcp("127.0.0.1:0"));
    let address = one.local_addr().unwrap();
    let pair = || (one.try_clone().unwrap().into(), two.try_clone().unwrap().into());
    let words = format!(
        "{address} was passed without Multipath TCP; in its socket unit: SocketProtocol=mptcp"
    );
    let (first, second) = pair();
    let server = Server::spawn(&mut passed(gitd(&scratch).arg("--mptcp"), TWO, first, second));
    server.log.wait(0, |line| line == format!("warning: {words}"));
    drop(server);
    let (first, second) = pair();
    let log = failing(passed(gitd(&scratch).arg("--mptcp=require"), TWO, first, second));
    assert_eq!(
        log,
        [format!(
            "fatal: --mptcp=require: the socket {address} was passed without Multipath TCP; in its socket unit: SocketProtocol=mptcp"
        )]
    );
}

/// Runs a gitd that cannot start.
fn failing(mut command: Command) -> Vec<String> {
    let mut child = command.stderr(std::process::Stdio::piped()).spawn().unwrap();
    let log = Log::read(child.stderr.take().unwrap()).wait_end();
    assert_eq!(wait_for(&mut child).code(), Some(128));
    log
}

#[test]
fn what_is_no_listener_is_refused() {
    let scratch = scratch();
    let connected = || UnixStream::pair().unwrap().0;
    let start = |environment, second: OwnedFd| {
        failing(passed(gitd(&scratch), environment, tcp("127.0.0.1:0").into(), second))
    };
    assert_eq!(
        start(TWO, connected().into()),
        ["fatal: descriptor 4 from LISTEN_FDS is no listening stream socket \
          (in a socket unit: ListenStream=, Accept=no)"]
    );
    assert_eq!(
        start("LISTEN_PID=$$ LISTEN_FDS=9", connected().into()),
        ["fatal: LISTEN_FDS=9: Bad file descriptor"]
    );
}

/// Variables that were left over from another process mean nothing, and git never sees any.
#[test]
fn for_this_process_only() {
    let scratch = scratch();
    let out = scratch.root().join("out");
    let fake = scratch.fake_git(&format!("env >{}; ls /proc/self/fd >>{0}\n", out.display()));
    for environment in ["LISTEN_PID=1 LISTEN_FDS=2", "LISTEN_FDS=2", "LISTEN_PID=$$ LISTEN_FDS=x"] {
        let environment = format!("{environment} NOTIFY_SOCKET=@x WATCHDOG_USEC=1 WATCHDOG_PID=1");
        let (one, two) = (tcp("127.0.0.1:0"), tcp("127.0.0.1:0"));
        let invocation =
            gitd(&scratch).path_first(&fake).args(["--listen=127.0.0.4", "--port=auto"]);
        let server = Server::spawn(&mut passed(invocation, &environment, one.into(), two.into()));
        let address = server.addresses(1)[0];
        let mut client = crate::support::Client::connect(address);
        client.send(request("upload-pack", "/repo.git"));
        client.rest();
        let text = std::fs::read_to_string(&out).unwrap();
        for name in ["LISTEN_", "NOTIFY_", "WATCHDOG_"] {
            assert!(!text.contains(name), "{text}");
        }
        assert!(text.contains("GIT_DIR=."), "{text}");
    }
}

/// Process 1 of a container leaves the sockets to the process that serves.
#[test]
fn as_the_first_process() {
    needs_root!();
    let scratch = scratch();
    let (one, two) = (tcp("127.0.0.1:0"), tcp("127.0.0.1:0"));
    let address = one.local_addr().unwrap();
    let plain = gitd(&scratch).command(&[]);
    let mut command = Command::new("sh");
    let line = "exec 3<&0 4>&1 </dev/null >/dev/null; export LISTEN_PID=1 LISTEN_FDS=2
        exec unshare --pid --fork --kill-child \"$@\"";
    command.args(["-c", line, "sh"]).arg(plain.get_program()).args(plain.get_args());
    command.envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let server = Server::spawn(command.stdin(OwnedFd::from(one)).stdout(OwnedFd::from(two)));
    assert_serves(address);
    let first = children(server.pid())[0];
    let second = children(first)[0];
    let sockets = |pid| {
        (0..64)
            .filter_map(|number| descriptor(pid, number))
            .filter(|target| target.to_string_lossy().starts_with("socket:"))
            .count()
    };
    assert_eq!(sockets(first), 0);
    assert!(sockets(second) >= 2);
}
