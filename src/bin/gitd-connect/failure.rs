//! Why there is no connection, in one line: what failed, and what to do.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use crate::dial::Place;
use crate::relay::UNANSWERED;

/// Each address that failed, with its error.
pub(crate) type Failures = Vec<(SocketAddr, io::Error)>;

/// Why there is no connection.
#[derive(Debug)]
pub(crate) enum DialError {
    /// The host has no address.
    Unknown { host: String, error: io::Error },
    /// The Unix socket refused the connection.
    Socket { path: PathBuf, error: io::Error },
    /// All addresses of the host failed, each with its error.
    Failed { host: String, port: u16, failures: Failures },
}

impl fmt::Display for DialError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown { host, error } => {
                let text = error.to_string();
                // std repeats what failed.
                let cause =
                    text.strip_prefix("failed to lookup address information: ").unwrap_or(&text);
                write!(f, "cannot find the host '{host}': {cause}; ")?;
                f.write_str("check its spelling, and your network's name server")
            }
            Self::Socket { path, error } => {
                write!(
                    f,
                    "cannot connect to {}: {}; does gitd listen there, and may you write to it?",
                    path.display(),
                    reason(error)
                )
            }
            Self::Failed { host, port, failures } => {
                write!(f, "cannot connect to {host} port {port}: ")?;
                for (index, (address, error)) in failures.iter().enumerate() {
                    let separator = if index == 0 { "" } else { ", " };
                    match address.ip().to_string() {
                        ip if ip == *host => write!(f, "{separator}{}", reason(error))?,
                        ip => write!(f, "{separator}{ip}: {}", reason(error))?,
                    }
                }
                write!(f, "; {}", cure(failures))
            }
        }
    }
}

/// How a connection was lost.
#[derive(Debug)]
pub(crate) enum Lost {
    /// The kernel reports an error.
    Connection(io::Error),
    /// The server's kernel has acknowledged nothing for too long.
    Unanswered,
    /// The server's data could not be passed to git.
    Git(io::Error),
}

impl Lost {
    /// One line: what happened to the connection to `place`, and what to do.
    pub(crate) fn of(&self, place: &Place) -> String {
        match self {
            Lost::Connection(error) => {
                let reason = match error.kind() {
                    // From MPTCP, when the last path has died.
                    io::ErrorKind::NotConnected => "no path to the server is left".to_owned(),
                    io::ErrorKind::TimedOut => "the server does not answer any more".to_owned(),
                    _ => reason(error),
                };
                format!(
                    "lost the connection to {place}: {reason}; \
                     the server or the network ended it, try again"
                )
            }
            Lost::Unanswered => format!(
                "lost the connection to {place}: no answer for {} minutes; \
                 check your network connection, and try again",
                UNANSWERED.as_secs() / 60
            ),
            Lost::Git(error) => {
                format!("cannot pass on what {place} has sent: {}", reason(error))
            }
        }
    }
}

/// The errno's text without its number.
pub(crate) fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    match text.find(" (os error") {
        Some(end) => text[..end].to_lowercase(),
        None => text,
    }
}

fn cure(failures: &Failures) -> &'static str {
    use io::ErrorKind::{
        ConnectionRefused, ConnectionReset, HostUnreachable, NetworkUnreachable, TimedOut,
    };
    let any =
        |kinds: &[io::ErrorKind]| failures.iter().any(|(_, error)| kinds.contains(&error.kind()));
    if any(&[ConnectionRefused]) {
        "is a git server running there, and is this its port?"
    } else if any(&[ConnectionReset]) {
        "the server may be full, try again"
    } else if any(&[TimedOut]) {
        "the host is down, or a firewall drops the connection"
    } else if any(&[NetworkUnreachable, HostUnreachable]) {
        "check your network connection"
    } else {
        "check the address"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(errors: &[(&str, i32)]) -> String {
        let failures = errors
            .iter()
            .map(|(address, errno)| {
                (address.parse().unwrap(), io::Error::from_raw_os_error(*errno))
            })
            .collect();
        DialError::Failed { host: "h".to_owned(), port: 7, failures }.to_string()
    }

    #[test]
    fn every_address_has_its_reason_and_the_whole_a_cure() {
        assert_eq!(
            failed(&[("[2001:db8::1]:7", libc::ENETUNREACH), ("192.0.2.1:7", libc::ECONNREFUSED)]),
            "cannot connect to h port 7: 2001:db8::1: network is unreachable, 192.0.2.1: connection refused; \
             is a git server running there, and is this its port?"
        );
        assert_eq!(
            failed(&[("192.0.2.1:7", libc::ETIMEDOUT)]),
            "cannot connect to h port 7: 192.0.2.1: connection timed out; \
             the host is down, or a firewall drops the connection"
        );
        assert!(
            failed(&[("192.0.2.1:7", libc::EHOSTUNREACH)])
                .ends_with("; check your network connection")
        );
        assert!(
            failed(&[("192.0.2.1:7", libc::EACCES)])
                .ends_with("permission denied; check the address")
        );
    }

    #[test]
    fn an_unknown_host_is_named() {
        let error = io::Error::other("failed to lookup address information: No such name");
        let line = DialError::Unknown { host: "x.invalid".to_owned(), error }.to_string();
        assert!(line.starts_with("cannot find the host 'x.invalid': No such name; "), "{line}");
    }
}
