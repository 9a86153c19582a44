//! What an event consists of: a name, a severity, the line in words, and fields for programs.

use std::fmt::{Arguments, Display};
use std::time::Duration;

use crate::log::record::{Bytes, Record};
use crate::net::peer::Peer;
use crate::net::watch::Transport;
use crate::sys::child::End;
use crate::sys::syslog::Severity;

/// One event.
#[derive(Debug)]
pub struct Event<'a> {
    /// Its name, which never changes.
    pub name: &'static str,
    /// Who can cause it: see [`event`](crate::log::event).
    pub severity: Severity,
    /// The process that it is about, if it is not gitd.
    pub pid: Option<u32>,
    /// Whether the stock daemon calls it fatal (contract 19, 20).
    pub fatal: bool,
    /// Whether the plain log has a line about it. If not, another line has said the same.
    pub has_line: bool,
    /// The client that it is about.
    pub client: Option<&'a Peer>,
    /// Its other fields; those without a value are left out.
    pub fields: &'a [Field<'a>],
    /// Its line, which is safe for a log.
    pub text: Arguments<'a>,
}

impl Event<'_> {
    /// The process that it is about.
    pub fn pid(&self) -> u32 {
        self.pid.unwrap_or_else(std::process::id)
    }
}

/// A name that never changes, and a value.
pub type Field<'a> = (&'static str, Value<'a>);

/// The value of a field.
#[derive(Clone, Copy)]
pub enum Value<'a> {
    /// There is none.
    Nothing,
    /// A word that never changes.
    Word(&'static str),
    /// Text for people, which is safe for a log.
    Text(&'a dyn Display),
    /// Any bytes, such as a client's.
    Bytes(&'a [u8]),
    /// A number.
    Number(u64),
    /// A time, in seconds.
    Seconds(Duration),
}

impl std::fmt::Debug for Value<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Value::Nothing => f.write_str("Nothing"),
            Value::Word(word) => write!(f, "Word({word})"),
            Value::Text(text) => write!(f, "Text({text})"),
            Value::Bytes(bytes) => write!(f, "Bytes({})", bytes.escape_ascii()),
            Value::Number(number) => write!(f, "Number({number})"),
            Value::Seconds(time) => write!(f, "Seconds({time:?})"),
        }
    }
}

impl<'a> Value<'a> {
    /// The value, if there is one.
    pub fn of<T>(value: Option<T>, make: impl FnOnce(T) -> Self) -> Self {
        value.map_or(Value::Nothing, make)
    }
}

/// The fields that identify a client. The address has no brackets.
pub fn client(peer: &Peer) -> [Field<'_>; 3] {
    let address = peer.address.as_deref().map(|address| match address {
        [b'[', bare @ .., b']'] => bare,
        _ => address,
    });
    let port = peer.port.as_deref().and_then(|port| std::str::from_utf8(port).ok()?.parse().ok());
    [
        ("client", Value::of(address, Value::Bytes)),
        ("port", Value::of(port, Value::Number)),
        ("user", Value::of(peer.user, |user| Value::Number(user.into()))),
    ]
}

/// The fields of a record but its client's.
pub fn of_record(record: &Record) -> Vec<Field<'_>> {
    let request = record.request.as_deref();
    let host = request.and_then(|request| request.virtual_host.as_ref());
    let paths = match record.transport {
        Some(Transport::Multipath { paths }) => Some(paths),
        _ => None,
    };
    let usage = record.usage;
    let (exit, signal) = match record.end {
        Some(End::Exited(status)) => (Some(status), None),
        Some(End::Killed(signal)) => (None, Some(signal)),
        None => (None, None),
    };
    let number =
        |number: Option<i32>| Value::of(number, |n| Value::Number(n.unsigned_abs().into()));
    let bytes = |count: fn(Bytes) -> u64| Value::of(record.bytes.map(count), Value::Number);
    let seconds = |time| Value::of(time, Value::Seconds);
    vec![
        ("outcome", Value::Word(record.outcome.word())),
        ("reason", Value::of(record.reason, Value::Word)),
        ("service", Value::of(record.service(), |service| Value::Word(service.name()))),
        ("repository", Value::of(request, |request| Value::Bytes(&request.pathname))),
        ("found", Value::of(record.found.as_deref(), Value::Bytes)),
        ("host", Value::of(host, |host| Value::Bytes(&host.host))),
        ("version", Value::of(request, |request| Value::Number(request.version().into()))),
        ("transport", Value::of(record.transport, |transport| Value::Word(transport.word()))),
        ("paths", Value::of(paths, |paths| Value::Number(paths.into()))),
        ("requested", seconds(record.requested)),
        ("queued", seconds(record.queued)),
        ("first_byte", seconds(record.first_byte)),
        ("duration", Value::Seconds(record.duration)),
        ("bytes_out", bytes(|bytes| bytes.sent)),
        ("bytes_in", bytes(|bytes| bytes.received)),
        ("service_pid", Value::of(record.pid, |pid| Value::Number(pid.into()))),
        ("exit_status", number(exit)),
        ("signal", number(signal)),
        ("cpu_user", seconds(usage.map(|usage| usage.user))),
        ("cpu_system", seconds(usage.map(|usage| usage.system))),
        ("memory", Value::of(usage, |usage| Value::Number(usage.memory))),
    ]
}
