//! One request and all that comes of it: the bytes of the answer, and what the daemon logged.

use std::fmt::{self, Display, Formatter};
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};

use super::layout::{replace, shown};
use crate::support::{DEADLINE, Daemon, Gitd};

/// A daemon's own line, or a process's that it started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Whether a pid stands in front; a stock daemon that dies leaves it out.
    pub signed: bool,
    pub text: Vec<u8>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observation {
    pub answer: Vec<u8>,
    /// The connection ended with a reset.
    pub reset: bool,
    /// An archive's service has greeted and then sent nothing but its excuses.
    pub failed_archive: bool,
    /// Neither an answer nor an end in time, or no last line in the log.
    pub hung: bool,
    /// From `Connection from` to `Disconnected`, without pids; the client's address reads `CLIENT`.
    pub log: Vec<Line>,
}

impl Observation {
    /// The payload of an ERR packet that is the whole answer.
    pub fn refusal(&self) -> Option<&[u8]> {
        let length =
            usize::from_str_radix(std::str::from_utf8(self.answer.get(..4)?).ok()?, 16).ok()?;
        let payload = self.answer.get(4..)?;
        payload.strip_prefix(b"ERR ").filter(|_| payload.len() + 4 == length)
    }

    pub fn served(&self) -> bool {
        // Version 1 says its name before it looks at anything.
        let said_something = !self.answer.is_empty() && self.answer != b"000eversion 1\n";
        said_something && self.refusal().is_none() && !self.failed_archive
    }
}

impl Display for Observation {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let end = if self.hung {
            ", hung"
        } else if self.reset {
            ", reset"
        } else {
            ""
        };
        let answer = &self.answer[..self.answer.len().min(300)];
        writeln!(f, "answers \"{}\"{end}, and logs", shown(answer))?;
        for line in &self.log {
            let dead = if line.signed { "" } else { "(unsigned) " };
            writeln!(f, "    {dead}{}", shown(&line.text))?;
        }
        Ok(())
    }
}

impl Observation {
    /// The packets of an archive may be cut in any places, and what is said beside it come at any time:
    /// all of the one, then all of the other.
    pub fn by_band(mut self) -> Self {
        let mut bands: [Vec<u8>; 4] = Default::default();
        let mut rest = self.answer.as_slice();
        while let Some(prefix) = rest.get(..4).and_then(|prefix| std::str::from_utf8(prefix).ok()) {
            let length = usize::from_str_radix(prefix, 16);
            let length = length.map_or(rest.len(), |length| length.clamp(4, rest.len()));
            match &rest[4..length] {
                [band @ 1..=3, data @ ..] => bands[usize::from(*band)].extend(data),
                _ => bands[0].extend(&rest[..length]),
            }
            rest = &rest[length..];
        }
        bands[0].extend(rest);
        self.failed_archive = bands[1].is_empty();
        self.answer = bands.concat();
        self
    }
}

impl Observation {
    /// What became of the request, for the tally.
    pub fn kind(&self) -> &'static str {
        const KINDS: [(&str, &str); 11] = [
            ("': aliased", "refused: aliased"),
            ("not allowed", "refused: no users"),
            (" too large: ", "refused: too large"),
            ("does not appear to be", "refused: no repository"),
            ("not in directory list", "refused: not listed"),
            ("repository not exported", "refused: not exported"),
            ("service not enabled", "refused: not enabled"),
            ("failed to start", "refused: hook does not start"),
            ("Protocol error: ", "malformed"),
            ("Invalid request", "malformed"),
            ("Garbage after", "malformed"),
        ];
        if self.served() {
            return "served";
        }
        let log: Vec<_> = self.log.iter().map(|l| String::from_utf8_lossy(&l.text)).collect();
        let fits = |(text, _): &&(&str, &str)| log.iter().any(|line| line.contains(text));
        match KINDS.iter().find(fits) {
            Some((_, kind)) => kind,
            None if self.refusal().is_some() => "refused: hook",
            None => "refused: else",
        }
    }
}

/// Sends a request. With `ask`, as a client that speaks when it is spoken to: it wants to know all refs, then nothing.
pub fn exchange(daemon: &Daemon, request: &[u8], half_close: bool, ask: bool) -> Observation {
    let mark = daemon.log.mark();
    let mut client = Client {
        stream: TcpStream::connect_timeout(&daemon.address(), DEADLINE).unwrap(),
        answer: Vec::new(),
    };
    client.stream.set_read_timeout(Some(DEADLINE)).unwrap();
    client.stream.set_nodelay(true).unwrap();
    let address = client.stream.local_addr().unwrap().to_string();
    let ended = client.talk(request, half_close, ask);
    let answer = client.answer;
    drop(client.stream);
    let last: fn(&str) -> bool = match daemon.implementation {
        Gitd => |line| {
            line.starts_with("Disconnected")
                || line.starts_with("connection lost:")
                || line.ends_with("closed without a request")
        },
        _ => |line| line.starts_with("Disconnected"),
    };
    let complete = daemon.log.try_wait(mark, last).is_ok();
    Observation {
        answer,
        reset: ended == Ended::Reset,
        failed_archive: false,
        hung: ended == Ended::Hung || !complete,
        log: lines(&daemon.log.raw(mark).concat(), &address),
    }
}

#[derive(PartialEq, Eq)]
enum Ended {
    Closed,
    Reset,
    Hung,
}

struct Client {
    stream: TcpStream,
    answer: Vec<u8>,
}

impl Client {
    fn talk(&mut self, request: &[u8], half_close: bool, ask: bool) -> Ended {
        // The daemon may have refused before all was sent.
        let _ = self.stream.write_all(request);
        if half_close {
            let _ = self.stream.shutdown(Shutdown::Write);
        }
        let mut buffer = [0; 16384];
        let mut questions = 0;
        loop {
            let flushes = flushes(&self.answer);
            if ask && flushes > questions {
                questions = flushes;
                let version_2 = self.answer.starts_with(b"000eversion 2\n") && questions == 1;
                let _ = self.stream.write_all(if version_2 {
                    b"0014command=ls-refs\n0000"
                } else {
                    b"0000"
                });
                if !version_2 {
                    let _ = self.stream.shutdown(Shutdown::Write);
                }
            }
            match self.stream.read(&mut buffer) {
                Ok(0) => return Ended::Closed,
                Ok(read) => self.answer.extend_from_slice(&buffer[..read]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ended::Hung,
                Err(_) => return Ended::Reset,
            }
        }
    }
}

/// How many flush packets have arrived.
fn flushes(mut bytes: &[u8]) -> usize {
    let mut count = 0;
    while let Some(length) = bytes.get(..4).and_then(|prefix| std::str::from_utf8(prefix).ok()) {
        let Ok(length) = usize::from_str_radix(length, 16) else { break };
        count += usize::from(length == 0);
        match bytes.get(length.max(4)..) {
            Some(rest) => bytes = rest,
            None => break,
        }
    }
    count
}

/// The messages in a log; what a message has behind a line feed belongs to it.
fn lines(log: &[u8], address: &str) -> Vec<Line> {
    let mut lines: Vec<Line> = Vec::new();
    for piece in log.strip_suffix(b"\n").unwrap_or(log).split(|&byte| byte == b'\n') {
        let (signed, text) = unsigned(piece);
        if signed && text.starts_with(b"Listening on ") {
            // gitd's, from its start.
            continue;
        }
        let starts = signed
            || [b"fatal: ".as_slice(), b"error: ", b"warning: "]
                .iter()
                .any(|start| text.starts_with(start));
        match lines.last_mut() {
            Some(last) if !starts => {
                last.text.push(b'\n');
                last.text.extend_from_slice(text);
            }
            _ => lines.push(Line { signed, text: replace(text, address.as_bytes(), b"CLIENT") }),
        }
    }
    lines
}

/// Without the pids in front: `[1] [2] Disconnected`.
fn unsigned(mut line: &[u8]) -> (bool, &[u8]) {
    let mut signed = false;
    while let Some(rest) = line.strip_prefix(b"[") {
        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        match rest[digits..].strip_prefix(b"] ") {
            Some(rest) if digits > 0 => (signed, line) = (true, rest),
            _ => break,
        }
    }
    // The lines of services have their names before them in gitd's log.
    for service in [b"upload-pack: ".as_slice(), b"upload-archive: ", b"receive-pack: "] {
        line = line.strip_prefix(service).filter(|_| signed).unwrap_or(line);
    }
    (signed, line)
}

/// Stock shows control characters as question marks when it dies, and gitd escapes them.
pub fn masked(text: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(text);
    let mut masked = String::new();
    let mut rest = text.chars();
    while let Some(character) = rest.next() {
        if character != '\\' {
            masked.push(if character.is_control() { '?' } else { character });
            continue;
        }
        masked.push('?');
        match rest.clone().next() {
            Some('n' | 'r' | 't') => drop(rest.next()),
            Some('x') => drop(rest.nth(2)),
            Some('u') if rest.clone().nth(1) == Some('{') => drop(rest.find(|&end| end == '}')),
            _ => {}
        }
    }
    masked.into_bytes()
}
