//! One transfer, watched: a clone or a push by a client of some kind, and what came of it.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::host::succeed;
use super::network::Network;
use super::repository::{Repository, bytes_of_packs, git, isolate, pack_bytes, tip};
use super::sampler::{Record, Sampler};

/// How git connects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Client {
    /// By itself, over TCP.
    Git,
    /// Through `gitd-connect`.
    Connect,
    /// Through `gitd-connect` with MPTCP switched off.
    ConnectTcp,
    /// `mptcpize run git`.
    Mptcpize,
}

impl Client {
    pub fn name(self) -> &'static str {
        match self {
            Self::Git => "git",
            Self::Connect => "gitd-connect",
            Self::ConnectTcp => "gitd-connect without MPTCP",
            Self::Mptcpize => "mptcpize run git",
        }
    }

    /// git on the client's host, run from `directory`.
    pub fn git(self, network: &Network, directory: &Path) -> Command {
        let program = if self == Self::Mptcpize { "mptcpize" } else { "git" };
        let mut command = network.client.command(program);
        isolate(&mut command);
        // The client's disk is not what is measured.
        command.env("GIT_CONFIG_COUNT", "1");
        command.env("GIT_CONFIG_KEY_0", "core.fsync").env("GIT_CONFIG_VALUE_0", "none");
        match self {
            Self::Git => {}
            Self::Connect => {
                command.env("GIT_PROXY_COMMAND", env!("CARGO_BIN_EXE_gitd-connect"));
            }
            Self::ConnectTcp => {
                command.env("GIT_PROXY_COMMAND", env!("CARGO_BIN_EXE_gitd-connect"));
                command.env("GIT_ENABLE_MPTCP", "0");
            }
            Self::Mptcpize => {
                command.args(["run", "git"]);
            }
        }
        command.arg("-C").arg(directory);
        command
    }
}

/// A transfer under way.
#[derive(Debug)]
pub struct Transfer {
    child: Running,
    sampler: Sampler,
    destination: PathBuf,
    total: u64,
    begin: Instant,
    directory: TempDir,
}

/// git, which a test that fails must not leave behind.
#[derive(Debug)]
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What came of it.
#[derive(Debug)]
pub struct Outcome {
    pub succeeded: bool,
    pub duration: Duration,
    pub bytes: u64,
    pub record: Record,
    destination: PathBuf,
    directory: TempDir,
}

impl Transfer {
    /// Begins to clone `repository` from `host`, an address as it stands in a URL.
    pub fn clone(network: &Network, client: Client, repository: &Repository, host: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let destination = directory.path().join("copy.git");
        let mut command = client.git(network, directory.path());
        command.args(["clone", "-q", "--bare", &format!("git://{host}/r.git")]).arg(&destination);
        Self::begin(network, command, destination, repository, directory)
    }

    /// Begins to fetch all of `repository` into an empty one.
    pub fn fetch(network: &Network, client: Client, repository: &Repository, host: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let destination = directory.path().join("copy.git");
        succeed(
            git(directory.path()).args(["init", "-q", "--bare", "-b", "master"]).arg(&destination),
        );
        let mut command = client.git(network, &destination);
        let branch = "refs/heads/master:refs/heads/master";
        // Else its objects would be unpacked, and no pack would grow.
        command.args([
            "-c",
            "fetch.unpackLimit=1",
            "fetch",
            "-q",
            &format!("git://{host}/r.git"),
            branch,
        ]);
        Self::begin(network, command, destination, repository, directory)
    }

    /// Begins to push `repository` into the empty repository `destination`, which `host` serves as `name`.
    pub fn push(
        network: &Network,
        client: Client,
        repository: &Repository,
        host: &str,
        destination: &Path,
    ) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let name = destination.file_name().unwrap().to_string_lossy().into_owned();
        let mut command = client.git(network, repository.path());
        command.args(["push", "-q", &format!("git://{host}/{name}"), "refs/heads/master"]);
        Self::begin(network, command, destination.to_owned(), repository, directory)
    }

    fn begin(
        network: &Network,
        mut command: Command,
        destination: PathBuf,
        repository: &Repository,
        directory: TempDir,
    ) -> Self {
        let begin = Instant::now();
        let watched = destination.clone();
        let sampler = Sampler::start(network, begin, move || arrived(&watched));
        let child = Running(command.stdin(Stdio::null()).spawn().unwrap());
        Self { child, sampler, destination, total: repository.pack_bytes(), begin, directory }
    }

    /// Returns when `share` of the pack has arrived.
    #[track_caller]
    pub fn await_share(&mut self, share: f64) {
        let wanted = (self.total as f64 * share) as u64;
        while arrived(&self.destination) < wanted {
            assert!(self.child.0.try_wait().unwrap().is_none(), "it ended early");
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// git, which has its helpers and gitd-connect below it.
    pub fn pid(&self) -> u32 {
        self.child.0.id()
    }

    /// Time since its begin, on the clock of its record.
    pub fn elapsed(&self) -> Duration {
        self.begin.elapsed()
    }

    /// Waits for the end, but not longer than `limit`: what runs then has failed.
    pub fn finish(mut self, limit: Duration) -> Outcome {
        let deadline = Instant::now() + limit;
        let status = loop {
            match self.child.0.try_wait().unwrap() {
                Some(status) => break Some(status),
                None if Instant::now() > deadline => break None,
                None => thread::sleep(Duration::from_millis(1)),
            }
        };
        let duration = self.begin.elapsed();
        drop(self.child);
        Outcome {
            succeeded: status.is_some_and(|status| status.success()),
            duration,
            bytes: arrived(&self.destination),
            record: self.sampler.finish(),
            destination: self.destination,
            directory: self.directory,
        }
    }
}

impl Outcome {
    /// Is every object there and sound, and the branch where it should be?
    #[track_caller]
    pub fn verify(&self, repository: &Repository) {
        assert!(self.succeeded, "after {:?} and {} bytes", self.duration, self.bytes);
        succeed(git(&self.destination).args(["fsck", "--strict", "--no-dangling"]));
        assert_eq!(tip(&self.destination), repository.tip());
    }
}

/// The bytes of the pack where it arrives: at once among the packs of a clone, in quarantine for a push.
fn arrived(destination: &Path) -> u64 {
    let quarantine = destination.join("objects").read_dir().into_iter().flatten().flatten();
    let quarantined: u64 = quarantine
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("tmp_objdir-incoming-"))
        .map(|entry| bytes_of_packs(&entry.path().join("pack")))
        .sum();
    quarantined + pack_bytes(destination)
}
