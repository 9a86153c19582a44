//! How a client leaves, or half leaves, or makes itself heard: between them they make epoll report every combination of
//! IN, OUT, RDHUP, HUP and ERR for the server's end.

use std::io::{ErrorKind, Write};
use std::net::Shutdown;
use std::time::Duration;

use super::line::Line;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leave {
    /// A FIN; a reset where something was not read.
    Close,
    /// A reset.
    Reset,
    /// It closes its writing side, and reads.
    StopSaying,
    /// It closes its reading side, which TCP does not tell the server.
    StopHearing,
    /// Both of these.
    StopBoth,
    /// A byte out of band.
    Urgent,
    UrgentAndReset,
    /// A byte that wakes the server, and a reset while it is awake.
    ByteAndReset,
    ByteAndClose,
    /// As much as both ends have room for, and a reset.
    FloodAndReset,
    FloodAndStopSaying,
    /// It does nothing more: where it did not read, its window stays closed.
    Stay,
}

/// More than any buffer of a connection holds.
const FLOOD: usize = 32 << 20;

impl Leave {
    pub const ALL: [Self; 12] = [
        Self::Close,
        Self::Reset,
        Self::StopSaying,
        Self::StopHearing,
        Self::StopBoth,
        Self::Urgent,
        Self::UrgentAndReset,
        Self::ByteAndReset,
        Self::ByteAndClose,
        Self::FloodAndReset,
        Self::FloodAndStopSaying,
        Self::Stay,
    ];

    /// Does it. The line is returned where the client still has it. The server may be the first to end the connection,
    /// so that nothing here has to succeed.
    pub fn from(self, line: Line) -> Option<Line> {
        let socket = &line.0;
        match self {
            Self::Close => return None,
            Self::Reset => return reset(line),
            Self::StopSaying => drop(socket.shutdown(Shutdown::Write)),
            Self::StopHearing => drop(socket.shutdown(Shutdown::Read)),
            Self::StopBoth => drop(socket.shutdown(Shutdown::Both)),
            // MPTCP has no such thing.
            Self::Urgent => drop(socket.send_out_of_band(b"!")),
            Self::UrgentAndReset => {
                let _ = socket.send_out_of_band(b"!");
                return reset(line);
            }
            Self::ByteAndReset => {
                let _ = line.send("0");
                return reset(line);
            }
            Self::ByteAndClose => {
                let _ = line.send("0");
                return None;
            }
            Self::FloodAndReset => {
                flood(&line);
                return reset(line);
            }
            Self::FloodAndStopSaying => {
                flood(&line);
                let _ = socket.shutdown(Shutdown::Write);
            }
            Self::Stay => {}
        }
        Some(line)
    }
}

/// On a Unix socket it is a close; that what was not read makes of it what TCP calls a reset.
fn reset(line: Line) -> Option<Line> {
    let _ = line.0.set_linger(Some(Duration::ZERO));
    None
}

/// Sends until there is no room or the connection ends. No service understands it.
fn flood(line: &Line) {
    let _ = line.0.set_nonblocking(true);
    let mut sent = 0;
    while sent < FLOOD {
        match (&line.0).write(&[b'z'; 65536]) {
            Ok(length) => sent += length,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => break,
        }
    }
    let _ = line.0.set_nonblocking(false);
}
