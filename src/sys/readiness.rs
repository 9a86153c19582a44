//! Descriptors that the runtime waits for.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Registers `source` with the runtime's epoll, edge-triggered, until the result is dropped. Nothing
/// is changed about the descriptor itself: whoever reads from it must say that it does not want to
/// wait.
///
/// # Errors
/// Those of `epoll_ctl(2)`: `EPERM` for a regular file, `ENOMEM`, `ENOSPC`.
pub fn wait_for<T: AsFd + AsRawFd>(source: T, interest: Interest) -> io::Result<AsyncFd<T>> {
    // SAFETY: a type that lends its descriptor by AsFd keeps it open, and the same one, for as long as
    // it lives; and the AsyncFd owns it.
    let registered = unsafe { AsyncFd::register_with_interest(source, interest) };
    registered.map_err(io::Error::from)
}
