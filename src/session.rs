//! A running service and its client, until both are gone.

use std::io;
use std::pin::pin;
use std::time::Duration;

use tokio::io::Interest;
use tokio::time::Instant;

use crate::admission::Place;
use crate::event;
use crate::rest::Exchange;
use crate::service::Service;
use crate::stderr::Stderr;
use crate::sys::process::{Child, End};
use crate::sys::readiness::wait_for;
use crate::traffic::{Fate, Traffic, Wire};
use crate::watch::Counters;

/// What a session starts from.
#[derive(Debug)]
pub struct Session {
    /// The client's connection.
    pub wire: Wire,
    /// The service's process.
    pub process: Child,
    /// Which service it is.
    pub service: Service,
    /// Its standard error.
    pub stderr: Stderr,
    /// Whether the first segments are held back.
    pub corked: bool,
    /// How long it may stand still.
    pub timeout: Option<Duration>,
    /// What the client has said so far.
    pub exchange: Exchange,
}

/// How a session ended.
#[derive(Debug)]
pub struct Outcome {
    /// How the service ended; `None` if gitd lost track of it.
    pub end: Option<End>,
    /// What had crossed the connection then, and the most paths that it ever had.
    pub counters: Option<Counters>,
}

impl Outcome {
    /// Whether the service failed before it said anything: the client would hear nothing at all.
    #[must_use]
    pub fn stillborn(&self) -> bool {
        self.end.is_some_and(|end| !end.success())
            && self.counters.is_some_and(|counters| !counters.answered())
    }
}

impl Session {
    /// Watches until the service has ended, and lets go of the connection. The last words are still in
    /// the pipe then. Meanwhile `place` is lent to others when the session rests. Once
    /// the server is `ending`, the service must end too.
    ///
    /// # Errors
    /// When the service cannot be watched at all, for lack of memory or descriptors.
    pub async fn watch(
        self,
        place: &mut Place,
        ending: impl Future<Output = ()>,
    ) -> io::Result<(Outcome, Stderr)> {
        let Session { wire, process, service, mut stderr, corked, timeout, exchange } = self;
        let ended = wait_for(process.pidfd(), Interest::READABLE)?;
        let mut traffic = Traffic::new(wire, process.pid, service, corked, timeout, exchange);
        let mut ending = pin!(ending);
        let mut told = false;
        let end = loop {
            tokio::select! {
                biased;
                ready = ended.readable() => {
                    ready?.clear_ready();
                    match process.try_wait() {
                        Ok(None) => {}
                        Ok(end) => break end,
                        Err(error) => {
                            event::service_lost(process.pid, &crate::sys::errno_text(&error));
                            break None;
                        }
                    }
                }
                fate = traffic.next() => match fate {
                    None => {}
                    Some(Fate::Open) => {
                        stderr.listen();
                        lend(place, &traffic);
                    }
                    // It may have ended on its own by now.
                    Some(Fate::Sealed(signal)) => drop(process.signal(signal)),
                },
                () = stderr.read() => {}
                () = &mut ending, if !told => {
                    told = true;
                    traffic.seal(Instant::now());
                    drop(process.signal(libc::SIGHUP));
                }
            }
        };
        Ok((Outcome { end, counters: traffic.finish() }, stderr))
    }
}

/// A session at rest needs no place as long as others wait for one; as soon as it moves it counts again.
fn lend(place: &mut Place, traffic: &Traffic) {
    if place.is_scarce() && traffic.is_at_rest() {
        place.rest();
    } else {
        place.resume();
    }
}
