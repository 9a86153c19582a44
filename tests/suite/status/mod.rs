//! `--status`: what the administrator is told, and that telling it costs clients nothing.

mod browser;
mod health;
mod http;
mod metrics;
mod monitoring;
mod page;
mod sessions;
mod stall;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::Value;
use socket2::{Domain, Socket, Type};

use crate::load::noise::large;
use crate::support::process::wait_until;
use crate::support::{Client, Daemon, Gitd, Invocation, Scratch, pkt, request};

/// A daemon that serves `/repo.git`, and where it tells of itself.
struct Site {
    daemon: Daemon,
    status: SocketAddr,
    scratch: Scratch,
}

impl Site {
    fn start() -> Self {
        Self::with(|gitd| gitd)
    }

    fn with(options: impl FnOnce(Invocation) -> Invocation) -> Self {
        Self::of(Scratch::new(), options)
    }

    fn of(scratch: Scratch, options: impl FnOnce(Invocation) -> Invocation) -> Self {
        scratch.bare("repo.git");
        let daemon = options(Gitd.serve(&scratch).arg("--status=127.0.0.1:0")).start();
        Self { status: status_of(&daemon), daemon, scratch }
    }

    fn get(&self, place: &str) -> Answer {
        get(self.status, place)
    }

    fn ask(&self, head: &str) -> Answer {
        converse(TcpStream::connect(self.status).unwrap(), head)
    }

    /// The connections with a request, as JSON has them.
    fn sessions(&self) -> Vec<Value> {
        let sessions = self.get("/sessions?format=json").json()["sessions"].clone();
        let Value::Array(mut sessions) = sessions else { panic!("{sessions}") };
        sessions.retain(|session| !session["service"].is_null());
        sessions
    }

    #[track_caller]
    fn wait_for_state(&self, state: &str) -> Value {
        let mut found = Value::Null;
        wait_until(&format!("a session is in the state {state}"), || {
            let sessions = self.sessions();
            found = sessions.into_iter().find(|one| one["state"] == state).unwrap_or_default();
            !found.is_null()
        });
        found
    }

    /// The value of a series, as the text for Prometheus has it.
    #[track_caller]
    fn metric(&self, series: &str) -> f64 {
        let text = self.get("/metrics").body;
        let value = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        value.unwrap_or_else(|| panic!("no {series} in {text}")).parse().unwrap()
    }
}

/// Where a daemon says that it tells of itself.
fn status_of(daemon: &Daemon) -> SocketAddr {
    let lines = daemon.log.wait(0, |line| line.starts_with("Status on "));
    lines.last().unwrap()["Status on ".len()..].parse().unwrap()
}

#[derive(Debug)]
struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    #[track_caller]
    fn json(&self) -> Value {
        assert_eq!(self.status, 200, "{self:?}");
        serde_json::from_str(&self.body).unwrap()
    }

    /// A line of the head, by its name in lower case.
    fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().skip(1);
        lines.find_map(|line| Some(line.strip_prefix(name)?.strip_prefix(": ")?.trim_end()))
    }
}

fn get(status: SocketAddr, place: &str) -> Answer {
    let head = format!("GET {place} HTTP/1.1\r\nHost: {status}\r\n\r\n");
    converse(TcpStream::connect(status).unwrap(), &head)
}

fn converse(mut stream: impl Read + Write, head: &str) -> Answer {
    stream.write_all(head.as_bytes()).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{answer:?}"));
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, head: head.to_owned(), body: body.to_owned() }
}

/// A clone of `/large.git`, or another name of it, that goes on for as long as it is wanted: its client reads a little at
/// a time.
struct Clone {
    reader: Option<JoinHandle<()>>,
    end: std::sync::mpsc::Sender<()>,
    address: SocketAddr,
}

impl Clone {
    fn start(site: &Site, pathname: &str) -> Self {
        Self::start_from(site, pathname, 1)
    }

    /// The same from another of loopback's addresses.
    fn start_from(site: &Site, pathname: &str, last: u8) -> Self {
        // What the kernel takes at once would be all of it.
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_recv_buffer_size(32 * 1024).unwrap();
        socket.bind(&SocketAddr::from(([127, 0, 0, last], 0)).into()).unwrap();
        socket.connect(&site.daemon.address().into()).unwrap();
        let mut client = Client::from(TcpStream::from(socket));
        client.send(request("upload-pack", pathname));
        let refs = client.packets_to_flush();
        let head = String::from_utf8_lossy(&refs[0])[..40].to_owned();
        let want = pkt(format!("want {head} no-progress\n"));
        client.send([want, b"0000".to_vec(), pkt("done\n")].concat());
        let address = client.address();
        let (end, ended) = std::sync::mpsc::channel();
        let reader = std::thread::spawn(move || {
            let mut piece = vec![0; 8 * 1024];
            while client.stream().read(&mut piece).is_ok_and(|read| read > 0) {
                // The rate is what the test is about: some 300 kB a second.
                if ended.recv_timeout(Duration::from_millis(25)).is_ok() {
                    return;
                }
            }
        });
        Self { reader: Some(reader), end, address }
    }

    /// The client leaves.
    fn stop(mut self) {
        let _ = self.end.send(());
        self.reader.take().unwrap().join().unwrap();
    }
}

impl Drop for Clone {
    fn drop(&mut self) {
        let _ = self.end.send(());
    }
}

/// A scratch directory with `/large.git`.
fn with_large() -> Scratch {
    let scratch = Scratch::new();
    large(&scratch);
    scratch
}

fn document(name: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(name)).unwrap()
}
