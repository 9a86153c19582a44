//! One file system hangs: only requests for repositories on it wait.

use std::fs;
use std::net::TcpListener;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::fuse::{self, Fuse};
use crate::ownership::OTHER;
use crate::readiness::site::within;
use crate::support::process::{children, wait_until};
use crate::support::scratch::{append, chown, config};
use crate::support::{Client, Daemon, End, Gitd, Invocation, Scratch, needs_root, pkt, request};

/// The time within which others have their answer.
const PROMPTLY: Duration = Duration::from_secs(2);

/// Where it listens: what hangs must hold no socket, be it the first or another.
const ADDRESSES: [&str; 3] = ["127.0.0.1", "127.0.0.2", "127.0.0.3"];

/// The same repository twice: `/repo.git`, and `/hung/repo.git` on a file system that can hang.
struct Site {
    // It must end before the processes that may wait for it.
    fuse: Fuse,
    daemon: Daemon,
    _scratch: Scratch,
}

impl Site {
    fn start(options: &[&str]) -> Self {
        let scratch = Scratch::new();
        scratch.bare("repo.git");
        let site = Self::with(scratch, |invocation| invocation.args(options));
        site.daemon.ask("upload-pack", "/hung/repo.git").assert_served("repo.git");
        site
    }

    fn with(scratch: Scratch, set_up: impl FnOnce(Invocation) -> Invocation) -> Self {
        let place = scratch.directory("hung");
        let invocation = Gitd.serve(&scratch).arg("--reuseaddr").listen(&ADDRESSES);
        let invocation = set_up(invocation);
        let (fuse, invocation) = Fuse::mount(invocation, &scratch.repos(), &place);
        let daemon = invocation.start();
        Self { fuse, daemon, _scratch: scratch }
    }

    fn begin(&self, pathname: &str) -> Client {
        let mut client = self.daemon.connect();
        client.send(request("upload-pack", pathname));
        client
    }

    /// A client whose request hangs there.
    fn hang(&self, at: At) -> Client {
        self.hang_over("/hung/repo.git", at)
    }

    fn hang_over(&self, pathname: &str, at: At) -> Client {
        let gitd = self.daemon.pid();
        let own = move |thread| Path::new("/proc").join(format!("{gitd}/task/{thread}")).exists();
        self.fuse.stop_when(move |operation, thread| match at {
            At::Operation(wanted) => operation == wanted,
            At::Elsewhere(wanted) => operation == wanted && !own(thread),
        });
        let client = self.begin(pathname);
        self.fuse.wait_stopped();
        client
    }
}

/// Where it hangs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// In the first operation of this kind.
    Operation(u32),
    /// The same, in another process than gitd.
    Elsewhere(u32),
}

/// Where a new process enters the repository: fchdir(2) asks for access.
const ENTRY: At = At::Elsewhere(fuse::ACCESS);

fn finish(mut client: Client) {
    assert!(!client.packets_to_flush().is_empty());
    client.send("0000");
    client.rest();
}

/// How long an answer takes, at most twice what it may.
fn answer_time(site: &Site) -> Duration {
    let client = site.begin("/repo.git");
    let begun = Instant::now();
    let mut readable = [rustix::event::PollFd::new(client.stream(), rustix::event::PollFlags::IN)];
    let limit =
        rustix::event::Timespec { tv_sec: 2 * PROMPTLY.as_secs().cast_signed(), tv_nsec: 0 };
    rustix::event::poll(&mut readable, Some(&limit)).unwrap();
    let time = begun.elapsed();
    if time < 2 * PROMPTLY {
        finish(client);
    }
    time
}

/// It hangs `rounds` times in this operation, and others are not delayed; then it goes on, and so does the request that
/// waited.
fn others_are_served(at: At, rounds: usize) {
    let site = Site::start(&[]);
    let late: Vec<_> = (0..rounds)
        .filter_map(|round| {
            let waiting = site.hang(at);
            let time = answer_time(&site);
            site.fuse.go_on();
            finish(waiting);
            (time > PROMPTLY).then_some((round, time))
        })
        .take(3)
        .collect();
    assert!(late.is_empty(), "{at:?}: rounds in which others waited, and for how long: {late:?}");
}

#[test]
fn entering_the_repository() {
    needs_root!();
    others_are_served(ENTRY, 50);
}

#[test]
fn looking_at_the_repository() {
    needs_root!();
    for operation in [fuse::LOOKUP, fuse::GETATTR, fuse::OPEN, fuse::ACCESS] {
        others_are_served(At::Operation(operation), 5);
    }
}

/// The file is open while the others' services start.
#[test]
fn reading_in_the_repository() {
    needs_root!();
    others_are_served(At::Operation(fuse::READ), 20);
}

/// Half of the places may be lost to one hanging repository; the others are enough.
#[test]
fn many_requests_hang() {
    needs_root!();
    for at in [At::Operation(fuse::LOOKUP), At::Operation(fuse::READ), ENTRY] {
        let site = Site::start(&["--max-connections=4", "--queue-timeout=0"]);
        let waiting = site.hang(at);
        let more: Vec<_> = (0..10).map(|_| site.begin("/hung/repo.git")).collect();
        for round in 0..5 {
            let time = answer_time(&site);
            assert!(time <= PROMPTLY, "{time:?} in round {round}, {at:?}");
        }
        site.fuse.go_on();
        finish(waiting);
        more.into_iter().for_each(finish);
    }
}

/// The server's end does not wait for it for longer than for any other service.
#[test]
fn the_server_ends() {
    needs_root!();
    for at in [At::Operation(fuse::LOOKUP), At::Operation(fuse::READ), ENTRY] {
        let mut site = Site::start(&["--shutdown-timeout=1"]);
        let waiting = site.hang(at);
        site.daemon.signal(Signal::TERM);
        // A process that waits for the file system cannot even be killed; gitd does not wait for it.
        let gone = || !Path::new("/proc").join(site.daemon.pid().to_string()).join("exe").exists();
        let ended = within(Duration::from_secs(15), gone);
        assert!(ended, "{at:?}: {:#?}", site.daemon.log.since(0));
        site.fuse.go_on();
        assert_eq!(site.daemon.wait().signal(), Some(15));
        drop(waiting);
    }
}

/// What hangs while gitd asks git a question holds nothing of gitd's: clients whose sessions end see that, and once
/// gitd is killed its port is free.
fn a_question_holds_nothing(mut site: Site, pathname: &str, question: &str, at: At) {
    let mut other = site.begin("/repo.git");
    other.packets_to_flush();
    let mut waiting = site.hang_over(pathname, at);
    other.send("0000");
    assert_eq!(other.rest(), (vec![], End::Closed), "{at:?}");
    // On its way there it is not git yet.
    if at != ENTRY {
        wait_until("nothing but git is left, and is asked", || {
            let children = children(site.daemon.pid()).into_iter();
            children.map(arguments).eq([["git", question]])
        });
    }
    site.daemon.signal(Signal::KILL);
    site.daemon.wait();
    assert!(site.fuse.is_stopped());
    for address in ADDRESSES {
        let bound = TcpListener::bind((address, site.daemon.port));
        assert!(bound.is_ok(), "{at:?}: {bound:?} on {address}");
    }
    assert_eq!(waiting.rest().0, [0_u8; 0], "{at:?}");
}

/// What it is called, and its first argument that is no option.
fn arguments(pid: u32) -> Vec<String> {
    let arguments = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let arguments = String::from_utf8(arguments).unwrap();
    let words = |word: &&str| !word.starts_with('-') && !word.contains('=');
    arguments.split('\0').filter(words).take(2).map(str::to_owned).collect()
}

#[test]
fn asking_for_a_setting() {
    needs_root!();
    for at in [ENTRY, At::Elsewhere(fuse::OPEN), At::Elsewhere(fuse::READ)] {
        let scratch = Scratch::new();
        config(&scratch.bare("repo.git"), "[daemon] uploadpack = true\n");
        let site = Site::with(scratch, |invocation| invocation.arg("--allow-override=upload-pack"));
        a_question_holds_nothing(site, "/hung/repo.git", "config", at);
    }
}

#[test]
fn asking_about_the_owner() {
    needs_root!();
    for at in [ENTRY, At::Elsewhere(fuse::OPEN), At::Elsewhere(fuse::READ)] {
        let scratch = Scratch::new();
        chown(&scratch.bare("repo.git"), OTHER);
        scratch.global_config("[safe] directory = *\n");
        let site = Site::with(scratch, |invocation| invocation);
        a_question_holds_nothing(site, "/hung/repo.git", "receive-pack", at);
    }
}

/// The server's configuration is there, and the repository is not.
#[test]
fn asking_with_a_configuration() {
    needs_root!();
    for operation in [fuse::LOOKUP, fuse::OPEN, fuse::READ] {
        let scratch = Scratch::new();
        scratch.bare("repo.git");
        append(&scratch.path("more"), "[daemon] uploadpack = true\n");
        let more = scratch.path("hung/more");
        scratch.global_config(&format!("[include] path = {}\n", more.display()));
        let site = Site::with(scratch, |invocation| invocation.arg("--allow-override=upload-pack"));
        a_question_holds_nothing(site, "/repo.git", "config", At::Elsewhere(operation));
    }
}

/// A service that executes a program, which takes as long as the file system that it had a file open on, cannot be
/// looked at. It counts as at work, though its client has all that it has asked for.
#[test]
fn a_service_that_cannot_be_looked_at() {
    needs_root!();
    let scratch = Scratch::new();
    scratch.bare("repo.git");
    // What the shell reads this from is closed when it executes something.
    scratch.file("service", "printf 0000\nread -r question\nprintf 0000\nexec sleep 60\n");
    let service = scratch.path("hung/service");
    let fake = scratch.fake_git(&format!("exec sh {}\n", service.display()));
    let site = Site::with(scratch, |invocation| invocation.path_first(&fake).arg("--timeout=2"));
    let mut client = site.daemon.connect();
    client.send(pkt("git-upload-pack /repo.git\0host=x\0\0version=2\0"));
    client.packets_to_flush();
    site.fuse.stop_when(|operation, _| operation == fuse::FLUSH);
    client.send("0000\n");
    client.packets_to_flush();
    site.fuse.wait_stopped();
    let begin = Instant::now();
    client.rest();
    // If it were idle, it would be ten times as long.
    assert!(begin.elapsed() < Duration::from_secs(12), "{:?}", begin.elapsed());
}
