//! Plain forks: for the daemon in the background, and for process 1 of a container. Both happen
//! before there is a second thread.

use std::io;

use super::check;
use super::child::{End, wait_for};

/// Which side of a fork the caller is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The calling process; contains the child's id.
    Parent(u32),
    /// The new process.
    Child,
}

/// Forks. Must be called while the process has one thread, or the child may wait for ever for a
/// lock of a thread that it does not have.
///
/// # Errors
/// Those of `fork(2)`.
pub fn fork() -> io::Result<Side> {
    // SAFETY: the caller has one thread, so the child's memory is consistent.
    let pid = check(unsafe { libc::fork() })?;
    Ok(if pid == 0 { Side::Child } else { Side::Parent(pid.cast_unsigned()) })
}

/// Sends a signal to a child that has not been reaped, so that its number is not reused.
///
/// # Errors
/// Those of `kill(2)`.
pub fn kill(child: u32, signal: libc::c_int) -> io::Result<()> {
    // SAFETY: takes two numbers and touches no memory.
    check(unsafe { libc::kill(child.cast_signed(), signal) }).map(drop)
}

/// Leaves the terminal: the process leads a new session.
///
/// # Errors
/// Those of `setsid(2)`.
pub fn leave_terminal() -> io::Result<()> {
    // SAFETY: takes no arguments and touches no memory.
    check(unsafe { libc::setsid() }).map(drop)
}

/// Waits for a child to end.
///
/// # Errors
/// Those of `waitid(2)`; `ECHILD` when the process ignores SIGCHLD, and then once the child has
/// ended.
pub fn wait(child: u32) -> io::Result<End> {
    let ended = wait_for(libc::P_PID, child, 0)?;
    ended.map(|(_, end)| end).ok_or_else(|| io::Error::from_raw_os_error(libc::ECHILD))
}

/// Reaps any child that has ended; `None` when there is none. Other code that waits for that child
/// loses its status.
///
/// # Errors
/// Those of `waitid(2)`; `ECHILD` when there are no children at all.
pub fn wait_any() -> io::Result<Option<(u32, End)>> {
    wait_for(libc::P_ALL, 0, libc::WNOHANG)
}
