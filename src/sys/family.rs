//! Plain forks: for the daemon in the background, and for process 1 of a container. Both happen
//! before there is a second thread.

use std::io;

use rustix::process::{Pid, WaitOptions, waitpid};

use super::check;
use super::child::End;

/// Which side of a fork the caller is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The calling process; contains the child's id.
    Parent(Pid),
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
    Ok(Pid::from_raw(pid).map_or(Side::Child, Side::Parent))
}

/// Waits for a child to end.
///
/// # Errors
/// Those of `waitpid(2)`; `ECHILD` when the process ignores SIGCHLD, and then once the child has
/// ended.
pub fn wait(child: Pid) -> io::Result<End> {
    reap(Some(child), WaitOptions::empty())?
        .map(|(_, end)| end)
        .ok_or_else(|| io::Error::from_raw_os_error(libc::ECHILD))
}

/// Reaps any child that has ended; `None` when there is none. Other code that waits for that child
/// loses its status.
///
/// # Errors
/// Those of `waitpid(2)`; `ECHILD` when there are no children at all.
pub fn wait_any() -> io::Result<Option<(Pid, End)>> {
    reap(None, WaitOptions::NOHANG)
}

fn reap(child: Option<Pid>, options: WaitOptions) -> io::Result<Option<(Pid, End)>> {
    let reaped = waitpid(child, options)?;
    Ok(reaped.and_then(|(pid, status)| {
        let killed = || status.terminating_signal().map(End::Killed);
        let end = status.exit_status().map(End::Exited).or_else(killed)?;
        Some((pid, end))
    }))
}
