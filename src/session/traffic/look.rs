//! What is seen of a connection at a look, and what is to be done about it.

use std::net::Shutdown;
use std::time::Duration;

use crate::net::watch::{Counters, Queues};

/// What is known of a socket at a look. What nobody asked for is not there.
#[derive(Debug, Clone, Copy, Default)]
pub struct Seen {
    /// `None` where the kernel counts nothing, as on a Unix socket.
    pub counters: Option<Counters>,
    /// What stands in the queues; asked for where there are no counters.
    pub queues: Queues,
    /// Whether a direction has ended.
    pub ended: bool,
    /// Whether the kernel has given the connection up.
    pub broken: bool,
    /// Bytes that TCP has not sent.
    pub unsent: Option<u64>,
}

/// What to read of the socket at a look beside its counters; each costs a system call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Questions {
    /// Whether a direction has ended.
    pub ended: bool,
    /// Whether the connection is broken.
    pub broken: bool,
    /// How much is unsent.
    pub unsent: bool,
}

/// What to do with the socket and the service after a look.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Actions {
    /// Send what was held back.
    pub uncork: bool,
    /// How to cut what the service writes from now on.
    pub segments: Option<Segments>,
    /// The session is at its end, for this reason.
    pub stuck: Option<Stuck>,
    /// The signal that is to end the service, which has not noticed the end of its connection. git's services
    /// ignore SIGTERM; at SIGHUP they remove their temporary files.
    pub signal: Option<i32>,
}

/// How the kernel is to cut what is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Segments {
    /// At once, and arrivals are acknowledged at once.
    Prompt,
    /// When they are full.
    Full,
}

/// A session that is ended from here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stuck {
    /// The direction to shut down.
    pub shutdown: Shutdown,
    /// Whether the kernel has given its client up; else it has stood still for too long.
    pub gone: bool,
    /// For how long nothing has moved.
    pub still: Duration,
}
