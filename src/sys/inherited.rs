//! Descriptors that were open when this process started.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use super::check;

/// Takes over `count` descriptors from number 3 on, as sd_listen_fds(3) passes them. Must be called
/// once, before this process opens anything.
///
/// # Errors
/// `EBADF` when one of them is not open; then none is taken.
pub fn take(count: RawFd) -> io::Result<Vec<OwnedFd>> {
    const FIRST: RawFd = 3;
    let numbers = FIRST..FIRST.saturating_add(count);
    for number in numbers.clone() {
        // SAFETY: reads the flags of any number; no memory is involved.
        check(unsafe { libc::fcntl(number, libc::F_GETFD) })?;
    }
    // SAFETY: the numbers are open, and as nothing was opened yet, no code owns them.
    Ok(numbers.map(|number| unsafe { OwnedFd::from_raw_fd(number) }).collect())
}
