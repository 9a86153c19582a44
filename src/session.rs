//! A running service and its client, until both are gone.

use std::future::pending;
use std::io::{self, Read};
use std::time::Duration;

use socket2::Socket;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::{Instant, sleep_until};

use crate::event;
use crate::sys::descriptor;
use crate::sys::process::{Child, End};
use crate::sys::readiness::wait_for;
use crate::watch::{self, BULK, Counters};

/// How often a session that may turn into bulk is looked at.
const TICK: Duration = Duration::from_millis(25);

/// A line of a service's standard error that is longer than this is logged in pieces.
const MAX_LINE: usize = 8192;

/// How a session ended.
#[derive(Debug)]
pub struct Outcome {
    /// How the service ended; `None` if gitd lost track of it.
    pub end: Option<End>,
    /// What had crossed the connection then.
    pub counters: Option<Counters>,
}

impl Outcome {
    /// Whether the service failed before it said anything: the client would hear nothing at all.
    #[must_use]
    pub fn stillborn(&self) -> bool {
        self.end.is_some_and(|end| !end.success())
            && self.counters.is_some_and(|counters| !counters.answered())
    }
}

/// Watches until the service has ended. Its last words may still be in the pipe then.
///
/// # Errors
/// When the service cannot be watched at all, for lack of memory or descriptors.
pub async fn watch(
    client: &AsyncFd<Socket>,
    process: &Child,
    stderr: &mut Log,
) -> io::Result<Outcome> {
    let ended = wait_for(process.pidfd(), Interest::READABLE)?;
    let mut traffic = Traffic { client, open: true, next_look: Some(Instant::now() + TICK) };
    let end = loop {
        tokio::select! {
            biased;
            ready = ended.readable() => {
                ready?.clear_ready();
                match process.try_wait() {
                    Ok(None) => {}
                    Ok(end) => break end,
                    Err(error) => {
                        event::service_lost(process.pid, &crate::sys::errno_text(&error));
                        break None;
                    }
                }
            }
            () = traffic.look() => {}
            () = stderr.read() => {}
        }
    };
    Ok(Outcome { end, counters: Counters::read(client.get_ref()) })
}

/// The socket's events, and what is done at each.
struct Traffic<'a> {
    client: &'a AsyncFd<Socket>,
    /// Whether more events can come: a closed connection stays ready for ever.
    open: bool,
    /// When to see whether bulk has begun; `None` once it has.
    next_look: Option<Instant>,
}

impl Traffic<'_> {
    /// Waits for the next event and does what it calls for. Losing this future loses nothing.
    async fn look(&mut self) {
        let tick = self.next_look;
        tokio::select! {
            // OUT beside IN: when the service has already taken what arrived, epoll would drop an event
            // for IN alone.
            event = self.client.ready(Interest::READABLE | Interest::WRITABLE), if self.open => {
                let Ok(mut event) = event else { self.open = false; return };
                watch::acknowledge(self.client.get_ref());
                self.open = !event.ready().is_read_closed() && !event.ready().is_write_closed();
                event.clear_ready();
            }
            () = async { match tick { Some(at) => sleep_until(at).await, None => pending().await } } => {
                let bulk = Counters::read(self.client.get_ref()).is_none_or(|seen| seen.sent > BULK);
                if bulk {
                    watch::prefer_full_segments(self.client.get_ref());
                }
                self.next_look = (!bulk).then(|| Instant::now() + TICK);
            }
        }
    }
}

/// A service's standard error, on its way to the log line by line (contract 21).
#[derive(Debug)]
pub struct Log {
    pid: u32,
    pipe: Option<AsyncFd<std::fs::File>>,
    line: Vec<u8>,
}

impl Log {
    /// Takes over the reading end of the pipe.
    ///
    /// # Errors
    /// When it cannot be watched, for lack of memory.
    pub fn new(pid: u32, pipe: std::os::fd::OwnedFd) -> io::Result<Self> {
        descriptor::set_nonblocking(&pipe, true)?;
        let pipe = wait_for(pipe.into(), Interest::READABLE)?;
        Ok(Log { pid, pipe: Some(pipe), line: Vec::new() })
    }

    /// Logs the next lines when there are some; never returns once the pipe has ended. Losing this
    /// future loses nothing.
    async fn read(&mut self) {
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
fn take(mut pipe: &std::fs::File, line: &mut Vec<u8>, pid: u32) -> io::Result<()> {
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
