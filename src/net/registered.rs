//! A descriptor that is registered with the runtime: the one place that waits for a client.
//!
//! Some bits of epoll stay set for ever: the end of either direction, and an error. The runtime reports
//! them at once, again and again, so a loop that waits for a descriptor and does not act on them spins, and
//! as the report needs no time the runtime gets no turn: no client is accepted, no time-out fires, no signal
//! is read. Which bits come is the kernel's choice: a reset that epoll looks at in the wrong moment is an
//! error alone, without a hang-up. So every wait here says whether a direction has ended, no wait is handed
//! out twice for one report, and each gives the runtime its turn. (The accept loop and the services' standard
//! error keep what was reported until there is nothing left, and yield after each batch.)

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use tokio::io::unix::AsyncFd;
use tokio::io::{Interest, Ready};
use tokio::task::coop::consume_budget;

use crate::sys::readiness::register;

/// A registered descriptor. It is taken out of the registry when dropped.
#[derive(Debug)]
pub struct Registered<T: AsRawFd>(AsyncFd<T>);

/// What has been reported of a descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Report {
    /// No more bytes come: the other end has closed its direction, or the connection is broken.
    pub read_closed: bool,
    /// No more bytes can be sent: the connection is broken. (A client that closes its socket closes its own
    /// direction alone, as far as anybody can see here.)
    pub write_closed: bool,
}

impl Report {
    /// Whether either direction has ended: it is reported again at once.
    pub fn closed(self) -> bool {
        self.read_closed || self.write_closed
    }
}

impl From<Ready> for Report {
    fn from(ready: Ready) -> Self {
        // The runtime calls an error without a hang-up write-closed; where it should ever say no more than
        // error, that means the same.
        let write_closed = ready.is_write_closed() || ready.is_error();
        Report { read_closed: ready.is_read_closed(), write_closed }
    }
}

impl<T: AsFd + AsRawFd> Registered<T> {
    /// Registers `source`, which can be registered once at a time.
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

    /// Waits for something new, which is then forgotten: what can be done must be done until it would block,
    /// or nothing is heard of it again. A direction that has ended is reported at every call.
    ///
    /// # Errors
    /// When the runtime is going away.
    pub async fn report(&self, interest: Interest) -> io::Result<Report> {
        // The runtime gets its turn after so many calls, also where each has something to report.
        consume_budget().await;
        let mut event = self.0.ready(interest).await?;
        let report = event.ready().into();
        event.clear_ready();
        Ok(report)
    }

    /// Does `work`, which answers `WouldBlock` for as long as it must wait for `interest`.
    ///
    /// # Errors
    /// Those of `work`; `BrokenPipe` when it would wait for ever, as the direction has ended.
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

    /// Waits until nothing can be sent any more: nobody can be answered.
    pub async fn broken(&self) {
        loop {
            match self.report(Interest::WRITABLE).await {
                Ok(Report { write_closed: false, .. }) => {}
                Ok(_) => return,
                // The runtime is going away, and the caller with it.
                Err(_) => return std::future::pending().await,
            }
        }
    }
}
