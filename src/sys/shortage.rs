//! Records what the system ran out of while a request was checked.
//!
//! A file that cannot be opened for lack of descriptors looks as if it did not exist, and a search
//! may go on and find another repository. So every shortage is recorded, per thread like `errno`,
//! and the caller asks after a decision whether it can be trusted.

use std::cell::Cell;
use std::io;

thread_local! {
    static LACK: Cell<Option<i32>> = const { Cell::new(None) };
}

/// Whether the error says that a resource is exhausted, so that the same call may succeed later.
#[must_use]
pub fn is_shortage(error: &io::Error) -> bool {
    const LACKS: [libc::c_int; 5] =
        [libc::EMFILE, libc::ENFILE, libc::ENOMEM, libc::EAGAIN, libc::ENOBUFS];
    error.raw_os_error().is_some_and(|errno| LACKS.contains(&errno))
}

/// Records an error if it is a shortage.
pub fn note(error: &io::Error) {
    if is_shortage(error) {
        LACK.set(error.raw_os_error());
    }
}

/// The last shortage of this thread; forgets it.
#[must_use]
pub fn take() -> Option<io::Error> {
    LACK.take().map(io::Error::from_raw_os_error)
}
