//! Small v2 ls-remotes by the load generator: rate, CPU and latency of all sides at 1, 8 and 64 clients.

use std::time::Duration;

use super::Stage;
use crate::Result;
use crate::load;
use crate::progress;
use crate::protocol::Writes;
use crate::report::{Bound, Report, Row, medians, number};
use crate::repositories::SMALL;
use crate::rounds::{PerSide, Samples, alternate};
use crate::server::Side;
use crate::statistics::Summary;
use crate::svg::Chart;

pub(crate) fn whole(stage: &Stage<'_>, report: &mut Report) -> Result<()> {
    let mut rates = Chart {
        name: "requests",
        title: "v2 ls-remote: requests a second (more is better)".to_owned(),
        groups: Vec::new(),
    };
    let mut costs = Chart {
        name: "cpu",
        title: "v2 ls-remote: CPU µs a request (less is better)".to_owned(),
        groups: Vec::new(),
    };
    for clients in [1, 8, 64] {
        let seen = measure(stage, Writes::Whole, clients)?;
        let work =
            format!("v2 ls-remote, {clients} {}", if clients == 1 { "client" } else { "clients" });
        seen.hand_in(&work, report);
        rates.groups.push((format!("{clients} at once"), medians(&seen.rates)));
        costs.groups.push((format!("{clients} at once"), medians(&seen.cpu)));
    }
    report.charts.extend([rates, costs]);
    Ok(())
}

pub(crate) fn in_pieces(stage: &Stage<'_>, report: &mut Report) -> Result<()> {
    let seen = measure(stage, Writes::InPieces, 1)?;
    let work = "the same in pieces, 1 client";
    report.row(Row::ratio(work, "p50 ms", &seen.p50, (Side::Gitd, Side::Stock), None));
    report.distribution(work, "ms", &seen.latencies);
    Ok(())
}

/// The samples of one number of clients: one a round, but for the latencies.
#[derive(Default)]
struct Seen {
    rates: Samples,
    cpu: Samples,
    p50: Samples,
    p99: Samples,
    latencies: Samples,
    failures: PerSide<usize>,
    clients: usize,
}

fn measure(stage: &Stage<'_>, writes: Writes, clients: usize) -> Result<Seen> {
    let servers = stage.start(&Side::ALL, SMALL)?;
    let mut seen = Seen { clients, ..Seen::default() };
    for server in &servers {
        load::run(server, SMALL, writes, clients, Duration::from_millis(100))?;
    }
    // git daemon's accept queue of five makes clients of 64 wait for whole seconds: a round must be longer than that.
    let duration = Duration::from_millis(match clients {
        64 => stage.amount(1000, 2500),
        _ => stage.amount(500, 1500),
    });
    let rounds = if clients == 64 { stage.amount(2, 7) } else { stage.amount(3, 9) };
    alternate(rounds, &Side::ALL, |round, side| {
        let Some(server) = servers.iter().find(|server| server.side == side) else {
            return Ok(());
        };
        let cpu_before = server.cpu_seconds()?;
        let load = load::run(server, SMALL, writes, clients, duration)?;
        let cpu = (server.cpu_seconds()? - cpu_before) * 1e6 / load.latencies.len() as f64;
        let summary = Summary::of(&load.latencies);
        progress::say(&format!(
            "c={clients} {writes:?} round {} {:10} {:5.0} req/s, {:5.0} µs CPU, p50 {} p99 {} ms",
            round + 1,
            side.name(),
            load.requests_per_second,
            cpu,
            number(summary.p50),
            number(summary.p99),
        ));
        seen.rates[side].push(load.requests_per_second);
        seen.cpu[side].push(cpu);
        seen.p50[side].push(summary.p50);
        seen.p99[side].push(summary.p99);
        seen.latencies[side].extend(load.latencies);
        seen.failures[side] += load.failures;
        Ok(())
    })?;
    Ok(seen)
}

impl Seen {
    fn hand_in(&self, work: &str, report: &mut Report) {
        let against_stock = (Side::Gitd, Side::Stock);
        report.row(Row::ratio(
            work,
            "requests/s",
            &self.rates,
            against_stock,
            Some(Bound::AtLeast(1.8)),
        ));
        report.row(Row::ratio(
            work,
            "CPU µs/request",
            &self.cpu,
            against_stock,
            Some(Bound::AtMost(0.55)),
        ));
        report.row(Row::ratio(
            work,
            "p50 ms",
            &self.p50,
            (Side::Gitd, Side::Floor),
            Some(Bound::AtMost(1.15)),
        ));
        let p99_goal = (self.clients == 64).then_some(Bound::AtMost(0.15));
        report.row(Row::ratio(work, "p99 ms", &self.p99, against_stock, p99_goal));
        report.distribution(work, "ms", &self.latencies);
        for side in Side::ALL {
            if self.failures[side] > 0 {
                report.note(format!(
                    "{work}: {} failed {} requests",
                    side.name(),
                    self.failures[side]
                ));
            }
        }
    }
}
