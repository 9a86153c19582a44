//! A running service and its client, until both are gone.

use std::io;
use std::time::Duration;

use tokio::io::Interest;

use crate::event;
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
    /// the pipe then.
    ///
    /// # Errors
    /// When the service cannot be watched at all, for lack of memory or descriptors.
    pub async fn watch(self) -> io::Result<(Outcome, Stderr)> {
        let Session { wire, process, service, mut stderr, corked, timeout } = self;
        let ended = wait_for(process.pidfd(), Interest::READABLE)?;
        let mut traffic = Traffic::new(wire, process.pid, service, corked, timeout);
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
                    Some(Fate::Open) => stderr.listen(),
                    // It may have ended on its own by now.
                    Some(Fate::Sealed(signal)) => drop(process.signal(signal)),
                },
                () = stderr.read() => {}
            }
        };
        Ok((Outcome { end, counters: traffic.finish() }, stderr))
    }
}
