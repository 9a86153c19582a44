//! Limits of this process: open files, and its niceness.
//!
//! Many systems set a low soft limit, for programs that use `select(2)`, and a high hard limit for
//! all others.

use std::io;

use super::check;

/// The limits of open files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Descriptors {
    /// The limit in force.
    pub soft: libc::rlim_t,
    /// The limit up to which that can be raised.
    pub hard: libc::rlim_t,
}

impl Descriptors {
    /// This process's limits.
    ///
    /// # Errors
    /// Those of `getrlimit(2)`.
    pub fn current() -> io::Result<Self> {
        let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: the structure is writable and outlives the call.
        check(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) })?;
        Ok(Descriptors { soft: limit.rlim_cur, hard: limit.rlim_max })
    }

    /// Applies them to this process. Allocates nothing, so a new child may call it.
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
