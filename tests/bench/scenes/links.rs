//! Bulk between two hosts that are joined by links of a known rate: nothing may be lost where there is one path, and with
//! MPTCP a second one must count. Both daemons have the same client, `gitd-connect`; git daemon always has one TCP path.

use std::path::Path;
use std::time::Duration;

use super::Stage;
use crate::lab::{Client, Daemon, Network, Repository, Transfer};
use crate::laboratory::{self, Servers};
use crate::report::{Bound, Report, Row, number};
use crate::repositories::init;
use crate::rounds::{Samples, alternate};
use crate::server::Side;
use crate::{Result, git, progress};

/// Of each link. Slow enough that the link is the limit, whatever else the machine does.
const MEGABITS: u32 = 100;
/// No transfer that goes on needs a tenth of it.
const LIMIT: Duration = Duration::from_secs(120);

/// No slower than over TCP.
const PARITY: f64 = 0.98;
/// The same, of what the kernel's MPTCP option leaves: it takes 20 of the 1,448 bytes that a segment has room for.
const PARITY_BUT_FOR_THE_OPTION: f64 = 0.966;

struct Case {
    name: &'static str,
    links: usize,
    daemon: Daemon,
    client: Client,
    goal: f64,
}

#[rustfmt::skip]
const CASES: [Case; 3] = [
    Case { name: "gitd over TCP", links: 1, daemon: Daemon::GitdTcp, client: Client::ConnectTcp, goal: PARITY },
    Case { name: "gitd over MPTCP, one path", links: 1, daemon: Daemon::Gitd, client: Client::Connect, goal: PARITY_BUT_FOR_THE_OPTION },
    Case { name: "gitd over MPTCP, two paths", links: 2, daemon: Daemon::Gitd, client: Client::Connect, goal: PARITY },
];

#[derive(Clone, Copy)]
enum Direction {
    Clone,
    Push,
}

pub(crate) fn run(stage: &Stage<'_>, report: &mut Report) -> Result<()> {
    if laboratory::is_missing(report) {
        return Ok(());
    }
    let repository = Repository::of_megabytes(stage.amount(4, 25));
    for case in &CASES {
        let network = Network::new(&[MEGABITS; 2][..case.links]);
        let servers = Servers::start(&network, stage.gitd, case.daemon, repository.base())?;
        for direction in [Direction::Clone, Direction::Push] {
            measure(stage, case, direction, &network, &servers, &repository, report)?;
        }
    }
    Ok(())
}

fn measure(
    stage: &Stage<'_>,
    case: &Case,
    direction: Direction,
    network: &Network,
    servers: &Servers,
    repository: &Repository,
    report: &mut Report,
) -> Result<()> {
    let megabytes = repository.pack_bytes() as f64 / 1e6;
    let work = match direction {
        Direction::Clone => format!("clone of {megabytes:.0} MB, {}", case.name),
        Direction::Push => format!("push of {megabytes:.0} MB, {}", case.name),
    };
    let (mut speed, mut cpu) = (Samples::default(), Samples::default());
    let sessions = network.server.mptcp_counter("MPCapableACKRX");
    let rounds = stage.amount(1, 3);
    alternate(rounds, &Side::DAEMONS, |_, side| {
        let client = if side == Side::Gitd { case.client } else { Client::ConnectTcp };
        let before = servers.cpu_seconds(side)?;
        speed[side].push(transfer(direction, network, client, repository, &Servers::host(side))?);
        cpu[side].push(servers.cpu_seconds(side)? - before);
        Ok(())
    })?;
    let sessions = network.server.mptcp_counter("MPCapableACKRX") - sessions;
    let expected = if case.client == Client::Connect { rounds as u64 } else { 0 };
    if sessions != expected {
        return Err(format!("{sessions} sessions over MPTCP instead of {expected}").into());
    }
    let ratio = Row::ratio(
        &work,
        "MB/s",
        &speed,
        (Side::Gitd, Side::Stock),
        Some(Bound::AtLeast(case.goal)),
    );
    report.row(ratio);
    report.row(Row::ratio(&work, "server CPU s", &cpu, (Side::Gitd, Side::Stock), None));
    for side in Side::DAEMONS {
        let speeds: Vec<_> = speed[side].iter().copied().map(number).collect();
        progress::say(&format!("{work}: {} {} MB/s", side.name(), speeds.join(" ")));
    }
    Ok(())
}

/// Moves the repository once, and says how many megabytes a second of it arrived.
fn transfer(
    direction: Direction,
    network: &Network,
    client: Client,
    repository: &Repository,
    host: &str,
) -> Result<f64> {
    let outcome = match direction {
        Direction::Clone => Transfer::clone(network, client, repository, host).finish(LIMIT),
        Direction::Push => {
            let target = empty_target(repository.base())?;
            Transfer::push(network, client, repository, host, target.path()).finish(LIMIT)
        }
    };
    if !outcome.succeeded {
        return Err(
            format!("given up after {:?}, {} bytes", outcome.duration, outcome.bytes).into()
        );
    }
    Ok(repository.pack_bytes() as f64 / 1e6 / outcome.duration.as_secs_f64())
}

/// Beside the repository, where the daemons look; the disk is not what is measured.
fn empty_target(base: &Path) -> Result<tempfile::TempDir> {
    let target = tempfile::tempdir_in(base)?;
    init(target.path())?;
    git::output(target.path(), &["config", "core.fsync", "none"])?;
    Ok(target)
}
