//! Signals as a descriptor: blocked in every thread, read like a file.
//!
//! gitd installs no signal handler. So its spawn is simple: a child that shares its memory has no
//! handler to run by mistake. Signals must be blocked before the first thread starts, because
//! threads inherit the mask.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use rustix::process::{Signal, getpid, kill_process};

use super::{Zeroed, check};

/// A set of blocked signals that can be read from a descriptor.
#[derive(Debug)]
pub struct Signals(OwnedFd);

impl Signals {
    /// Blocks `signals` for the calling thread and all that it starts. Opens a descriptor
    /// (non-blocking, close-on-exec) that becomes readable when one of them arrives.
    ///
    /// # Errors
    /// Those of `signalfd(2)`.
    pub fn block(signals: &[libc::c_int]) -> io::Result<Self> {
        let set = set_of(signals);
        set_mask(libc::SIG_BLOCK, &set)?;
        let flags = libc::SFD_NONBLOCK | libc::SFD_CLOEXEC;
        // SAFETY: −1 asks for a new descriptor; the set is initialised and outlives the call.
        let fd = check(unsafe { libc::signalfd(-1, &raw const set, flags) })?;
        // SAFETY: the kernel just returned this descriptor and no other code has its number.
        Ok(Signals(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// The next signal that has arrived, if any.
    ///
    /// # Errors
    /// Those of `read(2)`; `WouldBlock` when none is waiting.
    pub fn next(&self) -> io::Result<libc::c_int> {
        let mut info = [0_u8; size_of::<libc::signalfd_siginfo>()];
        // signalfd reads whole structures or nothing, and they begin with the number.
        rustix::io::read(&self.0, &mut info)?;
        let [a, b, c, d, ..] = info;
        Ok(libc::c_int::from_ne_bytes([a, b, c, d]))
    }
}

impl AsRawFd for Signals {
    fn as_raw_fd(&self) -> libc::c_int {
        self.0.as_raw_fd()
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Unblocks all signals for the calling thread.
///
/// # Errors
/// Those of `pthread_sigmask(3)`, of which there are none.
pub fn unblock_all() -> io::Result<()> {
    set_mask(libc::SIG_SETMASK, &set_of(&[]))
}

/// Ends this process by `signal`, so that its parent sees the signal and not an exit status
/// (contract 15). Returns only if the signal did not kill.
pub fn die_by(signal: libc::c_int) {
    set_default(signal);
    if let Some(named) = Signal::from_named_raw(signal) {
        let _ = kill_process(getpid(), named);
    }
    let _ = set_mask(libc::SIG_UNBLOCK, &set_of(&[signal]));
}

/// Sets `signal` to its default action, whatever the parent process has set.
pub fn set_default(signal: libc::c_int) {
    dispose(signal, libc::SIG_DFL);
}

/// Whether this process ignores `signal`, as its parent may have arranged.
pub fn is_ignored(signal: libc::c_int) -> bool {
    let mut action = libc::sigaction::zeroed();
    // SAFETY: no new action is set; the old one is written to `action`, which outlives the call.
    let status = unsafe { libc::sigaction(signal, std::ptr::null(), &raw mut action) };
    status == 0 && action.sa_sigaction == libc::SIG_IGN
}

/// Ignores `signal`.
pub(super) fn ignore(signal: libc::c_int) {
    dispose(signal, libc::SIG_IGN);
}

fn dispose(signal: libc::c_int, action: libc::sighandler_t) {
    // SAFETY: both actions install no code: the callers above pass SIG_DFL or SIG_IGN.
    unsafe { libc::signal(signal, action) };
}

pub(super) fn set_of(signals: &[libc::c_int]) -> libc::sigset_t {
    let mut set = libc::sigset_t::zeroed();
    for &signal in signals {
        // SAFETY: the set is initialised; an unknown number is refused, not undefined.
        unsafe { libc::sigaddset(&raw mut set, signal) };
    }
    set
}

pub(super) fn set_mask(how: libc::c_int, set: &libc::sigset_t) -> io::Result<()> {
    // SAFETY: the set is initialised; no old set is asked for.
    match unsafe { libc::pthread_sigmask(how, set, std::ptr::null_mut()) } {
        0 => Ok(()),
        errno => Err(io::Error::from_raw_os_error(errno)),
    }
}
