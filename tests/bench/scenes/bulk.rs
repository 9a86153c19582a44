//! Bulk in both directions. The service's own speed is the limit, so there is nothing to win here, only something to lose.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::symlink;
use std::time::Instant;

use super::Stage;
use crate::load::milliseconds;
use crate::protocol::{self, Target};
use crate::report::{Bound, Report, Row, medians, number};
use crate::repositories::{BULK, PUSHED_BLOBS, TARGET, init, remove};
use crate::rounds::{Samples, alternate};
use crate::server::{Server, Side};
use crate::svg::Chart;
use crate::{Result, git, progress};

const MEGABYTE: f64 = 1e6;
/// The last of the commits that are pushed.
const PUSHED: &str = "refs/heads/pushed";
/// The client's disk is not what is measured, nor is the server's.
const NO_FSYNC: [&str; 2] = ["-c", "core.fsync=none"];

pub(crate) fn run(stage: &Stage<'_>, report: &mut Report) -> Result<()> {
    let mut chart = Chart {
        name: "bulk",
        title: "Bulk: megabytes a second (more is better)".to_owned(),
        groups: Vec::new(),
    };
    let servers = stage.start(&Side::ALL, BULK)?;

    let tip = stage.repositories.tip(BULK)?;
    // Whoever came first would pay for reading the pack from the disk.
    protocol::fetch_pack(&Target::new(&servers[0], BULK), &tip)?;
    let rounds = stage.amount(2, 12);
    let fetched = measure("raw clone, 335 MB", rounds, &servers, &Side::ALL, |server| {
        let start = Instant::now();
        let bytes = protocol::fetch_pack(&Target::new(server, BULK), &tip)?;
        Ok(bytes as f64 / MEGABYTE / start.elapsed().as_secs_f64())
    })?;
    fetched.hand_in("bulk clone, read and discarded", "MB/s", report, &mut chart);

    let pack = pushed_pack(stage)?;
    let pushed_tip = git::output(&stage.repositories.path(BULK), &["rev-parse", PUSHED])?;
    let rounds = stage.amount(2, 20);
    let pushed = measure("raw push, 115 MB", rounds, &servers, &Side::DAEMONS, |server| {
        empty_target(stage)?;
        let start = Instant::now();
        protocol::push_pack(&Target::new(server, TARGET), "refs/heads/main", &pushed_tip, &pack)?;
        Ok(pack.len() as f64 / MEGABYTE / start.elapsed().as_secs_f64())
    })?;
    pushed.hand_in("bulk push, sent from memory", "MB/s", report, &mut chart);
    report.charts.push(chart);

    let cloned =
        measure("git clone, 335 MB", stage.amount(1, 9), &servers, &Side::DAEMONS, |server| {
            remove(&stage.scratch.join("bulk"))?;
            let [c, fsync] = NO_FSYNC;
            let url = server.url(BULK);
            git::timed(stage.scratch, &[c, fsync, "clone", "-q", "--bare", &url, "bulk"])
        })?;
    cloned.hand_in_times("git clone --bare of 335 MB", report);
    remove(&stage.scratch.join("bulk"))?;

    let pushed =
        measure("git push, 115 MB", stage.amount(1, 15), &servers, &Side::DAEMONS, |server| {
            empty_target(stage)?;
            git::timed(&stage.repositories.path(BULK), &["push", "-q", &server.url(TARGET), PUSHED])
        })?;
    pushed.hand_in_times("git push of 115 MB", report);
    Ok(())
}

/// One sample a round: speed or time, and the server's CPU.
#[derive(Default)]
struct Seen {
    figure: Samples,
    cpu: Samples,
}

fn measure(
    work: &str,
    rounds: usize,
    servers: &[Server],
    sides: &[Side],
    mut once: impl FnMut(&Server) -> Result<f64>,
) -> Result<Seen> {
    let mut seen = Seen::default();
    alternate(rounds, sides, |round, side| {
        let Some(server) = servers.iter().find(|server| server.side == side) else {
            return Ok(());
        };
        let cpu_before = server.cpu_seconds()?;
        let figure = once(server)?;
        let cpu = server.cpu_seconds()? - cpu_before;
        let name = side.name();
        let (shown, cpu_shown) = (number(figure), number(cpu));
        progress::say(&format!(
            "{work}, round {}: {name:10} {shown}, {cpu_shown} s of server CPU",
            round + 1
        ));
        seen.figure[side].push(figure);
        seen.cpu[side].push(cpu);
        Ok(())
    })?;
    Ok(seen)
}

impl Seen {
    fn hand_in(&self, work: &str, unit: &str, report: &mut Report, chart: &mut Chart) {
        let against_stock = (Side::Gitd, Side::Stock);
        report.row(Row::ratio(work, unit, &self.figure, against_stock, Some(Bound::AtLeast(0.98))));
        self.hand_in_cpu(work, report);
        chart.groups.push((work.to_owned(), medians(&self.figure)));
    }

    fn hand_in_times(&self, work: &str, report: &mut Report) {
        let mut seconds = Samples::default();
        for side in Side::DAEMONS {
            seconds[side] =
                self.figure[side].iter().map(|milliseconds| milliseconds / 1000.0).collect();
        }
        let bound = Some(Bound::AtLeast(0.98));
        report.row(Row::ratio(work, "seconds", &seconds, (Side::Stock, Side::Gitd), bound));
        self.hand_in_cpu(work, report);
    }

    fn hand_in_cpu(&self, work: &str, report: &mut Report) {
        let bound = Some(Bound::AtMost(1.02));
        report.row(Row::ratio(work, "server CPU s", &self.cpu, (Side::Gitd, Side::Stock), bound));
    }
}

/// A new repository to push to, in the scratch directory. The daemons find it through a link.
fn empty_target(stage: &Stage<'_>) -> Result<()> {
    let target = stage.scratch.join(TARGET);
    let link = stage.repositories.path(TARGET);
    remove(&target)?;
    init(&target)?;
    git::output(&target, &["config", "core.fsync", "none"])?;
    if link.read_link().is_ok() {
        fs::remove_file(&link)?;
    }
    symlink(&target, &link)?;
    Ok(())
}

/// What a client would send for the first commits, made once so that no round pays for it.
fn pushed_pack(stage: &Stage<'_>) -> Result<Vec<u8>> {
    let start = Instant::now();
    let path = stage.scratch.join("pushed.pack");
    let mut packing =
        git::piped(&stage.repositories.path(BULK), &["pack-objects", "--revs", "--stdout", "-q"])
            .stdout(File::create(&path)?)
            .spawn()?;
    if let Some(mut stdin) = packing.stdin.take() {
        writeln!(stdin, "{PUSHED}")?;
    }
    if !packing.wait()?.success() {
        return Err("git pack-objects could not make what is pushed".into());
    }
    let pack = fs::read(&path)?;
    let size = pack.len() as f64 / MEGABYTE;
    let took = milliseconds(start.elapsed());
    progress::say(&format!("packed {PUSHED_BLOBS} commits to push, {size:.0} MB, in {took:.0} ms"));
    Ok(pack)
}
