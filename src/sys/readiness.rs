//! Registration of descriptors with the runtime.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

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
