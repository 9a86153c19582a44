//! Is a session at rest? A client of protocol version 2 keeps its connection until it exits: after the
//! pack has arrived it unpacks, resolves deltas and writes a working tree, and asks for nothing more.
//! That is not the same as being stuck, and no reason to make others wait.
//!
//! A session is at rest when the service is upload-pack in version 2, the client has sent a command and
//! was answered after it, has acknowledged all of the answer, nothing has moved for [`STILL`] since, and
//! git waits in a read of the connection: it has no answer in the making. (Counters are looked at every
//! 25 ms while they move. Who gets an answer and begins another question between two looks, and stops in
//! the middle of it, rests too: as may anybody who finishes a question.)

use std::time::Duration;

use crate::request::Request;
use crate::service::Service;
use crate::watch::Counters;

/// How long nothing must have moved.
pub const STILL: Duration = Duration::from_secs(1);

/// What has been said on a connection, as far as counters can tell.
#[derive(Debug)]
pub struct Exchange {
    /// The octets of the request; what came after them is git's. `None` where no session rests.
    request: Option<u64>,
    /// Whether the last octets that were seen to move were the service's.
    answered: bool,
}

impl Exchange {
    /// Begins with a request of so many octets.
    #[must_use]
    pub fn new(request: &Request, octets: usize) -> Self {
        let parameters = request.extra_parameters.as_deref().unwrap_or_default();
        let version_2 = parameters.split(|&octet| octet == b':').any(|p| p == b"version=2");
        let may_rest = version_2 && request.service == Service::UploadPack;
        Exchange { request: may_rest.then_some(octets as u64), answered: false }
    }

    /// Takes note of what has moved since the last look.
    pub fn look(&mut self, before: Option<&Counters>, seen: &Counters) {
        let (sent, received) = before.map_or((0, 0), |before| (before.sent, before.received));
        if seen.sent > sent {
            self.answered = true;
        } else if seen.received > received {
            self.answered = false;
        }
    }

    /// Whether nothing is under way, once nothing has moved for a while: see the module's text.
    #[must_use]
    pub fn is_over(&self, seen: &Counters, pid: u32) -> bool {
        self.request.is_some_and(|request| seen.received > request)
            && self.answered
            && seen.unacknowledged == 0
            && waits_for_input(pid)
    }
}

/// Whether the process sleeps in a read of its standard input. The kernel tells a parent about its own
/// children; where it does not, no session rests.
fn waits_for_input(pid: u32) -> bool {
    let call = std::fs::read_to_string(format!("/proc/{pid}/syscall")).unwrap_or_default();
    let mut words = call.split_whitespace();
    words.next().and_then(|number| number.parse().ok()) == Some(libc::SYS_read)
        && words.next() == Some("0x0")
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;
    use crate::watch::Transport;

    fn exchange(payload: &[u8]) -> Exchange {
        let request = Request::parse(payload).unwrap();
        Exchange::new(&request, 50)
    }

    fn counters(sent: u64, received: u64, unacknowledged: u64) -> Counters {
        Counters { sent, received, unacknowledged, transport: Transport::Tcp }
    }

    #[test]
    fn only_version_2_of_upload_pack() {
        for (payload, rests) in [
            (&b"git-upload-pack /a\0host=x\0\0version=2\0"[..], true),
            (b"git-upload-pack /a\0host=x\0\0foo\0version=2\0", true),
            (b"git-upload-pack /a\0host=x\0\0version=20\0", false),
            (b"git-upload-pack /a\0host=x\0\0version=1\0", false),
            (b"git-upload-pack /a\0host=x\0", false),
            (b"git-receive-pack /a\0host=x\0\0version=2\0", false),
        ] {
            assert_eq!(exchange(payload).request.is_some(), rests, "{payload:?}");
        }
    }

    #[test]
    fn an_answer_must_follow_a_command() {
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        while !waits_for_input(child.id()) {
            std::thread::yield_now();
        }
        let mut exchange = exchange(b"git-upload-pack /a\0host=x\0\0version=2\0");
        let pid = child.id();
        let mut last = None;
        let mut over = |seen: Counters| {
            exchange.look(last.as_ref(), &seen);
            last = Some(seen);
            exchange.is_over(&seen, pid)
        };
        assert!(!over(counters(300, 50, 0)), "the greeting alone");
        assert!(!over(counters(300, 90, 0)), "a command without an answer");
        assert!(!over(counters(300, 90, 700)), "an answer on its way");
        assert!(over(counters(1000, 90, 0)));
        assert!(!over(counters(1000, 93, 0)), "half of the next command");
        assert!(over(counters(1500, 120, 0)), "both between two looks");
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!over(counters(1500, 120, 0)), "nobody reads");
    }
}
