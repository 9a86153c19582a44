//! Child processes: signals to them, and waiting for them.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, kill_process, kill_process_group, pidfd_open,
    waitid,
};

use super::{Zeroed, check};

/// A child process. It must be reaped.
#[derive(Debug)]
pub struct Child {
    /// Its process id, which is not reused until [`Child::reap`] has reported its end.
    pub pid: u32,
    process: Pid,
    /// Opened on first use, because it takes a descriptor, unless it came with the process.
    pidfd: OnceLock<OwnedFd>,
    /// Shared by the children of one thread.
    _parent: Arc<()>,
}

thread_local! {
    static PARENT: Arc<()> = Arc::default();
}

/// Whether children of this thread are still in use. The thread must not end before them: its end
/// sends SIGCONT to stopped children.
#[must_use]
pub fn has_children() -> bool {
    PARENT.with(|parent| Arc::strong_count(parent) > 1)
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// It exited with this status, 0 to 255.
    Exited(i32),
    /// It was killed by this signal.
    Killed(i32),
}

impl End {
    /// Whether it exited with status 0.
    #[must_use]
    pub fn success(self) -> bool {
        self == End::Exited(0)
    }
}

/// What a process has used, together with the children that it has waited for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Processor time outside the kernel.
    pub user: Duration,
    /// Processor time in the kernel.
    pub system: Duration,
    /// The most memory that the largest of them has had, in bytes. At least what this process had
    /// when it started the child: the kernel counts that too.
    pub memory: u64,
}

impl Child {
    /// A child of the calling thread.
    pub(super) fn new(process: Pid, pidfd: Option<OwnedFd>) -> Self {
        let pidfd = pidfd.map_or_else(OnceLock::new, OnceLock::from);
        let pid = process.as_raw_pid().cast_unsigned();
        Child { pid, process, pidfd, _parent: PARENT.with(Arc::clone) }
    }

    /// A descriptor that becomes readable when the process has ended.
    ///
    /// # Errors
    /// Those of `pidfd_open(2)`, for a child of a [`Spawner::alone`](super::process::Spawner::alone).
    pub fn pidfd(&self) -> io::Result<BorrowedFd<'_>> {
        if let Some(pidfd) = self.pidfd.get() {
            return Ok(pidfd.as_fd());
        }
        let pidfd = pidfd_open(self.process, PidfdFlags::empty())?;
        Ok(self.pidfd.get_or_init(|| pidfd).as_fd())
    }

    /// How the process ended, and what it has used; `None` while it runs. Reaps it.
    ///
    /// # Errors
    /// Those of `wait4(2)`; `ECHILD` when it was reaped before.
    pub fn reap(&self) -> io::Result<Option<(End, Usage)>> {
        let mut status = 0;
        let mut usage = libc::rusage::zeroed();
        let pid = self.pid.cast_signed();
        // SAFETY: `status` and `usage` are writable and outlive the call.
        let ended =
            check(unsafe { libc::wait4(pid, &raw mut status, libc::WNOHANG, &raw mut usage) })?;
        let end = if libc::WIFEXITED(status) {
            End::Exited(libc::WEXITSTATUS(status))
        } else {
            End::Killed(libc::WTERMSIG(status))
        };
        Ok((ended > 0).then(|| (end, Usage::from(&usage))))
    }

    /// Waits until the process ends, and reaps it.
    ///
    /// # Errors
    /// Those of `waitid(2)`.
    pub fn wait(&self) -> io::Result<End> {
        loop {
            match self.wait_with(WaitIdOptions::empty()) {
                Ok(Some(end)) => return Ok(end),
                Ok(None) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// How the process ended, without reaping it. Until it is reaped, its number and its group's
    /// are not reused.
    ///
    /// # Errors
    /// Those of `waitid(2)`; `ECHILD` when it was reaped before.
    pub fn look(&self) -> io::Result<Option<End>> {
        self.wait_with(WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT)
    }

    /// Until it is reaped, which happens only here, its number identifies it as surely as a pidfd.
    fn wait_with(&self, options: WaitIdOptions) -> io::Result<Option<End>> {
        let options = WaitIdOptions::EXITED | options;
        let status = waitid(WaitId::Pid(self.process), options)?;
        Ok(status.and_then(|status| {
            let killed = || status.terminating_signal().map(End::Killed);
            status.exit_status().map(End::Exited).or_else(killed)
        }))
    }

    /// Sends a signal to the process alone, which must not have been reaped, so that its number is
    /// still its own.
    pub fn signal(&self, signal: Signal) {
        // Nothing is to be done for a process that has ended.
        let _ = kill_process(self.process, signal);
    }

    /// Sends a signal to the process group of a process that was started with `Spawn::outlives` and
    /// has not been reaped: to the process and all its descendants that have not left the group.
    pub fn signal_group(&self, signal: Signal) {
        let _ = kill_process_group(self.process, signal);
    }
}

impl From<&libc::rusage> for Usage {
    fn from(usage: &libc::rusage) -> Self {
        let time = |time: libc::timeval| {
            Duration::from_secs(time.tv_sec.unsigned_abs())
                + Duration::from_micros(time.tv_usec.unsigned_abs())
        };
        Usage {
            user: time(usage.ru_utime),
            system: time(usage.ru_stime),
            memory: usage.ru_maxrss.unsigned_abs() * 1024,
        }
    }
}
