//! A service works only with a permit, so that no more services work at a time than the limit says.
//!
//! A service that waits for its client gives its permit back, and its client decides when it works again:
//! all clients at once, if they like. So upload-pack is stopped (SIGSTOP) while it reads from its client, and
//! goes on when its client has sent something and there is a permit. In that read it holds nothing that others
//! wait for, and it alone is stopped: what it has started may hold anything. A service must not be stopped
//! anywhere else: it, or a hook below it, may hold a lock for which those wait that have the permits. One that
//! rests elsewhere, as in a write to a slow client, works on when it can; there are no more of those than
//! places. A service that was stopped and has waited for its permit for [`PATIENCE`] goes on as well, as long
//! as no more work than twice the limit.
//!
//! When gitd dies, the kernel sends SIGCONT to each service ([`crate::sys::process`]).

use std::future::pending;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::limits::admission::{Admitted, Holding, Permit, Wake};
use crate::sys::child::Child;

/// How long a session that was let in, and rested, may wait for those that came after it.
const PATIENCE: Duration = Duration::from_secs(5);

/// A service and its permit.
#[derive(Debug)]
pub struct Work<'a> {
    process: &'a Child,
    admitted: &'a mut Admitted,
    stopped: bool,
    promise: Option<Promise>,
}

/// Brings the permit, while the service has work and is stopped without one.
#[derive(Debug)]
struct Promise {
    since: Instant,
    permit: oneshot::Receiver<Permit>,
}

impl<'a> Work<'a> {
    /// The service was just started, and holds nothing yet. A check that took long has given the permit back.
    pub fn begin(process: &'a Child, admitted: &'a mut Admitted) -> Self {
        let mut work = Work { process, admitted, stopped: false, promise: None };
        if !work.ask() {
            work.stop();
        }
        work
    }

    /// Whether permits are limited at all.
    pub fn is_scarce(&self) -> bool {
        self.admitted.is_scarce()
    }

    /// Whether the service is stopped.
    pub fn is_stopped(&self) -> bool {
        self.stopped
    }

    /// Whether the service has work to do, and is stopped until there is a permit.
    pub fn is_held(&self) -> bool {
        self.promise.is_some()
    }

    /// The service waits for its client and holds `holding` meanwhile. It may be stopped if it `reads`.
    pub fn rest(&mut self, holding: Holding, reads: bool) {
        // What cannot be stopped may go on at any time: it counts for what it may need then.
        let holding = if reads { holding } else { Holding::Heavy };
        if !self.stopped && self.is_scarce() && self.admitted.go_idle(holding) && reads {
            self.stop();
        }
    }

    /// The service has work to do. `false` when it is stopped and there is no permit for it yet.
    pub fn claim(&mut self) -> bool {
        if !self.stopped {
            self.admitted.work_on();
            return true;
        }
        let permitted = !self.is_held() && self.ask();
        if permitted {
            self.release();
        }
        permitted
    }

    /// Asks for a permit; `false` when it comes later.
    fn ask(&mut self) -> bool {
        match self.admitted.wake() {
            Wake::Now => true,
            Wake::Later(permit) => {
                self.promise = Some(Promise { since: Instant::now(), permit });
                false
            }
        }
    }

    /// The service has waited for its permit again; `true` when it has waited for so long that it goes on.
    pub fn insist(&mut self, now: Instant) -> bool {
        let long = |promise: &Promise| now.saturating_duration_since(promise.since) >= PATIENCE;
        let insists = self.promise.as_ref().is_some_and(long) && self.admitted.insist();
        if insists {
            self.release();
        }
        insists
    }

    /// The service was not in a read after all when it was stopped: it goes on.
    pub fn undo_stop(&mut self) {
        self.release();
        self.admitted.work_on();
    }

    /// The permit for which the service waits; never, if it does not. Losing this future loses nothing.
    pub async fn permitted(&mut self) -> Permit {
        let Some(promise) = &mut self.promise else { return pending().await };
        // The admitted keeps the admission alive, which answers every promise.
        match (&mut promise.permit).await {
            Ok(permit) => permit,
            Err(_) => pending().await,
        }
    }

    /// Lets the service go on.
    pub fn go_on(&mut self, permit: Permit) {
        self.admitted.work(permit);
        self.release();
    }

    /// Sends the service, with all that it has started, a signal that ends it.
    pub fn end(&mut self, signal: i32) {
        self.process.signal_group(signal);
        // What is stopped cannot heed it.
        self.release();
    }

    /// The service has ended and was waited for: its number may be another process's by now.
    pub fn ended(mut self) {
        self.stopped = false;
    }

    fn stop(&mut self) {
        self.process.signal(libc::SIGSTOP);
        self.stopped = true;
    }

    /// What is not stopped waits for no permit.
    fn release(&mut self) {
        self.promise = None;
        if std::mem::take(&mut self.stopped) {
            self.process.signal(libc::SIGCONT);
        }
    }
}

impl Drop for Work<'_> {
    /// A session that breaks must not leave a stopped service behind.
    fn drop(&mut self) {
        self.release();
    }
}
