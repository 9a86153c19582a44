//! What the server does, once a second: each session with its rates, and the last ten minutes.
//!
//! The connections are read under locks that are held for a moment ([`Activities::list`]); all else
//! is the status thread's own. `/proc` is read only while somebody asks.
//!
//! [`Activities::list`]: crate::server::activity::Activities::list

use std::collections::{HashMap, VecDeque};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::server::activity::Activity;
use crate::server::shared::{Phase, Shared};
use crate::server::status::processes::{self, Usage};
use crate::server::status::row::{Rates, Row};

/// How often to take note of the server's state.
pub const PERIOD: Duration = Duration::from_secs(1);

/// The most connections that are looked at, the oldest first.
pub const MOST: usize = 8192;

/// The most services whose processes are looked at.
const SERVICES: usize = 512;

/// The seconds that are kept.
const KEPT: usize = 600;

/// How long after a question the answer to another one is kept ready.
const ASKED: Duration = Duration::from_secs(5);

/// The least time over which a rate is measured.
const LEAST: Duration = Duration::from_millis(200);

/// The server at one moment.
#[derive(Debug, Clone, Serialize)]
pub struct Sample {
    #[serde(skip)]
    at: Instant,
    /// Whether `/proc` was read for it.
    #[serde(skip)]
    complete: bool,
    /// `serving`, or `draining` once the server stops.
    pub phase: &'static str,
    /// Sessions whose service works.
    pub running: usize,
    /// The limit of those, if there is one.
    pub max_connections: Option<NonZeroUsize>,
    /// Sessions whose service waits for its client.
    pub idle: usize,
    /// Requests that wait for a permit.
    pub queued: usize,
    /// Clients without a request, or told a refusal.
    pub pending: usize,
    /// Open connections.
    pub connections: usize,
    /// Connections that have ended, a second.
    pub requests_per_second: f64,
    /// Bytes to all clients, a second.
    pub sent_per_second: u64,
    /// Bytes from all clients, a second.
    pub received_per_second: u64,
    /// The connections.
    #[serde(skip)]
    pub rows: Vec<Row>,
}

/// The last ten minutes, one number for each second, the oldest first.
#[derive(Debug, Serialize)]
pub struct History {
    running: Vec<usize>,
    queued: Vec<usize>,
    requests_per_second: Vec<f64>,
    sent_per_second: Vec<u64>,
}

/// Observes a server.
#[derive(Debug)]
pub struct Observer {
    shared: Arc<Shared>,
    /// By the connection's number.
    tracks: HashMap<u64, Track>,
    totals: Totals,
    sample: Arc<Sample>,
    asked: Option<Instant>,
    history: VecDeque<Sample>,
}

/// A session at an earlier moment.
#[derive(Debug, Clone, Copy)]
struct Track {
    at: Instant,
    sent: u64,
    received: u64,
    rates: Option<Rates>,
    usage: Option<Usage>,
    /// Whether its processes have used no processor time between two looks.
    rests: bool,
}

/// All that has moved until a moment.
#[derive(Debug, Clone, Copy)]
struct Totals {
    at: Instant,
    requests: u64,
    sent: u64,
    received: u64,
}

impl Observer {
    /// Begins to observe.
    pub fn new(shared: Arc<Shared>) -> Self {
        let now = Instant::now();
        let sample = Sample {
            at: now,
            complete: false,
            phase: "serving",
            running: 0,
            max_connections: shared.limits.max_connections,
            idle: 0,
            queued: 0,
            pending: 0,
            connections: 0,
            requests_per_second: 0.0,
            sent_per_second: 0,
            received_per_second: 0,
            rows: Vec::new(),
        };
        Observer {
            shared,
            tracks: HashMap::new(),
            totals: Totals { at: now, requests: 0, sent: 0, received: 0 },
            sample: Arc::new(sample),
            asked: None,
            history: VecDeque::with_capacity(KEPT),
        }
    }

    /// Takes note of this second.
    pub fn tick(&mut self) {
        let now = Instant::now();
        let asked = self.asked.is_some_and(|asked| now - asked < ASKED);
        self.observe(now, asked);
        if self.history.len() == KEPT {
            self.history.pop_front();
        }
        self.history.push_back(Sample { rows: Vec::new(), ..(*self.sample).clone() });
    }

    /// The server now, or at most a second ago.
    pub fn look(&mut self) -> Arc<Sample> {
        let now = Instant::now();
        self.asked = Some(now);
        if !self.sample.complete || now - self.sample.at >= PERIOD {
            self.observe(now, true);
        }
        Arc::clone(&self.sample)
    }

    /// The last ten minutes.
    pub fn history(&self) -> History {
        let seconds = || self.history.iter();
        History {
            running: seconds().map(|second| second.running).collect(),
            queued: seconds().map(|second| second.queued).collect(),
            requests_per_second: seconds().map(|second| second.requests_per_second).collect(),
            sent_per_second: seconds().map(|second| second.sent_per_second).collect(),
        }
    }

    fn observe(&mut self, now: Instant, complete: bool) {
        let list = self.shared.activities.list(MOST);
        let mut tracks = HashMap::with_capacity(list.len());
        let mut room = if complete { SERVICES } else { 0 };
        let mut moved = (0, 0);
        let mut rows = Vec::with_capacity(list.len());
        for (number, activity) in &list {
            let track = self.follow(*number, activity, now, &mut room);
            if let Some(track) = track {
                moved.0 += track.sent;
                moved.1 += track.received;
                tracks.insert(*number, track);
            }
            let (rates, usage, rests) =
                track.map_or((None, None, false), |track| (track.rates, track.usage, track.rests));
            rows.push(Row::new(*number, activity, now, rates, usage, rests));
        }
        self.tracks = tracks;
        let (requests, sent, received) =
            self.shared.status.as_ref().map_or((0, 0, 0), |status| status.metrics.totals());
        let totals = Totals {
            at: now,
            requests,
            // What a session has moved is in its record once it has ended, and is nowhere in
            // between: no sum goes down.
            sent: (sent + moved.0).max(self.totals.sent),
            received: (received + moved.1).max(self.totals.received),
        };
        let passed = now - self.totals.at;
        let before = &self.sample;
        let (requests_per_second, sent_per_second, received_per_second) = if passed < LEAST {
            (before.requests_per_second, before.sent_per_second, before.received_per_second)
        } else {
            let requests = (totals.requests - self.totals.requests) as f64;
            let sent = per_second(totals.sent - self.totals.sent, passed);
            let received = per_second(totals.received - self.totals.received, passed);
            self.totals = totals;
            ((requests / passed.as_secs_f64() * 10.0).round() / 10.0, sent, received)
        };
        let (running, idle, queued) = self.shared.admission.census();
        let draining = *self.shared.phase.borrow() != Phase::Serving;
        self.sample = Arc::new(Sample {
            at: now,
            complete,
            phase: if draining { "draining" } else { "serving" },
            running,
            max_connections: self.shared.limits.max_connections,
            idle,
            queued,
            pending: self.shared.pending.count(),
            connections: self.shared.activities.count(),
            requests_per_second,
            sent_per_second,
            received_per_second,
            rows,
        });
    }

    /// What a session has done since it was last looked at; `None` without a service.
    fn follow(
        &self,
        number: u64,
        activity: &Activity,
        now: Instant,
        room: &mut usize,
    ) -> Option<Track> {
        let live = activity.live().filter(|live| !live.has_ended())?;
        let before = self.tracks.get(&number).copied();
        let before = before.unwrap_or(Track {
            at: activity.accepted,
            sent: 0,
            received: 0,
            rates: None,
            usage: None,
            rests: false,
        });
        let mut track = before;
        let passed = now.saturating_duration_since(before.at);
        if let Some(moved) = live.moved()
            && passed >= LEAST
        {
            track.at = now;
            track.sent = moved.sent;
            track.received = moved.received;
            track.rates = Some(Rates {
                sent: per_second(moved.sent.saturating_sub(before.sent), passed),
                received: per_second(moved.received.saturating_sub(before.received), passed),
            });
        }
        if *room > 0 {
            *room -= 1;
            track.usage = processes::of_service(live.pid());
            let cpu = |usage: Option<Usage>| usage.map(|usage| usage.cpu);
            track.rests = before.usage.is_some() && cpu(before.usage) == cpu(track.usage);
        }
        Some(track)
    }
}

fn per_second(bytes: u64, passed: Duration) -> u64 {
    let milliseconds = u64::try_from(passed.as_millis()).unwrap_or(u64::MAX).max(1);
    bytes.saturating_mul(1000) / milliseconds
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_of_a_second() {
        assert_eq!(per_second(500, Duration::from_millis(500)), 1000);
        assert_eq!(per_second(0, Duration::ZERO), 0);
        assert_eq!(per_second(u64::MAX, Duration::from_secs(1)), u64::MAX / 1000);
    }
}
