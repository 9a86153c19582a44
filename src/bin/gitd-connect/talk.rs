//! Decides when to shut down writing on the connection.
//!
//! git closes its writing end as soon as it has nothing more to ask, long before the pack has
//! arrived. A half-closed connection takes no further MPTCP path, and some routers forget it within
//! a minute. So the end is passed on only when the server waits for more, or will: when the last
//! request is answered, when git has ended the protocol, or when git's last packet is incomplete.
//! Only the lengths of the pkt-lines are read (gitprotocol-common(5)).

/// What has crossed the connection so far.
#[derive(Debug, Default)]
pub(crate) struct Talk {
    asked: Packets,
    answered: Packets,
    finished: bool,
    closed: bool,
}

impl Talk {
    /// Takes bytes from git.
    pub(crate) fn ask(&mut self, bytes: &[u8]) {
        self.asked.feed(bytes);
    }

    /// Takes bytes from the server.
    pub(crate) fn answer(&mut self, bytes: &[u8]) {
        self.answered.feed(bytes);
    }

    /// git sends no more.
    pub(crate) fn finish(&mut self) {
        self.finished = true;
    }

    /// Whether to shut down writing now; `true` once. After a long silence the server counts as
    /// waiting.
    #[must_use]
    pub(crate) fn closes(&mut self, silence: bool) -> bool {
        let closes = self.finished && !self.closed && (silence || self.is_server_waiting());
        self.closed |= closes;
        closes
    }

    /// Whether the server's last answer is complete, so that the end of the connection does no
    /// harm.
    #[must_use]
    pub(crate) fn is_answered(&self) -> bool {
        let answered = &self.answered;
        answered.flushes > 0 && answered.since_flush == 0 && !answered.noise && !answered.is_cut()
    }

    /// The server sends a first list that ends in a flush packet, and one more for each that it
    /// gets. In versions 0 and 1 some lists are answered with less, but there the server itself
    /// ends the connection.
    fn is_server_waiting(&self) -> bool {
        let asked = &self.asked;
        if asked.noise {
            // The pack of a push follows a flush packet. Anything else is not git's protocol.
            return asked.flushes == 0;
        }
        asked.is_cut() || asked.goodbye || self.answered.flushes > asked.flushes
    }
}

/// The pkt-lines of one direction.
#[derive(Debug, Default)]
struct Packets {
    flushes: u64,
    /// The other packets since the last flush packet.
    since_flush: u64,
    /// Whether the last two packets are flush packets, which end version 2.
    goodbye: bool,
    /// The digits of a length, until it is complete.
    digits: Vec<u8>,
    /// The bytes of the last packet that are still to come.
    left: usize,
    /// Whether other bytes have followed the packets, such as the pack of a push.
    noise: bool,
}

impl Packets {
    /// Whether the last packet is incomplete, or there is none.
    fn is_cut(&self) -> bool {
        self.left > 0 || !self.digits.is_empty() || self.flushes + self.since_flush == 0
    }

    fn feed(&mut self, mut bytes: &[u8]) {
        while !self.noise {
            let body = self.left.min(bytes.len());
            self.left -= body;
            bytes = &bytes[body..];
            let [first, rest @ ..] = bytes else { return };
            self.digits.push(*first);
            bytes = rest;
            if self.digits.len() == LENGTH {
                self.begin();
            } else {
                self.noise = !first.is_ascii_hexdigit();
            }
        }
    }

    /// Takes the length of a packet.
    fn begin(&mut self) {
        let digits = std::mem::take(&mut self.digits);
        let length =
            str::from_utf8(&digits).ok().and_then(|digits| usize::from_str_radix(digits, 16).ok());
        match length {
            Some(0) => {
                self.goodbye = self.flushes > 0 && self.since_flush == 0;
                self.flushes += 1;
                self.since_flush = 0;
            }
            // 1 is a delimiter, 2 the end of a response; 4 is empty.
            Some(length @ (1 | 2 | LENGTH..)) => {
                self.left = length.saturating_sub(LENGTH);
                self.since_flush += 1;
                self.goodbye = false;
            }
            _ => self.noise = true,
        }
    }
}

/// The number of digits of a length.
const LENGTH: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    const REQUEST: &[u8] = b"0017git-upload-pack /a\0";

    /// Whether to close after git has sent only `asked`, and the server `answered`.
    fn closes(asked: &[&[u8]], answered: &[u8]) -> bool {
        let mut talk = Talk::default();
        // In pieces of each size.
        for size in 1..=9 {
            talk = Talk::default();
            asked.concat().chunks(size).for_each(|piece| talk.ask(piece));
            answered.chunks(size).for_each(|piece| talk.answer(piece));
            assert!(!talk.closes(true), "git may send more");
            talk.finish();
        }
        talk.closes(false)
    }

    #[test]
    fn version_2() {
        let [greeting, ls_refs, fetch] =
            ["000eversion 2\n0000", "0009refs\n0000", "000dpackfile\n0005x0000"];
        let ask_refs: &[u8] = b"0014command=ls-refs\n00010009peel\n0000";
        let ask_pack: &[u8] = b"0012command=fetch\n00010009done\n0000";
        for (asked, answered, closed) in [
            (&[REQUEST][..], "", false),
            (&[REQUEST], "000eversion 2\n", false),
            (&[REQUEST], greeting, true),
            (&[REQUEST, ask_refs], greeting, false),
            (&[REQUEST, ask_refs], &[greeting, ls_refs].concat(), true),
            (&[REQUEST, ask_refs, ask_pack], &[greeting, ls_refs].concat(), false),
            (
                &[REQUEST, ask_refs, ask_pack],
                &[greeting, ls_refs, "000dpackfile\n0005x"].concat(),
                false,
            ),
            (&[REQUEST, ask_refs, ask_pack], &[greeting, ls_refs, fetch].concat(), true),
            (&[REQUEST, ask_refs, b"0000"], greeting, true),
            (&[REQUEST, ask_refs, &ask_pack[..20]], greeting, true),
        ] {
            assert_eq!(closes(asked, answered.as_bytes()), closed, "{asked:?} {answered:?}");
        }
    }

    #[test]
    fn pushes_and_versions_0() {
        let refs: &[u8] = b"0009refs\n0000";
        let commands: &[u8] = b"000acreate0000";
        for (asked, answered, closed) in [
            (&[REQUEST, commands, b"PACK\0\0\0\x02"][..], &b""[..], false),
            (&[REQUEST, commands, b"PACK\0\0\0\x02"], b"000eunpack ok\n0000", false),
            (&[REQUEST, b"0009want\n00000009done\n"], b"0008NAK\n", false),
            (&[REQUEST, b"0000"], b"", false),
        ] {
            assert_eq!(closes(asked, &[refs, answered].concat()), closed, "{asked:?} {answered:?}");
        }
    }

    #[test]
    fn what_is_not_gits_protocol() {
        for asked in [&b""[..], b"GET / HTTP/1.0\r\n", b"0003", b"00", b"zzzz"] {
            assert!(closes(&[asked], b""), "{asked:?}");
        }
    }

    #[test]
    fn a_long_silence() {
        let mut talk = Talk::default();
        talk.ask(REQUEST);
        talk.finish();
        assert!(!talk.closes(false));
        assert!(talk.closes(true) && !talk.closes(true), "once");
    }

    #[test]
    fn whole_answers() {
        for (answered, whole) in
            [("", false), ("0000", true), ("00000", false), ("0005x", false), ("0005x0000", true)]
        {
            let mut talk = Talk::default();
            talk.answer(answered.as_bytes());
            assert_eq!(talk.is_answered(), whole, "{answered}");
        }
    }
}
