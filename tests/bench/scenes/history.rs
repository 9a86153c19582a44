//! A repository with a deep history: what a developer, a mirror and a CI job ask of it. There is no goal here but to lose
//! nothing: most of the time is git's own.

use std::path::PathBuf;

use super::Stage;
use super::client::{copy, says};
use crate::fast_import::{import, text};
use crate::report::{Report, Row};
use crate::repositories::{HISTORY, remove};
use crate::rounds::{Samples, alternate};
use crate::server::{Server, Side};
use crate::{Result, git, progress};

/// More than git names in its first rounds of negotiation, so that there are several.
const OWN_COMMITS: usize = 300;

pub(crate) fn run(stage: &Stage<'_>, report: &mut Report) -> Result<()> {
    let servers = stage.start(&Side::DAEMONS, HISTORY)?;
    let developer = developer(stage)?;
    let work = "git fetch of 1,000 commits, with 300 of one's own";
    measure(work, stage.amount(3, 20), &servers, report, |server| {
        let repository = stage.scratch.join("fetching");
        remove(&repository)?;
        copy(&developer, &repository)?;
        git::timed(&repository, &["fetch", "-q", &server.url(HISTORY), "refs/heads/main"])
    })?;
    for (work, depth) in [
        ("git clone --depth=1 of 25,000 commits", &["--depth=1"][..]),
        ("git clone of 25,000 commits", &[]),
    ] {
        measure(work, stage.amount(1, 10), &servers, report, |server| {
            remove(&stage.scratch.join("deep"))?;
            let url = server.url(HISTORY);
            let mut arguments = vec!["clone", "-q", "--bare"];
            arguments.extend(depth);
            arguments.extend([url.as_str(), "deep"]);
            git::timed(stage.scratch, &arguments)
        })?;
    }
    remove(&stage.scratch.join("deep"))?;
    remove(&stage.scratch.join("fetching"))
}

/// A repository that knows the history but for its end, and has commits that the server has never seen.
fn developer(stage: &Stage<'_>) -> Result<PathBuf> {
    let path = stage.scratch.join("developer");
    let source = stage.repositories.path(HISTORY);
    let source = format!("file://{}", source.display());
    let options = ["clone", "-q", "--bare", "--single-branch", "--branch=known"];
    git::timed(stage.scratch, &[&options[..], &[source.as_str(), "developer"]].concat())?;
    import(&path, |stream| {
        stream.reference("heads/own", "known^0")?;
        (0..OWN_COMMITS)
            .try_for_each(|commit| stream.commit("own", commit, "own.txt", &text(commit, 3)))
    })?;
    Ok(path)
}

fn measure(
    work: &str,
    rounds: usize,
    servers: &[Server],
    report: &mut Report,
    mut once: impl FnMut(&Server) -> Result<f64>,
) -> Result<()> {
    let mut samples = Samples::default();
    for server in servers {
        once(server)?;
    }
    alternate(rounds, &Side::DAEMONS, |_, side| {
        let Some(server) = servers.iter().find(|server| server.side == side) else { return Ok(()) };
        samples[side].push(once(server)?);
        Ok(())
    })?;
    progress::say(&format!("{work}, {rounds} rounds: {}", says(&samples)));
    report.row(Row::ratio(work, "ms", &samples, (Side::Stock, Side::Gitd), None));
    report.distribution(work, "ms", &samples);
    Ok(())
}
