//! The clients of the soak: what they do, and how they verify the answers.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::load::noise::large;
use crate::support::process::{output, wait_until};
use crate::support::random::Random;
use crate::support::scratch::{FILE, head};
use crate::support::{Daemon, End, GENERIC, Git, Packet, Scratch, pkt, request};

pub const PLACES: usize = 4;
pub const CLIENTS: usize = 4 * PLACES;

const BUSY: &str = "server is busy, try again later";

/// The answer that may come instead of any other.
struct Busy;

/// What was done, and checked.
type Done = Result<&'static str, Busy>;

/// What must have come about at least once.
const KINDS: [&str; 6] = [
    "ls-remote, verified",
    "fetch of a new commit, verified",
    "clone, verified",
    "push, verified",
    "archive, verified",
    "refusal, in the right words",
];

pub struct Site<'a> {
    scratch: &'a Scratch,
    daemon: &'a Daemon,
    heads: [(&'static str, String); 2],
    tally: Mutex<BTreeMap<&'static str, u64>>,
    /// A client got a wrong answer: the others need not go on.
    failed: AtomicBool,
}

impl<'a> Site<'a> {
    /// Two repositories for all, and for each client one to push to and to fetch from.
    pub fn prepare(scratch: &'a Scratch, daemon: &'a Daemon) -> Self {
        let heads =
            [("repo.git", head(&scratch.bare("repo.git"))), ("large.git", head(&large(scratch)))];
        let (tally, failed) = (Mutex::default(), AtomicBool::new(false));
        let site = Self { scratch, daemon, heads, tally, failed };
        for n in 0..CLIENTS {
            scratch.bare(format!("own{n}.git"));
            let clone = || Git::new(scratch).args(["clone", "-q", &site.own_url(n)]);
            clone().arg(site.place(n, "push")).ok();
            clone().arg("--bare").arg(site.place(n, "fetch")).ok();
        }
        site
    }

    fn own_url(&self, n: usize) -> String {
        self.daemon.url(&format!("/own{n}.git"))
    }

    fn place(&self, n: usize, what: &str) -> PathBuf {
        self.scratch.root().join(format!("{what}-of-{n}"))
    }

    /// All clients work for so long; meanwhile `look` is called now and then.
    pub fn work(&self, duration: Duration, mut look: impl FnMut()) {
        let end = Instant::now() + duration;
        std::thread::scope(|scope| {
            let clients: Vec<_> =
                (0..CLIENTS).map(|n| scope.spawn(move || self.client(n, end))).collect();
            while clients.iter().any(|client| !client.is_finished()) {
                look();
                std::thread::sleep(Duration::from_millis(200));
            }
        });
    }

    pub fn counts(&self) -> Vec<(&'static str, u64)> {
        self.tally.lock().unwrap().iter().map(|(what, count)| (*what, *count)).collect()
    }

    pub fn assert_every_kind(&self) {
        for kind in KINDS {
            assert!(self.counts().iter().any(|(what, _)| *what == kind), "no {kind}");
        }
    }

    fn client(&self, n: usize, end: Instant) {
        super::be_nice();
        let _alarm = Alarm(&self.failed);
        let mut random = Random::of(7, n as u64);
        while Instant::now() < end && !self.failed.load(Ordering::Relaxed) {
            let done = match random.next() % 20 {
                0..4 => self.list(n),
                4..6 => self.fetch(n, &mut random),
                6..8 => self.clone(n, random.next() as usize % 2),
                8..10 => self.push(n),
                10..12 => self.archive(n),
                12..14 => self.killed(n, &mut random),
                14..16 => self.left(&mut random),
                16 => self.refused(),
                17 => self.nonsense(&mut random),
                18 => self.service_nonsense(&mut random),
                _ => self.stalled(),
            };
            let what = done.unwrap_or_else(|Busy| {
                // Later, as it was told.
                std::thread::sleep(Duration::from_millis(random.next() % 500));
                "told that the server is busy"
            });
            *self.tally.lock().unwrap().entry(what).or_default() += 1;
        }
    }

    fn list(&self, n: usize) -> Done {
        let (name, head) = &self.heads[0];
        let url = self.daemon.url(&format!("/{name}"));
        let listed = self.git(n, None, &["ls-remote", &url, "HEAD"])?;
        assert_eq!(text(&listed), format!("{head}\tHEAD"));
        Ok("ls-remote, verified")
    }

    /// The commit is made behind the server's back.
    fn fetch(&self, n: usize, random: &mut Random) -> Done {
        let there = self.scratch.path(format!("own{n}.git"));
        let message = random.next().to_string();
        let commit = ["commit-tree", "main^{tree}", "-p", "main", "-m", &message];
        let commit = self.local(&there, &commit);
        self.local(&there, &["update-ref", "refs/heads/news", &commit]);
        let here = self.place(n, "fetch");
        self.git(n, Some(&here), &["fetch", "-q", "origin", "news"])?;
        assert_eq!(self.local(&here, &["rev-parse", "FETCH_HEAD"]), commit);
        let whole = self.local(&here, &["log", "-1", "--format=%B", &commit]);
        assert_eq!(whole, message);
        Ok("fetch of a new commit, verified")
    }

    fn clone(&self, n: usize, which: usize) -> Done {
        let (name, head) = &self.heads[which];
        let place = self.place(n, "clone");
        let url = self.daemon.url(&format!("/{name}"));
        self.git(n, None, &["clone", "-q", "--bare", &url, place.to_str().unwrap()])?;
        assert_eq!(&self.local(&place, &["rev-parse", "HEAD"]), head);
        self.local(&place, &["fsck", "--strict", "--no-progress"]);
        std::fs::remove_dir_all(place).unwrap();
        Ok("clone, verified")
    }

    fn push(&self, n: usize) -> Done {
        let place = self.place(n, "push");
        self.local(&place, &["commit", "-q", "--allow-empty", "-m", "more"]);
        self.git(n, Some(&place), &["push", "-q", "origin", "HEAD:main"])?;
        let there = head(&self.scratch.path(format!("own{n}.git")));
        assert_eq!(self.local(&place, &["rev-parse", "HEAD"]), there);
        Ok("push, verified")
    }

    fn archive(&self, n: usize) -> Done {
        let remote = format!("--remote={}", self.daemon.url("/repo.git"));
        let archive = self.git(n, None, &["archive", &remote, "HEAD"])?.stdout;
        let (name, text) = FILE;
        for part in [name, text] {
            assert!(archive.windows(part.len()).any(|window| window == part.as_bytes()));
        }
        Ok("archive, verified")
    }

    /// A real client that is killed at some time.
    fn killed(&self, n: usize, random: &mut Random) -> Done {
        let place = self.place(n, "killed");
        let url = self.daemon.url("/large.git");
        let mut command = self.command(n, None, &["clone", "-q", &url, place.to_str().unwrap()]);
        let mut clone = command.stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(random.next() % 150));
        clone.kill().unwrap();
        clone.wait().unwrap();
        // Its helpers end with it, and may still be writing.
        wait_until("nobody writes there", || {
            !place.exists() || std::fs::remove_dir_all(&place).is_ok()
        });
        Ok("client killed")
    }

    /// A client that leaves somewhere between its first byte and its last.
    fn left(&self, random: &mut Random) -> Done {
        let whole = request("upload-pack", "/large.git");
        let mut client = self.daemon.connect();
        client.try_send(&whole[..random.next() as usize % (whole.len() + 1)]);
        Ok("client left before an answer")
    }

    fn refused(&self) -> Done {
        let mut client = self.daemon.connect();
        client.send(request("upload-pack", "/nothing.git"));
        let Packet::Data(answer) = client.packet() else { panic!("no answer") };
        is_busy(&answer)?;
        assert_eq!(String::from_utf8(answer).unwrap(), format!("ERR {GENERIC}: /nothing.git"));
        assert_eq!(client.rest(), (vec![], End::Closed));
        Ok("refusal, in the right words")
    }

    /// What is no request gets no answer but the end.
    fn nonsense(&self, random: &mut Random) -> Done {
        let mut client = self.daemon.connect();
        client.try_send([b"00".to_vec(), noise(random)].concat());
        client.half_close();
        assert!(client.rest().0.is_empty());
        Ok("nonsense instead of a request, unanswered")
    }

    /// The service greets, and then ends over what it hears.
    fn service_nonsense(&self, random: &mut Random) -> Done {
        let mut client = self.daemon.connect();
        client.send(pkt("git-upload-pack /repo.git\0host=x\0\0version=2\0"));
        client.try_send(noise(random));
        client.half_close();
        let (answer, _) = client.rest();
        is_busy(&answer)?;
        Ok("nonsense after a request, ended")
    }

    /// Reads a little of a clone and leaves in the middle of the pack.
    fn stalled(&self) -> Done {
        let mut client = self.daemon.connect();
        client.send(request("upload-pack", "/large.git"));
        let Packet::Data(first) = client.packet() else { panic!("no answer") };
        is_busy(&first)?;
        client.packets_to_flush();
        let want = format!("want {}\n", self.heads[1].1);
        client.send([pkt(want), b"0000".to_vec(), pkt("done\n")].concat());
        let Packet::Data(answer) = client.packet() else { panic!("no answer") };
        assert_eq!(answer, b"NAK\n");
        Ok("client left in mid-pack")
    }

    fn command(&self, n: usize, place: Option<&Path>, arguments: &[&str]) -> Command {
        let version = if n.is_multiple_of(3) { 0 } else { 2 };
        let git = Git::new(self.scratch).protocol(version).args(arguments);
        place.into_iter().fold(git, Git::cwd).into_command()
    }

    /// A command that asks the server; no complaint is allowed but the one.
    fn git(&self, n: usize, place: Option<&Path>, arguments: &[&str]) -> Result<Output, Busy> {
        let output = output(&mut self.command(n, place, arguments));
        if !output.status.success() {
            is_busy(&output.stderr)?;
            let complaint = String::from_utf8_lossy(&output.stderr);
            panic!("client {n}: {arguments:?}: {}: {complaint}", output.status);
        }
        Ok(output)
    }

    /// A command that connects to no server.
    fn local(&self, place: &Path, arguments: &[&str]) -> String {
        Git::new(self.scratch).cwd(place).args(arguments).ok()
    }
}

fn is_busy(answer: &[u8]) -> Result<(), Busy> {
    if String::from_utf8_lossy(answer).contains(BUSY) { Err(Busy) } else { Ok(()) }
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
}

fn noise(random: &mut Random) -> Vec<u8> {
    let length = random.next() % 200;
    (0..length).map(|_| random.next() as u8).collect()
}

/// Tells the others when its thread fails.
struct Alarm<'a>(&'a AtomicBool);

impl Drop for Alarm<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.store(true, Ordering::Relaxed);
        }
    }
}
