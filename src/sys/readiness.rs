//! Waiting for descriptors, with the runtime or without.

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::time::Duration;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Registers `source` with the runtime's epoll, edge-triggered, until the result is dropped. Nothing
/// is changed about the descriptor itself: whoever reads from it must say that it does not want to
/// wait.
///
/// # Errors
/// Those of `epoll_ctl(2)`: `EPERM` for a regular file, `ENOMEM`, `ENOSPC`.
pub fn register<T: AsFd + AsRawFd>(source: T, interest: Interest) -> io::Result<AsyncFd<T>> {
    // SAFETY: a type that lends its descriptor by AsFd keeps it open, and the same one, for as long as
    // it lives; and the AsyncFd owns it.
    let registered = unsafe { AsyncFd::register_with_interest(source, interest) };
    registered.map_err(io::Error::from)
}

/// A set of descriptors to wait for without a runtime: `epoll(7)`, edge-triggered.
#[derive(Debug)]
pub struct Readiness(OwnedFd);

/// That something happened to one of the descriptors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Happened {
    /// Which one: the number it was added with.
    pub key: u64,
    /// Whether a direction has ended: the other end has closed its side, or the connection is broken.
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
        // SAFETY: the kernel just handed out this descriptor and nobody else knows its number.
        Ok(Readiness(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Adds a descriptor under a number. It must be taken out before it is closed if it has duplicates
    /// elsewhere.
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

    /// Takes a descriptor out.
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

    /// Waits for what happens next, at most `limit`. Nothing if that is over, or a signal came.
    ///
    /// # Errors
    /// Those of `epoll_wait(2)` but `EINTR`.
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
        // A reset may show as an error alone.
        let ended = (libc::EPOLLRDHUP | libc::EPOLLHUP | libc::EPOLLERR).cast_unsigned();
        let happened = |event: &libc::epoll_event| Happened {
            key: event.u64,
            ended: event.events & ended != 0,
        };
        Ok(events[..count].iter().map(happened).collect())
    }
}
