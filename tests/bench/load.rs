//! The load generator: some clients in a closed loop, each asking again as soon as the server has closed its connection.

use std::thread;
use std::time::{Duration, Instant};

use crate::Result;
use crate::protocol::{self, Target, Writes};
use crate::server::Server;

/// What one run of the load generator has seen.
pub(crate) struct Load {
    /// From connect to the server's close, in milliseconds, one for each answered request.
    pub(crate) latencies: Vec<f64>,
    pub(crate) failures: usize,
    pub(crate) requests_per_second: f64,
    /// Of the server, its services and theirs.
    pub(crate) cpu_microseconds: f64,
}

/// Lets `clients` clients list `repository` for `duration`.
pub(crate) fn run(
    server: &Server,
    repository: &str,
    writes: Writes,
    clients: usize,
    duration: Duration,
) -> Result<Load> {
    let target = Target::new(server, repository);
    let cpu_before = server.cpu_seconds()?;
    let start = Instant::now();
    let threads: Vec<_> = (0..clients)
        .map(|_| {
            let target = target.clone();
            thread::spawn(move || one_client(&target, writes, start, duration))
        })
        .collect();
    let mut seen = Client::default();
    for thread in threads {
        let client = thread.join().map_err(|_| "a client panicked")?;
        seen.latencies.extend(client.latencies);
        seen.in_time += client.in_time;
        seen.failures += client.failures;
    }
    let cpu = server.cpu_seconds()? - cpu_before;
    if seen.latencies.is_empty() {
        return Err(format!(
            "{}: none of {} requests was answered",
            server.side.name(),
            seen.failures
        )
        .into());
    }
    Ok(Load {
        requests_per_second: seen.in_time as f64 / duration.as_secs_f64(),
        cpu_microseconds: cpu * 1e6 / seen.latencies.len() as f64,
        failures: seen.failures,
        latencies: seen.latencies,
    })
}

#[derive(Default)]
struct Client {
    latencies: Vec<f64>,
    /// Answered before the time was up; the others count for latency alone, so that no slow one is cut off.
    in_time: usize,
    failures: usize,
}

fn one_client(target: &Target, writes: Writes, start: Instant, duration: Duration) -> Client {
    let mut client = Client::default();
    while start.elapsed() < duration {
        let asked = Instant::now();
        match protocol::ls_remote(target, writes) {
            Ok(_) => {
                client.latencies.push(milliseconds(asked.elapsed()));
                client.in_time += usize::from(start.elapsed() < duration);
            }
            Err(_) => client.failures += 1,
        }
    }
    client
}

pub(crate) fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}
