//! Waiting for descriptors, with or without the runtime.

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::time::Duration;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Registers `source` with the runtime's epoll, edge-triggered, until the result is dropped. The
/// descriptor's flags are not changed, so each read must ask not to block.
///
/// # Errors
/// Those of `epoll_ctl(2)`: `EPERM` for a regular file, `ENOMEM`, `ENOSPC`.
pub fn register<T: AsFd + AsRawFd>(source: T, interest: Interest) -> io::Result<AsyncFd<T>> {
    // SAFETY: a type with AsFd keeps the same descriptor open as long as it lives, and the AsyncFd
    // owns it.
    let registered = unsafe { AsyncFd::register_with_interest(source, interest) };
    registered.map_err(io::Error::from)
}

/// A set of descriptors to wait for without a runtime: `epoll(7)`, edge-triggered.
#[derive(Debug)]
pub struct Readiness(OwnedFd);

/// An event on one of the descriptors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Happened {
    /// The number that the descriptor was added with.
    pub key: u64,
    /// Whether a direction has ended: the peer has closed its side, or the connection is broken.
    pub ended: bool,
}

impl Readiness {
    /// An empty set.
    ///
    /// # Errors
    /// Those of `epoll_create1(2)`.
    pub fn new() -> io::Result<Self> {
        // SAFETY: takes a flag and touches no memory.
        let fd = super::check(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
        // SAFETY: the kernel just returned this descriptor and no other code has its number.
        Ok(Readiness(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Adds a descriptor under a number. If it has duplicates elsewhere, it must be removed before
    /// it is closed.
    ///
    /// # Errors
    /// Those of `epoll_ctl(2)`: `EPERM` for a regular file.
    pub fn add(&self, fd: impl AsFd, key: u64) -> io::Result<()> {
        let what = libc::EPOLLIN | libc::EPOLLOUT | libc::EPOLLRDHUP | libc::EPOLLET;
        self.control(
            libc::EPOLL_CTL_ADD,
            fd,
            libc::epoll_event { events: what.cast_unsigned(), u64: key },
        )
    }

    /// Removes a descriptor.
    ///
    /// # Errors
    /// Those of `epoll_ctl(2)`: `ENOENT` when it is not in the set.
    pub fn remove(&self, fd: impl AsFd) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_DEL, fd, libc::epoll_event { events: 0, u64: 0 })
    }

    fn control(
        &self,
        operation: libc::c_int,
        fd: impl AsFd,
        mut event: libc::epoll_event,
    ) -> io::Result<()> {
        let (set, fd) = (self.0.as_raw_fd(), fd.as_fd().as_raw_fd());
        // SAFETY: the event is readable for the call; the kernel keeps a copy.
        super::check(unsafe { libc::epoll_ctl(set, operation, fd, &raw mut event) }).map(drop)
    }

    /// Waits for the next events, at most `limit`. Empty if the time is over or a signal came.
    ///
    /// # Errors
    /// Those of `epoll_wait(2)` except `EINTR`.
    pub fn wait(&self, limit: Option<Duration>) -> io::Result<Vec<Happened>> {
        const MOST: usize = 8;
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; MOST];
        let milliseconds = limit.map_or(-1, |limit| {
            libc::c_int::try_from(limit.as_micros().div_ceil(1000)).unwrap_or(libc::c_int::MAX)
        });
        let (set, most) = (self.0.as_raw_fd(), MOST as libc::c_int);
        // SAFETY: the buffer has room for MOST events.
        let count = unsafe { libc::epoll_wait(set, events.as_mut_ptr(), most, milliseconds) };
        let count = match super::check(count) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
            count => usize::try_from(count?).unwrap_or(0),
        };
        // A reset may appear as an error alone.
        let ended = (libc::EPOLLRDHUP | libc::EPOLLHUP | libc::EPOLLERR).cast_unsigned();
        let happened = |event: &libc::epoll_event| Happened {
            key: event.u64,
            ended: event.events & ended != 0,
        };
        Ok(events[..count].iter().map(happened).collect())
    }
}
