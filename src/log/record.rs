//! The record of one connection: all that is known at its end. The log's line, its JSON and other
//! [readers](crate::log::Reader) take it from here.

use std::fmt::{self, Display, Formatter};
use std::sync::Arc;
use std::time::Duration;

use crate::escape::Escaped;
use crate::net::peer::Peer;
use crate::net::watch::Transport;
use crate::protocol::inbound::Unread;
use crate::protocol::request::Request;
use crate::protocol::service::Service;
use crate::sys::child::{End, Usage};

/// One connection, which has ended. All times count from accept, except for
/// [`queued`](Record::queued). `None` says that something was not reached or is not known.
#[derive(Debug, Clone)]
pub struct Record {
    /// The client.
    pub client: Peer,
    /// Whether it was the only client of its process, as under `--inetd`.
    pub alone: bool,
    /// What the client asked for: service, pathname, virtual host, protocol version.
    pub request: Option<Arc<Request>>,
    /// The repository's path, as it was found.
    pub found: Option<Vec<u8>>,
    /// The transport, with the highest number of paths seen. `None` for a pipe.
    pub transport: Option<Transport>,
    /// When the request was complete.
    pub requested: Option<Duration>,
    /// How long the request waited for a permit.
    pub queued: Option<Duration>,
    /// When the service's first byte left. Not known on a Unix socket.
    pub first_byte: Option<Duration>,
    /// When the connection ended.
    pub duration: Duration,
    /// The bytes to and from the client while a service had the connection. Not known on a Unix
    /// socket.
    pub bytes: Option<Bytes>,
    /// The service's process.
    pub pid: Option<u32>,
    /// How the service ended.
    pub end: Option<End>,
    /// What the service has used, with the processes that it has waited for.
    pub usage: Option<Usage>,
    /// How the connection ended.
    pub outcome: Outcome,
    /// Why, in one word that never changes: of a refusal, or of a packet that is no request.
    pub reason: Option<&'static str>,
}

/// The bytes that have crossed a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bytes {
    /// Those that the client has acknowledged.
    pub sent: u64,
    /// Those that the client has sent, the request included.
    pub received: u64,
}

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// A service ran and exited with status 0.
    Served,
    /// A service ran and failed.
    Failed,
    /// The request was refused.
    Refused,
    /// What the client sent is no request.
    Malformed,
    /// The client closed, or the server stopped, before a byte of a request had arrived.
    NoRequest,
    /// gitd dismissed the client in favour of another: it had sent no request.
    Dismissed,
    /// The request was not complete in time, or the session stood still for too long.
    TimedOut,
    /// The client was gone before its service had ended, or before one was started.
    Gone,
    /// gitd stopped, and ended the session.
    Stopped,
    /// gitd panicked, which is a bug.
    InternalError,
}

/// Why gitd ends a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// The kernel has given the client up.
    Gone,
    /// It stands still.
    Still,
    /// The server stops.
    Stop,
}

impl Outcome {
    /// All of them.
    pub const ALL: [Outcome; 10] = [
        Outcome::Served,
        Outcome::Failed,
        Outcome::Refused,
        Outcome::Malformed,
        Outcome::NoRequest,
        Outcome::Dismissed,
        Outcome::TimedOut,
        Outcome::Gone,
        Outcome::Stopped,
        Outcome::InternalError,
    ];

    /// The outcome of a session.
    pub fn of_session(end: Option<End>, cut: Option<Cut>) -> Self {
        match cut {
            Some(Cut::Gone) => Outcome::Gone,
            Some(Cut::Still) => Outcome::TimedOut,
            Some(Cut::Stop) => Outcome::Stopped,
            None if end.is_some_and(End::success) => Outcome::Served,
            None => Outcome::Failed,
        }
    }

    /// The outcome of a connection on which no packet arrived.
    pub fn of_unread(reason: &Unread) -> Self {
        match reason {
            Unread::Nothing => Outcome::NoRequest,
            Unread::HungUp | Unread::Length(_) | Unread::Proxy(_) => Outcome::Malformed,
            Unread::TimedOut(_) => Outcome::TimedOut,
            Unread::Dismissed => Outcome::Dismissed,
            Unread::Broken(_) => Outcome::Gone,
        }
    }

    /// The outcome in one word that never changes, for programs.
    pub fn word(self) -> &'static str {
        match self {
            Outcome::Served => "served",
            Outcome::Failed => "failed",
            Outcome::Refused => "refused",
            Outcome::Malformed => "malformed",
            Outcome::NoRequest => "no-request",
            Outcome::Dismissed => "dismissed",
            Outcome::TimedOut => "timed-out",
            Outcome::Gone => "gone",
            Outcome::Stopped => "stopped",
            Outcome::InternalError => "internal-error",
        }
    }
}

impl Record {
    /// The record of a connection that was just accepted.
    pub fn new(client: Peer) -> Self {
        Record {
            client,
            alone: false,
            request: None,
            found: None,
            transport: None,
            requested: None,
            queued: None,
            first_byte: None,
            duration: Duration::ZERO,
            bytes: None,
            pid: None,
            end: None,
            usage: None,
            outcome: Outcome::Stopped,
            reason: None,
        }
    }

    /// The requested service.
    pub fn service(&self) -> Option<Service> {
        self.request.as_ref().map(|request| request.service)
    }

    /// Whether the log has a line about this end. Otherwise another line has said all of it.
    pub fn has_line(&self) -> bool {
        match self.outcome {
            _ if self.pid.is_some() => true,
            _ if self.alone => false,
            Outcome::NoRequest | Outcome::Dismissed => false,
            Outcome::Gone => self.request.is_some(),
            _ => true,
        }
    }
}

/// Client, request, duration, bytes: the end of the connection's last line.
impl Display for Record {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "client {}", self.client)?;
        if let Some(request) = &self.request {
            write!(f, ", {} '{}'", request.service.name(), Escaped(&request.pathname))?;
        }
        write!(f, ", {:.3} s", self.duration.as_secs_f64())?;
        if let (Some(Bytes { sent, received }), Some(transport)) = (self.bytes, self.transport) {
            write!(f, ", {sent} bytes out, {received} bytes in, {transport}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_unique() {
        let mut words = Outcome::ALL.map(Outcome::word);
        words.sort_unstable();
        assert!(words.is_sorted_by(|a, b| a < b), "{words:?}");
    }

    #[test]
    fn outcomes_of_sessions() {
        let (good, bad) = (Some(End::Exited(0)), Some(End::Killed(1)));
        for (end, cut, outcome) in [
            (good, None, Outcome::Served),
            (bad, None, Outcome::Failed),
            (None, None, Outcome::Failed),
            (bad, Some(Cut::Gone), Outcome::Gone),
            (good, Some(Cut::Still), Outcome::TimedOut),
            (bad, Some(Cut::Stop), Outcome::Stopped),
        ] {
            assert_eq!(Outcome::of_session(end, cut), outcome);
        }
    }

    #[test]
    fn the_line_of_a_record() {
        let mut record = Record::new(Peer { address: None, port: None, user: Some(7) });
        record.duration = Duration::from_millis(1234);
        assert_eq!(record.to_string(), "client unix:uid=7, 1.234 s");
        let request = Request::parse(b"git-upload-pack /a\nb\0host=h\0").unwrap();
        record.request = Some(Arc::new(request));
        record.bytes = Some(Bytes { sent: 5, received: 6 });
        record.transport = Some(Transport::Multipath { paths: 2 });
        let line = "client unix:uid=7, upload-pack '/a\\nb', 1.234 s, 5 bytes out, 6 bytes in, \
                    mptcp, 2 paths";
        assert_eq!(record.to_string(), line);
    }
}
