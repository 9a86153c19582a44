//! The pkt-line: its length prefix, and the `ERR` packet.

use thiserror::Error;

/// The bytes of a packet's length prefix.
pub const PREFIX: usize = 4;

/// The most bytes of payload that a request packet may have (contract 24).
pub const MAX_REQUEST: usize = 65519;

/// The most bytes of payload in a packet that gitd sends; git's own limit.
const MAX_SENT: usize = 65516;

/// The length that a prefix announces: the bytes of payload that follow, 0 to [`MAX_REQUEST`].
///
/// The special packets 0000, 0001 and 0002 (flush, delimiter, response end) and the empty packet
/// 0004 have no payload, as in the stock daemon (contract 24).
///
/// # Errors
/// [`BadLength`], in the stock daemon's words.
pub fn announced(prefix: [u8; PREFIX]) -> Result<usize, BadLength> {
    let mut length = 0;
    for byte in prefix {
        // Digits only: a general integer parser accepts a sign.
        let digit = char::from(byte).to_digit(16).ok_or(BadLength::NotHex(prefix))?;
        length = length * 16 + digit as usize;
    }
    match length {
        0..=2 => Ok(0),
        3 => Err(BadLength::Impossible(3)),
        _ if length - PREFIX > MAX_REQUEST => Err(BadLength::Impossible(length - PREFIX)),
        _ => Ok(length - PREFIX),
    }
}

/// An invalid length prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum BadLength {
    /// The four bytes are not hex digits.
    #[error("protocol error: bad line length character: {}", .0.escape_ascii())]
    NotHex([u8; PREFIX]),
    /// The length is out of range.
    #[error("protocol error: bad line length {0}")]
    Impossible(usize),
}

/// The packet that tells the client why it is refused: `ERR <reason>: <pathname>`, without a line
/// feed, with the pathname as the client sent it (contract 32). Cut if the packet would be too
/// long.
pub fn refusal(reason: &[u8], pathname: &[u8]) -> Vec<u8> {
    error(&[reason, b": ", pathname].concat())
}

/// An `ERR` packet with this text, cut if it would be too long.
pub fn error(text: &[u8]) -> Vec<u8> {
    let mut payload = [b"ERR ", text].concat();
    payload.truncate(MAX_SENT);
    let mut packet = format!("{:04x}", payload.len() + PREFIX).into_bytes();
    packet.append(&mut payload);
    packet
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn announces() {
        let good = [
            (b"0000", 0),
            (b"0001", 0),
            (b"0002", 0),
            (b"0004", 0),
            (b"0005", 1),
            (b"00fF", 251),
            (b"fff3", 65519),
        ];
        for (prefix, length) in good {
            assert_eq!(announced(*prefix), Ok(length), "{}", prefix.escape_ascii());
        }
    }

    #[test]
    fn refuses_what_is_no_length() {
        let bad = [
            (b"0003", "protocol error: bad line length 3"),
            (b"fff4", "protocol error: bad line length 65520"),
            (b"ffff", "protocol error: bad line length 65531"),
            (b"zzzz", "protocol error: bad line length character: zzzz"),
            (b"+123", "protocol error: bad line length character: +123"),
            (b" 123", "protocol error: bad line length character:  123"),
            (b"-001", "protocol error: bad line length character: -001"),
            (b"0x10", "protocol error: bad line length character: 0x10"),
            (b"1\n2\x00", "protocol error: bad line length character: 1\\n2\\x00"),
        ];
        for (prefix, text) in bad {
            assert_eq!(announced(*prefix).map_err(|e| e.to_string()), Err(text.to_owned()));
        }
    }

    #[test]
    fn refusal_is_one_packet_without_line_feed() {
        assert_eq!(refusal(b"no such repository", b"/x"), b"001eERR no such repository: /x");
    }

    #[test]
    fn refusal_never_exceeds_a_packet() {
        let packet = refusal(b"no such repository", &[b'x'; 70_000]);
        assert_eq!(&packet[..4], b"fff0");
        assert_eq!(packet.len(), 65520);
    }
}
