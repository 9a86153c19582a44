//! The clients: each does one thing at random, and leaves it at random. What comes of it does not matter here.

use std::io;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::site::{OWN, Site, own};
use crate::readiness::leave::Leave;
use crate::readiness::line::{Line, Transport};
use crate::readiness::stage::Stage;
use crate::support::process::signal;
use crate::support::random::Random;
use crate::support::{pkt, request};

pub const CLIENTS: u8 = 10;

const PATIENCE: Duration = Duration::from_secs(3);

/// How often each is chosen, of a hundred.
const KINDS: [(u64, Kind); 6] = [
    (64, Kind::Leaver),
    (8, Kind::Returner),
    (5, Kind::Hook),
    (8, Kind::Hung),
    (10, Kind::Git),
    (5, Kind::Pusher),
];

#[derive(Clone, Copy)]
enum Kind {
    /// Leaves at some stage.
    Leaver,
    /// Rests after a question, and asks another one.
    Returner,
    /// Wants a repository with a slow hook.
    Hook,
    /// Wants one on the file system that can stop.
    Hung,
    /// Is git, which may be stopped or killed.
    Git,
    Pusher,
}

pub struct Clients<'a> {
    pub site: &'a Site,
    pub seed: u64,
    /// Hooks and file systems that hang take turns with places. Two at a time leave some to others.
    slow: [Mutex<()>; 2],
}

impl<'a> Clients<'a> {
    pub fn new(site: &'a Site, seed: u64) -> Self {
        Self { site, seed, slow: Default::default() }
    }

    /// One after the other, until it is over. How many there were.
    pub fn work(&self, thread: u8) -> u64 {
        let mut count = 0;
        while !self.site.is_over() {
            let mut random = Random::of(self.seed, u64::from(thread) << 32 | count);
            let begun = Instant::now();
            if self.client(thread, &mut random).is_err()
                && begun.elapsed() < Duration::from_millis(5)
            {
                // Refused by the kernel, as in an outage.
                std::thread::sleep(Duration::from_millis(50));
            }
            count += 1;
        }
        count
    }

    fn client(&self, thread: u8, random: &mut Random) -> io::Result<()> {
        let mut die = random.next() % 100;
        let kind = KINDS.iter().find(|(share, _)| {
            let found = die < *share;
            die = die.saturating_sub(*share);
            found
        });
        match kind.unwrap().1 {
            Kind::Leaver => self.leave(thread, random),
            Kind::Returner => self.come_back(thread, random),
            Kind::Hook => {
                let path = random.pick(&["/slow.git", "/hang.git"]);
                self.wait_for(path, 0, thread, random)
            }
            Kind::Hung => self.wait_for("/hung/repo.git", 1, thread, random),
            Kind::Git => self.git(thread, random),
            Kind::Pusher => self.push(random),
        }
    }

    fn dial(&self, thread: u8, random: &mut Random, room: Option<usize>) -> io::Result<Line> {
        // Clients of the Unix socket count as one, and a good one is among them.
        let transport = match random.below(10) {
            0 => Transport::Unix,
            1..=3 => Transport::Multipath,
            _ => Transport::Tcp,
        };
        Line::dial(self.site.place(), transport, [127, 0, 2, thread + 1], room, PATIENCE)
    }

    fn leave(&self, thread: u8, random: &mut Random) -> io::Result<()> {
        let stage = random.pick(&Stage::ALL);
        let stage = if stage.is_heavy() && random.chance(70) { Stage::Greeted } else { stage };
        let line = self.dial(thread, random, stage.room())?;
        stage.reach(&line)?;
        let rest = random.pick(&Leave::ALL).from(line);
        if rest.is_some() && random.chance(20) {
            pause(random, 1000);
        }
        Ok(())
    }

    fn come_back(&self, thread: u8, random: &mut Random) -> io::Result<()> {
        let line = self.dial(thread, random, None)?;
        Stage::AtRest.reach(&line)?;
        for _ in 0..random.below(4) {
            pause(random, 1000);
            line.send([pkt("command=ls-refs\n"), b"0000".to_vec()].concat())?;
            line.to_flush()?;
        }
        drop(random.pick(&Leave::ALL).from(line));
        Ok(())
    }

    /// If it is not another one's turn.
    fn wait_for(&self, path: &str, turn: usize, thread: u8, random: &mut Random) -> io::Result<()> {
        let Ok(_turn) = self.slow[turn].try_lock() else { return Ok(()) };
        let line = self.dial(thread, random, None)?;
        line.send(request("upload-pack", path))?;
        if random.chance(50) {
            pause(random, 600);
        } else {
            line.to_flush()?;
        }
        drop(random.pick(&Leave::ALL).from(line));
        Ok(())
    }

    fn git(&self, thread: u8, random: &mut Random) -> io::Result<()> {
        let url = self.site.daemon.url(random.pick(&["/repo.git", "/repo.git", "/large.git"]));
        let to = self.site.scratch.root().join(format!("clone-of-{thread}"));
        let git = self.site.git().protocol(random.pick(&[0, 1, 2]));
        let git = match random.below(3) {
            0 => git.args(["ls-remote", &url]),
            1 => git.args(["clone", "-q", "--bare", &url]).arg(&to),
            // Which is much work.
            _ => git.args(["archive", "--format=tgz", "--remote", &url, "HEAD"]),
        };
        spoil(git.into_command(), random)?;
        match std::fs::remove_dir_all(to) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Deletes a branch, or makes it again; if another one is about it that is refused.
    fn push(&self, random: &mut Random) -> io::Result<()> {
        let url = self.site.daemon.url(&format!("/{}", own(random.below(OWN))));
        let what = random.pick(&[":refs/heads/more", "main:refs/heads/more"]);
        let git = self.site.git().cwd(self.site.scratch.path("repo.git"));
        spoil(git.args(["push", "-q", &url, what]).into_command(), random)
    }
}

/// Stops a client for a while, or kills it, or lets it do its work; waits for its end.
fn spoil(mut command: Command, random: &mut Random) -> io::Result<()> {
    let mut client =
        Client(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?);
    let pid = client.0.id();
    if random.chance(60) {
        pause(random, 200);
        signal(pid, Signal::STOP);
        pause(random, 1500);
        signal(pid, Signal::CONT);
    }
    if random.chance(40) {
        pause(random, 200);
        client.0.kill()?;
    }
    let end = Instant::now() + 10 * PATIENCE;
    while client.0.try_wait()?.is_none() && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// Killed, if it has not ended, and waited for.
struct Client(Child);

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What clients do between two things.
pub fn pause(random: &mut Random, most: usize) {
    std::thread::sleep(Duration::from_millis(random.below(most) as u64));
}
