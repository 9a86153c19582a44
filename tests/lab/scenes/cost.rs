//! What `--mptcp` costs a client that does not ask for it.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::lab::{Daemon, Network, Repository, Server, isolate};
use crate::table::{Spread, Table, row};

const PORTS: [u16; 2] = [9418, 9419];

pub fn run(rounds: usize) -> Table {
    let (small, big) = (Repository::of_megabytes(1), Repository::of_megabytes(84));
    let rows = vec![
        row!["", "gitd, ms, min / med / max", "gitd --mptcp", "median of the rounds' ratios"],
        compare("git ls-remote", &small, rounds * 30, |git, url, _| git.args(["ls-remote", url])),
        compare("clone of 84 MB", &big, rounds * 2, |git, url, copy| {
            git.args(["clone", "-q", "--bare", url]).arg(copy)
        }),
    ];
    let explanation = "Plain git over TCP on loopback, both daemons in alternation.".to_owned();
    Table { heading: "A TCP client of an MPTCP listener", explanation, rows }
}

/// Puts the arguments: what to do with this URL, and where to put what comes.
type Work = for<'a> fn(&'a mut Command, &str, &Path) -> &'a mut Command;

fn compare(name: &str, repository: &Repository, rounds: usize, work: Work) -> Vec<String> {
    let network = Network::new(&[]);
    let daemons = [Daemon::GitdTcp, Daemon::Gitd];
    let _servers = [0, 1].map(|side| {
        Server::start_on(&network.server, daemons[side], repository.base(), PORTS[side])
    });
    let mut milliseconds = [Vec::new(), Vec::new()];
    for round in 0..rounds {
        for side in if round % 2 == 0 { [0, 1] } else { [1, 0] } {
            let directory = tempfile::tempdir().unwrap();
            let mut command = network.server.command("git");
            isolate(&mut command);
            let url = format!("git://127.0.0.1:{}/r.git", PORTS[side]);
            work(&mut command, &url, &directory.path().join("copy"));
            command.stdin(Stdio::null()).stdout(Stdio::null());
            let begin = Instant::now();
            assert!(command.status().unwrap().success());
            milliseconds[side].push(begin.elapsed().as_secs_f64() * 1e3);
        }
    }
    let ratios: Vec<f64> =
        milliseconds[0].iter().zip(&milliseconds[1]).map(|(tcp, mptcp)| mptcp / tcp).collect();
    let [tcp, mptcp] = milliseconds.map(|samples| Spread::of(&samples));
    eprintln!("{name}: {tcp} against {mptcp}");
    row![name, tcp, mptcp, format!("{:.3}", Spread::of(&ratios).middle)]
}
