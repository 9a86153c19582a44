//! Reads exactly the request packet: all bytes after it are git's.

use std::io;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use thiserror::Error;

use crate::protocol::pktline::{self, BadLength, PREFIX};
use crate::protocol::proxy::{self, Malformed};
use crate::sys::errno_text;
use crate::sys::wait::wait_readable;

/// The buffer before a client has sent anything, so that an announced length alone costs no memory.
const FIRST_ROOM: usize = 1024;

/// Why there is no packet.
#[derive(Debug, Error)]
pub enum Unread {
    /// The client connected and closed without sending a byte: a probe.
    #[error("closed without a request")]
    Nothing,
    /// The client closed in the middle of the packet.
    #[error("the remote end hung up unexpectedly")]
    HungUp,
    /// The bytes are no packet.
    #[error("{0}")]
    Length(#[from] BadLength),
    /// The bytes are no header of the PROXY protocol, which this peer must send.
    #[error("{0}")]
    Proxy(#[from] Malformed),
    /// The packet was not complete within this time.
    #[error("no request within {} seconds", .0.as_secs())]
    TimedOut(Duration),
    /// The client was dismissed for others, because it had been silent longest.
    #[error("no request, and no room for more clients without one")]
    Dismissed,
    /// The connection broke.
    #[error("read error: {}", errno_text(.0))]
    Broken(#[from] io::Error),
}

impl Unread {
    /// What the administrator should know; empty if the reason says it all.
    pub fn remedy(&self) -> &'static str {
        match self {
            Unread::Proxy(Malformed::Uninvited(_)) => {
                "a PROXY header, and --proxy-protocol does not list this address"
            }
            Unread::Proxy(Malformed::Missing) => "--proxy-protocol lists this address",
            _ => "",
        }
    }

    /// Why the bytes are no packet, in one word that never changes, for programs.
    pub fn word(&self) -> Option<&'static str> {
        match self {
            Unread::HungUp => Some("hung-up"),
            Unread::Length(_) => Some("invalid-length"),
            Unread::Proxy(_) => Some("proxy-header"),
            Unread::Nothing | Unread::TimedOut(_) | Unread::Dismissed | Unread::Broken(_) => None,
        }
    }

    /// The same from a peer that is `listed` for the PROXY protocol, or not.
    #[must_use]
    pub fn of_peer(self, listed: bool) -> Self {
        match self {
            Unread::Length(BadLength::NotHex(prefix)) if !listed && proxy::begins(&prefix) => {
                Malformed::Uninvited(BadLength::NotHex(prefix)).into()
            }
            other => other,
        }
    }
}

/// A packet being received. It never asks for more bytes than its own.
#[derive(Debug, Default)]
pub struct Packet {
    prefix: [u8; PREFIX],
    /// The bytes received, including the prefix.
    arrived: usize,
    payload: Vec<u8>,
    announced: Option<usize>,
}

impl Packet {
    /// The buffer for the next bytes; empty when the packet is complete.
    pub fn room(&mut self) -> &mut [u8] {
        let Some(announced) = self.announced else { return &mut self.prefix[self.arrived..] };
        let have = self.arrived - PREFIX;
        if self.payload.len() == have && have < announced {
            self.payload.resize(announced.min((have * 2).max(FIRST_ROOM)), 0);
        }
        &mut self.payload[have..]
    }

    /// Records that `read` bytes were written to the buffer; 0 means the end of input.
    ///
    /// # Errors
    /// [`Unread`], when no packet can come of it.
    pub fn advance(&mut self, read: usize) -> Result<(), Unread> {
        if read == 0 {
            return Err(if self.arrived == 0 { Unread::Nothing } else { Unread::HungUp });
        }
        self.arrived += read;
        if self.announced.is_none() && self.arrived == PREFIX {
            self.announced = Some(pktline::announced(self.prefix)?);
        }
        Ok(())
    }

    /// The payload, once complete.
    pub fn complete(&mut self) -> Option<Vec<u8>> {
        let complete = self.announced == Some(self.arrived.checked_sub(PREFIX)?);
        complete.then(|| std::mem::take(&mut self.payload))
    }
}

/// Reads one packet from a descriptor that may block, such as inetd's standard input.
pub fn read(input: impl AsFd, limit: Option<Duration>) -> Result<Vec<u8>, Unread> {
    let deadline = limit.map(|limit| Instant::now() + limit);
    let mut packet = Packet::default();
    loop {
        if let Some(payload) = packet.complete() {
            return Ok(payload);
        }
        let left = deadline.map(|end| end.saturating_duration_since(Instant::now()));
        if !wait_readable(&input, left)? {
            return Err(Unread::TimedOut(limit.unwrap_or_default()));
        }
        match rustix::io::read(&input, packet.room()) {
            Err(Errno::INTR) => {}
            read => packet.advance(read.map_err(io::Error::from)?)?,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feed(bytes: &[u8], step: usize) -> (Result<Vec<u8>, String>, usize) {
        let mut packet = Packet::default();
        let mut used = 0;
        // At most one round for each byte, and one for the end.
        for _ in 0..bytes.len() + 2 {
            if let Some(payload) = packet.complete() {
                return (Ok(payload), used);
            }
            let room = packet.room();
            let take = room.len().min(step).min(bytes.len() - used);
            room[..take].copy_from_slice(&bytes[used..used + take]);
            used += take;
            if let Err(error) = packet.advance(take) {
                return (Err(error.to_string()), used);
            }
        }
        panic!("the packet has no end");
    }

    #[test]
    fn takes_its_own_bytes_only() {
        for step in [1, 2, 3, 5, 100] {
            assert_eq!(feed(b"0009hello0000next", step), (Ok(b"hello".to_vec()), 9), "{step}");
            assert_eq!(feed(b"0004more", step), (Ok(Vec::new()), 4), "{step}");
            assert_eq!(feed(b"0000", step), (Ok(Vec::new()), 4), "{step}");
        }
        let long = [b"fff3".as_slice(), &[b'x'; 65519], b"y"].concat();
        for step in [1, 1000, 70_000] {
            assert_eq!(feed(&long, step), (Ok(vec![b'x'; 65519]), 65523));
        }
    }

    #[test]
    fn every_early_end_is_named() {
        assert_eq!(feed(b"", 9).0, Err("closed without a request".to_owned()));
        for end in 1..9 {
            let text = "the remote end hung up unexpectedly".to_owned();
            assert_eq!(feed(&b"0009hello"[..end], 9).0, Err(text), "{end}");
        }
        let text = "protocol error: bad line length character: GET ".to_owned();
        assert_eq!(feed(b"GET / HTTP/1.1", 9), (Err(text), 4));
    }

    #[test]
    fn an_announcement_costs_no_memory() {
        let mut packet = Packet::default();
        packet.room().copy_from_slice(b"fff3");
        packet.advance(4).unwrap();
        assert_eq!(packet.room().len(), FIRST_ROOM);
    }
}
