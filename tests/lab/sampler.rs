//! Counts, all the time: each link's bytes as its interface counts them, and how far the transfer itself has come.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::network::Network;

/// Short against every stall that matters.
const PERIOD: Duration = Duration::from_millis(10);

/// One look.
#[derive(Debug, Clone)]
pub struct Sample {
    pub at: Duration,
    /// Bytes of each link that have reached the client, then bytes that have left it.
    pub received: Vec<u64>,
    pub sent: Vec<u64>,
    /// Bytes of the pack that have arrived in order, where packs arrive.
    pub progress: u64,
}

/// All looks at one transfer.
#[derive(Debug)]
pub struct Record {
    pub samples: Vec<Sample>,
}

impl Record {
    /// The longest time without progress between the first byte and the last.
    pub fn longest_stall(&self) -> Duration {
        let mut moves = self.samples.windows(2).filter(|pair| pair[1].progress > pair[0].progress);
        let Some(first) = moves.next() else {
            return Duration::MAX;
        };
        let mut last = first[1].at;
        let mut longest = Duration::ZERO;
        for pair in moves {
            longest = longest.max(pair[1].at - last);
            last = pair[1].at;
        }
        longest
    }

    /// Bits per second of the pack in the middle four fifths of it: what the links carry, whatever the processors of a busy
    /// machine take for git's beginning and end.
    pub fn bits_per_second(&self) -> f64 {
        let total = self.samples.last().map_or(0, |sample| sample.progress);
        let reached = |share: u64| self.samples.iter().find(|at| at.progress >= total / 10 * share);
        let (Some(first), Some(last)) = (reached(1), reached(9)) else { return 0.0 };
        (last.progress - first.progress) as f64 * 8.0 / (last.at - first.at).as_secs_f64()
    }

    /// How long nothing had arrived when it ended.
    pub fn silence_at_the_end(&self) -> Duration {
        let (Some(last), mut moves) = (
            self.samples.last(),
            self.samples.windows(2).filter(|pair| pair[1].progress > pair[0].progress),
        ) else {
            return Duration::ZERO;
        };
        moves.next_back().map_or(Duration::MAX, |pair| last.at - pair[1].at)
    }

    /// Bytes that crossed each link, in the direction that had more.
    pub fn link_bytes(&self) -> Vec<u64> {
        self.link_bytes_since(Duration::ZERO)
    }

    /// The same from some time on.
    pub fn link_bytes_since(&self, begin: Duration) -> Vec<u64> {
        let first = self.samples.iter().find(|sample| sample.at >= begin);
        let (Some(first), Some(last)) = (first, self.samples.last()) else {
            return Vec::new();
        };
        let grown = |last: &[u64], first: &[u64]| -> Vec<u64> {
            last.iter().zip(first).map(|(last, first)| last.saturating_sub(*first)).collect()
        };
        let received = grown(&last.received, &first.received);
        let sent = grown(&last.sent, &first.sent);
        if received.iter().sum::<u64>() > sent.iter().sum() { received } else { sent }
    }
}

/// A thread that looks until it is told to stop.
#[derive(Debug)]
pub struct Sampler {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Vec<Sample>>,
}

impl Sampler {
    pub fn start(
        network: &Network,
        begin: Instant,
        progress: impl Fn() -> u64 + Send + 'static,
    ) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let counters = format!("/proc/{}/net/dev", network.client.pid());
        let devices: Vec<String> = network.links.iter().map(|link| link.client_device()).collect();
        let thread = thread::spawn(move || {
            let mut samples = Vec::new();
            while !stopped.load(Ordering::SeqCst) {
                let (received, sent) = read_counters(&counters, &devices);
                samples.push(Sample { at: begin.elapsed(), received, sent, progress: progress() });
                thread::sleep(PERIOD);
            }
            samples
        });
        Self { stop, thread }
    }

    pub fn finish(self) -> Record {
        self.stop.store(true, Ordering::SeqCst);
        Record { samples: self.thread.join().unwrap() }
    }
}

fn read_counters(path: &str, devices: &[String]) -> (Vec<u64>, Vec<u64>) {
    let table = fs::read_to_string(path).unwrap_or_default();
    let count = |device: &String| {
        let row = table.lines().find_map(|row| row.trim().strip_prefix(device)?.strip_prefix(':'));
        let numbers: Vec<u64> = row
            .unwrap_or_default()
            .split_whitespace()
            .map(|number| number.parse().unwrap_or(0))
            .collect();
        (numbers.first().copied().unwrap_or(0), numbers.get(8).copied().unwrap_or(0))
    };
    devices.iter().map(count).unzip()
}
