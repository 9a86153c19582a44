//! What is measured, a table each.

pub mod cost;
pub mod fallback;
pub mod fleet;
pub mod loss;
pub mod outage;
pub mod throughput;

use std::time::Duration;

use crate::lab::{Client, Daemon, Network, Outcome, Repository, Server, Transfer};

/// No transfer that goes on needs a quarter of it.
const LIMIT: Duration = Duration::from_secs(120);

/// The server as its clients know it.
const ADDRESS: &str = "10.50.1.1";

/// A whole clone, which must succeed.
fn clone(network: &Network, client: Client, repository: &Repository) -> Outcome {
    let outcome = Transfer::clone(network, client, repository, ADDRESS).finish(LIMIT);
    outcome.verify(repository);
    outcome
}

/// A network of these rates and a daemon on it.
fn serve(rates: &[u32], daemon: Daemon, repository: &Repository) -> (Network, Server) {
    let network = Network::new(rates);
    let server = Server::start(&network.server, daemon, repository.base());
    (network, server)
}
