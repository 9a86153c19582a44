//! Multipath TCP on two hosts with two links: what a user gains, and what happens when a link is lost.

/// Ends the test where no laboratory can be made.
macro_rules! needs_lab {
    () => {
        if let Some(why) = crate::lab::missing() {
            crate::support::skip(&why);
            return;
        }
    };
}

mod fallback;
mod forbidden;
mod log;
mod loss;
mod outage;
mod recipes;
mod throughput;
mod vanished;
mod work;

use std::time::Duration;

use crate::lab::{Daemon, Network, Repository, Server};

/// No transfer of this suite needs a third of it.
const LIMIT: Duration = Duration::from_secs(60);

/// The daemon under test.
const MULTIPATH: Daemon = Daemon::Gitd;

/// A network with the daemon under test on its server.
struct Lab {
    server: Server,
    repository: Repository,
    network: Network,
}

impl Lab {
    fn new(rates: &[u32], daemon: Daemon, megabytes: u32) -> Self {
        Self::on(Network::new(rates), daemon, megabytes)
    }

    fn on(network: Network, daemon: Daemon, megabytes: u32) -> Self {
        let repository = Repository::of_megabytes(megabytes);
        let server = Server::start(&network.server, daemon, repository.base());
        Self { server, repository, network }
    }
}
