//! sd_notify(3): what gitd reports to the service manager.

use std::io::Write;
use std::net::TcpStream;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::server::{Server, assert_serves, gitd, scratch};
use crate::support::{DEADLINE, Invocation, Scratch, request};

fn listening(scratch: &Scratch) -> Invocation {
    gitd(scratch).args(["--listen=127.0.0.1", "--port=auto"])
}

struct Manager(UnixDatagram);

impl Manager {
    fn in_a_file(scratch: &Scratch) -> (Self, String) {
        let path = scratch.root().join("notify");
        (Self(UnixDatagram::bind(&path).unwrap()), path.to_str().unwrap().to_owned())
    }

    fn next(&self) -> String {
        self.0.set_read_timeout(Some(DEADLINE)).unwrap();
        let mut buffer = [0; 4096];
        let length = self.0.recv(&mut buffer).expect("a word to the manager");
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }

    fn wait(&self, wanted: impl Fn(&str) -> bool) -> String {
        let deadline = Instant::now() + DEADLINE;
        let mut heard = Vec::new();
        while Instant::now() < deadline {
            let said = self.next();
            if wanted(&said) {
                return said;
            }
            heard.push(said);
        }
        panic!("only heard {heard:#?}");
    }
}

#[test]
fn ready_once_it_listens_and_stopping() {
    let scratch = scratch();
    let (manager, socket) = Manager::in_a_file(&scratch);
    let mut server = Server::start(listening(&scratch).env("NOTIFY_SOCKET", socket));
    let ready = manager.next();
    assert_eq!(ready, "READY=1\nSTATUS=listening");
    let address = server.addresses(1)[0];
    let mut held = TcpStream::connect(address).unwrap();
    held.write_all(&request("upload-pack", "/repo.git")).unwrap();
    manager.wait(|said| {
        said == "STATUS=1 clients connected, 1 services running, 1 clients since the start"
    });
    server.signal(Signal::TERM);
    manager.wait(|said| said == "STOPPING=1\nSTATUS=stopping");
    held.write_all(b"0000").unwrap();
    server.wait();
}

/// gitd serves although the manager's socket does not exist or its name is invalid.
#[test]
fn a_manager_that_does_not_read() {
    let scratch = scratch();
    for socket in ["/nonexistent/socket", "nonsense", "", "@", "vsock:2:1"] {
        let server = Server::start(listening(&scratch).env("NOTIFY_SOCKET", socket));
        assert_serves(server.addresses(1)[0]);
    }
}

#[test]
fn outside_of_the_file_system() {
    let scratch = scratch();
    let name = format!("gitd-test-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).unwrap();
    let manager = Manager(UnixDatagram::bind_addr(&address).unwrap());
    let _server = Server::start(listening(&scratch).env("NOTIFY_SOCKET", format!("@{name}")));
    assert!(manager.next().starts_with("READY=1\n"));
}

/// A server that cannot start never reports that it is ready.
#[test]
fn not_ready_when_it_fails() {
    let scratch = scratch();
    let (manager, socket) = Manager::in_a_file(&scratch);
    let failed = listening(&scratch)
        .args(["--listen=unix:/nonexistent/socket", "--require-all-listeners"])
        .env("NOTIFY_SOCKET", socket)
        .run();
    assert_eq!(failed.code(), Some(128));
    manager.0.set_nonblocking(true).unwrap();
    assert!(manager.0.recv(&mut [0; 64]).is_err());
}

#[test]
fn the_watchdog_is_fed_while_the_server_lives() {
    let scratch = scratch();
    let (manager, socket) = Manager::in_a_file(&scratch);
    let watched = |invocation: Invocation| {
        invocation.env("NOTIFY_SOCKET", &socket).env("WATCHDOG_USEC", "100000")
    };
    let mut server = Server::start(watched(listening(&scratch)).shell("export WATCHDOG_PID=$$"));
    for _ in 0..5 {
        manager.wait(|said| said == "WATCHDOG=1");
    }
    // A stopped server reports nothing: the manager waits for this.
    server.signal(Signal::STOP);
    crate::support::process::wait_until("it has stopped", || {
        crate::support::process::status(server.pid(), "State").is_some_and(|s| s.starts_with('T'))
    });
    while manager.0.set_nonblocking(true).is_ok() && manager.0.recv(&mut [0; 64]).is_ok() {}
    manager.0.set_nonblocking(false).unwrap();
    manager.0.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    assert!(manager.0.recv(&mut [0; 64]).is_err());
    server.signal(Signal::CONT);
    manager.wait(|said| said == "WATCHDOG=1");
    server.signal(Signal::TERM);
    server.wait();

    // Another process's watchdog gets no report.
    while manager.0.set_nonblocking(true).is_ok() && manager.0.recv(&mut [0; 64]).is_ok() {}
    manager.0.set_nonblocking(false).unwrap();
    let server = Server::start(watched(listening(&scratch)).env("WATCHDOG_PID", "1"));
    manager.wait(|said| said.starts_with("READY=1"));
    assert_serves(server.addresses(1)[0]);
    let next = manager.next();
    assert!(next.starts_with("STATUS="), "{next}");
}

/// Where standard error is the journal, each line begins with its severity.
#[test]
fn the_journal_learns_the_severity() {
    use std::os::unix::fs::MetadataExt;
    let scratch = scratch();
    let file = scratch.root().join("journal");
    let started = |stream: String| {
        let stderr = std::fs::File::create(&file).unwrap();
        let found = stderr.metadata().unwrap();
        let stream = stream.replace("it", &format!("{}:{}", found.dev(), found.ino()));
        let mut command = listening(&scratch).env("JOURNAL_STREAM", stream).command(&[]);
        let mut child = command.stderr(stderr).stdout(std::process::Stdio::null()).spawn().unwrap();
        let mut text = String::new();
        crate::support::process::wait_until("it listens", || {
            text = std::fs::read_to_string(&file).unwrap();
            text.contains("Listening on")
        });
        child.kill().unwrap();
        child.wait().unwrap();
        text
    };
    assert!(started("it".to_owned()).lines().all(|line| line.starts_with("<6>[")));
    assert!(started("1:2".to_owned()).lines().all(|line| line.starts_with('[')));
}
