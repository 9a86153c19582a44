//! `syslog(3)`: the C library finds the socket, works with rsyslog and journald, and reconnects
//! after a restart of the daemon.

use std::ffi::CString;

/// The severity of a message (`LOG_*` of syslog.h).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// `LOG_ERR`, 3.
    Error,
    /// `LOG_WARNING`, 4.
    Warning,
    /// `LOG_INFO`, 6.
    Info,
}

impl Severity {
    /// Its name in words of programs.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Severity::Error => "error",
            Severity::Warning => "warning",
            Severity::Info => "info",
        }
    }

    /// Its number in syslog and the journal.
    #[must_use]
    pub fn number(self) -> i32 {
        match self {
            Severity::Error => libc::LOG_ERR,
            Severity::Warning => libc::LOG_WARNING,
            Severity::Info => libc::LOG_INFO,
        }
    }
}

/// Names this process `git-daemon` with its pid and the facility `daemon`, as the stock daemon does
/// (contract 20).
pub fn open() {
    // SAFETY: the identity is a static string; the C library keeps the pointer.
    unsafe { libc::openlog(c"git-daemon".as_ptr(), libc::LOG_PID, libc::LOG_DAEMON) };
}

/// Sends one message, cut at 1023 bytes (contract 20). A message that cannot be delivered is lost,
/// as always in syslog.
pub fn send(severity: Severity, message: &str) {
    let mut end = message.len().min(1023);
    while !message.is_char_boundary(end) {
        end -= 1;
    }
    let Ok(text) = CString::new(&message[..end]) else { return };
    let priority = severity.number();
    // SAFETY: the format takes exactly one string, which is NUL-terminated and alive.
    unsafe { libc::syslog(priority, c"%s".as_ptr(), text.as_ptr()) };
}
