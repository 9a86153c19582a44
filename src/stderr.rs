//! A service's standard error, on its way to the log line by line (contract 21).

use std::fs::File;
use std::future::pending;
use std::io::{self, Read};
use std::os::fd::OwnedFd;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::event;
use crate::sys::descriptor;
use crate::sys::readiness::wait_for;

/// A line that is longer than this many bytes is logged in pieces.
pub const MAX_LINE: usize = 8192;

/// The reading end of the pipe.
#[derive(Debug)]
pub struct Stderr {
    pid: u32,
    pipe: Option<AsyncFd<File>>,
    line: Vec<u8>,
}

impl Stderr {
    /// Takes over the pipe of the process `pid`.
    ///
    /// # Errors
    /// When it cannot be watched, for lack of memory.
    pub fn new(pid: u32, pipe: OwnedFd) -> io::Result<Self> {
        descriptor::set_nonblocking(&pipe, true)?;
        let pipe = wait_for(pipe.into(), Interest::READABLE)?;
        Ok(Stderr { pid, pipe: Some(pipe), line: Vec::new() })
    }

    /// Logs the next lines when there are some; never returns once the pipe has ended. Losing this
    /// future loses nothing.
    pub async fn read(&mut self) {
        let Some(pipe) = &self.pipe else { return pending().await };
        let Ok(mut event) = pipe.readable().await else { return pending().await };
        match take(pipe.get_ref(), &mut self.line, self.pid) {
            Ok(()) => self.pipe = None,
            Err(_) => event.clear_ready(),
        }
    }

    /// Logs what is left in the pipe now. `true` when it has ended, `false` when a process that the
    /// service left behind still holds it.
    pub fn read_now(&mut self) -> bool {
        let Some(pipe) = &self.pipe else { return true };
        if take(pipe.get_ref(), &mut self.line, self.pid).is_ok() {
            self.pipe = None;
        }
        self.pipe.is_none()
    }

    /// Logs until the pipe ends.
    pub async fn read_to_end(mut self) {
        while self.pipe.is_some() {
            self.read().await;
        }
    }
}

/// Logs what can be read; `Ok` at the end of the pipe, an error when there is nothing more now.
fn take(mut pipe: &File, line: &mut Vec<u8>, pid: u32) -> io::Result<()> {
    let mut buffer = [0; 4096];
    loop {
        let read = match pipe.read(&mut buffer) {
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        if read == 0 {
            if !line.is_empty() {
                event::service_said(pid, &std::mem::take(line));
            }
            return Ok(());
        }
        for &octet in &buffer[..read] {
            if octet == b'\n' || line.len() == MAX_LINE {
                event::service_said(pid, &std::mem::take(line));
            }
            if octet != b'\n' {
                line.push(octet);
            }
        }
    }
}
