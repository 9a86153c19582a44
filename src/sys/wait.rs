//! Waits for descriptors without a runtime: `poll(2)` with a [`Duration`].

use std::io;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// Waits until one of `descriptors` is ready or `limit` is over (`None`: for ever). Returns how
/// many are ready.
///
/// # Errors
/// Those of `poll(2)`; `EINTR` when a signal came.
pub fn wait(descriptors: &mut [PollFd<'_>], limit: Option<Duration>) -> io::Result<usize> {
    // The kernel cannot wait longer than for ever.
    let limit = limit.and_then(|limit| Timespec::try_from(limit).ok());
    Ok(poll(descriptors, limit.as_ref())?)
}

/// Waits at most `limit` until `fd` is readable or at its end. `false` when the time is over.
///
/// # Errors
/// Those of `poll(2)` except `EINTR`.
pub fn wait_readable(fd: impl AsFd, limit: Option<Duration>) -> io::Result<bool> {
    let deadline = limit.map(|limit| Instant::now() + limit);
    loop {
        let left = deadline.map(|end| end.saturating_duration_since(Instant::now()));
        match wait(&mut [PollFd::new(&fd, PollFlags::IN)], left) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            ready => return Ok(ready? > 0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn tells_silence_bytes_room_and_death() {
        let (reader, mut writer) = io::pipe().unwrap();
        let ready = |what: &PollFd<'_>| !what.revents().is_empty();
        let silent =
            &mut [PollFd::new(&reader, PollFlags::IN), PollFd::new(&writer, PollFlags::empty())];
        assert_eq!(wait(silent, Some(Duration::from_nanos(1))).unwrap(), 0);
        assert!(!ready(&silent[0]) && !ready(&silent[1]));
        assert!(!wait_readable(&reader, Some(Duration::ZERO)).unwrap());

        writer.write_all(b"x").unwrap();
        let bytes = &mut [
            PollFd::new(&reader, PollFlags::IN),
            PollFd::new(&writer, PollFlags::empty()),
            PollFd::new(&writer, PollFlags::OUT),
        ];
        assert_eq!(wait(bytes, None).unwrap(), 2);
        assert!(ready(&bytes[0]) && !ready(&bytes[1]) && ready(&bytes[2]));
        assert!(wait_readable(&reader, None).unwrap());

        drop(reader);
        let death = &mut [PollFd::new(&writer, PollFlags::empty())];
        assert_eq!(wait(death, Some(Duration::MAX)).unwrap(), 1);
    }
}
