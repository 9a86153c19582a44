//! One file system hangs: who asks for a repository on it waits, and nobody else does.

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::fuse::{self, Fuse};
use crate::readiness::site::within;
use crate::support::{Client, Daemon, Gitd, Scratch, needs_root, request};

/// Within which others have their answer.
const PROMPTLY: Duration = Duration::from_secs(2);

/// The same repository twice: `/repo.git`, and `/hung/repo.git` on a file system that can hang.
struct Site {
    // It must end before those who may wait for it.
    fuse: Fuse,
    daemon: Daemon,
    _scratch: Scratch,
}

impl Site {
    fn start(options: &[&str]) -> Self {
        let scratch = Scratch::new();
        scratch.bare("repo.git");
        let place = scratch.directory("hung");
        let invocation = Gitd.serve(&scratch).args(options);
        let (fuse, invocation) = Fuse::mount(invocation, &scratch.repos(), &place);
        let daemon = invocation.start();
        daemon.ask("upload-pack", "/hung/repo.git").assert_served("repo.git");
        Self { fuse, daemon, _scratch: scratch }
    }

    fn begin(&self, pathname: &str) -> Client {
        let mut client = self.daemon.connect();
        client.send(request("upload-pack", pathname));
        client
    }

    /// A client whose request hangs there.
    fn hang(&self, at: At) -> Client {
        let gitd = self.daemon.pid();
        self.fuse.stop_when(move |operation, thread| match at {
            At::Operation(wanted) => operation == wanted,
            At::Entry => {
                let own = Path::new("/proc").join(format!("{gitd}/task/{thread}"));
                operation == fuse::ACCESS && !own.exists()
            }
        });
        let client = self.begin("/hung/repo.git");
        self.fuse.wait_stopped();
        client
    }
}

/// Where it hangs.
#[derive(Clone, Copy, Debug)]
enum At {
    /// In the first operation of this kind.
    Operation(u32),
    /// Where a new process enters the repository: fchdir(2) asks for access.
    Entry,
}

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

/// It hangs `rounds` times in this operation, which others do not notice; then it goes on, and so does who waited.
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
    others_are_served(At::Entry, 50);
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
    for at in [At::Operation(fuse::LOOKUP), At::Operation(fuse::READ), At::Entry] {
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
    for at in [At::Operation(fuse::LOOKUP), At::Operation(fuse::READ), At::Entry] {
        let mut site = Site::start(&["--shutdown-timeout=1"]);
        let waiting = site.hang(at);
        site.daemon.signal(Signal::TERM);
        // What waits for the file system cannot even be killed; nobody waits for the process that has it.
        let gone = || !Path::new("/proc").join(site.daemon.pid().to_string()).join("exe").exists();
        let ended = within(Duration::from_secs(15), gone);
        assert!(ended, "{at:?}: {:#?}", site.daemon.log.since(0));
        site.fuse.go_on();
        assert_eq!(site.daemon.wait().signal(), Some(15));
        drop(waiting);
    }
}
