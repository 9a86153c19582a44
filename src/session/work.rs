//! A service works only with a permit, so no more services work at a time than the limit says.
//!
//! A service that waits for its client gives its permit back, and the client decides when it works
//! again: all clients may do so at once. So upload-pack is stopped (SIGSTOP) while it reads from
//! its client, and is continued when its client has sent something and there is a permit. In that
//! read it holds no lock that other processes wait for. Only upload-pack itself is stopped: its
//! descendants may hold anything. A service must not be stopped anywhere else: it, or a hook below
//! it, may hold a lock that services with permits wait for. A service that waits elsewhere, as in a
//! write to a slow client, works on when it can; there are no more of those than permits. A stopped
//! service that has waited for its permit for [`PATIENCE`] is continued too, unless twice the limit
//! work.
//!
//! When gitd dies, the kernel sends SIGCONT to each service ([`crate::sys::process`]).

use std::future::pending;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tokio::sync::oneshot;

use crate::limits::admission::{Admitted, Holding, Permit, Wake};
use crate::sys::child::Child;

/// How long an idle session may wait for a permit behind later requests.
const PATIENCE: Duration = Duration::from_secs(5);

/// A service and its permit.
#[derive(Debug)]
pub struct Work<'a> {
    process: &'a Child,
    admitted: &'a mut Admitted,
    stopped: bool,
    promise: Option<Promise>,
}

/// A permit that is to come, while the service has work and is stopped without one.
#[derive(Debug)]
struct Promise {
    since: Instant,
    permit: oneshot::Receiver<Permit>,
}

impl<'a> Work<'a> {
    /// The service was just started, and holds nothing yet. After a slow check the permit is given
    /// back already.
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

    /// Whether the service has work and is stopped until it gets a permit.
    pub fn is_held(&self) -> bool {
        self.promise.is_some()
    }

    /// The service waits for its client and holds `holding` meanwhile. It may be stopped if it
    /// `reads`.
    pub fn rest(&mut self, holding: Holding, reads: bool) {
        // A service that cannot be stopped may go on at any time, so count what it may need then.
        let holding = if reads { holding } else { Holding::Heavy };
        if !self.stopped && self.is_scarce() && self.admitted.go_idle(holding) && reads {
            self.stop();
        }
    }

    /// The service has work. `false` when it is stopped and there is no permit for it yet.
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

    /// The service still waits for its permit; `true` when it has waited so long that it is
    /// continued.
    pub fn insist(&mut self, now: Instant) -> bool {
        let long = |promise: &Promise| now.saturating_duration_since(promise.since) >= PATIENCE;
        let insists = self.promise.as_ref().is_some_and(long) && self.admitted.insist();
        if insists {
            self.release();
        }
        insists
    }

    /// The service was not in a read when it was stopped, so it is continued.
    pub fn undo_stop(&mut self) {
        self.release();
        self.admitted.work_on();
    }

    /// The permit that the service waits for; pending if it waits for none. Cancel-safe.
    pub async fn permitted(&mut self) -> Permit {
        let Some(promise) = &mut self.promise else { return pending().await };
        // `admitted` keeps the admission alive, which answers every request for a permit.
        match (&mut promise.permit).await {
            Ok(permit) => permit,
            Err(_) => pending().await,
        }
    }

    /// Continues the service.
    pub fn go_on(&mut self, permit: Permit) {
        self.admitted.work(permit);
        self.release();
    }

    /// Sends the service and its process group a signal that ends them.
    pub fn end(&mut self, signal: Signal) {
        self.process.signal_group(signal);
        // A stopped process cannot act on the signal.
        self.release();
    }

    /// The service has ended and was reaped: its number may be another process's now.
    pub fn ended(mut self) {
        self.stopped = false;
    }

    fn stop(&mut self) {
        self.process.signal(Signal::STOP);
        self.stopped = true;
    }

    /// Continues the service and stops waiting for a permit.
    fn release(&mut self) {
        self.promise = None;
        if std::mem::take(&mut self.stopped) {
            self.process.signal(Signal::CONT);
        }
    }
}

impl Drop for Work<'_> {
    /// If the session panics, the service must not stay stopped.
    fn drop(&mut self) {
        self.release();
    }
}
