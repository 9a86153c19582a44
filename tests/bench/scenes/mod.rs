//! The scenes: each does one kind of work on all sides and hands its figures to the report.

mod bulk;
mod client;
mod history;
mod hostile;
mod idle;
mod inetd;
mod links;
mod load;
mod silent;
mod stall;
mod status;
mod storm;
pub(crate) mod wire;

use std::path::Path;
use std::process::Command;

use crate::Result;
use crate::report::Report;
use crate::repositories::Repositories;
use crate::server::{Place, Server, Side};

/// What every scene is given.
pub(crate) struct Stage<'a> {
    pub(crate) quick: bool,
    pub(crate) gitd: &'a Path,
    pub(crate) repositories: &'a Repositories,
    /// Emptied and removed at the end.
    pub(crate) scratch: &'a Path,
}

impl Stage<'_> {
    /// How much of something to do.
    fn amount<T>(&self, quick: T, full: T) -> T {
        if self.quick { quick } else { full }
    }

    /// Whether gitd has an option that git daemon lacks, and that not every build of gitd need have.
    fn gitd_knows(&self, option: &str) -> Result<bool> {
        let help = Command::new(self.gitd).arg("--help").output()?;
        Ok(String::from_utf8_lossy(&help.stdout).contains(option))
    }

    /// A server of one side, started with further options.
    fn start_with(&self, side: Side, repository: &str, options: &[&str]) -> Result<Server> {
        let mut place =
            Place::loopback(self.gitd, &self.repositories.base_path, repository, self.scratch);
        place.options = options.iter().map(|&option| option.to_owned()).collect();
        Server::start(side, &place)
    }

    /// One server for each side, all at once: those that are not asked sleep.
    fn start(&self, sides: &[Side], repository: &str) -> Result<Vec<Server>> {
        let place =
            Place::loopback(self.gitd, &self.repositories.base_path, repository, self.scratch);
        sides.iter().map(|&side| Server::start(side, &place)).collect()
    }
}

pub(crate) struct Scene {
    pub(crate) name: &'static str,
    pub(crate) what: &'static str,
    pub(crate) run: fn(&Stage<'_>, &mut Report) -> Result<()>,
}

pub(crate) const SCENES: &[Scene] = &[
    Scene {
        name: "load",
        what: "v2 ls-remote by the load generator, in one write",
        run: load::whole,
    },
    Scene {
        name: "pieces",
        what: "v2 ls-remote by the load generator, in pieces as git writes",
        run: load::in_pieces,
    },
    Scene {
        name: "client",
        what: "the real git client: ls-remote, fetch, small clone",
        run: client::run,
    },
    Scene { name: "bulk", what: "clones of 335 MB and pushes of 115 MB", run: bulk::run },
    Scene { name: "history", what: "the real git client on a deep history", run: history::run },
    Scene { name: "silent", what: "10,000 clients that connect and say nothing", run: silent::run },
    Scene { name: "storm", what: "1,000 clients a second that connect and close", run: storm::run },
    Scene {
        name: "hostile",
        what: "a good client among those that hold, stall, flood and vanish (not in quick)",
        run: hostile::run,
    },
    Scene {
        name: "idle",
        what: "a server that nobody asks, and what one request makes it do",
        run: idle::run,
    },
    Scene {
        name: "inetd",
        what: "one process for each client: refused, and served",
        run: inetd::run,
    },
    Scene {
        name: "stall",
        what: "the real git client over TCP and over MPTCP, and the ACKs that it waits for",
        run: stall::run,
    },
    Scene {
        name: "status",
        what: "small requests while --status is read, and while its readers stall",
        run: status::run,
    },
    Scene {
        name: "links",
        what: "bulk between two hosts with one link and with two",
        run: links::run,
    },
    Scene { name: "wire", what: "the real git client across a long wire", run: wire::run },
];
