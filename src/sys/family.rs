//! Processes that come of a plain fork: the one that detaches a daemon, and the one that divides a
//! container's first process. Both happen before there is a second thread.

use std::io;

use super::check;
use super::child::{End, wait_for};

/// Which side of a fork the caller is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The process that called, and the child's id.
    Parent(u32),
    /// The new one.
    Child,
}

/// Forks. Must be called while the process has one thread, or the child may wait for ever for a lock
/// that a vanished thread holds.
///
/// # Errors
/// Those of `fork(2)`.
pub fn fork() -> io::Result<Side> {
    // SAFETY: the caller has one thread, so the child's memory is consistent.
    let pid = check(unsafe { libc::fork() })?;
    Ok(if pid == 0 { Side::Child } else { Side::Parent(pid.cast_unsigned()) })
}

/// Sends a signal to a child that has not been waited for, so that its number is still its own.
///
/// # Errors
/// Those of `kill(2)`.
pub fn kill(child: u32, signal: libc::c_int) -> io::Result<()> {
    // SAFETY: takes two numbers and touches no memory.
    check(unsafe { libc::kill(child.cast_signed(), signal) }).map(drop)
}

/// Leaves the terminal: the process leads a session of its own.
///
/// # Errors
/// Those of `setsid(2)`.
pub fn leave_terminal() -> io::Result<()> {
    // SAFETY: takes no arguments and touches no memory.
    check(unsafe { libc::setsid() }).map(drop)
}

/// Waits for the end of a child.
///
/// # Errors
/// Those of `waitid(2)`; `ECHILD` when the process ignores SIGCHLD, and then once the child has ended.
pub fn wait(child: u32) -> io::Result<End> {
    let ended = wait_for(libc::P_PID, child, 0)?;
    ended.map(|(_, end)| end).ok_or_else(|| io::Error::from_raw_os_error(libc::ECHILD))
}

/// Reaps one child that has ended, whichever it is; `None` when there is none. Takes the status away
/// from whoever else may wait for it.
///
/// # Errors
/// Those of `waitid(2)`; `ECHILD` when there are no children at all.
pub fn wait_any() -> io::Result<Option<(u32, End)>> {
    wait_for(libc::P_ALL, 0, libc::WNOHANG)
}
