//! What a running session has done so far, for readers on another thread. It takes no lock: neither
//! side waits for the other.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64};
use std::time::Duration;

use crate::net::watch::{Counters, Transport};

/// What a service does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doing {
    /// It is unknown.
    Unknown,
    /// It works, or was not looked at since bytes moved.
    Works,
    /// It waits for its client.
    Waits,
    /// It is stopped until it gets a permit.
    Held,
}

/// A running session, as gitd last saw it.
#[derive(Debug)]
pub struct Live {
    pid: u32,
    counted: AtomicBool,
    sent: AtomicU64,
    received: AtomicU64,
    /// As [`number`] has it.
    transport: AtomicU32,
    /// In microseconds; 0 if it is unknown.
    round_trip: AtomicU32,
    doing: AtomicU8,
    ended: AtomicBool,
}

/// What has crossed a session's connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moved {
    /// Bytes that the client has acknowledged.
    pub sent: u64,
    /// Bytes that the client has sent.
    pub received: u64,
    /// The transport and its paths.
    pub transport: Transport,
    /// The round-trip time of the first path.
    pub round_trip: Option<Duration>,
}

impl Live {
    /// A session whose service is the process `pid`.
    pub fn new(pid: u32) -> Self {
        Live {
            pid,
            counted: AtomicBool::new(false),
            sent: AtomicU64::new(0),
            received: AtomicU64::new(0),
            transport: AtomicU32::new(0),
            round_trip: AtomicU32::new(0),
            doing: AtomicU8::new(Doing::Works as u8),
            ended: AtomicBool::new(false),
        }
    }

    /// The service's process.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Records the counters of a look.
    pub fn count(&self, counters: &Counters) {
        self.sent.store(counters.sent, Relaxed);
        self.received.store(counters.received, Relaxed);
        self.transport.store(number(counters.transport), Relaxed);
        self.counted.store(true, Relaxed);
    }

    /// Records the round-trip time.
    pub fn measure(&self, round_trip: Duration) {
        let microseconds = u32::try_from(round_trip.as_micros()).unwrap_or(u32::MAX);
        self.round_trip.store(microseconds, Relaxed);
    }

    /// Records what the service does.
    pub fn does(&self, doing: Doing) {
        self.doing.store(doing as u8, Relaxed);
    }

    /// What the service does.
    pub fn doing(&self) -> Doing {
        let known = [Doing::Unknown, Doing::Works, Doing::Waits];
        let doing = self.doing.load(Relaxed);
        known.into_iter().find(|&known| known as u8 == doing).unwrap_or(Doing::Held)
    }

    /// The session has ended, and its bytes are counted elsewhere.
    pub fn end(&self) {
        self.ended.store(true, Relaxed);
    }

    /// Whether the session has ended.
    pub fn has_ended(&self) -> bool {
        self.ended.load(Relaxed)
    }

    /// What has moved; `None` before the first look, and where the kernel counts no bytes.
    pub fn moved(&self) -> Option<Moved> {
        if !self.counted.load(Relaxed) {
            return None;
        }
        let round_trip = self.round_trip.load(Relaxed);
        Some(Moved {
            sent: self.sent.load(Relaxed),
            received: self.received.load(Relaxed),
            transport: transport(self.transport.load(Relaxed)),
            round_trip: (round_trip > 0).then(|| Duration::from_micros(round_trip.into())),
        })
    }
}

/// A transport as a number.
fn number(transport: Transport) -> u32 {
    match transport {
        Transport::Tcp => 0,
        Transport::FellBack => 1,
        Transport::Unix => 2,
        Transport::Multipath { paths } => 3 + u32::from(paths),
    }
}

fn transport(number: u32) -> Transport {
    match number {
        0 => Transport::Tcp,
        1 => Transport::FellBack,
        2 => Transport::Unix,
        paths => Transport::Multipath { paths: u8::try_from(paths - 3).unwrap_or(u8::MAX) },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_in_comes_out() {
        let live = Live::new(7);
        assert_eq!((live.moved(), live.doing(), live.has_ended()), (None, Doing::Works, false));
        let (sent, received, unacknowledged, idle) = (1 << 40, 3, 4, Duration::ZERO);
        let paths = [0, 1, 255].map(|paths| Transport::Multipath { paths });
        let others = [Transport::FellBack, Transport::Unix, Transport::Tcp];
        for transport in paths.into_iter().chain(others) {
            live.count(&Counters { sent, received, unacknowledged, idle, transport });
            let moved = Moved { sent, received, transport, round_trip: None };
            assert_eq!(live.moved(), Some(moved));
        }
        live.measure(Duration::from_millis(20));
        assert_eq!(live.moved().unwrap().round_trip, Some(Duration::from_millis(20)));
        for doing in [Doing::Unknown, Doing::Works, Doing::Waits, Doing::Held] {
            live.does(doing);
            assert_eq!(live.doing(), doing);
        }
        live.end();
        assert!(live.has_ended());
    }
}
