//! Parses the payload of git's `git-proto-request`:
//!
//! ```text
//! request-command SP pathname NUL [ host-parameter NUL ] [ NUL extra-parameters ]
//! ```
//!
//! It is first split into [`Fields`], which can be logged even if they are invalid together, and
//! then parsed into a [`Request`]. Nothing here does I/O.

use thiserror::Error;

use crate::escape::Escaped;
use crate::protocol::service::Service;

/// A packet split at its NULs, not parsed yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fields<'a> {
    /// Request-command and pathname: up to the first NUL, without one trailing line feed (contract
    /// 25).
    pub line: &'a [u8],
    /// The value after `host=`, as the client sent it.
    pub host: Option<&'a [u8]>,
    /// The bytes after the host-parameter, or after the first NUL if there is none.
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    /// Splits the payload of a request packet (contract 25 to 27).
    pub fn split(payload: &'a [u8]) -> Self {
        let (line, rest) = split_at_nul(payload);
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let (first, after) = split_at_nul(rest);
        match strip_host(first) {
            Some(host) => Fields { line, host: Some(host), rest: after },
            None => Fields { line, host: None, rest },
        }
    }

    /// Parses the fields after the line, the host first (contract 28).
    ///
    /// # Errors
    /// [`Malformed`]; [`Malformed::Invalid`] when something else than `host=` comes first, or more
    /// than one parameter before the second NUL: such requests were used for attacks and are
    /// refused whole.
    pub fn parameters(&self) -> Result<Parameters, Malformed> {
        let virtual_host = self.host.map(VirtualHost::parse).transpose()?;
        let extra = match self.rest {
            [] => self.rest,
            [0, extra @ ..] => extra,
            _ => return Err(Malformed::Invalid),
        };
        let parts: Vec<&[u8]> =
            extra.split(|&byte| byte == 0).filter(|part| !part.is_empty()).collect();
        let extra_parameters = (!parts.is_empty()).then(|| parts.join(&b':'));
        Ok(Parameters { virtual_host, extra_parameters })
    }
}

/// The parameters of a request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Parameters {
    /// The server name that the client uses.
    pub virtual_host: Option<VirtualHost>,
    /// The extra-parameters, joined by colons as in GIT_PROTOCOL; never empty.
    pub extra_parameters: Option<Vec<u8>>,
}

fn split_at_nul(bytes: &[u8]) -> (&[u8], &[u8]) {
    match bytes.iter().position(|&byte| byte == 0) {
        Some(nul) => (&bytes[..nul], &bytes[nul + 1..]),
        None => (bytes, &[]),
    }
}

fn strip_host(parameter: &[u8]) -> Option<&[u8]> {
    let (name, value) = parameter.split_at_checked(5)?;
    name.eq_ignore_ascii_case(b"host=").then_some(value)
}

/// A valid request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The requested service.
    pub service: Service,
    /// The repository's path as the client sent it: hostile until checked.
    pub pathname: Vec<u8>,
    /// The server name that the client uses.
    pub virtual_host: Option<VirtualHost>,
    /// The value for GIT_PROTOCOL.
    pub extra_parameters: Option<Vec<u8>>,
}

impl Request {
    /// Parses a whole packet.
    ///
    /// # Errors
    /// [`Malformed`], for the first error.
    pub fn parse(payload: &[u8]) -> Result<Self, Malformed> {
        let fields = Fields::split(payload);
        Self::from_parts(fields.line, fields.parameters()?)
    }

    /// The protocol version that the client asks for: the highest that git knows.
    pub fn version(&self) -> u8 {
        let parameters = self.extra_parameters.as_deref().unwrap_or_default();
        let asks = |text: &[u8]| parameters.split(|&byte| byte == b':').any(|part| part == text);
        if asks(b"version=2") { 2 } else { asks(b"version=1").into() }
    }

    /// Parses the line. It comes last: a bad parameter takes precedence over an unknown command
    /// (contract 29).
    pub fn from_parts(line: &[u8], parameters: Parameters) -> Result<Self, Malformed> {
        let unknown = || Malformed::UnknownCommand(line.to_vec());
        let blank = line.iter().position(|&byte| byte == b' ').ok_or_else(unknown)?;
        let service = Service::from_request_command(&line[..blank]).ok_or_else(unknown)?;
        Ok(Request {
            service,
            pathname: line[blank + 1..].to_vec(),
            virtual_host: parameters.virtual_host,
            extra_parameters: parameters.extra_parameters,
        })
    }
}

/// A packet that is no request.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Malformed {
    /// The parameters after the first NUL break the grammar.
    #[error("Invalid request")]
    Invalid,
    /// A host with `[` but without `]`.
    #[error("Invalid request ('[' without ']')")]
    UnclosedBracket,
    /// A host in brackets, followed by something else than a port.
    #[error("Garbage after end of host part")]
    GarbageAfterHost,
    /// A line that does not begin with one of the three request-commands and a blank.
    #[error("Protocol error: '{}'", Escaped(.0))]
    UnknownCommand(Vec<u8>),
}

impl Malformed {
    /// The reason in one word that never changes, for programs.
    pub fn word(&self) -> &'static str {
        match self {
            Malformed::Invalid => "invalid-parameters",
            Malformed::UnclosedBracket | Malformed::GarbageAfterHost => "invalid-host",
            Malformed::UnknownCommand(_) => "unknown-command",
        }
    }

    /// Whether the stock daemon calls it a fatal error; otherwise it refuses an unknown service
    /// (contract 29, 33).
    pub fn is_fatal(&self) -> bool {
        !matches!(self, Malformed::UnknownCommand(_))
    }
}

/// The host-parameter, cleaned so that neither part can escape from a path template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VirtualHost {
    /// The host in lower case; may be empty.
    pub host: Vec<u8>,
    /// The port; empty if the client sent none.
    pub port: Vec<u8>,
}

impl VirtualHost {
    /// Splits `host[:port]` or `[v6][:port]` and cleans both (contract 28).
    ///
    /// # Errors
    /// [`Malformed::UnclosedBracket`], [`Malformed::GarbageAfterHost`].
    pub fn parse(value: &[u8]) -> Result<Self, Malformed> {
        let (host, port): (&[u8], &[u8]) = if let Some(inner) = value.strip_prefix(b"[") {
            let end = inner.iter().position(|&byte| byte == b']');
            let end = end.ok_or(Malformed::UnclosedBracket)?;
            match &inner[end + 1..] {
                [] => (&inner[..end], b""),
                [b':', port @ ..] => (&inner[..end], port),
                _ => return Err(Malformed::GarbageAfterHost),
            }
        } else {
            match value.iter().rposition(|&byte| byte == b':') {
                Some(colon) => (&value[..colon], &value[colon + 1..]),
                None => (value, b""),
            }
        };
        Ok(VirtualHost { host: clean(host).to_ascii_lowercase(), port: clean(port) })
    }
}

/// Removes slashes, leading and trailing dots, and all but one of a run of dots.
pub(crate) fn clean(part: &[u8]) -> Vec<u8> {
    let mut cleaned = Vec::with_capacity(part.len());
    for &byte in part {
        let dot_too_many = byte == b'.' && matches!(cleaned.last(), None | Some(b'.'));
        if byte != b'/' && !dot_too_many {
            cleaned.push(byte);
        }
    }
    while cleaned.last() == Some(&b'.') {
        cleaned.pop();
    }
    cleaned
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(payload: &[u8]) -> Result<Request, String> {
        Request::parse(payload).map_err(|e| e.to_string())
    }

    #[test]
    fn pathname_is_what_stands_between_blank_and_nul() {
        let cases: [(&[u8], &[u8]); 7] = [
            (b"git-upload-pack /r", b"/r"),
            (b"git-upload-pack /r\n", b"/r"),
            (b"git-upload-pack /r\n\n", b"/r\n"),
            (b"git-upload-pack /r\n\0host=h\0", b"/r"),
            (b"git-upload-pack  /r", b" /r"),
            (b"git-upload-pack ", b""),
            (b"git-upload-pack '/a b'\0", b"'/a b'"),
        ];
        for (payload, pathname) in cases {
            assert_eq!(parse(payload).unwrap().pathname, pathname, "{}", payload.escape_ascii());
        }
    }

    #[test]
    fn extra_parameters_become_git_protocol() {
        let cases: [(&[u8], Option<&[u8]>); 8] = [
            (b"git-upload-pack /r\0host=h\0\0version=2\0", Some(b"version=2")),
            (b"git-upload-pack /r\0host=h\0\0version=2", Some(b"version=2")),
            (b"git-upload-pack /r\0\0version=2\0", Some(b"version=2")),
            (b"git-upload-pack /r\0\0a\0\0b=c\0\0", Some(b"a:b=c")),
            (b"git-upload-pack /r\0host=h\0\0version=2\n", Some(b"version=2\n")),
            (b"git-upload-pack /r\0host=h\0\0", None),
            (b"git-upload-pack /r\0host=h", None),
            (b"git-upload-pack /r\0\0", None),
        ];
        for (payload, expected) in cases {
            let request = parse(payload).unwrap();
            assert_eq!(request.extra_parameters.as_deref(), expected, "{}", payload.escape_ascii());
        }
    }

    #[test]
    fn the_highest_known_version_counts() {
        for (parameters, version) in [
            ("", 0),
            ("\0version=1\0", 1),
            ("\0version=2\0", 2),
            ("\0version=2\0version=1\0", 2),
            ("\0version=3\0", 0),
            ("\0version=20\0x=version=2\0", 0),
        ] {
            let payload = format!("git-upload-pack /r\0host=h\0{parameters}");
            assert_eq!(Request::parse(payload.as_bytes()).unwrap().version(), version);
        }
    }

    #[test]
    fn malformed_requests_are_named() {
        let cases: [(&[u8], &str); 14] = [
            (b"", "Protocol error: ''"),
            (b"\n", "Protocol error: ''"),
            (b"git-upload-pack", "Protocol error: 'git-upload-pack'"),
            (b"git-upload-packx /r", "Protocol error: 'git-upload-packx /r'"),
            (b"GIT-upload-pack /r", "Protocol error: 'GIT-upload-pack /r'"),
            (b"a\nb", "Protocol error: 'a\\nb'"),
            (b"x\0host=h\0version=1\0", "Invalid request"),
            (b"git-upload-pack /r\0foo", "Invalid request"),
            (b"git-upload-pack /r\0\n", "Invalid request"),
            (b"git-upload-pack /r\0host", "Invalid request"),
            (b"nonsense\0host=[::1\0", "Invalid request ('[' without ']')"),
            (b"nonsense\0host=[::1]x\0", "Garbage after end of host part"),
            (b"nonsense\0host=[::1]x\0a\0", "Garbage after end of host part"),
            (b"x\0\0a\0host=[::1]x\0", "Protocol error: 'x'"),
        ];
        for (payload, text) in cases {
            assert_eq!(parse(payload), Err(text.to_owned()), "{}", payload.escape_ascii());
        }
    }

    #[test]
    fn hosts_are_split_and_cleaned() {
        let cases: [(&[u8], &str, &str); 12] = [
            (b"Example.ORG", "example.org", ""),
            (b"h:9418", "h", "9418"),
            (b"[::1]", "::1", ""),
            (b"[::1]:99", "::1", "99"),
            (b"::1", ":", "1"),
            (b"A/..B..:8:9.", "a.b.:8", "9"),
            (b"../../etc", "etc", ""),
            (b"a..b...c", "a.b.c", ""),
            (b"a/./.b", "a.b", ""),
            (b"x:", "x", ""),
            (b"", "", ""),
            (b"...", "", ""),
        ];
        for (value, host, port) in cases {
            let parsed = VirtualHost::parse(value).unwrap();
            let found = (parsed.host.as_slice(), parsed.port.as_slice());
            assert_eq!(found, (host.as_bytes(), port.as_bytes()), "{}", value.escape_ascii());
        }
    }
}
