//! What the system ran out of while a request was looked at.
//!
//! A file that cannot be opened for lack of descriptors looks like one that is not there, and a search
//! that takes it for that may go on and find another repository. So every lack is noted, by thread like
//! `errno`, and whoever decided something asks afterwards whether the decision can be trusted.

use std::cell::Cell;
use std::io;

thread_local! {
    static LACK: Cell<Option<i32>> = const { Cell::new(None) };
}

/// Whether the error says that the system has nothing left: later the same may succeed.
#[must_use]
pub fn is_shortage(error: &io::Error) -> bool {
    const LACKS: [libc::c_int; 5] =
        [libc::EMFILE, libc::ENFILE, libc::ENOMEM, libc::EAGAIN, libc::ENOBUFS];
    error.raw_os_error().is_some_and(|errno| LACKS.contains(&errno))
}

/// Notes an error if it is one of those.
pub fn note(error: &io::Error) {
    if is_shortage(error) {
        LACK.set(error.raw_os_error());
    }
}

/// The last one noted by this thread, which is forgotten with it.
#[must_use]
pub fn take() -> Option<io::Error> {
    LACK.take().map(io::Error::from_raw_os_error)
}
