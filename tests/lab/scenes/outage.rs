//! What an outage costs: one link, all links, or one network after another.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::thread::{self, sleep};
use std::time::Duration;

use tempfile::TempDir;

use super::ADDRESS;
use crate::lab::{
    Client, Daemon, Loss, Network, Outcome, Repository, Server, Transfer, git, succeed,
};
use crate::table::{Spread, Table, row};

/// How long a transfer may go on after the outage: the kernels may wait for two minutes before they try again.
const PATIENCE: Duration = Duration::from_secs(200);

/// The transfers at a time. They do next to nothing but wait.
const AT_A_TIME: usize = 24;

const SECONDS: [u64; 5] = [5, 20, 40, 60, 120];

/// What is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lost {
    /// One of two links, which comes back.
    OneLink,
    /// Both links; the first comes back.
    AllLinks,
    /// The only link, for good; another one comes up.
    Network,
}

/// What is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Work {
    Clone,
    Fetch,
    Push,
}

/// One experiment.
#[derive(Debug, Clone, Copy)]
struct Case {
    lost: Lost,
    work: Work,
    client: Client,
    daemon: Daemon,
    seconds: u64,
}

const PAIRS: [(Client, Daemon); 4] = [
    (Client::Git, Daemon::Stock),
    (Client::Git, Daemon::Gitd),
    (Client::ConnectTcp, Daemon::Gitd),
    (Client::Connect, Daemon::Gitd),
];

/// Each kind of outage by its length.
pub fn run(_: usize) -> Table {
    let mut rows = Vec::new();
    for lost in [Lost::OneLink, Lost::AllLinks, Lost::Network] {
        for work in [Work::Clone, Work::Push] {
            for (client, daemon) in PAIRS {
                // TCP has no second path.
                if lost == Lost::AllLinks || client == Client::Connect || daemon == Daemon::Stock {
                    rows.push((lost, work, client, daemon));
                }
            }
        }
    }
    let cases = rows.iter().flat_map(|&(lost, work, client, daemon)| {
        SECONDS.map(|seconds| Case { lost, work, client, daemon, seconds })
    });
    let mut results = all(cases.collect()).into_iter();
    let head = ["lost", "transfer", "client, server"].map(str::to_owned);
    let mut table = vec![[&head[..], &SECONDS.map(|seconds| format!("{seconds} s"))].concat()];
    for (lost, work, client, daemon) in rows {
        let mut cells =
            row![lost.name(), work.name(), format!("{}, {}", client.name(), daemon.name())];
        cells.extend(results.by_ref().take(SECONDS.len()).map(|stall| match stall {
            Some(stall) => format!("{stall:.0}"),
            None => "lost".to_owned(),
        }));
        table.push(cells);
    }
    Table {
        heading: "An outage",
        explanation:
            "A transfer of 20 MB over links of 10 Mbit/s; when 30 % have arrived, packets \
                      vanish for as long as the column says. A cell is the longest time in s \
                      without a byte of a transfer that was finished and verified; *lost*: not \
                      finished 200 s after the outage. One round."
                .to_owned(),
        rows: table,
    }
}

/// The goal: nothing is lost in a minute.
pub fn goal(rounds: usize) -> Table {
    let mut rows = vec![row![
        "lost for 60 s",
        "transfer",
        "server",
        "finished and verified",
        "longest stall in s, min / med / max"
    ]];
    let mut cases = Vec::new();
    for lost in [Lost::AllLinks, Lost::Network] {
        for work in [Work::Clone, Work::Fetch, Work::Push] {
            for daemon in [Daemon::Gitd, Daemon::GitdInetd] {
                let case = Case { lost, work, client: Client::Connect, daemon, seconds: 60 };
                cases.extend(vec![case; rounds]);
            }
        }
    }
    let results = all(cases.clone());
    for (cases, results) in cases.chunks(rounds).zip(results.chunks(rounds)) {
        let stalls: Vec<f64> = results.iter().flatten().copied().collect();
        rows.push(row![
            cases[0].lost.name(),
            cases[0].work.name(),
            cases[0].daemon.name(),
            format!("{} of {rounds}", stalls.len()),
            Spread::of(&stalls)
        ]);
    }
    let explanation = "gitd-connect over MPTCP, links of 10 Mbit/s, 20 MB.".to_owned();
    Table { heading: "An outage of a minute", explanation, rows }
}

/// The longest stall of each case that was finished, in their order.
fn all(cases: Vec<Case>) -> Vec<Option<f64>> {
    // One machine has one laboratory at a time; here it has many networks.
    let _turn = crate::lab::take_turn();
    let repository = Repository::of_megabytes(20);
    let results = Mutex::new(vec![None; cases.len()]);
    let queue = Mutex::new(cases.into_iter().enumerate().collect::<VecDeque<_>>());
    thread::scope(|scope| {
        for _ in 0..AT_A_TIME {
            scope.spawn(|| {
                loop {
                    let Some((index, case)) = queue.lock().unwrap().pop_front() else { return };
                    let outcome = case.run(&repository);
                    let stall = outcome.record.longest_stall().as_secs_f64();
                    let stall = outcome.succeeded.then_some(stall);
                    eprintln!("{case:?}: {stall:?}");
                    results.lock().unwrap()[index] = stall;
                }
            });
        }
    });
    results.into_inner().unwrap()
}

impl Case {
    fn run(self, repository: &Repository) -> Outcome {
        let network = Network::in_turn(&[10, 10]);
        if self.lost == Lost::Network {
            network.client.run("ip mptcp endpoint flush");
            Loss::ClientDown.lose(&network, network.links[1]);
        }
        let base = repository.base();
        let _server = Server::start(&network.server, self.daemon, base);
        let (mut transfer, _directory) = self.begin(&network, repository);
        transfer.await_share(0.3);
        self.lost.lose(&network);
        sleep(Duration::from_secs(self.seconds));
        self.lost.restore(&network);
        let outcome = transfer.finish(PATIENCE);
        if outcome.succeeded {
            outcome.verify(repository);
        }
        outcome
    }

    fn begin(self, network: &Network, repository: &Repository) -> (Transfer, TempDir) {
        let directory = tempfile::tempdir_in(repository.base()).unwrap();
        let transfer = match self.work {
            Work::Clone => Transfer::clone(network, self.client, repository, ADDRESS),
            Work::Fetch => Transfer::fetch(network, self.client, repository, ADDRESS),
            Work::Push => {
                let target = directory.path();
                succeed(git(target).args(["init", "-q", "--bare", "-b", "master"]));
                succeed(git(target).args(["config", "receive.unpackLimit", "1"]));
                Transfer::push(network, self.client, repository, ADDRESS, target)
            }
        };
        (transfer, directory)
    }
}

impl Lost {
    fn name(self) -> &'static str {
        match self {
            Self::OneLink => "one of two links",
            Self::AllLinks => "all links",
            Self::Network => "the network, then another one",
        }
    }

    fn lose(self, network: &Network) {
        let [first, second] = network.links[..] else { unreachable!("two links") };
        match self {
            Self::OneLink => Loss::Blackhole.lose(network, first),
            Self::AllLinks => {
                Loss::Blackhole.lose(network, first);
                Loss::Blackhole.lose(network, second);
            }
            Self::Network => Loss::ClientDown.lose(network, first),
        }
    }

    fn restore(self, network: &Network) {
        let [first, second] = network.links[..] else { unreachable!("two links") };
        match self {
            Self::OneLink | Self::AllLinks => Loss::Blackhole.restore(network, first),
            Self::Network => {
                Loss::ClientDown.restore(network, second);
                network.await_link(second);
                let (address, device) = (second.client_address(), second.client_device());
                network
                    .client
                    .run(&format!("ip mptcp endpoint add {address} dev {device} subflow"));
            }
        }
    }
}

impl Work {
    fn name(self) -> &'static str {
        match self {
            Self::Clone => "clone",
            Self::Fetch => "fetch",
            Self::Push => "push",
        }
    }
}
