//! How much of two links a clone gets.

use super::{clone, serve};
use crate::MULTIPATH;
use crate::lab::{Client, Daemon, Repository};
use crate::table::{Spread, Table, row};

struct Case {
    name: &'static str,
    rates: &'static [u32],
    daemon: Daemon,
    client: Client,
}

#[rustfmt::skip]
const CASES: [Case; 7] = [
    Case { name: "TCP: git, git daemon", rates: &[50, 50], daemon: Daemon::Stock, client: Client::Git },
    Case { name: "MPTCP, one path", rates: &[50], daemon: MULTIPATH, client: Client::Connect },
    Case { name: "MPTCP, two paths: gitd-connect", rates: &[50, 50], daemon: MULTIPATH, client: Client::Connect },
    Case { name: "MPTCP, two paths: mptcpize run git", rates: &[50, 50], daemon: MULTIPATH, client: Client::Mptcpize },
    Case { name: "TCP on the faster of 50 + 10", rates: &[50, 10], daemon: Daemon::Stock, client: Client::Git },
    Case { name: "MPTCP on 50 + 10: gitd-connect", rates: &[50, 10], daemon: MULTIPATH, client: Client::Connect },
    Case { name: "MPTCP on 50 + 10: mptcpize run git", rates: &[50, 10], daemon: MULTIPATH, client: Client::Mptcpize },
];

pub fn run(rounds: usize) -> Table {
    let repository = Repository::of_megabytes(84);
    let mut seconds = CASES.map(|_| Vec::new());
    for round in 1..=rounds {
        for (case, seconds) in CASES.iter().zip(&mut seconds) {
            let (network, _server) = serve(case.rates, case.daemon, &repository);
            let outcome = clone(&network, case.client, &repository);
            eprintln!("round {round} of {rounds}: {}: {:?}", case.name, outcome.duration);
            seconds.push(outcome.duration.as_secs_f64());
        }
    }
    let bits = repository.pack_bytes() as f64 * 8.0;
    let mut rows = vec![row!["", "seconds, min / med / max", "of the links' sum", "times TCP"]];
    let tcp = Spread::of(&seconds[0]).middle;
    for (case, seconds) in CASES.iter().zip(&seconds) {
        let spread = Spread::of(seconds);
        let sum: f64 = case.rates.iter().map(|rate| f64::from(*rate) * 1e6).sum();
        // Plain TCP can only use the link that it is on.
        let capacity = if case.client == Client::Git { 50e6 } else { sum };
        rows.push(row![
            case.name,
            spread,
            format!("{:.1} %", 100.0 * bits / spread.middle / capacity),
            format!("{:.2}", tcp / spread.middle),
        ]);
    }
    let explanation = format!(
        "A clone of {:.0} MB over links of 50 Mbit/s (tbf, 50 ms of queue), {rounds} rounds. Plain TCP is set against the \
         link it is on.",
        repository.pack_bytes() as f64 / 1e6
    );
    Table { heading: "Two links", explanation, rows }
}
