//! A descriptor that is registered with the runtime. All waiting for clients is here.
//!
//! Some epoll bits stay set for ever: the end of either direction, and an error. The runtime
//! reports them at once, again and again, so a loop that waits for a descriptor and does not act on
//! them spins. Such a wait never yields, so no client is accepted, no time-out fires, and no signal
//! is read. The kernel chooses which bits come: a reset that epoll sees at the wrong moment is an
//! error alone, without a hang-up. So every wait here says whether a direction has ended, clears
//! each report, and yields to the runtime. (The accept loop and the services' standard error keep a
//! report until there is nothing left, and yield after each batch.)

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use tokio::io::unix::AsyncFd;
use tokio::io::{Interest, Ready};
use tokio::task::coop::consume_budget;

use crate::sys::readiness::register;

/// A registered descriptor. Dropping it deregisters it.
#[derive(Debug)]
pub struct Registered<T: AsRawFd>(AsyncFd<T>);

/// The readiness of a descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Report {
    /// No more bytes come: the peer has closed its direction, or the connection is broken.
    pub read_closed: bool,
    /// No more bytes can be sent: the connection is broken. (When a client closes its socket, only
    /// its own direction appears closed here.)
    pub write_closed: bool,
}

impl Report {
    /// Whether either direction has ended, which is reported again at once.
    pub fn closed(self) -> bool {
        self.read_closed || self.write_closed
    }
}

impl From<Ready> for Report {
    fn from(ready: Ready) -> Self {
        // The runtime calls an error without a hang-up write-closed. If it ever reports only an
        // error, that means the same.
        let write_closed = ready.is_write_closed() || ready.is_error();
        Report { read_closed: ready.is_read_closed(), write_closed }
    }
}

impl<T: AsFd + AsRawFd> Registered<T> {
    /// Registers `source`, which can be registered only once at a time.
    ///
    /// # Errors
    /// Those of `epoll_ctl(2)`: `EPERM` for a regular file, `ENOMEM`, `ENOSPC`.
    pub fn new(source: T, interest: Interest) -> io::Result<Self> {
        register(source, interest).map(Registered)
    }
}

impl<T: AsRawFd> Registered<T> {
    /// The descriptor.
    pub fn get_ref(&self) -> &T {
        self.0.get_ref()
    }

    /// Waits for a report and clears it. The caller must read or write until that would block, or
    /// no further report comes. A direction that has ended is reported at every call.
    ///
    /// # Errors
    /// When the runtime shuts down.
    pub async fn report(&self, interest: Interest) -> io::Result<Report> {
        // Yields to the runtime after some calls, even if each has something to report.
        consume_budget().await;
        let mut event = self.0.ready(interest).await?;
        let report = event.ready().into();
        event.clear_ready();
        Ok(report)
    }

    /// Does `work`, which returns `WouldBlock` for as long as it must wait for `interest`.
    ///
    /// # Errors
    /// Those of `work`; `BrokenPipe` when the direction has ended, so the wait would never end.
    pub async fn perform<R>(
        &self,
        interest: Interest,
        mut work: impl FnMut(&T) -> io::Result<R>,
    ) -> io::Result<R> {
        let mut ended = false;
        loop {
            match work(self.get_ref()) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && ended => {
                    return Err(io::ErrorKind::BrokenPipe.into());
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return result,
            }
            ended = self.report(interest).await?.closed();
        }
    }

    /// Waits until nothing can be sent any more.
    pub async fn broken(&self) {
        loop {
            match self.report(Interest::WRITABLE).await {
                Ok(Report { write_closed: false, .. }) => {}
                Ok(_) => return,
                // The runtime shuts down, and the caller with it.
                Err(_) => return std::future::pending().await,
            }
        }
    }
}
