//! Events about the server.

use std::fmt::Display;
use std::num::NonZeroUsize;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use super::{error, info, warn};
use crate::escape::Escaped;
use crate::log::fields::Value::{Bytes, Number, Seconds, Text};

/// All sockets listen and privileges are dropped. The first line of a verbose daemon.
pub fn ready() {
    info("ready", None, &[], format_args!("Ready to rumble"));
}

/// One of the addresses that the server listens on.
pub fn listening(address: &dyn Display) {
    info("listening", None, &[("address", Text(address))], format_args!("Listening on {address}"));
}

/// gitd could not listen on an address; it may listen on others.
pub fn bind_failed(address: &dyn Display, reason: &str) {
    error(
        "bind-failed",
        None,
        &[("address", Text(address)), ("error", Text(&reason))],
        format_args!("Could not bind to {address}: {reason}"),
    );
}

/// A host to listen on has no address.
pub fn resolve_failed(host: &[u8], reason: &dyn Display) {
    error(
        "resolve-failed",
        None,
        &[("address", Bytes(host)), ("error", Text(reason))],
        format_args!("getaddrinfo() for {} failed: {reason}", Escaped(host)),
    );
}

/// gitd could listen on none of a host's addresses.
pub fn host_failed(host: &[u8], port: &dyn Display) {
    let shown = Escaped(host);
    error(
        "host-failed",
        None,
        &[("address", Bytes(host))],
        format_args!("unable to allocate any listen sockets for host {shown} on port {port}"),
    );
}

/// A setting is allowed, but probably a mistake.
pub fn warning(text: &str) {
    warn("warning", None, &[], format_args!("warning: {text}"));
}

/// The first such dismissal since the number last fell to half of the bound.
pub fn pending_overflowed(most: NonZeroUsize, origin: &dyn Display) {
    warn(
        "pending-overflow",
        None,
        &[("clients", Number(most.get() as u64))],
        format_args!(
            "{most} clients have sent no request; from now on the one silent longest makes room for \
             each new one ({origin})"
        ),
    );
}

/// The kernel has no memory to watch a client or its service; gitd tries again.
pub fn unwatched(reason: &str) {
    warn(
        "unwatched",
        None,
        &[("error", Text(&reason))],
        format_args!("cannot watch a connection: {reason}; trying again"),
    );
}

/// accept failed; `lack` says that it was for lack of descriptors or memory. gitd tries again.
pub fn accept_failed(reason: &str, lack: bool) {
    let remedy = if lack { " (raise the limit of open files?)" } else { "" };
    warn(
        "accept-failed",
        None,
        &[("error", Text(&reason))],
        format_args!("accept returned: {reason}; trying again{remedy}"),
    );
}

/// gitd panicked, which is a bug; `what` says where and why.
pub fn internal_error(what: &dyn Display) {
    error(
        "internal-error",
        None,
        &[("error", Text(what))],
        format_args!("internal error at {what}; please report it"),
    );
}

/// A connection's task panicked, which affects this connection only.
pub fn panicked() {
    error(
        "internal-error",
        None,
        &[],
        format_args!("internal error while serving a client; the others go on"),
    );
}

/// The runtime is stuck: a bug of gitd, or a system call that blocks.
pub fn stuck(after: Duration, activities: &str) {
    error(
        "stuck",
        None,
        &[("after", Seconds(after))],
        format_args!(
            "gitd has been stuck for {} s and serves nobody: {activities}",
            after.as_secs()
        ),
    );
}

/// The runtime works again.
pub fn goes_on(after: Duration) {
    warn(
        "goes-on",
        None,
        &[("after", Seconds(after))],
        format_args!(
            "gitd goes on after {} s; please report what it was stuck in",
            after.as_secs()
        ),
    );
}

/// `--status` is answered at this address.
pub fn status_listening(address: &dyn Display) {
    let fields = [("address", Text(address))];
    info("status-listening", None, &fields, format_args!("Status on {address}"));
}

/// Another process has the address of `--status`; gitd tries again.
pub fn status_waits(address: &dyn Display) {
    warn(
        "status-waits",
        None,
        &[("address", Text(address))],
        format_args!("another process listens on {address}; trying again for --status"),
    );
}

/// The address of `--status` cannot be watched.
pub fn status_failed(address: &dyn Display, reason: &str) {
    error(
        "status-failed",
        None,
        &[("address", Text(address)), ("error", Text(&reason))],
        format_args!("cannot answer on {address}: {reason}; --status is off"),
    );
}

/// A file about the running server could not be removed at the end.
pub fn file_left(path: &Path, reason: &str) {
    let path = path.as_os_str().as_bytes();
    warn(
        "file-left",
        None,
        &[("path", Bytes(path)), ("error", Text(&reason))],
        format_args!("could not remove '{}': {reason}", Escaped(path)),
    );
}

/// A signal asked gitd to end. Accepted clients may still be served.
pub fn draining(clients: usize) {
    info(
        "draining",
        None,
        &[("clients", Number(clients as u64))],
        format_args!("stopped listening; waiting for {clients} clients to finish"),
    );
}

/// The time for running services to finish is over.
pub fn cutting(clients: usize, after: Duration) {
    let seconds = after.as_secs();
    warn(
        "cutting",
        None,
        &[("clients", Number(clients as u64)), ("after", Seconds(after))],
        format_args!("{clients} clients have not finished within {seconds} s; ending them"),
    );
}

/// The server cannot start or go on.
pub fn fatal(reason: &dyn Display) {
    error("fatal", None, &[], format_args!("{reason}"));
}
