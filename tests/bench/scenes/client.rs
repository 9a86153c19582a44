//! What a user waits for: the real git client against each daemon.
//!
//! Its floor is the same command on the repository itself, by a `file://` URL: git spawns the service and talks to it through
//! pipes, with no network, no daemon and nothing to check.

use std::path::{Path, PathBuf};

use super::Stage;
use crate::report::{Bound, Report, Row, medians, number};
use crate::repositories::{MANY_REFERENCES, SMALL, remove};
use crate::rounds::{PerSide, Samples, alternate};
use crate::server::{Server, Side};
use crate::statistics::{Ratio, Summary, median};
use crate::svg::Chart;
use crate::{Result, git, progress};

pub(crate) fn run(stage: &Stage<'_>, report: &mut Report) -> Result<()> {
    let scene = Client { stage, servers: stage.start(&Side::DAEMONS, SMALL)? };
    let title = "The real git client: milliseconds (less is better)".to_owned();
    let mut chart = Chart { name: "client", title, groups: Vec::new() };
    let mut hand_in = |work: &str, goal: Option<f64>, samples: &Samples, report: &mut Report| {
        let bound = goal.map(Bound::AtLeast);
        report.row(Row::ratio(work, "ms", samples, (Side::Stock, Side::Gitd), bound));
        report.distribution(work, "ms", samples);
        chart.groups.push((work.to_owned(), medians(samples)));
    };

    let (samples, tail) = scene.ls_remotes()?;
    hand_in("git ls-remote, 10 refs", Some(15.0), &samples, report);
    hand_in_tail(&samples, &tail, report);
    hand_in("no-op git fetch", Some(7.5), &scene.fetches()?, report);
    hand_in("small git clone", Some(8.0), &scene.clones()?, report);
    hand_in("small git push, and its deletion", None, &scene.pushes()?, report);
    hand_in("git ls-remote, 10k refs", Some(3.0), &scene.long_ls_remotes()?, report);
    report.charts.push(chart);
    Ok(())
}

struct Client<'a> {
    stage: &'a Stage<'a>,
    servers: Vec<Server>,
}

impl Client<'_> {
    /// The pairs, and all of gitd's: between two of git daemon's runs are many of gitd's, whose tail is the question.
    fn ls_remotes(&self) -> Result<(Samples, Vec<f64>)> {
        const RUNS_A_ROUND: usize = 10;
        let mut tail = Vec::new();
        let samples = self.measure("ls-remote, 10 refs", self.stage.amount(15, 100), |side| {
            let runs = if side == Side::Gitd { RUNS_A_ROUND } else { 1 };
            let url = self.url(side, SMALL);
            let times: Result<Vec<f64>> =
                (0..runs).map(|_| git::timed(self.stage.scratch, &["ls-remote", &url])).collect();
            let times = times?;
            let middle = median(&times);
            if side == Side::Gitd {
                tail.extend(times);
            }
            Ok(middle)
        })?;
        // The first round warmed up, and is in no sample.
        tail.drain(..RUNS_A_ROUND);
        Ok((samples, tail))
    }

    fn fetches(&self) -> Result<Samples> {
        let mut clones: PerSide<PathBuf> = PerSide::default();
        for side in Side::ALL {
            let name = format!("fetched-{}", side as usize);
            git::timed(self.stage.scratch, &["clone", "-q", &self.url(side, SMALL), &name])?;
            clones[side] = self.stage.scratch.join(name);
        }
        self.measure("no-op fetch", self.stage.amount(15, 100), |side| {
            git::timed(&clones[side], &["fetch", "-q"])
        })
    }

    fn clones(&self) -> Result<Samples> {
        self.measure("small clone", self.stage.amount(12, 100), |side| {
            remove(&self.stage.scratch.join("clone"))?;
            git::timed(self.stage.scratch, &["clone", "-q", &self.url(side, SMALL), "clone"])
        })
    }

    /// A branch that is pushed, and deleted by a second push: afterwards all is as it was.
    fn pushes(&self) -> Result<Samples> {
        let from = self.stage.repositories.path(SMALL);
        self.measure("small push", self.stage.amount(8, 60), |side| {
            let url = self.url(side, SMALL);
            let created = git::timed(&from, &["push", "-q", &url, "HEAD:refs/heads/pushed"])?;
            let deleted = git::timed(&from, &["push", "-q", &url, ":refs/heads/pushed"])?;
            Ok(created + deleted)
        })
    }

    fn long_ls_remotes(&self) -> Result<Samples> {
        self.measure("ls-remote, 10k refs", self.stage.amount(8, 50), |side| {
            git::timed(self.stage.scratch, &["ls-remote", &self.url(side, MANY_REFERENCES)])
        })
    }

    fn url(&self, side: Side, repository: &str) -> String {
        match self.servers.iter().find(|server| server.side == side) {
            Some(server) => server.url(repository),
            None => format!("file://{}", self.stage.repositories.path(repository).display()),
        }
    }

    fn measure(
        &self,
        work: &str,
        rounds: usize,
        mut once: impl FnMut(Side) -> Result<f64>,
    ) -> Result<Samples> {
        for side in Side::ALL {
            once(side)?;
        }
        let mut samples = Samples::default();
        alternate(rounds, &Side::ALL, |_, side| {
            samples[side].push(once(side)?);
            Ok(())
        })?;
        progress::say(&format!("git {work}, {rounds} rounds: {}", says(&samples)));
        Ok(samples)
    }
}

fn hand_in_tail(samples: &Samples, tail: &[f64], report: &mut Report) {
    let stock = median(&samples[Side::Stock]);
    let summary = Summary::of(tail);
    let work = format!("git ls-remote, gitd's tail of {}", tail.len());
    for (figure, value, goal) in [("p99", summary.p99, 0.12), ("max", summary.max, 0.4)] {
        let mut sides = PerSide::default();
        sides[Side::Gitd] = Ratio::paired(&[value], &[stock]).map(|ratio| ratio.median);
        let figure = format!("{figure} / git daemon's p50");
        report.row(Row::absolute(&work, &figure, "×", sides, Some(Bound::AtMost(goal))));
    }
    let mut all = Samples::default();
    all[Side::Gitd] = tail.to_vec();
    report.distribution(&work, "ms", &all);
}

/// The sides' medians for the line of progress.
pub(super) fn says(samples: &Samples) -> String {
    let medians = medians(samples);
    let said = Side::ALL
        .iter()
        .filter_map(|&side| Some(format!("{} {} ms", side.name(), number(medians[side]?))));
    said.collect::<Vec<_>>().join(", ")
}

/// Copies a repository, which is not timed.
pub(super) fn copy(from: &Path, to: &Path) -> Result<()> {
    let status = std::process::Command::new("cp").arg("-r").args([from, to]).status()?;
    if status.success() { Ok(()) } else { Err(format!("cp: {status}").into()) }
}
