//! Does the service wait for its client, and if so, is the client done with what it asked for?
//!
//! A service that waits for its client does no work, whatever the client's reasons: it takes its answer
//! slowly or not at all, stops in the middle of a push, or has asked for nothing. Its place is of more
//! use to others; once it works again it needs one. So says [`waits_for_client`], when next to nothing
//! ([`LITTLE`]) has moved for [`STILL`].
//!
//! Such a client may be stuck, and `--timeout` ends it. But a client of protocol version 2 keeps its
//! connection until it exits: after the pack has arrived it unpacks, resolves deltas and writes a
//! working tree, and asks for nothing more. That is not the same. Such a session is *at rest*: the
//! service is upload-pack in version 2, the client has sent a command and was answered after it, has
//! acknowledged all of the answer, nothing has moved since, and git waits in a read of the connection:
//! it has no answer in the making. (Counters are looked at every 25 ms while they move. Who gets an
//! answer and begins another question between two looks, and stops in the middle of it, is at rest
//! too: as may be anybody who finishes a question.)

use std::fs;
use std::time::Duration;

use crate::request::Request;
use crate::service::Service;
use crate::watch::Counters;

/// For how long next to nothing must have moved.
pub const STILL: Duration = Duration::from_millis(250);

/// What is next to nothing, in octets: so little keeps neither a processor nor a disk at work.
pub const LITTLE: u64 = 4 * 1024;

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

    /// Whether nothing is under way, if the service waits for its client: see the module's text.
    #[must_use]
    pub fn is_over(&self, seen: &Counters) -> bool {
        self.request.is_some_and(|request| seen.received > request)
            && self.answered
            && seen.unacknowledged == 0
    }
}

/// Whether a service sleeps until its client sends something or takes something. For receive-pack and
/// upload-archive it is a child that reads from the client, by an inherited descriptor.
#[must_use]
pub fn waits_for_client(pid: u32) -> bool {
    if matches!(blocked_on(pid), Some((libc::SYS_read, 0) | (libc::SYS_write, 1))) {
        return true;
    }
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
    children.unwrap_or_default().split_whitespace().any(|child| {
        let input = |pid: &str| fs::read_link(format!("/proc/{pid}/fd/0")).ok();
        child.parse().ok().and_then(blocked_on) == Some((libc::SYS_read, 0))
            && input(child).is_some_and(|connection| input(&pid.to_string()) == Some(connection))
    })
}

/// The system call that a process sleeps in, and its first argument. The kernel tells a parent about its
/// descendants; where it does not, no service waits and no session rests.
fn blocked_on(pid: u32) -> Option<(libc::c_long, u64)> {
    let call = fs::read_to_string(format!("/proc/{pid}/syscall")).ok()?;
    let mut words = call.split_whitespace();
    let number = words.next()?.parse().ok()?;
    Some((number, u64::from_str_radix(words.next()?.strip_prefix("0x")?, 16).ok()?))
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command, Stdio};

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

    fn shell(script: &str) -> Command {
        let mut shell = Command::new("sh");
        shell.args(["-c", script]).stdin(Stdio::piped()).stdout(Stdio::piped());
        shell
    }

    fn end(mut child: Child) {
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn services_that_wait() {
        for script in ["exec cat", "exec cat /dev/zero", "cat; :"] {
            let child = shell(script).spawn().unwrap();
            while !waits_for_client(child.id()) {
                std::thread::yield_now();
            }
            end(child);
        }
    }

    #[test]
    fn services_that_work() {
        let child = shell("exec sleep 9").spawn().unwrap();
        while blocked_on(child.id()).map(|call| call.0) != Some(libc::SYS_clock_nanosleep) {
            std::thread::yield_now();
        }
        assert!(!waits_for_client(child.id()));
        end(child);
        // A child that waits for something else, here for the pipe in the place of standard output.
        let (another, _open) = std::io::pipe().unwrap();
        let child = shell("(exec cat <&1 >/dev/null); :").stdout(another).spawn().unwrap();
        let cat_reads = || {
            let children = format!("/proc/{0}/task/{0}/children", child.id());
            let children = fs::read_to_string(children).unwrap();
            children
                .split_whitespace()
                .any(|pid| blocked_on(pid.parse().unwrap()) == Some((libc::SYS_read, 0)))
        };
        while !cat_reads() {
            std::thread::yield_now();
        }
        assert!(!waits_for_client(child.id()));
        end(child);
    }

    #[test]
    fn an_answer_must_follow_a_command() {
        let mut exchange = exchange(b"git-upload-pack /a\0host=x\0\0version=2\0");
        let mut last = None;
        let mut over = |seen: Counters| {
            exchange.look(last.as_ref(), &seen);
            last = Some(seen);
            exchange.is_over(&seen)
        };
        assert!(!over(counters(300, 50, 0)), "the greeting alone");
        assert!(!over(counters(300, 90, 0)), "a command without an answer");
        assert!(!over(counters(300, 90, 700)), "an answer on its way");
        assert!(over(counters(1000, 90, 0)));
        assert!(!over(counters(1000, 93, 0)), "half of the next command");
        assert!(over(counters(1500, 120, 0)), "both between two looks");
    }
}
