//! The scenes: each does one kind of work on all sides and hands its figures to the report.

mod client;
mod load;

use std::path::Path;

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

    /// One server for each side, all at once: those that are not asked sleep.
    fn start(&self, sides: &[Side], repository: &str) -> Result<Vec<Server>> {
        let place = Place::loopback(
            self.gitd,
            &self.repositories.base_path,
            repository,
            self.scratch,
        );
        sides
            .iter()
            .map(|&side| Server::start(side, &place))
            .collect()
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
];
