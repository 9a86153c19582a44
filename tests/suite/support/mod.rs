//! What every case stands on: the two implementations, a scratch directory with repositories, a daemon that is
//! started and ended by its own pid, a client that speaks in bytes, and the macro which runs a case on both.
//!
//! A case is written once and is right when stock git's daemon passes it. Where gitd differs on purpose, the case says
//! so with [`Implementation::differs`] and the name of the line in `docs/differences.md`.

pub mod client;
pub mod daemon;
pub mod git;
pub mod invocation;
pub mod log;
pub mod process;
pub mod random;
pub mod scratch;
pub mod session;
pub mod strace;
pub mod syslog;

use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::time::Duration;

pub use client::{Client, End, Packet, pkt, request};
pub use daemon::Daemon;
pub use git::Git;
pub use invocation::{Invocation, Outcome};
pub use scratch::Scratch;
pub use session::{Session, Verdict};

/// How long anything may take before a test gives up. Long, because a loaded machine is no failure.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// The text of a refusal that does not say why.
pub const GENERIC: &str = "access denied or repository not exported";

/// The server under test: the machine's `git daemon`, or the binary built here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Implementation {
    Stock,
    Gitd,
}

pub use Implementation::{Gitd, Stock};

impl Implementation {
    /// A command line with nothing on it but what keeps tests apart.
    pub fn invoke(self, scratch: &Scratch) -> Invocation {
        Invocation::new(self, scratch)
    }

    /// The usual server: everything below the scratch's repositories, exported.
    pub fn serve(self, scratch: &Scratch) -> Invocation {
        self.invoke(scratch).base_path().arg("--export-all")
    }

    /// The usual server with the one repository `/repo.git`. The scratch directory must outlive the daemon.
    pub fn serve_one(self) -> (Scratch, Daemon) {
        let scratch = Scratch::new();
        scratch.bare("repo.git");
        let daemon = self.serve(&scratch).start();
        (scratch, daemon)
    }

    /// A copy of git's exec path, made of symlinks, in which `git-daemon` is this implementation.
    pub fn exec_path(self, scratch: &Scratch) -> PathBuf {
        let copy = scratch.root().join("exec-path");
        std::fs::create_dir(&copy).unwrap();
        for entry in std::fs::read_dir(Git::exec_path()).unwrap() {
            let entry = entry.unwrap();
            if entry.file_name() != "git-daemon" {
                symlink(entry.path(), copy.join(entry.file_name())).unwrap();
            }
        }
        symlink(self.binary(), copy.join("git-daemon")).unwrap();
        copy
    }

    /// The executable. Stock's not through `git daemon`: that wrapper has a pid of its own.
    pub fn binary(self) -> PathBuf {
        match self {
            Stock => Git::exec_path().join("git-daemon"),
            Gitd => PathBuf::from(env!("CARGO_BIN_EXE_gitd")),
        }
    }

    /// An intended difference: `line` is its name in `docs/differences.md`.
    pub fn differs<T>(self, line: &str, stock: T, gitd: T) -> T {
        let number = line.strip_prefix('B').and_then(|n| n.parse::<u32>().ok());
        assert!(number.is_some(), "{line} is not the name of a difference");
        match self {
            Stock => stock,
            Gitd => gitd,
        }
    }

    /// A point where the stock daemon of `since` differs from its elders, and gitd follows the newer one.
    pub fn since<T>(self, since: (u32, u32), newer: T, older: T) -> T {
        if self == Gitd || Git::version() >= since { newer } else { older }
    }
}

/// Says why a test cannot run here, past the harness, which would keep it to itself. Where `CI=true` everything must be
/// able to run, so there it is a failure.
pub fn skip(why: &str) {
    assert!(std::env::var("CI").as_deref() != Ok("true"), "cannot run under CI: {why}");
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    let _ = writeln!(std::io::stderr(), "SKIPPED {test}: {why}");
}

/// Ends the test unless it runs as root.
macro_rules! needs_root {
    () => {
        if !rustix::process::geteuid().is_root() {
            $crate::support::skip("needs root");
            return;
        }
    };
}
pub(crate) use needs_root;

/// Each function named becomes two tests: `name::stock` and `name::gitd`.
macro_rules! compliance {
    ($($case:ident),* $(,)?) => {
        $(
            mod $case {
                #[test]
                fn stock() {
                    super::$case($crate::support::Stock);
                }

                #[test]
                fn gitd() {
                    super::$case($crate::support::Gitd);
                }
            }
        )*
    };
}
pub(crate) use compliance;
