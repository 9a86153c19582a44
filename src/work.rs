//! A service works only with a permit, so that no more services work at a time than the limit says.
//!
//! A service that waits for its client gives its permit back, and its client decides when it works again:
//! all clients at once, if they like. So a service that reads from its client is stopped meanwhile (SIGSTOP,
//! with all that it has started), and goes on when its client has sent something and there is a permit. In a
//! read from its client it holds nothing that others wait for. A service must not be stopped anywhere else: it,
//! or a hook below it, may hold a lock for which those wait that have the permits. One that rests while it
//! writes to a slow client goes on when it can, and has the next permit. So do services exceed the limit that
//! were found at work between two looks; there are no more of them than may rest in the middle of an answer.
//!
//! When gitd dies, the kernel sends SIGCONT to each service ([`crate::sys::process`]).

use std::future::pending;

use tokio::sync::oneshot;

use crate::admission::{Burden, Permit, Place, Wake};
use crate::sys::child::Child;

/// A service and its permit.
#[derive(Debug)]
pub struct Work<'a> {
    process: &'a Child,
    place: &'a mut Place,
    stopped: bool,
    /// Brings the permit, while the service has work and none.
    promised: Option<oneshot::Receiver<Permit>>,
}

impl<'a> Work<'a> {
    /// The service was just started, and holds nothing yet. A check that took long has given the permit back.
    #[must_use]
    pub fn begin(process: &'a Child, place: &'a mut Place) -> Self {
        let mut work = Work { process, place, stopped: false, promised: None };
        if !work.claim() {
            work.stop();
        }
        work
    }

    /// Whether permits are limited at all.
    #[must_use]
    pub fn is_scarce(&self) -> bool {
        self.place.is_scarce()
    }

    /// Whether the service is stopped.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.stopped
    }

    /// Whether the service has work to do, and is stopped until there is a permit.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.stopped && self.promised.is_some()
    }

    /// The service waits for its client, be it in a read, and holds `burden` meanwhile.
    pub fn rest(&mut self, burden: Burden, reads: bool) {
        if self.stopped || !self.is_scarce() {
            return;
        }
        // Work that waited for a permit is over.
        self.promised = None;
        if self.place.rest(burden) && reads {
            self.stop();
        }
    }

    /// The service has work to do. `false` when there is no permit for that yet.
    pub fn claim(&mut self) -> bool {
        if self.promised.is_some() {
            return false;
        }
        match self.place.wake() {
            Wake::Now => {
                self.release();
                true
            }
            Wake::Later(promised) => {
                self.promised = Some(promised);
                false
            }
        }
    }

    /// The service was not in a read after all when it was stopped: it goes on.
    pub fn undo_stop(&mut self) {
        self.release();
        self.claim();
    }

    /// The permit for which the service waits; never, if it does not. Losing this future loses nothing.
    pub async fn permitted(&mut self) -> Permit {
        let Some(promised) = &mut self.promised else { return pending().await };
        // The place keeps the admission alive, which answers every promise.
        match promised.await {
            Ok(permit) => permit,
            Err(_) => pending().await,
        }
    }

    /// Lets the service go on.
    pub fn go_on(&mut self, permit: Permit) {
        self.promised = None;
        self.place.work(permit);
        self.release();
    }

    /// Sends the service, with all that it has started, a signal that ends it.
    pub fn end(&mut self, signal: i32) {
        self.process.signal_group(signal);
        self.promised = None;
        // What is stopped cannot heed it.
        self.release();
    }

    /// The service has ended and was waited for: its number may be another process's by now.
    pub fn ended(mut self) {
        self.stopped = false;
    }

    fn stop(&mut self) {
        self.process.signal_group(libc::SIGSTOP);
        self.stopped = true;
    }

    fn release(&mut self) {
        if std::mem::take(&mut self.stopped) {
            self.process.signal_group(libc::SIGCONT);
        }
    }
}

impl Drop for Work<'_> {
    /// A session that breaks must not leave a stopped service behind.
    fn drop(&mut self) {
        self.release();
    }
}
