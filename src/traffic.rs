//! What gitd does for a connection while the service has it: prompt while packets are small, out of the
//! way while there are many, and an end to what nobody listens to any more.
//!
//! A session alternates between two phases. While it is *prompt*, gitd waits for every arrival and has
//! it acknowledged at once, and the kernel sends what the service writes at once. When much has moved,
//! it is *bulk*: now full segments count, ACKs come by themselves, and every wake-up of gitd would take
//! time from the service, so it lets go of the socket and only looks at the counters now and then. When
//! all has been acknowledged and nothing moves, it is prompt again.
//!
//! Here is decided and done what is to be done; whoever has the session waits, be it with a runtime
//! ([`crate::session`]) or without ([`crate::inetd`]).

use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use socket2::Socket;

use crate::event;
use crate::rest::{self, Exchange};
use crate::service::Service;
use crate::sys::socket;
use crate::sys::wait::{Wait, wait};
use crate::watch::{self, BULK, Counters, Transport};

/// How often a session is looked at while it moves.
const TICK: Duration = Duration::from_millis(25);

/// How often to see whether a service has filled the segments that are held back.
const CORKED_TICK: Duration = Duration::from_micros(500);

/// The longest time between two looks at a session that stands still: it may begin to move without an
/// event, as when a pack is ready.
const SLOWEST_TICK: Duration = Duration::from_secs(4);

/// How often a session is looked at that has a reason for it: several paths to count, or a client that
/// may be gone.
const CAREFUL_TICK: Duration = Duration::from_secs(1);

/// How long a client that has closed its side may leave an answer unacknowledged before it counts as
/// gone, if nothing is heard of it. A proxy that half-closes early still acknowledges, and who only
/// pauses answers the kernel's probes.
const VANISHED: Duration = Duration::from_secs(5);

/// How long a service may take to notice that its connection was shut down before it is killed.
const LAST_CHANCE: Duration = Duration::from_secs(3);

/// How many times as long as others a session at rest may stand still: its client works.
const AT_REST: u32 = 10;

/// What becomes of the service after a look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It goes on.
    Open,
    /// Its connection was shut down; as it has not noticed, this signal shall end it. git's services
    /// ignore SIGTERM; at SIGHUP they remove their temporary files.
    Sealed(i32),
}

/// One session's connection.
#[derive(Debug)]
pub struct Traffic {
    client: Arc<Socket>,
    pid: u32,
    service: Service,
    timeout: Option<Duration>,
    exchange: Exchange,
    /// What was held back at the last look, while segments are held back.
    corked: Option<u64>,
    /// Whether this is the phase for full segments.
    bulk: bool,
    /// Whether the client has closed its side.
    hung_up: bool,
    /// Whether there are no counters, as on a Unix socket.
    blind: bool,
    /// The counters at the last look.
    last: Option<Counters>,
    /// The octets both ways when this phase began.
    phase_began_at: u64,
    /// When a look last found that something had moved.
    moved: Instant,
    /// Since when next to nothing has moved, and the octets both ways at that time.
    slow: (Instant, u64),
    /// The most paths that were ever seen.
    transport: Transport,
    next_look: Option<Instant>,
    sealed: Option<Seal>,
}

/// The connection was shut down from here.
#[derive(Debug)]
struct Seal {
    since: Instant,
    /// Whether the service is to end too. A push may have arrived whole and its hooks be at work; they
    /// are not cut short because nobody waits for the report, unless `--timeout` does.
    kill: bool,
}

impl Traffic {
    /// Starts to look after a connection that a service was just given.
    #[must_use]
    pub fn new(
        client: Arc<Socket>,
        pid: u32,
        service: Service,
        corked: bool,
        timeout: Option<Duration>,
        exchange: Exchange,
    ) -> Self {
        let now = Instant::now();
        Traffic {
            client,
            pid,
            service,
            timeout,
            exchange,
            corked: corked.then_some(0),
            bulk: false,
            hung_up: false,
            blind: false,
            last: None,
            phase_began_at: 0,
            moved: now,
            slow: (now, 0),
            transport: Transport::Tcp,
            next_look: Some(now + if corked { CORKED_TICK } else { TICK }),
            sealed: None,
        }
    }

    /// Whether to wait for arrivals: not in bulk, not once the client has closed its side, as a closed
    /// connection stays ready for ever, and not where there is nothing to look at.
    #[must_use]
    pub fn wants_arrivals(&self) -> bool {
        !self.bulk && !self.hung_up && !self.blind
    }

    /// The client's socket, to wait for arrivals.
    #[must_use]
    pub fn client(&self) -> BorrowedFd<'_> {
        self.client.as_fd()
    }

    /// When to look next; `None` for never.
    #[must_use]
    pub fn next_look(&self) -> Option<Instant> {
        self.next_look
    }

    /// Something has arrived or left, or the client has closed its side.
    pub fn arrived(&mut self, hung_up: bool) {
        watch::acknowledge(&self.client);
        self.hung_up |= hung_up;
        let soon = Instant::now() + TICK;
        self.next_look = Some(self.next_look.map_or(soon, |planned| planned.min(soon)));
    }

    /// The last counters, with the most paths that there ever were. Lets go of the connection: the
    /// client sees its end as soon as the caller's own duplicate is closed.
    #[must_use]
    pub fn finish(self) -> Option<Counters> {
        let last = Counters::read(&self.client)?;
        Some(Counters { transport: last.transport.max(self.transport), ..last })
    }

    /// Shuts the connection down: the server ends, and the service with it.
    pub fn seal(&mut self, now: Instant) {
        // ENOTCONN says that it is down already.
        let _ = self.client.shutdown(Shutdown::Both);
        // The chance to end by itself was all the time until now.
        self.sealed = Some(Seal { since: now - LAST_CHANCE, kill: true });
        self.next_look = Some(now + CAREFUL_TICK);
    }

    /// Whether the service has nothing to do until its client sends or takes more: see [`rest`]. Without
    /// counters, as on a Unix socket, nobody knows, and nobody would look when it works again.
    #[must_use]
    pub fn waits_for_client(&self) -> bool {
        self.last.is_some()
            && self.slow.0.elapsed() >= rest::STILL
            && self.sealed.is_none()
            && rest::waits_for_client(self.pid)
    }

    /// Whether the client has all that it has asked for: see [`rest`].
    #[must_use]
    pub fn has_answered(&self) -> bool {
        self.last.is_some_and(|seen| self.exchange.is_over(&seen))
    }

    /// Whether the service holds little memory: see [`rest`].
    #[must_use]
    pub fn holds_little(&self) -> bool {
        rest::holds_little(self.pid)
    }

    /// Looks at the counters and does what they call for.
    pub fn look(&mut self, now: Instant) -> Fate {
        let Some(seen) = Counters::read(&self.client) else {
            self.blind = true;
            // What was told to end is seen to even so.
            self.next_look = self.sealed.is_some().then_some(now + CAREFUL_TICK);
            return self.insist(now);
        };
        // In bulk nobody waits for events, by which the client's end would have been seen.
        if self.bulk && !self.hung_up {
            let end = &mut [Wait::finished(self.client.as_fd())];
            self.hung_up = wait(end, Some(Duration::ZERO)).is_ok_and(|ended| ended > 0);
        }
        let moving = self.last.is_none_or(|last| last.octets() != seen.octets());
        let pause = now - self.moved;
        if moving {
            self.moved = now;
        }
        let total = seen.sent + seen.received;
        if total > self.slow.1 + rest::LITTLE {
            self.slow = (now, total);
        }
        self.exchange.look(self.last.as_ref(), &seen);
        self.last = Some(seen);
        self.transport = self.transport.max(seen.transport);
        self.choose_phase(&seen, moving);
        self.let_go_when_full(&seen);
        let fate = self.judge(now, &seen);
        self.next_look =
            Some(now + self.next_pause(now, if moving { Duration::ZERO } else { pause }));
        fate
    }

    fn choose_phase(&mut self, seen: &Counters, moving: bool) {
        let (sent, received, unacknowledged) = seen.octets();
        if self.bulk {
            if !moving && unacknowledged == 0 {
                self.bulk = false;
                self.phase_began_at = sent + received;
                watch::prefer_prompt_segments(&self.client);
                watch::acknowledge(&self.client);
            }
        } else if sent + received > self.phase_began_at + BULK {
            self.bulk = true;
            watch::prefer_full_segments(&self.client);
        }
    }

    /// Uncorks once the service has written something and pauses.
    fn let_go_when_full(&mut self, seen: &Counters) {
        let Some(before) = self.corked else { return };
        let waiting = match seen.transport {
            Transport::Tcp => socket::unsent(&self.client).unwrap_or(before),
            // What a path holds back, MPTCP counts as sent.
            Transport::FellBack | Transport::Multipath { .. } => seen.unacknowledged,
        };
        if (waiting > 0 && waiting == before) || self.bulk {
            watch::uncork(&self.client);
            self.corked = None;
        } else {
            self.corked = Some(waiting);
        }
    }

    /// Ends what stands still for too long, and what nobody listens to any more. A service that is
    /// blocked in a write to a connection without any path is never woken by the kernel: the shutdown,
    /// or the signal after it, does.
    fn judge(&mut self, now: Instant, seen: &Counters) -> Fate {
        let still = now - self.moved;
        let vanished = self.hung_up && seen.unacknowledged > 0 && seen.unheard && still >= VANISHED;
        let timed_out = self.timeout.is_some_and(|timeout| {
            let at_rest = || self.has_answered() && rest::waits_for_client(self.pid);
            still >= timeout && (still >= timeout * AT_REST || !at_rest())
        });
        match &self.sealed {
            None if vanished || timed_out => {
                event::session_stuck(self.pid, vanished, still);
                // A push that can still report that it was cut short puts away what it has received;
                // one that is stopped by a broken pipe leaves it in the repository.
                let pushed = timed_out && self.service == Service::ReceivePack;
                let how = if pushed { Shutdown::Read } else { Shutdown::Both };
                // ENOTCONN says that it is down already.
                let _ = self.client.shutdown(how);
                let kill = timed_out || self.service != Service::ReceivePack;
                self.sealed = Some(Seal { since: now, kill });
                Fate::Open
            }
            // The hooks have had the time that any session has to stand still.
            Some(Seal { kill: false, .. }) if timed_out => {
                self.sealed = Some(Seal { since: now, kill: true });
                Fate::Open
            }
            _ => self.insist(now),
        }
    }

    /// What a service gets that has not noticed its connection's end.
    fn insist(&self, now: Instant) -> Fate {
        match &self.sealed {
            Some(Seal { since, kill: true }) => match now - *since {
                passed if passed >= 2 * LAST_CHANCE => Fate::Sealed(libc::SIGKILL),
                passed if passed >= LAST_CHANCE => Fate::Sealed(libc::SIGHUP),
                _ => Fate::Open,
            },
            _ => Fate::Open,
        }
    }

    /// How long until the next look at a session that has stood still for `pause`.
    fn next_pause(&self, now: Instant, pause: Duration) -> Duration {
        if self.corked.is_some() {
            // A service that is slow to begin, or waits for its client's first word, is not worth two
            // thousand looks a second.
            return (pause / 8).clamp(CORKED_TICK, TICK);
        }
        let careful = self.hung_up || self.sealed.is_some() || self.transport > Transport::FellBack;
        let longest = if careful { CAREFUL_TICK } else { SLOWEST_TICK };
        let due = self.timeout.map(|timeout| (self.moved + timeout) - now);
        // Past its time only a session at rest goes on.
        let due = due.filter(|left| !left.is_zero()).unwrap_or(longest);
        // Others may wait for its place.
        let slow = (self.slow.0 + rest::STILL).checked_duration_since(now).unwrap_or(longest);
        pause.min(longest).min(due).min(slow).max(TICK)
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;
    use crate::request::Request;

    /// The server's end is the end of a service on a Unix socket too, which has no counters.
    #[test]
    fn a_sealed_service_is_killed_without_counters() {
        let (server, _client) = std::os::unix::net::UnixStream::pair().unwrap();
        let request = Request::parse(b"git-upload-pack /a\0host=x\0").unwrap();
        let exchange = Exchange::new(&request, 0);
        let socket = Arc::new(Socket::from(std::os::fd::OwnedFd::from(server)));
        let mut traffic = Traffic::new(socket, 0, request.service, false, None, exchange);
        let mut now = Instant::now();
        assert_eq!(traffic.look(now), Fate::Open);
        assert_eq!(traffic.next_look(), None);
        traffic.seal(now);
        let mut fates = Vec::new();
        while let Some(next) =
            traffic.next_look().filter(|_| fates.last() != Some(&Fate::Sealed(9)))
        {
            now = next;
            fates.push(traffic.look(now));
        }
        assert_eq!(fates, [1, 1, 9].map(Fate::Sealed));
    }

    /// How often one is looked at within a second of which nothing is heard.
    #[test]
    fn silence_is_not_watched_closely() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let _client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let socket: Socket = listener.accept().unwrap().0.into();
        let socket = Arc::new(socket);
        for (corked, most) in [(false, 10), (true, 100)] {
            let request = Request::parse(b"git-upload-archive /a\0host=x\0").unwrap();
            let exchange = Exchange::new(&request, 0);
            let service = request.service;
            let mut traffic = Traffic::new(Arc::clone(&socket), 0, service, corked, None, exchange);
            let end = Instant::now() + Duration::from_secs(1);
            let mut looks = 0;
            while let Some(next) = traffic.next_look().filter(|&next| next < end) {
                traffic.look(next);
                looks += 1;
            }
            assert!((2..=most).contains(&looks), "{looks} looks, corked: {corked}");
        }
    }
}
