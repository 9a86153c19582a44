//! Waits for several descriptors at once without a runtime.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

/// A descriptor to wait for, and whether it is ready.
#[derive(Debug)]
pub struct Wait<'fd> {
    descriptor: BorrowedFd<'fd>,
    interest: i16,
    ready: bool,
}

impl<'fd> Wait<'fd> {
    /// Waits for data, or for the end of the peer's direction.
    pub fn readable(descriptor: BorrowedFd<'fd>) -> Self {
        Self { descriptor, interest: libc::POLLIN, ready: false }
    }

    /// Waits for buffer space, or for the end of a connect.
    pub fn writable(descriptor: BorrowedFd<'fd>) -> Self {
        Self { descriptor, interest: libc::POLLOUT, ready: false }
    }

    /// Waits only for the end of both directions, or an error.
    pub fn closed(descriptor: BorrowedFd<'fd>) -> Self {
        Self { descriptor, interest: 0, ready: false }
    }

    /// Waits for the peer to end its direction, or for an error.
    pub fn finished(descriptor: BorrowedFd<'fd>) -> Self {
        Self { descriptor, interest: libc::POLLRDHUP, ready: false }
    }

    /// Whether the descriptor is ready, or has an error.
    pub fn is_ready(&self) -> bool {
        self.ready
    }
}

/// Waits until one of `waits` is ready or `limit` is over (`None`: for ever). Returns how many are
/// ready.
pub fn wait(waits: &mut [Wait<'_>], limit: Option<Duration>) -> io::Result<usize> {
    let mut raw: Vec<libc::pollfd> = waits
        .iter()
        .map(|wait| libc::pollfd {
            fd: wait.descriptor.as_raw_fd(),
            events: wait.interest,
            revents: 0,
        })
        .collect();
    let count = libc::nfds_t::try_from(raw.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    // Rounded up: a wait of 0.4 ms must not become a busy loop.
    let milliseconds = match limit {
        None => -1,
        Some(limit) => i32::try_from(limit.as_micros().div_ceil(1000)).unwrap_or(i32::MAX),
    };
    // SAFETY: `raw` is an array of `count` initialised pollfd that outlives the call and that no
    // other code uses.
    let ready = unsafe { libc::poll(raw.as_mut_ptr(), count, milliseconds) };
    let ready = usize::try_from(ready).map_err(|_| io::Error::last_os_error())?;
    for (wait, raw) in waits.iter_mut().zip(&raw) {
        wait.ready = raw.revents != 0;
    }
    Ok(ready)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::fd::AsFd;

    #[test]
    fn tells_silence_bytes_room_and_death() {
        let (reader, mut writer) = io::pipe().unwrap();
        let silent = &mut [Wait::readable(reader.as_fd()), Wait::closed(writer.as_fd())];
        assert_eq!(wait(silent, Some(Duration::from_micros(1))).unwrap(), 0);
        assert!(!silent[0].is_ready() && !silent[1].is_ready());

        writer.write_all(b"x").unwrap();
        let bytes = &mut [
            Wait::readable(reader.as_fd()),
            Wait::closed(writer.as_fd()),
            Wait::writable(writer.as_fd()),
        ];
        assert_eq!(wait(bytes, None).unwrap(), 2);
        assert!(bytes[0].is_ready() && !bytes[1].is_ready() && bytes[2].is_ready());

        drop(reader);
        assert_eq!(wait(&mut [Wait::closed(writer.as_fd())], None).unwrap(), 1);
    }
}
