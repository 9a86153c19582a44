//! Fifty at once.

use std::time::Instant;

use super::{ADDRESS, serve};
use crate::MULTIPATH;
use crate::lab::{Client, Daemon, Repository, git, succeed};
use crate::table::{Spread, Table, row};

const CLONES: usize = 50;

pub fn run(rounds: usize) -> Table {
    let repository = Repository::of_megabytes(1);
    let mut rows = vec![row!["", "clones verified", "seconds for all, min / med / max", "paths"]];
    for (name, daemon, client) in [
        ("TCP: git, git daemon", Daemon::Stock, Client::Git),
        ("mptcpize run git daemon, gitd-connect", Daemon::StockMptcp, Client::Connect),
        ("gitd --mptcp, gitd-connect", MULTIPATH, Client::Connect),
    ] {
        let (mut seconds, mut verified, mut paths) = (Vec::new(), 0, 0);
        for _ in 0..rounds {
            let (network, _server) = serve(&[50, 50], daemon, &repository);
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
            for (mut clone, copy) in clones {
                if clone.wait().unwrap().success() {
                    succeed(git(&copy).args(["fsck", "--connectivity-only"]));
                    verified += 1;
                }
            }
            seconds.push(begin.elapsed().as_secs_f64());
            let counters = ["MPCapableACKRX", "MPJoinAckRx"];
            paths += counters.map(|name| network.server.mptcp_counter(name)).iter().sum::<u64>();
        }
        eprintln!("{name}: {verified}, {}", Spread::of(&seconds));
        let verified = format!("{verified} of {}", rounds * CLONES);
        rows.push(row![name, verified, Spread::of(&seconds), paths]);
    }
    let explanation =
        format!("{CLONES} clones of 1 MB at once over two links of 50 Mbit/s, {rounds} rounds.");
    Table { heading: "Fifty clones at once", explanation, rows }
}
