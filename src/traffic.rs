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
use crate::rest::{self, Activity, Exchange, Observation};
use crate::service::Service;
use crate::sys::socket;
use crate::watch::{self, BULK, Counters, Transport};
use blind::Blind;

mod blind;
#[cfg(test)]
mod tests;

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

/// How long a service may go on after the kernel has given its connection up. The kernel wakes a service that
/// waits for the connection, but not over MPTCP in a write.
const GIVEN_UP: Duration = Duration::from_secs(5);

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
    /// Whether a direction has ended: the client has closed its side, or the connection is broken.
    ended: bool,
    /// What is known instead where there are no counters.
    blind: Option<Blind>,
    /// The counters at the last look.
    last: Option<Counters>,
    /// What was seen of the service's processes since something moved.
    observation: Option<Observation>,
    /// The octets both ways when this phase began.
    phase_began_at: u64,
    /// When a look last found that something had moved, or that nothing could move.
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
            ended: false,
            blind: None,
            last: None,
            observation: None,
            phase_began_at: 0,
            moved: now,
            slow: (now, 0),
            transport: Transport::Tcp,
            next_look: Some(now + if corked { CORKED_TICK } else { TICK }),
            sealed: None,
        }
    }

    /// Whether to wait for arrivals: not in bulk, unless the service waits for its client, and not once a
    /// direction has ended, as that is reported for ever. Without counters only a time-out needs them.
    #[must_use]
    pub fn wants_arrivals(&self) -> bool {
        let wanted = match self.blind {
            None => !self.bulk || self.observation.is_some_and(|seen| seen.waits),
            Some(blind) => self.timeout.is_some() && blind.listens(),
        };
        wanted && !self.ended
    }

    /// The client's socket, to wait for arrivals.
    pub fn client(&self) -> BorrowedFd<'_> {
        self.client.as_fd()
    }

    /// When to look next; `None` for never.
    #[must_use]
    pub fn next_look(&self) -> Option<Instant> {
        self.next_look
    }

    /// Something has arrived or left, or a direction of the connection has ended.
    pub fn arrived(&mut self, now: Instant, ended: bool) {
        self.ended |= ended;
        if let Some(blind) = &mut self.blind {
            if blind.arrived() {
                self.moved = now;
                self.observation = None;
            }
            return;
        }
        watch::acknowledge(&self.client);
        let soon = now + TICK;
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

    /// Whether the service is ended from here.
    #[must_use]
    pub fn is_killed(&self) -> bool {
        self.sealed.as_ref().is_some_and(|seal| seal.kill)
    }

    /// The service is stopped from here: nothing can move, and that is not the client's fault.
    pub fn postpone(&mut self, now: Instant) {
        self.moved = now;
        self.next_look = Some(now + CAREFUL_TICK);
    }

    /// The service goes on: bytes will move again, unless it has nothing to do after all.
    pub fn go_on(&mut self, now: Instant) {
        self.moved = now;
        self.slow.0 = now;
        self.observation = None;
        self.next_look = Some(now + TICK);
    }

    /// What the service does. Without counters, as on a Unix socket, it always works: nobody would look when
    /// it does again. What is ended from here needs no permit for that.
    #[must_use]
    pub fn activity(&self) -> Activity {
        match self.observation {
            _ if self.is_killed() => Activity::Unknown,
            _ if self.last.is_none() || self.sealed.is_some() => Activity::Works,
            None if self.slow.0.elapsed() < rest::STILL => Activity::Works,
            None => Activity::Unknown,
            Some(Observation { waits: false, .. }) => Activity::Works,
            // git's own alarm would go on while it is stopped.
            Some(_) if self.timeout.is_some() && self.has_alarm() => Activity::Works,
            Some(Observation { reads, light, .. }) => {
                Activity::Waits { reads, light: light && self.has_answered() }
            }
        }
    }

    /// Whether somebody should look at the service's processes: others may wait for its permit, or its time
    /// is over and it may be at rest.
    #[must_use]
    pub fn wants_observation(&self, now: Instant, scarce: bool) -> bool {
        let wanted = scarce && self.last.is_some() && now - self.slow.0 >= rest::STILL;
        let overdue = self.timeout.is_some_and(|limit| now - self.moved >= limit);
        self.sealed.is_none() && (wanted || (overdue && self.observation.is_none()))
    }

    /// What was seen of the service's processes.
    pub fn observed(&mut self, now: Instant, seen: Observation) {
        let first = self.observation.replace(seen).is_none();
        if first && self.timeout.is_some_and(|limit| now - self.moved >= limit) {
            // The last look has waited for this.
            self.next_look = Some(now);
        }
    }

    /// Whether git itself ends the service at `--timeout`: upload-pack before version 2.
    fn has_alarm(&self) -> bool {
        self.service == Service::UploadPack && !self.exchange.may_rest()
    }

    /// Whether there is something to read for the service, or nothing ever again.
    #[must_use]
    pub fn has_input(&self) -> bool {
        self.ended || socket::unread(&self.client).is_ok_and(|bytes| bytes > 0)
    }

    /// Whether the client has all that it has asked for: see [`rest`].
    fn has_answered(&self) -> bool {
        self.last.is_some_and(|seen| self.exchange.is_over(&seen))
    }

    /// Looks at the counters and does what they call for.
    pub fn look(&mut self, now: Instant) -> Fate {
        let Some(seen) = Counters::read(&self.client) else { return self.look_blindly(now) };
        // In bulk nobody waits for events, by which the client's end would have been seen.
        self.ended |= self.bulk && watch::has_ended(&self.client);
        let moving = self.last.is_none_or(|last| last.octets() != seen.octets());
        let pause = now - self.moved;
        if moving {
            self.moved = now;
            self.observation = None;
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
        // A client that has only closed its side, and is not heard of, may come back after an outage.
        let gone = self.ended && watch::is_broken(&self.client);
        let fate = self.judge(now, gone, self.has_answered());
        let pause = if moving { Duration::ZERO } else { pause };
        self.next_look = Some(now + self.next_pause(now, pause));
        fate
    }

    /// Looks at a connection without counters: what moved shows in its queues, or was heard.
    fn look_blindly(&mut self, now: Instant) -> Fate {
        let client = &self.client;
        let blind = self.blind.get_or_insert_with(|| Blind::new(client));
        if blind.look(client) {
            self.moved = now;
            self.observation = None;
        }
        let answered = self.exchange.may_rest() && blind.is_empty();
        let fate = self.judge(now, false, answered);
        let looks = self.timeout.is_some() || self.sealed.is_some();
        self.next_look = looks.then(|| now + self.next_pause(now, now - self.moved));
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
    fn judge(&mut self, now: Instant, gone: bool, answered: bool) -> Fate {
        let still = now - self.moved;
        let vanished = gone && still >= GIVEN_UP;
        let timed_out = self.timeout.is_some_and(|timeout| {
            // Where nobody has looked at the processes yet, the look that is asked for now decides.
            let at_rest = answered && self.observation.is_none_or(|seen| seen.waits);
            still >= timeout && (still >= timeout * AT_REST || !at_rest)
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
        let careful = self.ended || self.sealed.is_some() || self.transport > Transport::FellBack;
        let longest = if careful { CAREFUL_TICK } else { SLOWEST_TICK };
        let due = self.timeout.map(|timeout| (self.moved + timeout) - now);
        // Past its time only a session at rest goes on.
        let due = due.filter(|left| !left.is_zero()).unwrap_or(longest);
        // Others may wait for its place.
        let slow = (self.slow.0 + rest::STILL).checked_duration_since(now).unwrap_or(longest);
        pause.min(longest).min(due).min(slow).max(TICK)
    }
}
