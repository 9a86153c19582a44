//! What a process says on its two streams, read at the same time.

use std::io::{self, PipeReader, Read};
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Output};

use rustix::event::{PollFd, PollFlags};

use crate::sys::child::End;
use crate::sys::wait::wait;

/// How many bytes of a stream are kept; the rest is read and dropped.
const MAX_SAID: usize = 1 << 20;

/// The standard output and standard error of a process.
pub(super) struct Said {
    streams: [Option<PipeReader>; 2],
    /// What they have said so far.
    pub(super) texts: [Vec<u8>; 2],
}

impl Said {
    pub(super) fn new(streams: [PipeReader; 2]) -> Self {
        Said { streams: streams.map(Some), texts: [Vec::new(), Vec::new()] }
    }

    /// Reads while `wanting` accepts the text of standard output, until both streams end.
    pub(super) fn read_while(&mut self, wanting: impl Fn(&[u8]) -> bool) -> io::Result<()> {
        while wanting(&self.texts[0]) && self.streams.iter().any(Option::is_some) {
            let mut waits: Vec<PollFd<'_>> = self
                .streams
                .iter()
                .flatten()
                .map(|stream| PollFd::new(stream, PollFlags::IN))
                .collect();
            match wait(&mut waits, None) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                waited => waited?,
            };
            let ready: Vec<bool> = waits.iter().map(|wait| !wait.revents().is_empty()).collect();
            let mut ready = ready.into_iter();
            for (stream, text) in self.streams.iter_mut().zip(&mut self.texts) {
                if stream.is_some() && ready.next() == Some(true) {
                    read_some(stream, text)?;
                }
            }
        }
        Ok(())
    }

    pub(super) fn output(self, end: End) -> io::Result<Output> {
        let status = ExitStatus::from_raw(match end {
            End::Exited(status) => status << 8,
            End::Killed(signal) => signal,
        });
        let [stdout, stderr] = self.texts;
        Ok(Output { status, stdout, stderr })
    }
}

fn read_some(stream: &mut Option<PipeReader>, text: &mut Vec<u8>) -> io::Result<()> {
    let mut buffer = [0; 4096];
    let Some(pipe) = stream else { return Ok(()) };
    match pipe.read(&mut buffer) {
        Ok(0) => *stream = None,
        Ok(read) => {
            let room = MAX_SAID.saturating_sub(text.len());
            text.extend_from_slice(&buffer[..read.min(room)]);
        }
        Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
        Err(error) => return Err(error),
    }
    Ok(())
}
