//! The 40 ms for which a kernel may keep an ACK while git's client waits for it: which clients are spared them, and by
//! what.
//!
//! gitd cures TCP clients by itself. An MPTCP socket has no option for it; there the client's proxy can help, or the
//! server's administrator, whose two ways are tried here in a network namespace. Beside the times stands what the
//! kernel itself counts on the server: the ACKs whose timer ran out.

use std::process::Stdio;
use std::time::Instant;

use super::Stage;
use super::client::says;
use crate::lab::{Client, Daemon, Network};
use crate::laboratory::{self, Servers};
use crate::load::milliseconds;
use crate::report::{Bound, Report, Row};
use crate::repositories::SMALL;
use crate::rounds::{PerSide, Samples, alternate};
use crate::server::Side;
use crate::{Result, progress};

/// Far more than a few packets need.
const MEGABITS: u32 = 1000;

struct Case {
    name: &'static str,
    client: Client,
    /// What the administrator types before, and after.
    cure: Option<[&'static str; 2]>,
    /// ACKs that gitd's clients have to wait for, in each run, if there is a goal.
    goal: Option<f64>,
}

#[rustfmt::skip]
const CASES: [Case; 5] = [
    Case { name: "git", client: Client::Git, cure: None, goal: Some(0.01) },
    Case { name: "git and gitd-connect", client: Client::Connect, cure: None, goal: Some(0.01) },
    Case { name: "mptcpize run git", client: Client::Mptcpize, cure: None, goal: None },
    Case {
        name: "mptcpize run git, tcp_pingpong_thresh=255",
        client: Client::Mptcpize,
        cure: Some(["sysctl -qw net.ipv4.tcp_pingpong_thresh=255", "sysctl -qw net.ipv4.tcp_pingpong_thresh=1"]),
        goal: Some(0.01),
    },
    Case {
        name: "mptcpize run git, route with quickack 1",
        client: Client::Mptcpize,
        cure: Some(["ip route replace 10.50.1.0/24 dev ms1 quickack 1", "ip route replace 10.50.1.0/24 dev ms1"]),
        goal: Some(0.01),
    },
];

pub(crate) fn run(stage: &Stage<'_>, report: &mut Report) -> Result<()> {
    if laboratory::is_missing(report) {
        return Ok(());
    }
    let network = Network::new(&[MEGABITS]);
    let base = &stage.repositories.base_path;
    let _servers = Servers::start(&network, stage.gitd, Daemon::Gitd, base)?;
    for case in &CASES {
        if let Some([cure, _]) = case.cure {
            network.server.run(cure);
        }
        measure(stage, case, &network, report)?;
        if let Some([_, undo]) = case.cure {
            network.server.run(undo);
        }
    }
    Ok(())
}

fn measure(stage: &Stage<'_>, case: &Case, network: &Network, report: &mut Report) -> Result<()> {
    let (mut times, mut delayed) = (Samples::default(), Samples::default());
    for side in Side::DAEMONS {
        list(stage, case.client, network, side)?;
    }
    let rounds = stage.amount(15, 100);
    alternate(rounds, &Side::DAEMONS, |_, side| {
        let before = network.server.delayed_acks();
        times[side].push(list(stage, case.client, network, side)?);
        delayed[side].push((network.server.delayed_acks() - before) as f64);
        Ok(())
    })?;
    let work = format!("ls-remote: {}", case.name);
    progress::say(&format!("{work}, {rounds} rounds: {}", says(&times)));
    report.row(Row::ratio(&work, "ms", &times, (Side::Stock, Side::Gitd), None));
    let mut means = PerSide::default();
    for side in Side::DAEMONS {
        means[side] = Some(delayed[side].iter().sum::<f64>() / rounds as f64);
    }
    report.row(Row::absolute(&work, "delayed ACKs a run", "", means, case.goal.map(Bound::AtMost)));
    report.distribution(&work, "ms", &times);
    Ok(())
}

/// Lists the references once, and says how many milliseconds it took.
fn list(stage: &Stage<'_>, client: Client, network: &Network, side: Side) -> Result<f64> {
    let mut command = client.git(network, stage.scratch);
    command.args(["ls-remote", &format!("git://{}/{SMALL}", Servers::host(side))]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let start = Instant::now();
    let status = command.status()?;
    let elapsed = milliseconds(start.elapsed());
    if status.success() {
        Ok(elapsed)
    } else {
        Err(format!("{} could not list: {status}", client.name()).into())
    }
}
