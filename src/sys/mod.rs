//! What a library's system calls mean to gitd, those that no library has, and all `unsafe` code of
//! the crate.
//!
//! Each file has a few safe functions that take descriptors, byte strings and [`std::io::Error`].
//! No raw pointer leaves a file. A call of rustix that needs no explanation is made by its user.

pub mod account;
pub mod descriptor;
pub mod entry;
pub mod inherited;
pub mod shortage;
mod turn;
pub mod child;
pub mod process;
pub mod family;
pub mod readiness;
pub mod resolve;
pub mod signal;
pub mod socket;
pub mod syslog;
pub mod wait;

use std::io;

// Links the unwinder statically: loading it as a library takes a tenth of the time in which
// `--inetd` refuses a client.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[link(name = "gcc_eh", kind = "static", modifiers = "-bundle")]
unsafe extern "C" {}

/// The result of a system call that returns −1 and sets `errno` on failure.
fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// The C library's text for an operating system error, without the number that Rust appends:
/// `Address already in use`, as the stock daemon logs it.
#[must_use]
pub fn errno_text(error: &io::Error) -> String {
    let text = error.to_string();
    match text.rfind(" (os error ") {
        Some(end) => text[..end].to_owned(),
        None => text,
    }
}

/// A structure of the C library for which all-zero bytes are a valid value.
///
/// # Safety
/// Its fields are numbers, or pointers that may be null.
unsafe trait Zeroed: Sized {
    /// All-zero bytes.
    fn zeroed() -> Self {
        // SAFETY: the trait says that they are a valid value.
        unsafe { std::mem::zeroed() }
    }
}

// SAFETY: bits; all-zero is the empty set on Linux.
unsafe impl Zeroed for libc::sigset_t {}
// SAFETY: numbers, and a handler that is SIG_DFL then.
unsafe impl Zeroed for libc::sigaction {}
// SAFETY: numbers.
unsafe impl Zeroed for libc::rusage {}
