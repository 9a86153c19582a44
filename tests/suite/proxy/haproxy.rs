//! HAProxy, as Debian has it, and what its own encoder writes.

use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use socket2::{Domain, Socket, Type};

use crate::support::invocation::{free_port, run};
use crate::support::log::Log;
use crate::support::process::{end, installed, listening, wait_until};
use crate::support::{Client, Daemon, Gitd, Scratch, request};

pub struct Haproxy {
    child: Child,
    /// Where its clients connect.
    pub port: u16,
    admin: PathBuf,
    log: Log,
    complaints: Log,
}

/// A session in HAProxy's log (`option tcplog`).
#[derive(Clone, Debug)]
pub struct Session {
    pub client: String,
    pub server: String,
    /// How it ended: `--` is well.
    pub state: String,
}

impl Session {
    /// `127.0.0.1:5 [22/Nov/2026:00:06:11.123] git gitd/git1 1/0/5 400 -- 1/1/0/0/0 0/0`
    fn parse(line: &str) -> Option<Self> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [client, date, _, server, _, _, state, ..] = words[..] else { return None };
        let (_, server) = server.split_once('/').filter(|_| date.starts_with('['))?;
        // On a socket for both families.
        let client = client.strip_prefix("::ffff:").unwrap_or(client);
        let [client, server, state] = [client, server, state].map(str::to_owned);
        Some(Session { client, server, state })
    }
}

fn program() -> PathBuf {
    let usual = Path::new("/usr/sbin/haproxy");
    let found = installed("haproxy").or_else(|| usual.exists().then(|| usual.to_owned()));
    found.expect("needs HAProxy: Debian's package haproxy")
}

impl Haproxy {
    /// Starts it with a configuration in which `PORT` is its own port, and `SOCKET` its administrator's socket.
    pub fn start(scratch: &Scratch, configuration: &str) -> Self {
        let port = free_port();
        let [file, admin] = ["haproxy.cfg", "admin"].map(|name| scratch.root().join(name));
        let text = configuration
            .replace("PORT", &port.to_string())
            .replace("SOCKET", admin.to_str().unwrap())
            .replace("log /dev/log", "log stdout format raw");
        fs::write(&file, text).unwrap();
        let check = run(Command::new(program()).arg("-c").arg("-f").arg(&file));
        // Warnings would show in the exit status with -dW only.
        assert_eq!((check.code(), check.stderr.as_str()), (Some(0), ""), "{}", check.stdout);
        let mut command = Command::new(program());
        command.arg("-db").arg("-f").arg(&file).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let log = Log::read(child.stdout.take().unwrap());
        let complaints = Log::read(child.stderr.take().unwrap());
        let haproxy = Haproxy { child, port, admin, log, complaints };
        wait_until("HAProxy listens", || {
            listening(port) && UnixStream::connect(&haproxy.admin).is_ok()
        });
        haproxy
    }

    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// The sessions that have ended, as it logs them.
    pub fn sessions(&self) -> Vec<Session> {
        self.log.since(0).iter().filter_map(|line| Session::parse(line)).collect()
    }

    /// A command of its administrator, and the answer.
    pub fn ask(&self, command: &str) -> String {
        let mut socket = UnixStream::connect(&self.admin).unwrap();
        socket.write_all(format!("{command}\n").as_bytes()).unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).unwrap();
        answer
    }

    /// One column of its statistics about a server: `status`, `check_status`, …
    pub fn statistic(&self, server: &str, column: &str) -> String {
        let table = self.ask("show stat");
        let mut lines = table.lines().map(|line| line.split(',').collect::<Vec<_>>());
        let head = lines.next().unwrap();
        let at = head.iter().position(|name| *name == column).unwrap();
        let row =
            lines.find(|row| row.get(1) == Some(&server)).unwrap_or_else(|| panic!("{table}"));
        row[at].to_owned()
    }

    pub fn wait_status(&self, server: &str, wanted: impl Fn(&str) -> bool) {
        wait_until("HAProxy has seen it", || wanted(&self.statistic(server, "status")));
    }
}

impl Drop for Haproxy {
    fn drop(&mut self) {
        end(&mut self.child);
        if std::thread::panicking() {
            eprintln!("HAProxy: {:#?}", self.complaints.since(0));
        }
    }
}

/// A client of HAProxy's with this address.
pub fn client_from(address: IpAddr, server: SocketAddr) -> Client {
    let socket = Socket::new(Domain::for_address(server), Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::new(address, 0).into()).unwrap();
    socket.connect(&server.into()).unwrap();
    Client::from(TcpStream::from(socket))
}

/// HAProxy before one gitd, with these options for the server.
fn before(daemon: &Daemon, scratch: &Scratch, server: &str) -> Haproxy {
    before_address(&daemon.address().to_string(), scratch, server)
}

fn before_address(address: &str, scratch: &Scratch, server: &str) -> Haproxy {
    let configuration = format!(
        "global\n log /dev/log local0\n stats socket SOCKET mode 600 level admin\ndefaults\n mode tcp\n log global\n \
         option tcplog\n timeout client 1m\n timeout server 1m\n timeout connect 5s\n unique-id-format %{{+X}}o-%ci:%cp\n\
         frontend git\n bind :::PORT v4v6\n default_backend gitd\nbackend gitd\n server git1 {address} {server}\n"
    );
    Haproxy::start(scratch, &configuration)
}

/// HAProxy's own encoder, in both versions and with the fields that it can add.
#[test]
fn encoder() {
    let scratch = Scratch::new();
    scratch.bare("repo.git");
    let daemon = Gitd.serve(&scratch).arg("--proxy-protocol=127.0.0.2").start();
    for options in [
        "send-proxy",
        "send-proxy-v2",
        "send-proxy-v2 proxy-v2-options crc32c",
        "send-proxy-v2 proxy-v2-options crc32c,unique-id",
        "send-proxy-v2-ssl-cn",
    ] {
        let haproxy = before(&daemon, &scratch, &format!("{options} source 127.0.0.2"));
        let at = |address: IpAddr| SocketAddr::new(address, haproxy.port);
        let four: IpAddr = [127, 0, 1, 7].into();
        let six: IpAddr = Ipv6Addr::LOCALHOST.into();
        for (address, server) in [(four, at(Ipv4Addr::LOCALHOST.into())), (six, at(six))] {
            let mark = daemon.log.mark();
            let mut client = client_from(address, server);
            let name = client.address().to_string();
            client.send(request("upload-pack", "/repo.git"));
            let told = client.packets_to_flush();
            assert!(told.iter().any(|line| line.ends_with(b"refs/heads/is-repo\n")), "{options}");
            client.finish();
            let lines = daemon.wait_disconnected(mark);
            assert_eq!(lines[0], format!("Connection from {name}"), "{options}");
        }
    }
}

/// On the same machine, by a Unix socket.
#[test]
fn over_a_unix_socket() {
    let scratch = Scratch::new();
    scratch.bare("repo.git");
    let path = scratch.root().join("Socket").display().to_string();
    let invocation = Gitd.serve(&scratch).arg("--proxy-protocol=unix");
    // The first place is where the support looks for it.
    let daemon = invocation.listen(&["127.0.0.1", &format!("unix:{path}")]).start();
    for options in ["send-proxy", "send-proxy-v2"] {
        let server = format!("{options} check inter 20ms");
        let haproxy = before_address(&format!("unix@{path}"), &scratch, &server);
        let mark = daemon.log.mark();
        let client = client_from([127, 0, 1, 7].into(), haproxy.address());
        let name = format!("Connection from {}", client.address());
        client.busy().finish();
        daemon.log.wait(mark, |line| line == name);
        assert_eq!(haproxy.statistic("git1", "status"), "UP");
    }
    assert!(!daemon.log.since(0).iter().any(|line| line.contains("PROXY")));
}

/// Its health checks send LOCAL or UNKNOWN, and leave no line in the log.
#[test]
fn health_checks() {
    let scratch = Scratch::new();
    scratch.bare("repo.git");
    let invocation = || Gitd.serve(&scratch).arg("--proxy-protocol=127.0.0.0/8");
    let daemon = invocation().start();
    for options in ["send-proxy", "send-proxy-v2", "send-proxy-v2 proxy-v2-options crc32c"] {
        let mark = daemon.log.mark();
        let options = format!("{options} check inter 20ms source 127.0.0.2");
        let haproxy = before(&daemon, &scratch, &options);
        let is_check = |line: &str| {
            line.starts_with("127.0.0.2:") && line.ends_with(" closed without a request")
                || line.starts_with("connection lost: ")
        };
        daemon.log.wait_count(mark, 5, is_check);
        assert_eq!(haproxy.statistic("git1", "check_status"), "L4OK");
        drop(haproxy);
        let lines = daemon.log.since(mark);
        let other =
            |line: &&String| !is_check(line) && !line.starts_with("Connection from 127.0.0.2:");
        assert_eq!(lines.iter().find(other), None);
    }
    // Without --verbose there is not even that.
    let quiet = invocation().quiet().start();
    let haproxy = before(&quiet, &scratch, "send-proxy-v2 check inter 20ms source 127.0.0.2");
    wait_until("it has been checked often", || {
        // Its checks' sessions: a later one has an earlier one's end behind it.
        haproxy.statistic("git1", "check_status") == "L4OK"
            && haproxy.ask("show info").contains("Uptime_sec: 1")
    });
    quiet.ask("upload-pack", "/repo.git");
    let lines = quiet.log.wait(0, |line| line == "fatal: no PROXY header");
    assert_eq!(lines.len(), 1, "{lines:#?}");
}
