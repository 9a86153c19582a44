//! What a user waits for: the real git client against each daemon.

use std::path::PathBuf;

use super::Stage;
use crate::report::{Bound, Report, Row, medians, number};
use crate::repositories::{MANY_REFERENCES, SMALL, remove};
use crate::rounds::{PerSide, Samples, alternate};
use crate::server::{Server, Side};
use crate::statistics::{Ratio, Summary, median};
use crate::svg::Chart;
use crate::{Result, git, progress};

pub(crate) fn run(stage: &Stage<'_>, report: &mut Report) -> Result<()> {
    let servers = stage.start(&Side::DAEMONS, SMALL)?;
    let mut chart = Chart {
        name: "client",
        title: "The real git client: milliseconds".to_owned(),
        groups: Vec::new(),
    };
    let mut hand_in = |work: &str, goal: f64, samples: &Samples, report: &mut Report| {
        report.row(Row::ratio(
            work,
            "ms",
            samples,
            (Side::Stock, Side::Gitd),
            Some(Bound::AtLeast(goal)),
        ));
        report.distribution(work, "ms", samples);
        chart.groups.push((work.to_owned(), medians(samples)));
    };

    let (samples, tail) = ls_remotes(stage, &servers)?;
    hand_in("git ls-remote, 10 refs", 15.0, &samples, report);
    hand_in_tail(&samples, &tail, report);

    let clone = stage.scratch.join("fetched");
    for server in &servers {
        git::timed(
            stage.scratch,
            &["clone", "-q", &server.url(SMALL), &path(&clone, server.side)],
        )?;
    }
    let samples = measure(stage, &servers, "no-op fetch", stage.amount(15, 100), |server| {
        git::timed(&PathBuf::from(path(&clone, server.side)), &["fetch", "-q"])
    })?;
    hand_in("no-op git fetch", 7.5, &samples, report);

    let samples = measure(stage, &servers, "small clone", stage.amount(12, 100), |server| {
        let destination = stage.scratch.join("clone");
        remove(&destination)?;
        git::timed(stage.scratch, &["clone", "-q", &server.url(SMALL), "clone"])
    })?;
    hand_in("small git clone", 8.0, &samples, report);

    let samples = measure(stage, &servers, "ls-remote, 10k refs", stage.amount(8, 50), |server| {
        git::timed(stage.scratch, &["ls-remote", &server.url(MANY_REFERENCES)])
    })?;
    hand_in("git ls-remote, 10k refs", 3.0, &samples, report);
    report.charts.push(chart);
    Ok(())
}

/// The pairs, and all of gitd's: between two of git daemon's runs are many of gitd's, whose tail is the question.
fn ls_remotes(stage: &Stage<'_>, servers: &[Server]) -> Result<(Samples, Vec<f64>)> {
    const RUNS_A_ROUND: usize = 10;
    let mut tail = Vec::new();
    let samples = measure(stage, servers, "ls-remote, 10 refs", stage.amount(15, 100), |server| {
        let runs = if server.side == Side::Gitd { RUNS_A_ROUND } else { 1 };
        let times: Result<Vec<f64>> = (0..runs)
            .map(|_| git::timed(stage.scratch, &["ls-remote", &server.url(SMALL)]))
            .collect();
        let times = times?;
        let middle = median(&times);
        if server.side == Side::Gitd {
            tail.extend(times);
        }
        Ok(middle)
    })?;
    Ok((samples, tail))
}

fn hand_in_tail(samples: &Samples, tail: &[f64], report: &mut Report) {
    let stock = median(&samples[Side::Stock]);
    let summary = Summary::of(tail);
    let work = format!("git ls-remote, gitd's tail of {}", tail.len());
    for (figure, value, goal) in [("p99", summary.p99, 0.12), ("max", summary.max, 0.4)] {
        let against_median = Ratio::paired(&[value], &[stock]).map(|ratio| ratio.median);
        let mut sides = PerSide::default();
        sides[Side::Gitd] = against_median;
        let figure = format!("{figure} / git daemon's p50");
        report.row(Row::absolute(&work, &figure, "×", sides, Some(Bound::AtMost(goal))));
    }
    let mut all = Samples::default();
    all[Side::Gitd] = tail.to_vec();
    report.distribution(&work, "ms", &all);
}

fn measure(
    _stage: &Stage<'_>,
    servers: &[Server],
    work: &str,
    rounds: usize,
    mut once: impl FnMut(&Server) -> Result<f64>,
) -> Result<Samples> {
    let mut samples = Samples::default();
    for server in servers {
        once(server)?;
    }
    alternate(rounds, &Side::DAEMONS, |_, side| {
        let Some(server) = servers.iter().find(|server| server.side == side) else {
            return Ok(());
        };
        samples[side].push(once(server)?);
        Ok(())
    })?;
    let says =
        Side::DAEMONS.map(|side| format!("{} {} ms", side.name(), number(median(&samples[side]))));
    progress::say(&format!("git {work}, {rounds} rounds: {}", says.join(", ")));
    Ok(samples)
}

fn path(clone: &std::path::Path, side: Side) -> String {
    format!("{}-{}", clone.display(), if side == Side::Stock { "stock" } else { "gitd" })
}
