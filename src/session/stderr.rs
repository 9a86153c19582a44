//! A service's standard error, logged line by line (contract 21), each line marked as the
//! service's. A line longer than a [piece](crate::escape::Piece) is logged in pieces.

use std::collections::VecDeque;
use std::fs::File;
use std::future::pending;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::escape::MOST_OF_PIECE;
use crate::log::event;
use crate::protocol::service::Service;
use crate::sys::readiness::register;

/// The most lines logged at a time. A service that writes faster than the log must not block gitd.
const MOST_LINES: usize = 64;

/// Bytes per read.
const PIECE: usize = 4096;

/// The state of the pipe after a read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Left {
    /// There may be more.
    More,
    /// Empty now; a process that the service left behind may still hold the pipe.
    Nothing,
    /// At its end.
    Ended,
}

/// The reading end of the pipe.
#[derive(Debug)]
pub struct Stderr {
    pipe: Pipe,
    lines: Lines,
}

/// Splits the output into lines.
#[derive(Debug)]
struct Lines {
    service: Service,
    pid: u32,
    /// The line that has not ended yet.
    line: Vec<u8>,
    /// Bytes that were read but not logged yet.
    ahead: VecDeque<u8>,
}

#[derive(Debug)]
enum Pipe {
    /// Not registered with the runtime yet.
    Unwatched(Arc<File>),
    Watched(AsyncFd<Arc<File>>),
    Ended,
}

impl Stderr {
    /// Takes over the pipe of the process `pid`, which runs `service`. Nothing is read yet: most
    /// services end soon and write nothing, and waiting would cost a registration and a wake-up
    /// each.
    pub fn new(service: Service, pid: u32, pipe: OwnedFd) -> Self {
        // FIONBIO does not fail on a pipe.
        let _ = rustix::io::ioctl_fionbio(&pipe, true);
        let lines = Lines { service, pid, line: Vec::new(), ahead: VecDeque::new() };
        Stderr { pipe: Pipe::Unwatched(Arc::new(pipe.into())), lines }
    }

    /// From now on lines are logged as they arrive, because the service lives long enough for that
    /// to matter.
    pub fn listen(&mut self) {
        // Without memory for the registration, the lines are logged when the service has ended.
        if let Pipe::Unwatched(pipe) = &self.pipe
            && let Ok(watched) = register(Arc::clone(pipe), Interest::READABLE)
        {
            self.pipe = Pipe::Watched(watched);
        }
    }

    /// Logs the next lines. Never returns before [`Stderr::listen`] or after the pipe's end.
    /// Cancel-safe.
    pub async fn read(&mut self) {
        let Pipe::Watched(pipe) = &self.pipe else { return pending().await };
        let Ok(mut event) = pipe.readable().await else { return pending().await };
        match self.lines.take(pipe.get_ref()) {
            // Yield, because a pipe that always has more would starve other tasks.
            Left::More => tokio::task::yield_now().await,
            Left::Nothing => event.clear_ready(),
            Left::Ended => self.pipe = Pipe::Ended,
        }
    }

    /// Logs what is in the pipe now, up to a bound.
    pub fn read_now(&mut self) -> Left {
        let pipe = match &self.pipe {
            Pipe::Unwatched(pipe) => pipe,
            Pipe::Watched(pipe) => pipe.get_ref(),
            Pipe::Ended => return Left::Ended,
        };
        let left = self.lines.take(pipe);
        if left == Left::Ended {
            self.pipe = Pipe::Ended;
        }
        left
    }

    /// Logs until the pipe ends.
    pub async fn read_to_end(mut self) {
        self.listen();
        while let Pipe::Watched(_) = self.pipe {
            self.read().await;
        }
    }
}

impl Lines {
    fn take(&mut self, mut pipe: &File) -> Left {
        let mut buffer = [0; PIECE];
        let mut lines = 0;
        while lines < MOST_LINES {
            if !self.ahead.is_empty() {
                lines += self.log_ahead(MOST_LINES - lines);
                continue;
            }
            match pipe.read(&mut buffer) {
                Ok(0) => return self.end(),
                Ok(read) => self.ahead.extend(&buffer[..read]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Left::Nothing,
                // Treated as the end, because the error would repeat.
                Err(_) => return self.end(),
            }
        }
        Left::More
    }

    /// Logs at most `most` lines of what was read; returns their number.
    fn log_ahead(&mut self, most: usize) -> usize {
        let mut lines = 0;
        while lines < most
            && let Some(byte) = self.ahead.pop_front()
        {
            if byte == b'\n' || self.line.len() == MOST_OF_PIECE {
                self.log();
                lines += 1;
            }
            if byte != b'\n' {
                self.line.push(byte);
            }
        }
        lines
    }

    fn end(&mut self) -> Left {
        if !self.line.is_empty() {
            self.log();
        }
        Left::Ended
    }

    fn log(&mut self) {
        event::service_said(self.service, self.pid, &std::mem::take(&mut self.line));
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    /// Short lines are bounded by their number.
    #[test]
    fn a_flood_of_lines_is_taken_in_pieces() {
        let (reader, mut writer) = io::pipe().unwrap();
        let mut stderr = Stderr::new(Service::UploadPack, 1, reader.into());
        writer.write_all(&[b'\n'; 1000]).unwrap();
        writer.write_all(b"and more").unwrap();
        for _ in 0..1000 / MOST_LINES {
            assert_eq!(stderr.read_now(), Left::More);
        }
        assert_eq!(stderr.read_now(), Left::Nothing);
        assert_eq!(stderr.lines.line, b"and more");
        drop(writer);
        assert_eq!(stderr.read_now(), Left::Ended);
    }
}
