//! The values of options, parsed exactly as the stock daemon parses them (contract 4 to 6).

use std::ffi::OsString;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use thiserror::Error;

use super::{Multipath, Port};
use crate::config::proxies::Proxies;
use crate::escape::Escaped;
use crate::log::{Destination, Format};
use crate::protocol::service::Service;

/// A value that an option does not accept.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Rejected {
    /// A value of the wrong form, answered with the usage.
    #[error("misspelt option")]
    Misspelt,
    /// An invalid number of seconds.
    #[error("invalid {option} '{value}', expecting a non-negative integer")]
    Seconds {
        /// The option's name without dashes.
        option: &'static str,
        /// What was typed, escaped.
        value: String,
    },
    /// An invalid count.
    #[error("invalid {option} '{value}', expecting an integer")]
    Count {
        /// The option's name without dashes.
        option: &'static str,
        /// What was typed, escaped.
        value: String,
    },
    /// A port that TCP does not have (B10).
    #[error("invalid port '{0}', expecting a number from 1 to 65535, or 0 for 9418")]
    Port(String),
    /// Invalid permissions.
    #[error("invalid socket-mode '{0}', expecting an octal number from 0 to 777")]
    Mode(String),
    /// A setting that git would not accept.
    #[error("invalid git-config '{0}', expecting <section>.<name>=<value>")]
    Setting(String),
    /// A niceness that not every process can give itself.
    #[error("invalid nice '{0}', expecting a number from 0 to 19")]
    Niceness(String),
    /// An invalid value of `--mptcp`.
    #[error("invalid mptcp '{0}', expecting nothing or 'require'")]
    Multipath(String),
    /// A list of peers with a part that is no network.
    #[error("invalid proxy-protocol '{0}', expecting addresses, networks or 'unix', with commas")]
    Proxies(String),
    /// A log destination that does not exist.
    #[error("unknown log destination '{0}'")]
    LogDestination(String),
    /// A form of the log that does not exist.
    #[error("unknown log format '{0}', expecting plain, json or journal")]
    LogFormat(String),
    /// A client's address that is none.
    #[error("invalid remote-addr '{0}', expecting an IP address, with or without a port")]
    Address(String),
    /// A service that git does not have.
    #[error("No such service {0}")]
    Service(String),
}

fn shown(value: &OsString) -> String {
    Escaped(value.as_bytes()).to_string()
}

pub(super) fn bytes(value: OsString) -> Result<Vec<u8>, Rejected> {
    Ok(value.into_vec())
}

/// A port in C's notation: decimal, octal after `0`, hexadecimal after `0x`, with leading blanks
/// and a sign. A value that is no number is misspelt. A number that is no port is refused, where
/// stock listens on a remainder.
pub(super) fn port(value: OsString) -> Result<Port, Rejected> {
    if value == "auto" {
        return Ok(Port::Auto);
    }
    let text = value.to_str().ok_or(Rejected::Misspelt)?;
    let text = text.trim_start_matches([' ', '\t', '\n', '\x0b', '\x0c', '\r']);
    let negative = text.starts_with('-');
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    let (digits, radix) = match digits.strip_prefix("0x").or(digits.strip_prefix("0X")) {
        Some(hexadecimal) => (hexadecimal, 16),
        None if digits.starts_with('0') => (digits, 8),
        None => (digits, 10),
    };
    if digits.is_empty() || !digits.chars().all(|digit| digit.is_digit(radix)) {
        return Err(Rejected::Misspelt);
    }
    match u16::from_str_radix(digits, radix) {
        Ok(0) => Ok(Port::Number(0)),
        Ok(port) if !negative => Ok(Port::Number(port)),
        _ => Err(Rejected::Port(shown(&value))),
    }
}

/// Seconds: decimal, with leading blanks and a plus sign, at most what fits 32 bits.
pub(super) fn seconds(
    option: &'static str,
) -> impl Fn(OsString) -> Result<u32, Rejected> + Clone + Send + Sync {
    move |value| {
        let digits = value.to_str().and_then(decimal);
        let number =
            digits.filter(|text| !text.starts_with('-')).and_then(|text| text.parse().ok());
        number.ok_or_else(|| Rejected::Seconds { option, value: shown(&value) })
    }
}

/// A count that may be negative.
pub(super) fn count(
    option: &'static str,
) -> impl Fn(OsString) -> Result<i32, Rejected> + Clone + Send + Sync {
    move |value| {
        let number = value.to_str().and_then(decimal).and_then(|text| text.parse().ok());
        number.ok_or_else(|| Rejected::Count { option, value: shown(&value) })
    }
}

/// Permissions in octal, as in chmod(1).
pub(super) fn mode(value: OsString) -> Result<u32, Rejected> {
    let digits = value.to_str().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    let mode = digits.and_then(|text| u32::from_str_radix(text, 8).ok());
    mode.filter(|&mode| mode <= 0o777).ok_or_else(|| Rejected::Mode(shown(&value)))
}

/// A number to add to gitd's own niceness. Only root could add a negative one.
pub(super) fn niceness(value: OsString) -> Result<u8, Rejected> {
    let number = value.to_str().and_then(decimal).and_then(|text| text.parse().ok());
    number.filter(|&number| number <= 19).ok_or_else(|| Rejected::Niceness(shown(&value)))
}

/// A variable of git's configuration and its value. An invalid key is refused here, because it
/// would make git refuse every request.
pub(super) fn setting(value: OsString) -> Result<(Vec<u8>, Vec<u8>), Rejected> {
    let bytes = value.as_bytes();
    let split = bytes.iter().position(|&byte| byte == b'=').filter(|&at| is_key(&bytes[..at]));
    let at = split.ok_or_else(|| Rejected::Setting(shown(&value)))?;
    Ok((bytes[..at].to_vec(), bytes[at + 1..].to_vec()))
}

/// `section.name` or `section.<anything>.name` (git-config(1), syntax).
fn is_key(key: &[u8]) -> bool {
    let plain = |part: &[u8]| part.iter().all(|o| o.is_ascii_alphanumeric() || *o == b'-');
    let Some(first) = key.iter().position(|&byte| byte == b'.') else { return false };
    let last = key.iter().rposition(|&byte| byte == b'.').unwrap_or(first);
    let (section, subsection, name) = (&key[..first], &key[first..last], &key[last + 1..]);
    !section.is_empty()
        && plain(section)
        && !subsection.contains(&b'\n')
        && name.first().is_some_and(u8::is_ascii_alphabetic)
        && plain(name)
}

/// The text without the leading blanks that C's number functions skip. Rust's parser accepts the
/// rest of their grammar: a sign and digits.
fn decimal(text: &str) -> Option<&str> {
    let text = text.trim_start_matches([' ', '\t', '\n', '\x0b', '\x0c', '\r']);
    (!text.is_empty()).then_some(text)
}

pub(super) fn log_destination(value: OsString) -> Result<Destination, Rejected> {
    match value.as_bytes() {
        b"stderr" => Ok(Destination::Stderr),
        b"syslog" => Ok(Destination::Syslog),
        b"none" => Ok(Destination::None),
        _ => Err(Rejected::LogDestination(shown(&value))),
    }
}

pub(super) fn log_format(value: OsString) -> Result<Format, Rejected> {
    match value.as_bytes() {
        b"plain" => Ok(Format::Plain),
        b"json" => Ok(Format::Json),
        b"journal" => Ok(Format::Journal),
        _ => Err(Rejected::LogFormat(shown(&value))),
    }
}

/// The port of a client whose address alone is given: one that the kernel could give to a client.
pub const CLIENT_PORT: u16 = 49152;

/// `192.0.2.1`, `192.0.2.1:50600`, `2001:db8::1`, `[2001:db8::1]` or `[2001:db8::1]:50600`.
pub(super) fn address(value: OsString) -> Result<SocketAddr, Rejected> {
    let text = value.to_str().unwrap_or_default();
    let alone = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let address = alone.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, CLIENT_PORT));
    address.or_else(|_| text.parse()).map_err(|_| Rejected::Address(shown(&value)))
}

pub(super) fn multipath(value: OsString) -> Result<Multipath, Rejected> {
    match value.as_bytes() {
        b"" => Ok(Multipath::Prefer),
        b"require" => Ok(Multipath::Require),
        _ => Err(Rejected::Multipath(shown(&value))),
    }
}

pub(super) fn proxies(value: OsString) -> Result<Proxies, Rejected> {
    value.to_str().and_then(Proxies::parse).ok_or_else(|| Rejected::Proxies(shown(&value)))
}

pub(super) fn service(value: OsString) -> Result<Service, Rejected> {
    Service::from_name(value.as_bytes()).ok_or_else(|| Rejected::Service(shown(&value)))
}
