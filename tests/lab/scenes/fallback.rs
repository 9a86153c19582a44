//! What it costs to ask for MPTCP where there is none.

use super::{ADDRESS, LIMIT, serve};
use crate::MULTIPATH;
use crate::lab::{Client, Daemon, Network, Repository, Transfer, middlebox};
use crate::table::{Spread, Table, row};

type Hinder = fn(&Network);

const CASES: [(&str, Daemon, Hinder); 5] = [
    ("nothing in the way", MULTIPATH, |_| ()),
    ("server without MPTCP", Daemon::Stock, |_| ()),
    ("client's kernel refuses", MULTIPATH, |network| network.client.sysctl("net.mptcp.enabled=0")),
    ("a middlebox strips the option", MULTIPATH, |network| {
        middlebox(network, "reset tcp option mptcp")
    }),
    ("a middlebox drops SYNs with it", MULTIPATH, |network| {
        middlebox(network, "tcp flags syn tcp option mptcp exists drop");
    }),
];

pub fn run(rounds: usize) -> Table {
    let repository = Repository::of_megabytes(2);
    let columns = ["", "sessions over MPTCP", "first clone, s, min / med / max", "second clone, s"];
    let mut rows = vec![columns.map(str::to_owned).to_vec()];
    for (name, daemon, hinder) in CASES {
        let mut seconds = [Vec::new(), Vec::new()];
        let mut sessions = 0;
        for _ in 0..rounds {
            let (network, _server) = serve(&[50], daemon, &repository);
            hinder(&network);
            for seconds in &mut seconds {
                let transfer = Transfer::clone(&network, Client::Connect, &repository, ADDRESS);
                let outcome = transfer.finish(LIMIT);
                outcome.verify(&repository);
                seconds.push(outcome.duration.as_secs_f64());
            }
            sessions += network.server.mptcp_counter("MPCapableACKRX");
        }
        let spreads = seconds.map(|seconds| Spread::of(&seconds));
        eprintln!("{name}: {} then {}", spreads[0], spreads[1]);
        let sessions = format!("{sessions} of {}", 2 * rounds);
        rows.push(row![name, sessions, spreads[0], spreads[1]]);
    }
    let explanation = format!(
        "gitd-connect clones 2 MB twice over one link of 50 Mbit/s, {rounds} rounds. Against the box that drops, the \
         kernel tries without the option after three seconds, and remembers."
    );
    Table { heading: "Where there is no MPTCP", explanation, rows }
}
