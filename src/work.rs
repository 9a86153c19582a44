//! A service works only with a permit, so that no more services work at a time than the limit says.
//!
//! A service that waits for its client gives its permit back, and its client decides when it works again:
//! all clients at once, if they like. A service that is seen to work without a permit asks for one, and is
//! stopped (SIGSTOP, with all that it has started) until it comes. So the services at work exceed the limit
//! by no more than those that began between two looks, and only until they are looked at.
//!
//! Should gitd be killed meanwhile, the kernel ends what is stopped: a process group whose last tie to its
//! session is gone gets SIGHUP and SIGCONT if one of it is stopped (setpgid(2), POSIX). Nothing stays behind
//! that nobody could ever continue.

use std::future::pending;

use tokio::sync::oneshot;

use crate::admission::{Burden, Permit, Place, Wake};
use crate::sys::process::Child;

/// A service and its permit.
#[derive(Debug)]
pub struct Work<'a> {
    process: &'a Child,
    place: &'a mut Place,
    /// Brings the permit, while the service is stopped for lack of one.
    promised: Option<oneshot::Receiver<Permit>>,
}

impl<'a> Work<'a> {
    /// The service was just started. A check that took long has given the permit back.
    #[must_use]
    pub fn begin(process: &'a Child, place: &'a mut Place) -> Self {
        let mut work = Work { process, place, promised: None };
        work.claim();
        work
    }

    /// Whether permits are limited at all.
    #[must_use]
    pub fn is_scarce(&self) -> bool {
        self.place.is_scarce()
    }

    /// Whether the service is stopped until there is a permit.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.promised.is_some()
    }

    /// The service waits for its client and holds `burden` meanwhile.
    pub fn rest(&mut self, burden: Burden) {
        if self.is_scarce() && !self.is_stopped() {
            self.place.rest(burden);
        }
    }

    /// The service works.
    pub fn claim(&mut self) {
        if self.is_stopped() {
            return;
        }
        if let Wake::Later(promised) = self.place.wake() {
            self.process.signal_group(libc::SIGSTOP);
            self.promised = Some(promised);
        }
    }

    /// The permit for which the service is stopped; never, if it is not. Losing this future loses nothing.
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
        self.place.work(permit);
        self.release();
    }

    /// Sends the service, with all that it has started, a signal that ends it.
    pub fn end(&mut self, signal: i32) {
        self.process.signal_group(signal);
        // What is stopped cannot heed it.
        self.release();
    }

    fn release(&mut self) {
        if self.promised.take().is_some() {
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
