//! The state of a connection at a look, and what to do about it.

use std::net::Shutdown;
use std::time::Duration;

use rustix::process::Signal;

use crate::net::watch::{Counters, Queues};

/// The state of a socket at a look. Fields that were not asked for have their default.
#[derive(Debug, Clone, Copy, Default)]
pub struct Seen {
    /// `None` where the kernel counts no bytes, as on a Unix socket.
    pub counters: Option<Counters>,
    /// The bytes in the queues; asked for where there are no counters.
    pub queues: Queues,
    /// Whether a direction has ended.
    pub ended: bool,
    /// Whether the kernel has given the connection up.
    pub broken: bool,
    /// Bytes that TCP has not sent.
    pub unsent: Option<u64>,
}

/// What to read from the socket beside its counters; each costs a system call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Questions {
    /// Whether a direction has ended.
    pub ended: bool,
    /// Whether the connection is broken.
    pub broken: bool,
    /// How many bytes are unsent.
    pub unsent: bool,
}

/// What to do with the socket and the service after a look.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Actions {
    /// Send what is held back.
    pub uncork: bool,
    /// How to segment what the service writes from now on.
    pub segments: Option<Segments>,
    /// End the session, for this reason.
    pub stuck: Option<Stuck>,
    /// The signal that must end the service, if it has not noticed the end of its connection. git's
    /// services ignore SIGTERM; at SIGHUP they remove their temporary files.
    pub signal: Option<Signal>,
}

/// How the kernel segments what is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Segments {
    /// At once; arrivals are acknowledged at once too.
    Prompt,
    /// Only full segments.
    Full,
}

/// Why gitd ends a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stuck {
    /// The direction to shut down.
    pub shutdown: Shutdown,
    /// Whether the kernel has given the client up; otherwise the session has stood still for too
    /// long.
    pub gone: bool,
    /// How long nothing has moved.
    pub still: Duration,
}
