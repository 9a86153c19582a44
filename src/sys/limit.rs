//! What this process is limited to: open files, and its share of the processor.
//!
//! Many systems set a low one for programs that are careless with `select(2)`,
//! and a high one that those may ask for that are not.

use std::io;

use super::check;

/// How many descriptors a process may have: what counts, and how far that may be raised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Descriptors {
    /// The limit that counts.
    pub soft: libc::rlim_t,
    /// What it can be raised to.
    pub hard: libc::rlim_t,
}

impl Descriptors {
    /// This process's own.
    ///
    /// # Errors
    /// Those of `getrlimit(2)`.
    pub fn current() -> io::Result<Self> {
        let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: the structure is writable and outlives the call.
        check(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) })?;
        Ok(Descriptors { soft: limit.rlim_cur, hard: limit.rlim_max })
    }

    /// Makes it this process's. Allocates nothing, so that a new process may call it too.
    ///
    /// # Errors
    /// Those of `setrlimit(2)`.
    pub fn set(self) -> io::Result<()> {
        let limit = libc::rlimit { rlim_cur: self.soft, rlim_max: self.hard };
        // SAFETY: the structure is initialised and outlives the call.
        check(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) }).map(drop)
    }
}

/// This process's niceness, -20 to 19.
#[must_use]
pub fn niceness() -> i32 {
    // SAFETY: reads a number; for the calling process that cannot fail.
    unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) }
}
