//! The load generator: some clients in a closed loop, each asking again as soon as the server has closed its connection.

use std::thread;
use std::time::{Duration, Instant};

use crate::Result;
use crate::protocol::{self, Target, Writes};
use crate::server::Server;

/// After so long a client gives up, if a round is not longer, and its request counts as one that took this long: shorter
/// than the minute for which TCP goes on trying to reach an accept queue that is full, but long enough to see it wait.
const PATIENCE: Duration = Duration::from_secs(2);

/// What one run of the load generator has seen.
#[derive(Default)]
pub(crate) struct Load {
    /// From connect to the server's close, in milliseconds, one for each request, answered or given up.
    pub(crate) latencies: Vec<f64>,
    pub(crate) failures: usize,
    pub(crate) requests_per_second: f64,
}

/// Lets `clients` clients list `repository` for `duration`. A request that has begun in time counts for latency however
/// long it takes, so that no slow one is cut off, but for the rate only if it has also ended in time.
pub(crate) fn run(
    server: &Server,
    repository: &str,
    writes: Writes,
    clients: usize,
    duration: Duration,
) -> Result<Load> {
    let target = Target::new(server, repository).with_patience(duration.max(PATIENCE));
    let start = Instant::now();
    let threads: Vec<_> = (0..clients)
        .map(|_| {
            let target = target.clone();
            thread::spawn(move || one_client(&target, writes, start, duration))
        })
        .collect();
    let mut load = Load::default();
    for thread in threads {
        let client = thread.join().map_err(|_| "a client panicked")?;
        load.latencies.extend(client.latencies);
        load.failures += client.failures;
        load.requests_per_second += client.in_time as f64 / duration.as_secs_f64();
    }
    Ok(load)
}

#[derive(Default)]
struct Client {
    latencies: Vec<f64>,
    in_time: usize,
    failures: usize,
}

fn one_client(target: &Target, writes: Writes, start: Instant, duration: Duration) -> Client {
    let mut client = Client::default();
    while start.elapsed() < duration {
        let asked = Instant::now();
        let answer = protocol::ls_remote(target, writes);
        client.latencies.push(milliseconds(asked.elapsed()));
        match answer {
            Ok(_) => client.in_time += usize::from(start.elapsed() < duration),
            Err(_) => client.failures += 1,
        }
    }
    client
}

pub(crate) fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}
