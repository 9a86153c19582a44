//! The kernel has no resources left: strace makes one system call of gitd's fail at a time. No test may fill the
//! machine's table of open files or its memory.

use std::collections::VecDeque;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use super::{Resources, is_served};
use crate::support::process::{children, wait_until, zombies};
use crate::support::strace::Trace;
use crate::support::{
    Daemon, Gitd, Implementation, Scratch, Stock, compliance, needs_root, pkt, request,
};

/// While it exists, system calls of gitd and its children fail.
struct Fault(Trace);

impl Fault {
    /// `call:error=…`, with `:when=…` if not all of them, as strace's `inject` takes it.
    fn inject(scratch: &Scratch, daemon: &Daemon, what: &str) -> Self {
        let (call, _) = what.split_once(':').unwrap();
        let expressions = [format!("trace={call}"), format!("inject={what}")];
        let trace = Trace::attach(scratch, daemon.pid(), &expressions.each_ref().map(|e| &**e));
        Self(trace.expect("root may trace"))
    }

    /// Ends the fault; the calls that it has met.
    fn end(self) -> Vec<String> {
        let calls = self.0.end();
        calls.lines().filter(|line| line.contains("(INJECTED)")).map(str::to_owned).collect()
    }
}

/// accept fails: gitd logs that, and serves the client as soon as accept works again.
#[test]
fn for_a_client() {
    needs_root!();
    let faults = [
        ("ENOMEM", "Cannot allocate memory"),
        ("ENOBUFS", "No buffer space available"),
        ("ENFILE", "Too many open files in system"),
    ];
    for (error, reason) in faults {
        let (scratch, daemon) = Gitd.serve_one();
        is_served(&daemon);
        let before = Resources::of(&daemon);
        nothing_to_accept_with(&scratch, &daemon, error, reason);
        if error == "ENFILE" {
            // It happens again, and is logged again.
            nothing_to_accept_with(&scratch, &daemon, error, reason);
        }
        before.assert_back(&daemon);
    }
}

fn nothing_to_accept_with(scratch: &Scratch, daemon: &Daemon, error: &str, reason: &str) {
    let (mark, begun) = (daemon.log.mark(), Instant::now());
    let fault = Fault::inject(scratch, daemon, &format!("accept4:error={error}"));
    let mut clients: Vec<_> = (0..5).map(|_| daemon.connect()).collect();
    clients.iter_mut().for_each(|client| client.send(request("upload-pack", "/repo.git")));
    let line = format!("accept returned: {reason}; trying again (raise the limit of open files?)");
    daemon.log.wait(mark, |logged| logged == line);
    let tries = || fault.0.calls().lines().count() as u64;
    let (before, now) = (tries(), Instant::now());
    wait_until("it has tried again", || tries() > before + 2);
    // But not in a loop.
    assert!(tries() - before <= 2 + now.elapsed().as_millis() as u64 / 50);
    assert!(!fault.end().is_empty());
    for client in &mut clients {
        assert!(!client.packets_to_flush().is_empty());
        client.send("0000");
        client.rest();
    }
    let told = daemon.log.since(mark).iter().filter(|logged| **logged == line).count();
    assert!(told as u64 <= 1 + begun.elapsed().as_secs() / 10, "{told} times");
}

/// The check or the start of a service fails: the client is told to try again later, and the repository is not blamed.
#[test]
fn for_a_request() {
    needs_root!();
    let faults = [
        ("openat:error=ENFILE", "Too many open files in system"),
        ("openat:error=ENOMEM", "Cannot allocate memory"),
        ("pipe2:error=ENFILE", "Too many open files in system"),
        ("clone:error=ENOMEM", "Cannot allocate memory"),
        ("clone:error=EAGAIN", "Resource temporarily unavailable"),
        // The thread for the check; the C library has one error for all reasons.
        ("clone3:error=ENOMEM", "Resource temporarily unavailable"),
    ];
    for (what, reason) in faults {
        let (scratch, daemon) = Gitd.serve_one();
        let before = Resources::of(&daemon);
        let mark = daemon.log.mark();
        let fault = Fault::inject(&scratch, &daemon, what);
        let mut client = daemon.connect();
        client.send(request("upload-pack", "/repo.git"));
        let answer = String::from_utf8(client.rest().0).unwrap();
        assert!(answer.contains("ERR server is busy, try again later: /repo.git"), "{answer:?}");
        let log = daemon.wait_disconnected(mark);
        assert!(!fault.end().is_empty(), "{what}");
        let line = format!("cannot run upload-pack: {reason}");
        assert_eq!(log.iter().filter(|logged| **logged == line).count(), 1, "{what}: {log:#?}");
        is_served(&daemon);
        before.assert_back(&daemon);
    }
}

/// A kernel without an option of the socket: the session works, but slower, and nothing is logged.
#[test]
fn options_that_the_kernel_has_not_got() {
    needs_root!();
    let (scratch, daemon) = Gitd.serve_one();
    let ask = || daemon.ask("upload-pack", "/repo.git");
    let usual = ask();
    let fault = Fault::inject(&scratch, &daemon, "setsockopt:error=ENOPROTOOPT");
    let session = ask();
    assert!(!fault.end().is_empty());
    session.assert_served("repo.git");
    assert_eq!(session.log, usual.log);
}

/// There is no memory to watch a client or a service: gitd watches it as soon as there is, the client notices nothing,
/// and the service's end is seen.
#[test]
fn for_watching() {
    needs_root!();
    let (scratch, daemon) = Gitd.serve_one();
    is_served(&daemon);
    let before = Resources::of(&daemon);
    // The first registration is the client's, the second the service's.
    for which in [1, 2] {
        let mark = daemon.log.mark();
        let what = format!("epoll_ctl:error=ENOMEM:when={which}");
        let fault = Fault::inject(&scratch, &daemon, &what);
        let mut client = daemon.connect();
        client.send(request("upload-pack", "/repo.git"));
        assert!(!client.packets_to_flush().is_empty());
        client.send("0000");
        client.rest();
        let log = daemon.wait_disconnected(mark);
        let met = fault.end();
        assert!(met.len() == 1 && met[0].contains("EPOLL_CTL_ADD"), "{met:?}");
        let line = "cannot watch a connection: Cannot allocate memory; trying again";
        assert_eq!(log.iter().filter(|logged| *logged == line).count(), 1, "{log:#?}");
        assert_eq!(log.last().unwrap(), "Disconnected");
        wait_until("no process is left", || {
            children(daemon.pid()).is_empty() && zombies(daemon.pid()) == 0
        });
    }
    is_served(&daemon);
    before.assert_back(&daemon);
}

compliance! {
    for_a_client_that_has_gone,
}

/// Contract 63: a client leaves before it is accepted, or a signal arrives. The next client is served, and nothing is
/// logged.
fn for_a_client_that_has_gone(d: Implementation) {
    needs_root!();
    let call = if d == Stock { "accept" } else { "accept4" };
    let (scratch, daemon) = d.serve_one();
    let ask = || daemon.ask("upload-pack", "/repo.git");
    let usual = ask();
    usual.assert_served("repo.git");
    let before = Resources::of(&daemon);
    // B2: stock ends at all others.
    let more = if d == Gitd { &["EPROTO", "ENETDOWN"][..] } else { &[] };
    for error in ["ECONNABORTED", "EINTR"].iter().chain(more) {
        let fault = Fault::inject(&scratch, &daemon, &format!("{call}:error={error}:when=1"));
        let session = ask();
        assert_eq!(fault.end().len(), 1, "{error}");
        session.assert_served("repo.git");
        assert_eq!(session.log, usual.log, "{error}");
    }
    before.assert_back(&daemon);
}

/// The C library says that a host has no name if it cannot open its files. Descriptors run out among many silent
/// clients, but no request is decided without its host.
#[test]
#[ignore = "floods for some seconds"]
fn for_the_name_of_a_host() {
    needs_root!();
    const FILES: u32 = 128;
    const ASKING: usize = 24;
    const SILENT: usize = 200;
    let scratch = Scratch::new();
    scratch.bare("canon.example/repo.git");
    let daemon = Gitd
        .invoke(&scratch)
        .arg("--export-all")
        .option("--interpolated-path", format!("{}/%CH%D", scratch.repos().display()))
        .etc("hosts", "127.0.0.1 localhost\n127.0.0.5 canon.example alias.example\n")
        .etc("nsswitch.conf", "passwd: files\ngroup: files\nhosts: files\n")
        .shell(format!("ulimit -n {FILES}"))
        .start();
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let flood = || {
            let mut silent = VecDeque::new();
            while !over.load(Relaxed) {
                silent.push_back(daemon.connect());
                if silent.len() > SILENT {
                    silent.pop_front();
                }
            }
        };
        for _ in 0..3 {
            scope.spawn(flood);
        }
        // A client may be dismissed in the crowd before its request is read: what matters is how requests are decided.
        let ask = || {
            for _ in 0..50 {
                let mut client = daemon.connect();
                client.try_send(pkt("git-upload-pack /repo.git\0host=alias.example\0"));
                client.try_send("0000");
                client.rest();
            }
        };
        let asking: Vec<_> = (0..ASKING).map(|_| scope.spawn(ask)).collect();
        asking.into_iter().for_each(|thread| thread.join().unwrap());
        over.store(true, Relaxed);
    });
    let right = format!("Interpolated dir '{}/canon.example/repo.git'", scratch.repos().display());
    let log = daemon.log.since(0);
    let found: Vec<_> = log.iter().filter(|line| line.starts_with("Interpolated dir")).collect();
    assert!(found.len() > 10 * ASKING, "{} requests", found.len());
    assert!(found.iter().all(|line| **line == right), "{found:#?}");
}
