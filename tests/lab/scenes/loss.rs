//! What a lost link costs.

use std::time::Duration;

use super::{ADDRESS, LIMIT, serve};
use crate::MULTIPATH;
use crate::lab::{Client, Daemon, Loss, Outcome, Repository, Transfer};
use crate::table::{Spread, Table, row};

/// How long plain TCP is given to show a sign of life.
const PATIENCE: Duration = Duration::from_secs(20);

pub fn run(rounds: usize) -> Table {
    let repository = Repository::of_megabytes(30);
    let columns = [
        "link lost",
        "client",
        "clones finished and verified",
        "longest stall in s, min / med / max",
    ];
    let mut rows = vec![columns.map(str::to_owned).to_vec()];
    for loss in Loss::ALL {
        for index in [0, 1] {
            for client in [Client::Connect, Client::Mptcpize] {
                let mut stalls = Vec::new();
                let mut finished = 0;
                for _ in 0..rounds {
                    let outcome = lose(loss, index, MULTIPATH, client, &repository, LIMIT);
                    stalls.push(outcome.record.longest_stall().as_secs_f64());
                    if outcome.succeeded {
                        outcome.verify(&repository);
                        finished += 1;
                    }
                }
                let what = format!("{}, link {}", loss.name(), index + 1);
                eprintln!("{what}, {client:?}: {finished} of {rounds}, {}", Spread::of(&stalls));
                rows.push(row![
                    what,
                    client.name(),
                    format!("{finished} of {rounds}"),
                    Spread::of(&stalls)
                ]);
            }
        }
        rows.push(without_multipath(loss, &repository));
    }
    let explanation = format!(
        "A clone of {:.0} MB over two links of 50 Mbit/s; when 30 % have arrived, one link is lost for good. A stall is a time \
         in which no byte of the pack arrived. {rounds} rounds each, plain TCP once.",
        repository.pack_bytes() as f64 / 1e6
    );
    Table { heading: "A link is lost", explanation, rows }
}

fn lose(
    loss: Loss,
    index: usize,
    daemon: Daemon,
    client: Client,
    repository: &Repository,
    limit: Duration,
) -> Outcome {
    let (network, _server) = serve(&[50, 50], daemon, repository);
    let mut transfer = Transfer::clone(&network, client, repository, ADDRESS);
    transfer.await_share(0.3);
    loss.lose(&network, network.links[index]);
    transfer.finish(limit)
}

fn without_multipath(loss: Loss, repository: &Repository) -> Vec<String> {
    let outcome = lose(loss, 0, Daemon::Stock, Client::Git, repository, PATIENCE);
    let silence = outcome.record.silence_at_the_end();
    let finished = if outcome.succeeded { "1 of 1" } else { "0 of 1" };
    row![
        format!("{}, link 1", loss.name()),
        "TCP: git, git daemon",
        finished,
        format!("no byte in {:.0} s, then given up", silence.as_secs_f64()),
    ]
}
