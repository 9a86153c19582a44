//! Fifty at once.

use std::time::Instant;

use super::{ADDRESS, serve};
use crate::MULTIPATH;
use crate::lab::{Client, Daemon, Repository, git, succeed};
use crate::table::{Spread, Table, row};

const CLONES: usize = 50;

const CASES: [(&str, Daemon, Client); 4] = [
    ("git daemon, git over TCP", Daemon::Stock, Client::Git),
    ("gitd, git over TCP", Daemon::GitdTcp, Client::Git),
    ("mptcpize run git daemon, gitd-connect", Daemon::StockMptcp, Client::Connect),
    ("gitd --mptcp, gitd-connect", MULTIPATH, Client::Connect),
];

/// What came of one case's rounds.
#[derive(Default)]
struct Sum {
    seconds: Vec<f64>,
    verified: usize,
    paths: u64,
}

pub fn run(rounds: usize) -> Table {
    let repository = Repository::of_megabytes(1);
    let mut sums = CASES.map(|_| Sum::default());
    for round in 1..=rounds {
        for ((name, daemon, client), sum) in CASES.into_iter().zip(&mut sums) {
            together(daemon, client, &repository, sum);
            eprintln!("round {round} of {rounds}: {name}: {:?}", sum.seconds.last());
        }
    }
    let mut rows = vec![row!["", "clones verified", "seconds for all, min / med / max", "paths"]];
    for ((name, ..), sum) in CASES.into_iter().zip(sums) {
        let verified = format!("{} of {}", sum.verified, rounds * CLONES);
        rows.push(row![name, verified, Spread::of(&sum.seconds), sum.paths]);
    }
    let explanation = format!(
        "{CLONES} clones of 1 MB at once over two links of 50 Mbit/s, {rounds} rounds. What git daemon loses, its queue of five \
         connections has turned away."
    );
    Table { heading: "Fifty clones at once", explanation, rows }
}

fn together(daemon: Daemon, client: Client, repository: &Repository, sum: &mut Sum) {
    let (network, _server) = serve(&[50, 50], daemon, repository);
    let directory = tempfile::tempdir().unwrap();
    let begin = Instant::now();
    let clones: Vec<_> = (0..CLONES)
        .map(|number| {
            let copy = directory.path().join(number.to_string());
            let mut git = client.git(&network, directory.path());
            let url = format!("git://{ADDRESS}/r.git");
            git.args(["clone", "-q", "--bare", &url]).arg(&copy);
            (git.spawn().unwrap(), copy)
        })
        .collect();
    let mut arrived = Vec::new();
    for (mut clone, copy) in clones {
        if clone.wait().unwrap().success() {
            arrived.push(copy);
        }
    }
    sum.seconds.push(begin.elapsed().as_secs_f64());
    for copy in &arrived {
        succeed(git(copy).args(["fsck", "--connectivity-only"]));
    }
    sum.verified += arrived.len();
    let counters = ["MPCapableACKRX", "MPJoinAckRx"];
    sum.paths += counters.map(|name| network.server.mptcp_counter(name)).iter().sum::<u64>();
}
