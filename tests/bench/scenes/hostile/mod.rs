//! Clients that mean harm, and a good client among them: how long it waits, and whether it is answered at all.
//!
//! Both daemons meet each attack with the limit of 32 connections that users have and with the same options, but for
//! one that git daemon has not got. The good client comes from 127.0.0.1, attackers from 127.0.1.0/24; they are threads
//! of the bench on the same machine, and what they cost counts against both daemons.

mod attack;
mod tactics;

use std::net::IpAddr;
use std::thread;
use std::time::{Duration, Instant};

use attack::Addresses::{Many, One};
use attack::{Addresses, Attack, Tactic};

use super::Stage;
use crate::load::milliseconds;
use crate::protocol::{self, Target, Writes};
use crate::report::{Bound, Report, Row, number};
use crate::repositories::SMALL;
use crate::rounds::PerSide;
use crate::server::{Server, Side};
use crate::statistics::Summary;
use crate::{Result, progress};

const DEFAULT_LIMIT: &str = "--max-connections=32";
/// What one address may have of that, where a server is open to the world. Only gitd has it.
const EACH_ADDRESS: &str = "--max-connections-per-address=8";

const QUIET: Duration = Duration::from_millis(300);
const UNDER_ATTACK: Duration = Duration::from_millis(800);
/// A good client waits no longer for an answer; without one by then it counts as answered after this time.
const PATIENCE: Duration = Duration::from_secs(2);
/// Until the connected attackers have got as far as they can.
const SETTLE: Duration = Duration::from_millis(300);

struct Case {
    tactic: &'static Tactic,
    from: Addresses,
    options: &'static [&'static str],
    /// How many clients ask at once that mean no harm.
    good: usize,
    settle: Duration,
}

impl Case {
    const fn new(tactic: &'static Tactic, from: Addresses) -> Self {
        Self { tactic, from, options: &[], good: 1, settle: SETTLE }
    }

    const fn with(self, options: &'static [&'static str]) -> Self {
        Self { options, ..self }
    }

    const fn of_ten(self) -> Self {
        Self { good: 10, ..self }
    }

    const fn after(self, settle: Duration) -> Self {
        Self { settle, ..self }
    }

    fn name(&self) -> String {
        let from = if self.from == One { "one address" } else { "many addresses" };
        let options = match self.options {
            [] => "defaults".to_owned(),
            options => options.join(" "),
        };
        format!("{}; {from}; {options}", self.tactic.what)
    }

    fn options(&self, side: Side) -> Vec<&'static str> {
        let own =
            self.options.iter().filter(|&&option| side == Side::Gitd || option != EACH_ADDRESS);
        [DEFAULT_LIMIT].iter().chain(own).copied().collect()
    }
}

/// What a server that is open to the world should be told.
const PUBLIC: &[&str] = &["--timeout=30", EACH_ADDRESS];
/// The same for a scene that does not last for half a minute.
const PUBLIC_AND_SHORT: &[&str] = &["--timeout=1", EACH_ADDRESS];
const AFTER_THAT: Duration = Duration::from_secs(2);

static CASES: [Case; 17] = [
    Case::new(&tactics::A_BYTE_A_SECOND, Many),
    Case::new(&tactics::HALF_OPEN, Many),
    Case::new(&tactics::SILENT, Many),
    Case::new(&tactics::A_THOUSAND_CLOSE, Many),
    Case::new(&tactics::FIVE_THOUSAND_CLOSE, Many),
    Case::new(&tactics::GONE_AT_EVERY_STAGE, Many),
    Case::new(&tactics::A_THOUSAND_AT_ONCE, One).of_ten(),
    Case::new(&tactics::A_THOUSAND_AT_ONCE, One).of_ten().with(PUBLIC),
    // Attackers that hold services: all services, then as many as one address may have, then all again.
    Case::new(&tactics::SLOW_READERS, One),
    Case::new(&tactics::NEVER_READ, One),
    Case::new(&tactics::STALLED_PUSHES, One),
    Case::new(&tactics::SLOW_READERS, One).with(PUBLIC),
    Case::new(&tactics::NEVER_READ, One).with(PUBLIC),
    Case::new(&tactics::STALLED_PUSHES, One).with(PUBLIC),
    // Whoever reads a little now and then is not cut by --timeout.
    Case::new(&tactics::SLOW_READERS, Many).with(PUBLIC),
    Case::new(&tactics::NEVER_READ, Many).with(PUBLIC_AND_SHORT).after(AFTER_THAT),
    Case::new(&tactics::STALLED_PUSHES, Many).with(PUBLIC_AND_SHORT).after(AFTER_THAT),
];

pub(crate) fn run(stage: &Stage<'_>, report: &mut Report) -> Result<()> {
    if stage.quick {
        report.note(
            "scene hostile takes more than a minute, and is left out of the quick run".to_owned(),
        );
        return Ok(());
    }
    for case in &CASES {
        let mut slowdown = PerSide::default();
        let mut slowest = PerSide::default();
        let mut answered = PerSide::default();
        for side in Side::DAEMONS {
            let [quiet, good] = measure(stage, case, side)?;
            slowdown[side] = Some(good.p50() / quiet.p50());
            slowest[side] = Some(Summary::of(&good.latencies).max);
            answered[side] = Some(100.0 * good.answered as f64 / good.latencies.len() as f64);
        }
        let name = case.name();
        let twice = Some(Bound::AtMost(2.0));
        report.row(Row::absolute(&name, "p50 under attack / quiet", "×", slowdown, twice));
        report.row(Row::absolute(&name, "slowest answer, ms", " ms", slowest, None));
        let all = Some(Bound::AtLeast(100.0));
        report.row(Row::absolute(&name, "answered of tried, %", " %", answered, all));
    }
    Ok(())
}

fn measure(stage: &Stage<'_>, case: &Case, side: Side) -> Result<[Good; 2]> {
    let server = stage.start_with(side, SMALL, &case.options(side))?;
    let targets = good_clients(&server, case.good);
    let quiet = Good::ask(&targets, QUIET)?;
    let attack = Attack::begin(server.address, case.tactic, case.from);
    attack.wait_until_there();
    thread::sleep(case.settle);
    let good = Good::ask(&targets, UNDER_ATTACK);
    let rate = attack.end();
    let good = good?;
    progress::say(&format!(
        "{}: {}: p50 {} ms (quiet: {}), slowest {}, {} of {} answered; {rate:.0} attackers a second",
        case.name(),
        side.name(),
        number(good.p50()),
        number(quiet.p50()),
        number(Summary::of(&good.latencies).max),
        good.answered,
        good.latencies.len(),
    ));
    Ok([quiet, good])
}

/// Several have an address each; one is where everybody is.
fn good_clients(server: &Server, number: usize) -> Vec<Target> {
    let target = Target::new(server, SMALL).with_patience(PATIENCE);
    match number {
        1 => vec![target],
        _ => (1..=number)
            .map(|n| target.clone().asked_from(IpAddr::from([127, 0, 2, n as u8])))
            .collect(),
    }
}

/// What clients without bad intentions have seen.
#[derive(Default)]
struct Good {
    /// In milliseconds, of all requests; one that failed counts as given up.
    latencies: Vec<f64>,
    answered: usize,
}

impl Good {
    /// Each asks for `duration`, again as soon as it has its answer.
    fn ask(targets: &[Target], duration: Duration) -> Result<Self> {
        let threads: Vec<_> = targets
            .iter()
            .cloned()
            .map(|target| thread::spawn(move || Self::ask_alone(&target, duration)))
            .collect();
        let mut all = Self::default();
        for thread in threads {
            let one = thread.join().map_err(|_| "a good client panicked")?;
            all.latencies.extend(one.latencies);
            all.answered += one.answered;
        }
        Ok(all)
    }

    fn ask_alone(target: &Target, duration: Duration) -> Self {
        let mut seen = Self::default();
        let start = Instant::now();
        while start.elapsed() < duration {
            let asked = Instant::now();
            let answer = protocol::ls_remote(target, Writes::Whole);
            let took = asked.elapsed();
            seen.answered += usize::from(answer.is_ok());
            let counts = if answer.is_ok() { took } else { took.max(PATIENCE) };
            seen.latencies.push(milliseconds(counts));
        }
        seen
    }

    fn p50(&self) -> f64 {
        Summary::of(&self.latencies).p50
    }
}
