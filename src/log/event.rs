//! Every line that gitd logs, one function each. Events that the stock daemon logs keep its words
//! (contract 18). Refusals add the client and what the administrator can do.
//!
//! The level says who can cause a line: `error` a client or a repository's owner, `warn` the
//! system, `info` ordinary work (only with `--verbose`). A `pid` field names the process that a
//! line is about, if it is not gitd.

use std::fmt::Display;
use std::num::NonZeroUsize;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use tracing::{error, info, warn};

use crate::escape::{Escaped, Piece};
use crate::log;
use crate::log::record::Record;
use crate::net::peer::Peer;
use crate::protocol::inbound::Unread;
use crate::protocol::request::Malformed;
use crate::protocol::service::Service;
use crate::sys::child::End;
use crate::sys::errno_text;

/// All sockets listen and privileges are dropped. The first line of a verbose daemon.
pub fn ready() {
    info!("Ready to rumble");
}

/// One of the addresses that the server listens on.
pub fn listening(address: &dyn Display) {
    info!("Listening on {address}");
}

/// gitd could not listen on an address; it may listen on others.
pub fn bind_failed(address: &dyn Display, reason: &str) {
    error!("Could not bind to {address}: {reason}");
}

/// A host to listen on has no address.
pub fn resolve_failed(host: &[u8], reason: &dyn Display) {
    error!("getaddrinfo() for {} failed: {reason}", Escaped(host));
}

/// gitd could listen on none of a host's addresses.
pub fn host_failed(host: &[u8], port: &dyn Display) {
    error!("unable to allocate any listen sockets for host {} on port {port}", Escaped(host));
}

/// A setting is allowed, but probably a mistake.
pub fn warning(text: &str) {
    warn!("warning: {text}");
}

/// A client was accepted.
pub fn connection(peer: &dyn Display) {
    info!("Connection from {peer}");
}

/// No packet came. Logged by its reason.
pub fn unread(reason: &Unread, peer: &Peer) {
    match reason {
        Unread::Nothing => probe(peer),
        Unread::Dismissed => dismissed(peer),
        Unread::Broken(error) => connection_lost(peer, &errno_text(error)),
        Unread::HungUp | Unread::Length(_) | Unread::TimedOut(_) => died(reason, peer),
    }
}

/// A packet is no request.
pub fn malformed(reason: &Malformed, peer: &Peer) {
    match reason {
        Malformed::UnknownCommand(_) => protocol_error(reason, peer),
        Malformed::Invalid | Malformed::UnclosedBracket | Malformed::GarbageAfterHost => {
            died(reason, peer);
        }
    }
}

/// The client sent a host-parameter.
pub fn host_parameter(value: &[u8]) {
    info!("Extended attribute \"host\": {}", Escaped(value));
}

/// The client sent extra-parameters, such as a protocol version.
pub fn protocol_parameter(value: &[u8]) {
    info!("Extended attribute \"protocol\": {}", Escaped(value));
}

/// The request was parsed.
pub fn request(service: Service, pathname: &[u8]) {
    info!("Request {} for '{}'", service.name(), Escaped(pathname));
}

/// A `~user` path was split.
pub fn user_path(below: &[u8], pathname: &[u8], user: &[u8], rest: &[u8]) {
    info!(
        "userpath <{}>, request <{}>, namlen {}, restlen {}, slash <{}>",
        Escaped(below),
        Escaped(pathname),
        user.len(),
        rest.len(),
        Escaped(rest),
    );
}

/// The template gave this path.
pub fn interpolated(path: &[u8]) {
    info!("Interpolated dir '{}'", Escaped(path));
}

/// What the client sent is no request. The stock daemon calls it fatal, though only this connection
/// ends. The client gets no answer.
fn died(reason: &dyn Display, peer: &dyn Display) {
    error!(fatal = true, "{reason} (client {peer})");
}

/// The request names none of git's services. The client gets no answer.
fn protocol_error(reason: &dyn Display, peer: &dyn Display) {
    error!("{reason} (client {peer})");
}

/// A client connected and closed without sending a byte, as load balancers do for health checks
/// (B12).
fn probe(peer: &dyn Display) {
    info!("{peer} closed without a request");
}

/// A client without a request was dismissed in favour of another.
fn dismissed(peer: &dyn Display) {
    info!("no request, and no room for more clients without one: closing (client {peer})");
}

/// The first such dismissal since the number last fell to half of the bound.
pub fn pending_overflowed(most: NonZeroUsize, origin: &dyn Display) {
    warn!(
        "{most} clients have sent no request; from now on the one silent longest makes room for each \
         new one ({origin})"
    );
}

/// The checks of a request take suspiciously long.
pub fn check_hangs(pathname: &[u8], after: Duration, peer: &dyn Display) {
    warn!(
        "'{}': not decided after {} s; does its file system, the resolver or the access hook hang? \
         (client {peer})",
        Escaped(pathname),
        after.as_secs()
    );
}

/// The request was refused: the reason, the client, and what the administrator could do.
pub fn denied(reason: &dyn Display, remedy: &str, peer: &dyn Display) {
    match remedy {
        "" => error!("{reason} (client {peer})"),
        _ => error!("{reason} (client {peer}; {remedy})"),
    }
}

/// The access hook could not be run.
pub fn hook_failed(hook: &[u8], reason: &str) {
    error!("daemon access hook '{}' failed to start", Escaped(hook));
    error!(fatal = true, "cannot exec '{}': {reason}", Escaped(hook));
}

/// The access hook was killed.
pub fn hook_killed(hook: &[u8], signal: i32) {
    error!("error: {} died of signal {signal}", Escaped(hook));
}

/// One line of a service's standard error, or a piece of it. The service's name and a colon go
/// before it, because a service's words may come from a client. No line of gitd's own begins like
/// that.
pub fn service_said(service: Service, pid: u32, piece: &[u8]) {
    error!(pid, "{}: {}", service.name(), Piece(piece));
}

/// gitd ends a session: its client is gone, or nothing has moved for the allowed time.
pub fn session_stuck(pid: u32, vanished: bool, still: Duration) {
    let reason = if vanished { "client is gone" } else { "session stands still" };
    error!(pid, "{reason}: no byte moved for {} s; ending it", still.as_secs());
}

/// The kernel has no memory to watch a client or its service; gitd tries again.
pub fn unwatched(reason: &str) {
    warn!("cannot watch a connection: {reason}; trying again");
}

/// A service could not be waited for, so its status is unknown.
pub fn service_lost(pid: u32, reason: &str) {
    error!(pid, "lost track of the service: {reason}");
}

/// A connection has ended. Its record goes to all readers.
pub fn closed(record: &Record) {
    let pid = record.pid.unwrap_or_else(std::process::id);
    if let (Some(End::Killed(signal)), Some(service)) = (record.end, record.service()) {
        error!(pid, "error: {} died of signal {signal}", service.name());
    }
    if record.has_line() {
        let good = record.end.is_some_and(End::success);
        let result = if good { "" } else { " (with error)" };
        info!("[{pid}] Disconnected{result}, {record}");
    }
    log::tell(record);
}

/// accept failed; `lack` says that it was for lack of descriptors or memory. gitd tries again.
pub fn accept_failed(reason: &str, lack: bool) {
    let remedy = if lack { " (raise the limit of open files?)" } else { "" };
    warn!("accept returned: {reason}; trying again{remedy}");
}

/// gitd panicked, which is a bug; `what` says where and why.
pub fn internal_error(what: &dyn Display) {
    error!("internal error at {what}; please report it");
}

/// A connection's task panicked, which affects this connection only.
pub fn panicked() {
    error!("internal error while serving a client; the others go on");
}

/// The runtime is stuck: a bug of gitd, or a system call that blocks.
pub fn stuck(after: Duration, activities: &str) {
    error!("gitd has been stuck for {} s and serves nobody: {activities}", after.as_secs());
}

/// The runtime works again.
pub fn goes_on(after: Duration) {
    warn!("gitd goes on after {} s; please report what it was stuck in", after.as_secs());
}

/// The connection broke before a service was started, because of the client or its network.
fn connection_lost(peer: &dyn Display, reason: &str) {
    info!("connection lost: {reason} (client {peer})");
}

/// A file about the running server could not be removed at the end.
pub fn file_left(path: &Path, reason: &str) {
    warn!("could not remove '{}': {reason}", Escaped(path.as_os_str().as_bytes()));
}

/// A signal asked gitd to end. Accepted clients may still be served.
pub fn draining(clients: usize) {
    info!("stopped listening; waiting for {clients} clients to finish");
}

/// The time for running services to finish is over.
pub fn cutting(clients: usize, after: Duration) {
    warn!("{clients} clients have not finished within {} s; ending them", after.as_secs());
}

/// The server cannot start or go on.
pub fn fatal(reason: &dyn Display) {
    error!("{reason}");
}
