//! `/healthz` proves that a request is served, and leaves no trace.

use rustix::process::Signal;

use super::Site;
use crate::support::process::{children, wait_until};
use crate::support::{Gitd, Scratch, Verdict};

/// Not a line of the log, not a number of the metrics.
#[test]
fn nothing_is_logged_or_counted() {
    let site = Site::start();
    let mark = site.daemon.log.mark();
    for _ in 0..3 {
        let answer = site.get("/healthz");
        assert_eq!((answer.status, answer.body.as_str()), (200, "ok\n"));
        // The answer counts for a second.
        std::thread::sleep(std::time::Duration::from_millis(1050));
    }
    assert!(site.daemon.log.since(mark).is_empty(), "{:#?}", site.daemon.log.since(mark));
    site.daemon.ask("upload-pack", "/repo.git").assert_served("repo.git");
    let served =
        "gitd_requests_total{service=\"upload-pack\",outcome=\"served\",transport=\"tcp\"}";
    wait_until("the request is counted", || site.metric(served) == 1.0);
    let metrics = site.get("/metrics").body;
    let requests = metrics.lines().filter(|line| line.starts_with("gitd_requests_total{"));
    let counted = requests.filter(|line| !line.ends_with(" 0"));
    assert_eq!(counted.collect::<Vec<_>>(), [format!("{served} 1")]);
    let refusals = metrics.lines().filter(|line| line.starts_with("gitd_refusals_total{"));
    assert_eq!(refusals.filter(|line| !line.ends_with(" 0")).count(), 0, "{metrics}");
}

/// The same bytes from a client are a request like any other.
#[test]
fn nobody_can_imitate_it() {
    let site = Site::start();
    assert_eq!(site.get("/healthz").status, 200);
    let path = "/.gitd-health-00000000000000000000000000000000";
    let session = site.daemon.ask("upload-pack", path);
    assert!(matches!(session.verdict, Verdict::Refused(_)), "{:?}", session.verdict);
    assert!(session.log.iter().any(|line| line.contains(path)), "{:#?}", session.log);
}

/// Busy is not ill: with all permits taken and the queue full, a request is still answered.
#[test]
fn a_busy_server_is_healthy() {
    let site = Site::with(|gitd| gitd.args(["--max-connections=1", "--max-queue=0"]));
    let mut client = site.daemon.connect();
    client.send(crate::support::request("receive-pack", "/repo.git"));
    let busy: Vec<_> = (0..3).map(|_| site.daemon.connect()).collect();
    assert_eq!(site.get("/healthz").status, 200);
    drop((client, busy));
}

/// A server that accepts and serves nothing is ill, though its port is open.
#[test]
fn a_stopped_server_is_ill() {
    let scratch = Scratch::new();
    let site = Site::of(scratch, |gitd| gitd.arg("--access-hook=true"));
    assert_eq!(site.get("/healthz").status, 200);
    // The thread that serves clients, and no other one.
    let pid = site.daemon.pid();
    let frozen = Frozen::freeze(pid);
    std::thread::sleep(std::time::Duration::from_millis(1050));
    let answer = site.get("/healthz");
    assert_eq!((answer.status, answer.body.as_str()), (503, "no answer within 5 s\n"));
    assert_eq!(site.get("/metrics").status, 200, "the status does not need the server");
    drop(frozen);
    wait_until("it is well again", || site.get("/healthz").status == 200);
    assert!(children(pid).is_empty());
}

/// Holds the main thread of a process in a stop of ptrace, which is a thread's own.
struct Frozen {
    tracer: std::process::Child,
}

impl Frozen {
    fn freeze(pid: u32) -> Self {
        // strace attaches to this thread alone, and is stopped itself when a system call of it has begun: so the thread
        // waits for its tracer.
        let mut tracer = std::process::Command::new("strace")
            .args(["-p", &pid.to_string(), "-e", "trace=all", "-o", "/dev/null"])
            .stderr(std::process::Stdio::piped())
            .spawn()
            .expect("needs the program strace");
        let mut line = String::new();
        let mut words = std::io::BufReader::new(tracer.stderr.take().unwrap());
        std::io::BufRead::read_line(&mut words, &mut line).unwrap();
        assert!(line.contains("attached"), "{line}");
        crate::support::process::signal(tracer.id(), Signal::STOP);
        Self { tracer }
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        crate::support::process::signal(self.tracer.id(), Signal::CONT);
        crate::support::process::signal(self.tracer.id(), Signal::TERM);
        let _ = self.tracer.wait();
    }
}

/// Over a Unix socket the kernel says who connects.
#[test]
fn a_server_on_a_unix_socket_alone() {
    let scratch = Scratch::new();
    scratch.bare("repo.git");
    let socket = scratch.root().join("socket");
    let listen = format!("unix:{}", socket.display());
    let daemon = Gitd
        .serve(&scratch)
        .listen(&[])
        .option("--listen", listen)
        .arg("--status=127.0.0.1:0")
        .start();
    let status = super::status_of(&daemon);
    let mark = daemon.log.mark();
    let answer = super::get(status, "/healthz");
    assert_eq!((answer.status, answer.body.as_str()), (200, "ok\n"));
    assert!(daemon.log.since(mark).is_empty(), "{:#?}", daemon.log.since(mark));
}
