//! Child processes: signals to them, and waiting for them.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::{Arc, OnceLock};

use super::check;

/// A child process. It must be reaped.
#[derive(Debug)]
pub struct Child {
    /// Its process id, which is not reused until [`Child::try_wait`] has reported its end.
    pub pid: u32,
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

impl Child {
    /// A child of the calling thread.
    pub(super) fn new(pid: u32, pidfd: Option<OwnedFd>) -> Self {
        let pidfd = pidfd.map_or_else(OnceLock::new, OnceLock::from);
        Child { pid, pidfd, _parent: PARENT.with(Arc::clone) }
    }

    /// A descriptor that becomes readable when the process has ended.
    ///
    /// # Errors
    /// Those of `pidfd_open(2)`, for a child of a [`Spawner::alone`](super::process::Spawner::alone).
    pub fn pidfd(&self) -> io::Result<BorrowedFd<'_>> {
        if let Some(pidfd) = self.pidfd.get() {
            return Ok(pidfd.as_fd());
        }
        let flags: libc::c_uint = 0;
        // SAFETY: takes two numbers. The process has not been reaped, so its number was not reused.
        let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, self.pid, flags) };
        let fd = check(libc::c_int::try_from(fd).unwrap_or(-1))?;
        // SAFETY: the kernel just returned this descriptor and no other code has its number.
        let pidfd = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(self.pidfd.get_or_init(|| pidfd).as_fd())
    }

    /// How the process ended; `None` while it runs. Reaps it.
    ///
    /// # Errors
    /// Those of `waitid(2)`; `ECHILD` when it was reaped before.
    pub fn try_wait(&self) -> io::Result<Option<End>> {
        self.wait_with(libc::WNOHANG)
    }

    /// Waits until the process ends, and reaps it.
    ///
    /// # Errors
    /// Those of `waitid(2)`.
    pub fn wait(&self) -> io::Result<End> {
        loop {
            match self.wait_with(0) {
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
        self.wait_with(libc::WNOHANG | libc::WNOWAIT)
    }

    /// Until it is reaped, which happens only here, its number identifies it as surely as a pidfd.
    fn wait_with(&self, flags: libc::c_int) -> io::Result<Option<End>> {
        Ok(wait_for(libc::P_PID, self.pid, flags)?.map(|(_, end)| end))
    }

    /// Sends a signal to the process alone, which must not have been reaped.
    pub fn signal(&self, signal: i32) {
        // SAFETY: no memory is involved. The number is not reused before the process has been
        // reaped.
        unsafe { libc::kill(self.pid.cast_signed(), signal) };
    }

    /// Sends a signal to the process group of a process that was started with `Spawn::outlives` and
    /// has not been reaped: to the process and all its descendants that have not left the group.
    pub fn signal_group(&self, signal: i32) {
        // SAFETY: no memory is involved. The group is the process's own, and its number is not
        // reused before the process has been reaped.
        unsafe { libc::kill(-self.pid.cast_signed(), signal) };
    }
}

pub(super) fn wait_for(
    kind: libc::idtype_t,
    id: libc::id_t,
    flags: libc::c_int,
) -> io::Result<Option<(u32, End)>> {
    // SAFETY: all-zero is a valid siginfo_t.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    // SAFETY: `info` is writable and outlives the call.
    check(unsafe { libc::waitid(kind, id, &raw mut info, libc::WEXITED | flags) })?;
    // SAFETY: waitid succeeded, so `info` is either zero or of the SIGCHLD kind.
    let pid = unsafe { info.si_pid() };
    if pid == 0 {
        return Ok(None);
    }
    // SAFETY: as above.
    let status = unsafe { info.si_status() };
    let exited = info.si_code == libc::CLD_EXITED;
    let end = if exited { End::Exited(status) } else { End::Killed(status) };
    Ok(Some((pid.cast_unsigned(), end)))
}
