//! The header of the PROXY protocol, versions 1 and 2: a load balancer sends it before the client's
//! bytes and says where the client's connection comes from.
//!
//! Nothing but the client's address is used. The fields behind the addresses of version 2 (TLV) are
//! skipped, the checksum too: the protocol lets a receiver ignore them.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use thiserror::Error;

use crate::protocol::inbound::Unread;
use crate::protocol::pktline::BadLength;

/// What version 1 begins with. Each version fits in here before its length is known.
const LINE: &[u8] = b"PROXY ";

/// The most bytes of a header of version 1, with its line end.
const MOST_LINE: usize = 107;

/// What version 2 begins with.
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// The bytes of version 2 up to its length: the signature, the command, the family, the length.
const FIXED: usize = 16;

/// The most bytes after them: the addresses and the fields. The protocol allows 65,535, but asks
/// senders to fit everything into one segment.
const MOST_AFTER: usize = 4096;

/// How far a header is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// All bytes belong to the header, and more do. A look at so many more, or at fewer, tells.
    Need(usize),
    /// The header is complete.
    Complete(Introduction),
}

/// What a header says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Introduction {
    /// The header's length; the bytes behind it are the client's.
    pub length: usize,
    /// The client's address. `None` if the header has none: the balancer connects for itself
    /// (LOCAL), it does not know (UNKNOWN, UNSPEC), or it has the client from a Unix socket.
    pub source: Option<SocketAddr>,
}

/// Why bytes are no header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Malformed {
    /// They begin otherwise.
    #[error("no PROXY header")]
    Missing,
    /// They begin so, but the peer may not send one.
    #[error("{0}")]
    Uninvited(BadLength),
    /// They do not end where a header must.
    #[error("bad PROXY header: too long")]
    TooLong,
    /// Version 1: the line has another form.
    #[error("bad PROXY header: malformed line")]
    Line,
    /// Version 2: the byte for version and command.
    #[error("bad PROXY header: version and command {0:#04x}")]
    Command(u8),
    /// Version 2: the byte for the addresses' family and the transport.
    #[error("bad PROXY header: family and transport {0:#04x}")]
    Family(u8),
    /// Version 2: the length is too small for the addresses.
    #[error("bad PROXY header: too short for its addresses")]
    Short,
}

/// Whether the first bytes of a packet begin a header of either version.
pub fn begins(bytes: &[u8]) -> bool {
    LINE.starts_with(bytes) || SIGNATURE.starts_with(bytes)
}

/// What these bytes are, the first of a connection.
///
/// # Errors
/// [`Malformed`], as soon as they can no longer become a header.
pub fn parse(bytes: &[u8]) -> Result<Progress, Malformed> {
    let agrees =
        |beginning: &[u8]| bytes.iter().zip(beginning).all(|(ours, theirs)| ours == theirs);
    if agrees(SIGNATURE) && !bytes.is_empty() {
        version_2(bytes)
    } else if agrees(LINE) {
        version_1(bytes)
    } else {
        Err(Malformed::Missing)
    }
}

/// Version 1: `PROXY TCP4 192.0.2.1 198.51.100.1 56324 9418\r\n`, or `PROXY UNKNOWN …\r\n`.
fn version_1(bytes: &[u8]) -> Result<Progress, Malformed> {
    let bytes = &bytes[..bytes.len().min(MOST_LINE)];
    let Some(end) = bytes.iter().position(|&byte| byte == b'\n') else {
        let left = MOST_LINE - bytes.len();
        return if left > 0 { Ok(Progress::Need(left)) } else { Err(Malformed::TooLong) };
    };
    let line = bytes[..end].strip_suffix(b"\r").and_then(|line| line.strip_prefix(LINE));
    let line = line.ok_or(Malformed::Line)?;
    let source = match line.strip_prefix(b"UNKNOWN") {
        // The rest is to be ignored.
        Some([] | [b' ', ..]) => None,
        _ => Some(source(line).ok_or(Malformed::Line)?),
    };
    Ok(Progress::Complete(Introduction { length: end + 1, source }))
}

fn source(line: &[u8]) -> Option<SocketAddr> {
    let words: Vec<&str> = str::from_utf8(line).ok()?.split(' ').collect();
    let [family, source, destination, source_port, destination_port] = words[..] else {
        return None;
    };
    let ports = (port(source_port)?, port(destination_port)?);
    match family {
        "TCP4" => both::<Ipv4Addr>(source, destination).map(|source| (source, ports.0).into()),
        "TCP6" => both::<Ipv6Addr>(source, destination).map(|source| (source, ports.0).into()),
        _ => None,
    }
}

/// The source, if both are addresses of one family.
fn both<T: FromStr>(source: &str, destination: &str) -> Option<T> {
    destination.parse::<T>().ok().and(source.parse().ok())
}

/// Decimal, without a sign or leading zeros, which a general parser accepts.
fn port(text: &str) -> Option<u16> {
    let plain = text == "0" || text.starts_with(|first: char| matches!(first, '1'..='9'));
    plain.then(|| text.parse().ok()).flatten()
}

fn version_2(bytes: &[u8]) -> Result<Progress, Malformed> {
    let Some(&[.., command, family, high, low]) = bytes.first_chunk::<FIXED>() else {
        return Ok(Progress::Need(FIXED - bytes.len()));
    };
    let after = usize::from(u16::from_be_bytes([high, low]));
    // The source and the destination, each an address and a port, or two paths.
    let addresses = match (command, family) {
        // The balancer's own connection: the rest does not count.
        (0x20, _) | (0x21, 0x00) => 0,
        (0x21, 0x11) => 12,
        (0x21, 0x21) => 36,
        (0x21, 0x31) => 216,
        (0x21, _) => return Err(Malformed::Family(family)),
        _ => return Err(Malformed::Command(command)),
    };
    if after < addresses {
        return Err(Malformed::Short);
    }
    if after > MOST_AFTER {
        return Err(Malformed::TooLong);
    }
    let length = FIXED + after;
    let Some(body) = bytes.get(FIXED..length) else {
        return Ok(Progress::Need(length - bytes.len()));
    };
    let source = match addresses {
        12 => body
            .first_chunk::<4>()
            .zip(body[8..].first_chunk())
            .map(|(&address, &port)| SocketAddr::from((address, u16::from_be_bytes(port)))),
        36 => body
            .first_chunk::<16>()
            .zip(body[32..].first_chunk())
            .map(|(&address, &port)| SocketAddr::from((address, u16::from_be_bytes(port)))),
        _ => None,
    };
    Ok(Progress::Complete(Introduction { length, source }))
}

/// A header being received. Its bytes are looked at before they are taken, because only the last
/// byte of version 1 tells its length; no byte behind the header is taken.
#[derive(Debug)]
pub struct Header {
    /// The bytes taken, then those looked at.
    bytes: Vec<u8>,
    taken: usize,
    need: usize,
}

impl Default for Header {
    fn default() -> Self {
        Header { bytes: Vec::new(), taken: 0, need: MOST_LINE }
    }
}

impl Header {
    /// The buffer for a look at the next bytes.
    pub fn room(&mut self) -> &mut [u8] {
        self.bytes.resize(self.taken + self.need, 0);
        &mut self.bytes[self.taken..]
    }

    /// The buffer for those of the `seen` bytes that belong to the header: they are to be taken.
    ///
    /// # Errors
    /// [`Malformed`], if no header can come of them.
    pub fn own(&mut self, seen: usize) -> Result<&mut [u8], Malformed> {
        let end = match parse(&self.bytes[..self.taken + seen])? {
            Progress::Complete(Introduction { length, .. }) => length,
            Progress::Need(_) => self.taken + seen,
        };
        Ok(&mut self.bytes[self.taken..end])
    }

    /// Records that `read` bytes were taken; 0 means the end of input.
    ///
    /// # Errors
    /// [`Unread`], when no header can come of it.
    pub fn advance(&mut self, read: usize) -> Result<Progress, Unread> {
        if read == 0 {
            return Err(if self.taken == 0 { Unread::Nothing } else { Unread::HungUp });
        }
        self.taken += read;
        let progress = parse(&self.bytes[..self.taken])?;
        if let Progress::Need(more) = progress {
            self.need = more;
        }
        Ok(progress)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: usize = FIXED + MOST_AFTER;

    fn v2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let length = u16::try_from(body.len()).unwrap().to_be_bytes();
        [SIGNATURE, &[command, family], &length, body].concat()
    }

    /// Addresses of version 2, and whatever is behind them.
    fn inet(rest: &[u8]) -> Vec<u8> {
        [&[192, 0, 2, 1, 198, 51, 100, 1, 0xdc, 4, 0x24, 0xca], rest].concat()
    }

    fn inet6(rest: &[u8]) -> Vec<u8> {
        let address = |last| [&[0x20, 1, 0xd, 0xb8], &[0; 11][..], &[last]].concat();
        [&address(1), &address(2), &[0xdc, 4, 0x24, 0xca][..], rest].concat()
    }

    /// Headers, each with the client's address or `-`.
    fn good() -> Vec<(Vec<u8>, &'static str)> {
        let long = [b"PROXY UNKNOWN ".as_slice(), &[b'x'; 91], b"\r\n"].concat();
        assert_eq!(long.len(), MOST_LINE);
        let full = "PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff \
                    ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n";
        vec![
            (b"PROXY TCP4 192.0.2.1 198.51.100.1 56324 9418\r\n".into(), "192.0.2.1:56324"),
            (b"PROXY TCP4 0.0.0.0 255.255.255.255 0 65535\r\n".into(), "0.0.0.0:0"),
            (b"PROXY TCP6 2001:db8::1 ::1 1 9418\r\n".into(), "[2001:db8::1]:1"),
            (b"PROXY TCP6 ::ffff:192.0.2.1 ::1 1 2\r\n".into(), "[::ffff:192.0.2.1]:1"),
            (full.into(), "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535"),
            (b"PROXY UNKNOWN\r\n".into(), "-"),
            (b"PROXY UNKNOWN \r\n".into(), "-"),
            (b"PROXY UNKNOWN 192.0.2.1 \r \xff\r\n".into(), "-"),
            (long, "-"),
            (v2(0x21, 0x11, &inet(b"")), "192.0.2.1:56324"),
            (v2(0x21, 0x11, &inet(b"\x03\0\x04bad!")), "192.0.2.1:56324"),
            (v2(0x21, 0x11, &inet(b"no field")), "192.0.2.1:56324"),
            (v2(0x21, 0x11, &inet(&[0; MOST_AFTER - 12])), "192.0.2.1:56324"),
            (v2(0x21, 0x21, &inet6(b"")), "[2001:db8::1]:56324"),
            (v2(0x21, 0x21, &inet6(b"\x04\0\x01x")), "[2001:db8::1]:56324"),
            (v2(0x21, 0x31, &[b'/'; 216]), "-"),
            (v2(0x21, 0x00, b""), "-"),
            (v2(0x21, 0x00, &inet(b"")), "-"),
            (v2(0x20, 0x00, b""), "-"),
            (v2(0x20, 0x11, b""), "-"),
            (v2(0x20, 0xff, &inet(b"")), "-"),
        ]
    }

    fn bad() -> Vec<(Vec<u8>, Malformed)> {
        let line = |words: &str| (format!("PROXY {words}\r\n").into(), Malformed::Line);
        let long = [b"PROXY UNKNOWN ".as_slice(), &[b'x'; 92], b"\r\n"].concat();
        vec![
            (b"0033git-upload-pack".into(), Malformed::Missing),
            (b"\n".into(), Malformed::Missing),
            (b"proxy ".into(), Malformed::Missing),
            (b"PROXY\t".into(), Malformed::Missing),
            (b"\r\n\r\n\0\r\nQUIT\r".into(), Malformed::Missing),
            (long, Malformed::TooLong),
            ([b"PROXY TCP4 ".as_slice(), &[b'1'; 200]].concat(), Malformed::TooLong),
            (b"PROXY UNKNOWN\n".into(), Malformed::Line),
            (b"PROXY TCP4 192.0.2.1 198.51.100.1 56324 9418\n".into(), Malformed::Line),
            line(""),
            line("UNKNOWNS"),
            line("unknown"),
            line("TCP4"),
            line("TCP5 192.0.2.1 198.51.100.1 1 2"),
            line("UDP4 192.0.2.1 198.51.100.1 1 2"),
            line("TCP4 192.0.2.1 198.51.100.1 1"),
            line("TCP4 192.0.2.1 198.51.100.1 1 2 "),
            line("TCP4 192.0.2.1 198.51.100.1 1 2 3"),
            line("TCP4  192.0.2.1 198.51.100.1 1 2"),
            line("TCP4 192.0.2.1 198.51.100.1 1 65536"),
            line("TCP4 192.0.2.1 198.51.100.1 +1 2"),
            line("TCP4 192.0.2.1 198.51.100.1 01 2"),
            line("TCP4 192.0.2.1 198.51.100.1 -1 2"),
            line("TCP4 192.0.2.01 198.51.100.1 1 2"),
            line("TCP4 192.0.2 198.51.100.1 1 2"),
            line("TCP4 2001:db8::1 ::1 1 2"),
            line("TCP6 192.0.2.1 198.51.100.1 1 2"),
            line("TCP4 192.0.2.1 ::1 1 2"),
            line("TCP6 fe80::1%lo ::1 1 2"),
            line("TCP6 [::1] ::1 1 2"),
            line("TCP4 192.0.2.1\0 198.51.100.1 1 2"),
            line("TCP4 192.0.2.\u{661} 198.51.100.1 1 2"),
            (v2(0x11, 0x11, &inet(b"")), Malformed::Command(0x11)),
            (v2(0x22, 0x11, &inet(b"")), Malformed::Command(0x22)),
            (v2(0x21, 0x01, &inet(b"")), Malformed::Family(0x01)),
            (v2(0x21, 0x12, &inet(b"")), Malformed::Family(0x12)),
            (v2(0x21, 0x22, &inet6(b"")), Malformed::Family(0x22)),
            (v2(0x21, 0x41, &inet6(b"")), Malformed::Family(0x41)),
            (v2(0x21, 0x11, &inet(b"")[..11]), Malformed::Short),
            (v2(0x21, 0x21, &inet(b"")), Malformed::Short),
            (v2(0x21, 0x31, &[b'/'; 215]), Malformed::Short),
            (v2(0x21, 0x11, &inet(&[0; MOST_AFTER - 11])), Malformed::TooLong),
            (v2(0x20, 0x00, &[0; MOST_AFTER + 1]), Malformed::TooLong),
        ]
    }

    /// Receives a header that comes in pieces, each of `step` bytes. The result, as in [`good`], and
    /// how many bytes were taken.
    fn receive(stream: &[u8], step: usize) -> (Result<String, String>, usize) {
        let mut header = Header::default();
        let mut taken = 0;
        loop {
            let room = header.room();
            assert!(!room.is_empty() && room.len() <= MOST);
            let seen = room.len().min(step).min(stream.len() - taken);
            room[..seen].copy_from_slice(&stream[taken..taken + seen]);
            let own = match header.own(seen) {
                Ok(own) => own.len(),
                Err(malformed) => return (Err(malformed.to_string()), taken),
            };
            assert!(own <= seen && (own > 0) == (seen > 0));
            taken += own;
            match header.advance(own) {
                Ok(Progress::Need(_)) => {}
                Ok(Progress::Complete(Introduction { length, source })) => {
                    assert_eq!(length, taken);
                    return (Ok(source.map_or("-".to_owned(), |source| source.to_string())), taken);
                }
                Err(error) => return (Err(error.to_string()), taken),
            }
        }
    }

    #[test]
    fn every_form_in_every_piece() {
        for (header, source) in good() {
            let stream = [&header[..], b"0033git-upload-pack"].concat();
            for step in [1, 2, 3, 7, 15, 16, 17, 100, 10_000] {
                let received = receive(&stream, step);
                assert_eq!(received, (Ok(source.to_owned()), header.len()), "{step}");
            }
            for end in 1..header.len() {
                let text = "the remote end hung up unexpectedly".to_owned();
                assert_eq!(receive(&header[..end], 10_000), (Err(text), end));
            }
        }
        assert_eq!(receive(b"", 1).0, Err("closed without a request".to_owned()));
    }

    #[test]
    fn what_is_none() {
        for (bytes, malformed) in bad() {
            assert_eq!(parse(&bytes), Err(malformed), "{}", bytes.escape_ascii());
            for step in [1, 5, 10_000] {
                assert_eq!(receive(&bytes, step).0, Err(malformed.to_string()));
            }
        }
    }

    /// Nothing is waited for that can no longer become a header.
    #[test]
    fn refused_at_the_first_wrong_byte() {
        for end in 0..SIGNATURE.len() {
            let wrong = [&SIGNATURE[..end], b"!"].concat();
            assert_eq!(parse(&wrong), Err(Malformed::Missing), "{end}");
        }
        for end in 0..LINE.len() {
            assert_eq!(parse(&[&LINE[..end], b"!"].concat()), Err(Malformed::Missing), "{end}");
        }
        let fixed = |header: Vec<u8>| parse(&header[..FIXED]);
        assert_eq!(fixed(v2(0x21, 0x12, &inet(b""))), Err(Malformed::Family(0x12)));
        assert_eq!(fixed(v2(0x20, 0, &[0; MOST_AFTER + 1])), Err(Malformed::TooLong));
        assert!(begins(b"PROX") && begins(b"\r\n\r\n") && !begins(b"0033") && !begins(b"\r\n\r\0"));
    }
}
