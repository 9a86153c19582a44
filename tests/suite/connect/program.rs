//! `gitd-connect` as a program with two pipes and a socket: ends, failures, options.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};

use super::support::{CONNECT, accept, connect_to, listen, succeed, text};
use crate::support::process::{self, output_of, wait_for};

fn half_close(protocol: Protocol) {
    let (listener, address) = listen("127.0.0.1:0", protocol);
    let mut client = connect_to(address).spawn().unwrap();
    let mut server = accept(&listener);
    client.stdin.take().unwrap().write_all(b"request").unwrap();
    let mut request = String::new();
    server.read_to_string(&mut request).unwrap();
    assert_eq!(request, "request");
    assert!(client.try_wait().unwrap().is_none(), "it must stay for the answer");
    server.write_all(b"answer").unwrap();
    drop(server);
    let output = output_of(client);
    assert_eq!((text(&output.stdout), text(&output.stderr)), ("answer".into(), String::new()));
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn a_half_close_reaches_the_server_and_its_answer_git() {
    half_close(Protocol::TCP);
}

#[test]
fn a_half_close_reaches_an_mptcp_server_too() {
    half_close(Protocol::MPTCP);
}

/// git's end is passed on when the server waits, and not before: no path joins a connection that is half closed.
#[test]
fn a_half_close_waits_for_the_answer() {
    for protocol in [Protocol::TCP, Protocol::MPTCP] {
        let (listener, address) = listen("127.0.0.1:0", protocol);
        let mut client = connect_to(address).spawn().unwrap();
        let mut server = accept(&listener);
        client.stdin.take().unwrap().write_all(b"0009want\n0000").unwrap();
        server.read_exact(&mut [0; 13]).unwrap();
        let stdout = client.stdout.as_mut().unwrap();
        for answer in [&b"0009refs\n"[..], b"0000", b"0009pack"] {
            server.write_all(answer).unwrap();
            stdout.read_exact(&mut vec![0; answer.len()]).unwrap();
            server.set_nonblocking(true).unwrap();
            let early = server.read(&mut [0]).unwrap_err();
            assert_eq!(early.kind(), io::ErrorKind::WouldBlock, "before {answer:?}");
            server.set_nonblocking(false).unwrap();
        }
        server.write_all(b"\n0000").unwrap();
        assert_eq!(server.read(&mut [0]).unwrap(), 0);
        drop(server);
        assert_eq!(wait_for(&mut client).code(), Some(0));
    }
}

/// A server may close its side first. git gets the end, and its later bytes still arrive.
#[test]
fn the_servers_half_close_does_not_end_an_upload() {
    let (listener, address) = listen("127.0.0.1:0", Protocol::TCP);
    let mut client = connect_to(address).spawn().unwrap();
    let server = accept(&listener);
    server.shutdown(Shutdown::Write).unwrap();
    assert_eq!(client.stdout.as_mut().unwrap().read(&mut [0]).unwrap(), 0, "git hears it at once");
    let mut stdin = client.stdin.take().unwrap();
    let received = thread::scope(|scope| {
        scope.spawn(move || stdin.write_all(&vec![7; 20_000_000]).unwrap());
        io::copy(&mut &server, &mut io::sink()).unwrap()
    });
    assert_eq!(received, 20_000_000);
    assert_eq!(wait_for(&mut client).code(), Some(0));
}

/// Begins to connect.
fn knock(address: SocketAddr) -> Socket {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_nonblocking(true).unwrap();
    let _ = socket.connect(&address.into());
    socket
}

/// git is killed while this program waits for something else than git.
#[test]
fn nothing_is_left_without_git() {
    // A server that reads nothing.
    let (listener, address) = listen("127.0.0.1:0", Protocol::MPTCP);
    let mut client = connect_to(address).spawn().unwrap();
    let _server = accept(&listener);
    let mut stdin = client.stdin.take().unwrap();
    let writer = thread::spawn(move || while stdin.write_all(&[7; 100_000]).is_ok() {});
    // Its buffer, the kernels' and a pipe are full.
    process::wait_until("it waits for room", || process::idle(client.id()));
    drop(client.stdout.take());
    assert_eq!(wait_for(&mut client).code(), Some(0));
    writer.join().unwrap();

    // A host that does not answer: its queue is full.
    let (listener, address) = listen("127.0.0.1:0", Protocol::TCP);
    listener.listen(0).unwrap();
    let queued: Vec<_> = (0..3).map(|_| knock(address)).collect();
    let mut client = connect_to(address).spawn().unwrap();
    drop(client.stdout.take());
    assert_eq!(wait_for(&mut client).code(), Some(0));
    drop(queued);
}

/// A server that closes once git has its answer has lost nothing.
#[test]
fn a_reset_after_the_answer_is_no_failure() {
    let (listener, address) = listen("127.0.0.1:0", Protocol::TCP);
    let mut client = connect_to(address).spawn().unwrap();
    let mut server = accept(&listener);
    server.write_all(b"0009refs\n0000").unwrap();
    client.stdout.as_mut().unwrap().read_exact(&mut [0; 13]).unwrap();
    server.set_linger(Some(Duration::ZERO)).unwrap();
    drop(server);
    let stdin = client.stdin.take();
    assert_eq!(client.stdout.as_mut().unwrap().read(&mut [0]).unwrap(), 0);
    drop(stdin);
    let output = output_of(client);
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), String::new()));
}

#[test]
fn gits_end_is_the_end_though_the_server_stays() {
    let (listener, address) = listen("127.0.0.1:0", Protocol::TCP);
    let mut client = connect_to(address).spawn().unwrap();
    let mut server = accept(&listener);
    drop(client.stdin.take());
    drop(client.stdout.take());
    assert_eq!(wait_for(&mut client).code(), Some(0));
    assert_eq!(server.read(&mut [0]).unwrap(), 0);
}

#[test]
fn many_bytes_pass_both_ways_at_once() {
    let (listener, address) = listen("127.0.0.1:0", Protocol::MPTCP);
    let mut client = connect_to(address).spawn().unwrap();
    let server = accept(&listener);
    let sent: Vec<u8> =
        (0..9_000_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let length = sent.len() as u64;
    let echo = thread::spawn(move || io::copy(&mut (&server).take(length), &mut &server).unwrap());
    let mut stdin = client.stdin.take().unwrap();
    let returned = thread::scope(|scope| {
        scope.spawn(|| {
            stdin.write_all(&sent).unwrap();
            drop(stdin);
        });
        output_of(client).stdout
    });
    assert_eq!(echo.join().unwrap(), length);
    assert!(sent == returned, "{} bytes returned", returned.len());
}

fn one_line(output: &Output) -> String {
    let line = text(&output.stderr);
    assert_eq!(line.matches('\n').count(), 1, "{line}");
    assert!(line.starts_with("gitd-connect: "), "{line}");
    line
}

#[test]
fn failures_are_one_line_and_a_status() {
    let (listener, address) = listen("127.0.0.1:0", Protocol::TCP);
    let mut client = connect_to(address).spawn().unwrap();
    let mut server = accept(&listener);
    server.write_all(b"x").unwrap();
    client.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
    server.set_linger(Some(Duration::ZERO)).unwrap();
    drop(server);
    wait_for(&mut client);
    let output = output_of(client);
    assert_eq!(output.status.code(), Some(1));
    assert!(one_line(&output).contains("lost the connection to 127.0.0.1 port"));

    drop(listener);
    let mut client = connect_to(address);
    let output = process::output(client.stdin(Stdio::null()));
    assert_eq!(output.status.code(), Some(1));
    assert!(one_line(&output).contains("connection refused; is a git server"));

    let run = |arguments: &[&str]| {
        process::output(Command::new(CONNECT).args(arguments).stdin(Stdio::null()))
    };
    let output = run(&["no-such-host.invalid", "9418"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(one_line(&output).contains("cannot find the host 'no-such-host.invalid'"));

    let output = run(&["localhost"]);
    assert_eq!(output.status.code(), Some(129));
    assert!(one_line(&output).contains("--help"));
}

#[test]
fn mptcp_is_asked_for_unless_switched_off() {
    let (listener, address) = listen("127.0.0.1:0", Protocol::MPTCP);
    let asked = |switch: Option<&str>| {
        let mut command = connect_to(address);
        if let Some(switch) = switch {
            command.env("GIT_ENABLE_MPTCP", switch);
        }
        let mut client = command.spawn().unwrap();
        let server = accept(&listener);
        let protocol = server.protocol().unwrap();
        drop(server);
        drop(client.stdin.take());
        wait_for(&mut client);
        protocol
    };
    assert_eq!(asked(None), Some(Protocol::MPTCP));
    assert_eq!(asked(Some("1")), Some(Protocol::MPTCP));
    for off in ["0", "false", "no", "off"] {
        assert_eq!(asked(Some(off)), Some(Protocol::TCP), "{off}");
    }
}

/// As in a sandbox that forbids unknown socket types, although the kernel supports them.
#[test]
fn tcp_is_used_where_mptcp_is_forbidden() {
    let (listener, address) = listen("127.0.0.1:0", Protocol::MPTCP);
    let directory = tempfile::tempdir().unwrap();
    let trace = directory.path().join("trace");
    for error in ["EPERM", "EACCES"] {
        let plain = connect_to(address);
        let mut command = Command::new("strace");
        command.args(["-f", "-qq", "-e", "trace=socket", "-e"]);
        command.arg(format!("inject=socket:error={error}:when=1")).arg("-o").arg(&trace);
        command.arg(plain.get_program()).args(plain.get_args());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut client = command.env_remove("GIT_ENABLE_MPTCP").spawn().unwrap();
        let mut server = accept(&listener);
        assert_eq!(server.protocol().unwrap(), Some(Protocol::TCP));
        server.write_all(b"answer").unwrap();
        drop(server);
        drop(client.stdin.take());
        let output = output_of(client);
        assert_eq!((text(&output.stdout), text(&output.stderr)), ("answer".into(), String::new()));
        let trace = std::fs::read_to_string(&trace).unwrap();
        let forbidden: Vec<_> = trace.lines().filter(|call| call.contains("(INJECTED)")).collect();
        assert!(matches!(forbidden[..], [call] if call.contains("IPPROTO_MPTCP")), "{trace}");
    }
}

/// git would be killed by writing to a proxy that is gone.
#[test]
fn a_failure_waits_for_gits_request() {
    let (listener, address) = listen("127.0.0.1:0", Protocol::TCP);
    drop(listener);
    let fail = |request: &[u8], switch: &str| {
        let begin = Instant::now();
        let mut client = connect_to(address).env("GIT_ENABLE_MPTCP", switch).spawn().unwrap();
        client.stdin.as_mut().unwrap().write_all(request).unwrap();
        let stdin = client.stdin.take();
        let output = output_of(client);
        drop(stdin);
        let line = one_line(&output);
        match switch {
            "maybe" => assert!(line.contains("bad boolean value 'maybe'"), "{line}"),
            _ => assert!(line.contains("connection refused"), "{line}"),
        }
        assert_eq!(output.status.code(), Some(if switch == "maybe" { 129 } else { 1 }));
        begin.elapsed()
    };
    // A moment for a request that does not come, and not even that for one that is there.
    const MOMENT: Duration = Duration::from_secs(1);
    for switch in ["1", "maybe"] {
        assert!(fail(b"", switch) >= MOMENT);
        let fastest = (0..5).map(|_| fail(b"request", switch)).min().unwrap();
        assert!(fastest < MOMENT, "{fastest:?}");
    }
}

#[test]
fn help_and_version_go_to_stdout() {
    let print = |option: &str| succeed(Command::new(CONNECT).arg(option));
    assert!(print("--help").contains("\n    git config --global core.gitProxy gitd-connect\n"));
    assert_eq!(print("--version"), format!("gitd-connect {}\n", env!("CARGO_PKG_VERSION")));
}
