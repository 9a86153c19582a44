//! The record of a connection that is still open.

use std::sync::Arc;
use std::time::Instant;

use socket2::Socket;

use crate::access::denial::Denial;
use crate::log::event;
use crate::log::record::{Bytes, Outcome, Record};
use crate::net::peer::{Origin, Peer};
use crate::net::watch::Transport;
use crate::protocol::inbound::Unread;
use crate::protocol::request::{Malformed, Request};
use crate::session;
use crate::session::child::Running;

/// What is known of an open connection. Dropping it is the connection's end: then the record goes
/// to its readers, exactly once, even if gitd panics.
#[derive(Debug)]
pub struct Open {
    /// Where the connection comes from.
    pub origin: Origin,
    /// When it was accepted.
    pub accepted: Instant,
    /// Made when there is something to record: most connections that idle have sent nothing.
    record: Option<Box<Record>>,
    /// Whether the connection is gitd's own, of which nobody is told.
    own: bool,
}

impl Open {
    /// Begins with a connection that was just accepted.
    pub fn new(origin: Origin) -> Self {
        Open { origin, accepted: Instant::now(), record: None, own: false }
    }

    /// Begins with the only client of this process.
    pub fn alone(client: Peer) -> Self {
        let mut open = Open::new(Origin::Local(None));
        open.record = Some(Box::new(Record { alone: true, ..Record::new(client) }));
        open
    }

    /// Ends gitd's own connection without a record.
    pub fn forget(mut self) {
        self.own = true;
    }

    /// The record so far.
    pub fn record(&mut self) -> &mut Record {
        self.record.get_or_insert_with(|| {
            let mut record = Record::new(Peer::from(self.origin));
            record.transport = matches!(self.origin, Origin::Local(_)).then_some(Transport::Unix);
            Box::new(record)
        })
    }

    /// The connection ends without a service, whose counters would tell the transport.
    pub fn note_transport(&mut self, client: &Socket) {
        self.record().transport.get_or_insert_with(|| Transport::read(client));
    }

    /// The request is complete.
    pub fn requested(&mut self, request: &Arc<Request>) {
        let requested = self.accepted.elapsed();
        let record = self.record();
        record.requested = Some(requested);
        record.request = Some(Arc::clone(request));
    }

    /// No packet arrived.
    pub fn unread(&mut self, reason: &Unread) {
        let record = self.record();
        record.outcome = Outcome::of_unread(reason);
        record.reason = reason.word();
    }

    /// The packet is no request.
    pub fn malformed(&mut self, reason: &Malformed) {
        let record = self.record();
        record.outcome = Outcome::Malformed;
        record.reason = Some(reason.word());
    }

    /// The client has left before a service was started.
    pub fn gone(&mut self) {
        self.record().outcome = Outcome::Gone;
    }

    /// The request is refused, or its service has failed and gitd answers.
    pub fn refused(&mut self, denial: &Denial) {
        let record = self.record();
        record.reason = Some(denial.word());
        if record.pid.is_none() {
            record.outcome = Outcome::Refused;
            record.found = denial.found().map(<[u8]>::to_vec);
        }
    }

    /// A service was started.
    pub fn started(&mut self, running: &Running) {
        let record = self.record();
        record.pid = Some(running.process.pid);
        record.found = Some(running.repository.clone());
    }

    /// The service has ended.
    pub fn ended(&mut self, session: &session::Outcome) {
        let accepted = self.accepted;
        let watched = &session.watched;
        let record = self.record();
        record.duration = accepted.elapsed();
        record.end = session.end;
        record.usage = session.usage;
        record.outcome = Outcome::of_session(session.end, watched.cut);
        record.first_byte = watched.first_byte.map(|at| at.saturating_duration_since(accepted));
        if let Some(counters) = watched.counters {
            record.bytes = Some(Bytes { sent: counters.sent, received: counters.received });
            record.transport = Some(counters.transport);
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        if self.own {
            return;
        }
        let accepted = self.accepted;
        let record = self.record();
        if record.end.is_none() {
            record.duration = accepted.elapsed();
        }
        if std::thread::panicking() {
            record.outcome = Outcome::InternalError;
        }
        event::closed(record);
    }
}
