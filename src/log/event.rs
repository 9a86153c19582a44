//! Every event that gitd logs, one function each. Those that the stock daemon logs keep its words
//! (contract 18). Refusals add the client and what the administrator can do.
//!
//! The severity says who can cause an event: `error` a client or a repository's owner, `warn` the
//! system, `info` ordinary work (only with `--verbose`). Names of events and fields are documented
//! in docs/logging.md and never change.

pub mod server;

use std::fmt::{Arguments, Display};
use std::time::Duration;

use crate::escape::{Escaped, Piece};
use crate::log;
use crate::log::fields::Value::{Bytes, Nothing, Number, Seconds, Text, Word};
use crate::log::fields::{Event, Field, of_record};
use crate::log::record::Record;
use crate::net::peer::Peer;
use crate::protocol::inbound::Unread;
use crate::protocol::request::{Malformed, Request};
use crate::protocol::service::Service;
use crate::sys::child::End;
use crate::sys::errno_text;
use crate::sys::syslog::Severity;
pub use server::*;

/// The client that an event is about.
type Client<'a> = Option<&'a Peer>;

fn event<'a>(
    severity: Severity,
    name: &'static str,
    client: Client<'a>,
    fields: &'a [Field<'a>],
    text: Arguments<'a>,
) -> Event<'a> {
    Event { name, severity, pid: None, fatal: false, has_line: true, client, fields, text }
}

fn info(name: &'static str, client: Client<'_>, fields: &[Field<'_>], text: Arguments<'_>) {
    log::read(&event(Severity::Info, name, client, fields, text));
}

fn warn(name: &'static str, client: Client<'_>, fields: &[Field<'_>], text: Arguments<'_>) {
    log::read(&event(Severity::Warning, name, client, fields, text));
}

fn error(name: &'static str, client: Client<'_>, fields: &[Field<'_>], text: Arguments<'_>) {
    log::read(&event(Severity::Error, name, client, fields, text));
}

/// An error of another process than gitd.
fn error_of(pid: u32, name: &'static str, fields: &[Field<'_>], text: Arguments<'_>) {
    log::read(&Event { pid: Some(pid), ..event(Severity::Error, name, None, fields, text) });
}

/// An error that the stock daemon calls fatal.
fn fatal_error(name: &'static str, client: Client<'_>, fields: &[Field<'_>], text: Arguments<'_>) {
    log::read(&Event { fatal: true, ..event(Severity::Error, name, client, fields, text) });
}

/// A client was accepted.
pub fn connection(peer: &Peer) {
    info("connection", Some(peer), &[], format_args!("Connection from {peer}"));
}

/// No packet came. Logged by its reason.
pub fn unread(reason: &Unread, peer: &Peer) {
    match reason {
        Unread::Nothing => probe(peer),
        Unread::Dismissed => dismissed(peer),
        Unread::Broken(error) => connection_lost(peer, &errno_text(error)),
        Unread::HungUp | Unread::Length(_) | Unread::TimedOut(_) | Unread::Proxy(_) => {
            let word = reason.word().unwrap_or("request-timeout");
            died(word, reason, reason.remedy(), peer);
        }
    }
}

/// A packet is no request.
pub fn malformed(reason: &Malformed, peer: &Peer) {
    match reason {
        Malformed::UnknownCommand(line) => protocol_error(reason, line, peer),
        Malformed::Invalid | Malformed::UnclosedBracket | Malformed::GarbageAfterHost => {
            died(reason.word(), reason, "", peer);
        }
    }
}

/// The client sent a host-parameter.
pub fn host_parameter(value: &[u8], peer: &Peer) {
    info(
        "host-parameter",
        Some(peer),
        &[("value", Bytes(value))],
        format_args!("Extended attribute \"host\": {}", Escaped(value)),
    );
}

/// The client sent extra-parameters, such as a protocol version.
pub fn protocol_parameter(value: &[u8], peer: &Peer) {
    info(
        "protocol-parameter",
        Some(peer),
        &[("value", Bytes(value))],
        format_args!("Extended attribute \"protocol\": {}", Escaped(value)),
    );
}

/// The request was parsed.
pub fn request(request: &Request, peer: &Peer) {
    let Request { service, pathname, .. } = request;
    info(
        "request",
        Some(peer),
        &[("service", Word(service.name())), ("repository", Bytes(pathname))],
        format_args!("Request {} for '{}'", service.name(), Escaped(pathname)),
    );
}

/// A `~user` path was split.
pub fn user_path(below: &[u8], pathname: &[u8], user: &[u8], rest: &[u8]) {
    info(
        "user-path",
        None,
        &[("repository", Bytes(pathname))],
        format_args!(
            "userpath <{}>, request <{}>, namlen {}, restlen {}, slash <{}>",
            Escaped(below),
            Escaped(pathname),
            user.len(),
            rest.len(),
            Escaped(rest),
        ),
    );
}

/// The template gave this path.
pub fn interpolated(path: &[u8]) {
    let shown = Escaped(path);
    info(
        "interpolated",
        None,
        &[("path", Bytes(path))],
        format_args!("Interpolated dir '{shown}'"),
    );
}

/// What the client sent is no request. The stock daemon calls it fatal, though only this connection
/// ends. The client gets no answer.
fn died(word: &'static str, reason: &dyn Display, remedy: &str, peer: &Peer) {
    let divider = if remedy.is_empty() { "" } else { "; " };
    fatal_error(
        "malformed",
        Some(peer),
        &[("reason", Word(word))],
        format_args!("{reason} (client {peer}{divider}{remedy})"),
    );
}

/// The request names none of git's services. The client gets no answer.
fn protocol_error(reason: &Malformed, line: &[u8], peer: &Peer) {
    error(
        "malformed",
        Some(peer),
        &[("reason", Word(reason.word())), ("value", Bytes(line))],
        format_args!("{reason} (client {peer})"),
    );
}

/// A client connected and closed without sending a byte, as load balancers do for health checks
/// (B12).
fn probe(peer: &Peer) {
    info("no-request", Some(peer), &[], format_args!("{peer} closed without a request"));
}

/// A client without a request was dismissed in favour of another.
fn dismissed(peer: &Peer) {
    info(
        "dismissed",
        Some(peer),
        &[],
        format_args!(
            "no request, and no room for more clients without one: closing (client {peer})"
        ),
    );
}

/// The checks of a request take suspiciously long.
pub fn check_hangs(pathname: &[u8], after: Duration, peer: &Peer) {
    warn(
        "check-hangs",
        Some(peer),
        &[("repository", Bytes(pathname)), ("after", Seconds(after))],
        format_args!(
            "'{}': not decided after {} s; does its file system, the resolver or the access hook \
             hang? (client {peer})",
            Escaped(pathname),
            after.as_secs()
        ),
    );
}

/// The request was refused: the reason, in words and in one that never changes, the client, and
/// what the administrator could do.
pub fn denied(
    request: &Request,
    word: &'static str,
    reason: &dyn Display,
    remedy: &str,
    peer: &Peer,
) {
    let (before, shown) = if remedy.is_empty() { ("", Nothing) } else { ("; ", Text(&remedy)) };
    error(
        "denied",
        Some(peer),
        &[
            ("reason", Word(word)),
            ("service", Word(request.service.name())),
            ("repository", Bytes(&request.pathname)),
            ("remedy", shown),
        ],
        format_args!("{reason} (client {peer}{before}{remedy})"),
    );
}

/// The access hook could not be run.
pub fn hook_failed(hook: &[u8], reason: &str) {
    let shown = Escaped(hook);
    let fields = [("hook", Bytes(hook)), ("error", Text(&reason))];
    error(
        "hook-failed",
        None,
        &fields,
        format_args!("daemon access hook '{shown}' failed to start"),
    );
    fatal_error("hook-failed", None, &fields, format_args!("cannot exec '{shown}': {reason}"));
}

/// The access hook was killed.
pub fn hook_killed(hook: &[u8], signal: i32) {
    error(
        "hook-killed",
        None,
        &[("hook", Bytes(hook)), ("signal", Number(signal.unsigned_abs().into()))],
        format_args!("error: {} died of signal {signal}", Escaped(hook)),
    );
}

/// One line of a service's standard error, or a piece of it. The service's name and a colon go
/// before it, because a service's words may come from a client. No line of gitd's own begins like
/// that.
pub fn service_said(service: Service, pid: u32, piece: &[u8]) {
    error_of(
        pid,
        "service-said",
        &[("service", Word(service.name())), ("value", Bytes(piece))],
        format_args!("{}: {}", service.name(), Piece(piece)),
    );
}

/// gitd ends a session: its client is gone, or nothing has moved for the allowed time.
pub fn session_stuck(pid: u32, vanished: bool, still: Duration) {
    let reason = if vanished { "client is gone" } else { "session stands still" };
    let word = if vanished { "gone" } else { "timed-out" };
    error_of(
        pid,
        "session-ended",
        &[("reason", Word(word)), ("after", Seconds(still))],
        format_args!("{reason}: no byte moved for {} s; ending it", still.as_secs()),
    );
}

/// A service could not be waited for, so its status is unknown.
pub fn service_lost(pid: u32, reason: &str) {
    error_of(
        pid,
        "service-lost",
        &[("error", Text(&reason))],
        format_args!("lost track of the service: {reason}"),
    );
}

/// A connection has ended. Its record goes to all readers.
pub fn closed(record: &Record) {
    let pid = record.pid.unwrap_or_else(std::process::id);
    if let (Some(End::Killed(signal)), Some(service)) = (record.end, record.service()) {
        let service = service.name();
        error_of(
            pid,
            "service-killed",
            &[("service", Word(service)), ("signal", Number(signal.unsigned_abs().into()))],
            format_args!("error: {service} died of signal {signal}"),
        );
    }
    if log::reads(Severity::Info) {
        let good = record.end.is_some_and(End::success);
        let result = if good { "" } else { " (with error)" };
        let fields = of_record(record);
        let text = format_args!("[{pid}] Disconnected{result}, {record}");
        let closed = event(Severity::Info, "closed", Some(&record.client), &fields, text);
        log::read(&Event { has_line: record.has_line(), ..closed });
    }
    log::tell(record);
}

/// The connection broke before a service was started, because of the client or its network.
fn connection_lost(peer: &Peer, reason: &str) {
    info(
        "connection-lost",
        Some(peer),
        &[("error", Text(&reason))],
        format_args!("connection lost: {reason} (client {peer})"),
    );
}
