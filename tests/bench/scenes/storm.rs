//! Clients that connect and close at once, a thousand a second, and a good client among them.

use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::Stage;
use crate::protocol::Writes;
use crate::report::{Bound, Report, Row, number};
use crate::repositories::SMALL;
use crate::rounds::{PerSide, Samples};
use crate::server::Side;
use crate::statistics::{Ratio, Summary, median};
use crate::{Result, load, progress};

const A_SECOND: usize = 1_000;
/// The storm is met with the limit that users have, unlike all other load: it is what breaks git daemon.
const DEFAULT_LIMIT: &str = "--max-connections=32";
/// A connect that an accept queue of five lets wait must not slow the others down.
const THREADS: usize = 50;

pub(crate) fn run(stage: &Stage<'_>, report: &mut Report) -> Result<()> {
    let work = format!("{A_SECOND} connect-and-close a second");
    let duration = Duration::from_millis(stage.amount(500, 1500));
    let mut p50 = PerSide::default();
    let mut worst = PerSide::default();
    let mut answered = PerSide::default();
    let mut slowdown = PerSide::default();
    let mut latencies = Samples::default();
    for side in Side::DAEMONS {
        let server = stage.start_with(side, SMALL, &[DEFAULT_LIMIT])?;
        let (mut quiet, mut stormy, mut rates) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..stage.amount(2, 5) {
            let calm = load::run(&server, SMALL, Writes::Whole, 1, duration)?;
            quiet.push(Summary::of(&calm.latencies).p50);
            let storm = Storm::begin(server.address);
            let load = load::run(&server, SMALL, Writes::Whole, 1, duration)?;
            let reached = storm.end()?;
            stormy.push(Summary::of(&load.latencies).p50);
            rates.push(load.requests_per_second);
            progress::say(&format!(
                "{} among {reached:.0} a second: {} req/s, p50 {} ms (quiet: {})",
                side.name(),
                number(load.requests_per_second),
                number(Summary::of(&load.latencies).p50),
                number(Summary::of(&calm.latencies).p50),
            ));
            latencies[side].extend(load.latencies);
            // What the storm has left behind must not fall into the quiet that follows.
            server.settle()?;
        }
        slowdown[side] = Ratio::paired(&stormy, &quiet);
        p50[side] = Some(median(&stormy));
        worst[side] = Some(Summary::of(&latencies[side]).max);
        answered[side] = Some(median(&rates));
    }
    let figure = "a good client's p50 ms";
    let names = "stormy / quiet gitd";
    report.row(Row::compared(
        &work,
        figure,
        p50,
        slowdown[Side::Gitd],
        names,
        Some(Bound::AtMost(2.0)),
    ));
    report.row(Row::absolute(
        &work,
        "its slowest answer, ms",
        " ms",
        worst,
        Some(Bound::AtMost(100.0)),
    ));
    report.row(Row::absolute(&work, "its requests/s", "", answered, None));
    report.distribution(&work, "ms", &latencies);
    Ok(())
}

/// Threads that connect and close, each at its share of the rate.
struct Storm {
    over: Arc<AtomicBool>,
    connects: Arc<AtomicUsize>,
    threads: Vec<JoinHandle<()>>,
    start: Instant,
}

impl Storm {
    fn begin(address: SocketAddr) -> Self {
        let (over, connects) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let start = Instant::now();
        let threads = (0..THREADS)
            .map(|thread| {
                let (over, connects) = (Arc::clone(&over), Arc::clone(&connects));
                let interval = Duration::from_secs(1) * THREADS as u32 / A_SECOND as u32;
                let mut next = start + interval * thread as u32 / THREADS as u32;
                thread::spawn(move || {
                    while !over.load(Ordering::Relaxed) {
                        thread::sleep(next.saturating_duration_since(Instant::now()));
                        next += interval;
                        if TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_ok() {
                            connects.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                })
            })
            .collect();
        Self { over, connects, threads, start }
    }

    /// Says how many connections a second there were.
    fn end(self) -> Result<f64> {
        let rate =
            self.connects.load(Ordering::Relaxed) as f64 / self.start.elapsed().as_secs_f64();
        self.over.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().map_err(|_| "a client of the storm panicked")?;
        }
        Ok(rate)
    }
}
