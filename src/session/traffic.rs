//! Decides what to do with the connection of a running service: send promptly while packets are
//! small, stay out of the way of bulk data, and end a session that has stopped.
//!
//! A session alternates between two phases. While it is *prompt*, gitd waits for every arrival and
//! has it acknowledged at once, and the kernel sends what the service writes at once. When much has
//! moved, it is *bulk*: full segments matter more, ACKs come without help, and each wake-up of gitd
//! takes time from the service. So gitd deregisters the socket and reads the counters at intervals.
//! When all data has been acknowledged and nothing moves, the session is prompt again.
//!
//! This module decides and does no I/O: [`Traffic`] gets the state of the socket and returns what
//! to do. [`crate::session::monitor`] does both.

use std::net::Shutdown;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::net::watch::{Counters, Queues, Transport};
use crate::protocol::service::Service;
use crate::session::rest::{self, Activity, Exchange, Observation};
use blind::Blind;
pub use look::{Actions, Questions, Seen, Segments, Stuck};

mod blind;
mod look;
#[cfg(test)]
mod tests;

/// How often to look at a session while bytes move.
const TICK: Duration = Duration::from_millis(25);

/// How often to check whether a service has filled the segments that are held back.
const CORKED_TICK: Duration = Duration::from_micros(500);

/// The longest time between two looks at a session that stands still. It may begin to move without
/// an event, for instance when a pack is ready.
const SLOWEST_TICK: Duration = Duration::from_secs(4);

/// How often to look at a session with several paths to count, or a client that may be gone.
const CAREFUL_TICK: Duration = Duration::from_secs(1);

/// How long a service may run after the kernel has given its connection up. The kernel wakes a
/// service that is blocked on the connection, but not in a write over MPTCP.
const GIVEN_UP: Duration = Duration::from_secs(5);

/// After so many bytes a session is bulk: from here on full segments matter more than prompt ones,
/// and TCP_NODELAY costs a third of the throughput.
const BULK: u64 = 256 * 1024;

/// How long a service may take to notice that its connection was shut down before it is killed.
const LAST_CHANCE: Duration = Duration::from_secs(3);

/// The factor by which a session at rest may stand still longer: its client works.
const AT_REST: u32 = 10;

/// How data is sent now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// The first segments are held back. Holds the bytes that waited at the last look.
    Corked(u64),
    /// Each packet is sent at once. Holds the bytes that had moved when this began.
    Prompt(u64),
    /// Full segments are sent.
    Bulk,
}

/// What tells that bytes move.
#[derive(Debug, Clone, Copy)]
enum Source {
    /// Not looked at yet.
    Unknown,
    Counters(Counters),
    /// Queues and events, where there are no counters.
    Queues(Blind),
}

/// One session's connection.
#[derive(Debug)]
pub struct Traffic {
    service: Service,
    timeout: Option<Duration>,
    exchange: Exchange,
    phase: Phase,
    /// Whether a direction has ended: the client has closed its side, or the connection is broken.
    ended: bool,
    source: Source,
    /// The last look at the service's processes since something moved.
    observation: Option<Observation>,
    /// When a look last found that bytes had moved, or that none could move.
    moved: Instant,
    /// Since when next to nothing has moved, and the bytes in both directions at that time.
    slow: (Instant, u64),
    /// The transport with the highest number of paths seen.
    transport: Transport,
    next_look: Option<Instant>,
    shut_down: Option<ShutDown>,
}

/// gitd has shut the connection down.
#[derive(Debug, Clone, Copy)]
struct ShutDown {
    since: Instant,
    /// Whether to end the service too. A push may be complete and its hooks at work. They are not
    /// ended because the client no longer waits for the report, unless `--timeout` passes.
    kill: bool,
}

impl Traffic {
    /// Begins with a connection that a service was just given.
    pub fn new(
        service: Service,
        corked: bool,
        timeout: Option<Duration>,
        exchange: Exchange,
        now: Instant,
    ) -> Self {
        Traffic {
            service,
            timeout,
            exchange,
            phase: if corked { Phase::Corked(0) } else { Phase::Prompt(0) },
            ended: false,
            source: Source::Unknown,
            observation: None,
            moved: now,
            slow: (now, 0),
            transport: Transport::Tcp,
            next_look: Some(now + if corked { CORKED_TICK } else { TICK }),
            shut_down: None,
        }
    }

    /// Whether to wait for arrivals. Not in bulk, unless the service waits for its client. Not once
    /// a direction has ended, because epoll reports that for ever. Without counters only for a
    /// time-out.
    pub fn wants_arrivals(&self) -> bool {
        let wanted = match self.source {
            Source::Queues(blind) => self.timeout.is_some() && blind.listens(),
            _ => self.phase != Phase::Bulk || self.observation.is_some_and(|seen| seen.waits),
        };
        wanted && !self.ended
    }

    /// When to look next; `None` for never.
    pub fn next_look(&self) -> Option<Instant> {
        self.next_look
    }

    /// The socket has reported an event, or a direction of the connection has ended. `true` when
    /// arrived data must be acknowledged.
    pub fn arrived(&mut self, now: Instant, ended: bool) -> bool {
        self.ended |= ended;
        if let Source::Queues(blind) = &mut self.source {
            if blind.arrived() {
                self.moved = now;
                self.observation = None;
            }
            return false;
        }
        let soon = now + TICK;
        self.next_look = Some(self.next_look.map_or(soon, |planned| planned.min(soon)));
        true
    }

    /// The transport with the highest number of paths seen.
    pub fn transport(&self) -> Transport {
        self.transport
    }

    /// Whether a direction of the connection has ended.
    pub fn has_ended(&self) -> bool {
        self.ended
    }

    /// The connection is shut down because the server ends, and the service must end too.
    pub fn shut_down(&mut self, now: Instant) {
        // The service has had its chance to end by itself before, so it is killed without a further
        // wait.
        self.shut_down = Some(ShutDown { since: now - LAST_CHANCE, kill: true });
        self.next_look = Some(now + CAREFUL_TICK);
    }

    /// Whether gitd ends the service.
    pub fn is_killed(&self) -> bool {
        self.shut_down.is_some_and(|shut_down| shut_down.kill)
    }

    /// gitd has stopped the service: nothing can move, and the client does not cause that.
    pub fn postpone(&mut self, now: Instant) {
        self.moved = now;
        self.next_look = Some(now + CAREFUL_TICK);
    }

    /// The service is continued: bytes may move again.
    pub fn go_on(&mut self, now: Instant) {
        self.moved = now;
        self.slow.0 = now;
        self.observation = None;
        self.next_look = Some(now + TICK);
    }

    /// What the service does. Without counters, as on a Unix socket, it always counts as working,
    /// because nothing would show when it works again. A service that gitd ends needs no permit.
    pub fn activity(&self, now: Instant) -> Activity {
        match self.observation {
            _ if self.is_killed() => Activity::Unknown,
            _ if self.last().is_none() || self.shut_down.is_some() => Activity::Works,
            None if now.saturating_duration_since(self.slow.0) < rest::STILL => Activity::Works,
            None => Activity::Unknown,
            Some(Observation { waits: false, .. }) => Activity::Works,
            Some(Observation { reads, light, .. }) => {
                // git's own alarm would go on while the service is stopped.
                let reads = reads && !(self.timeout.is_some() && self.has_alarm());
                Activity::Waits { reads, light: light && self.has_answered() }
            }
        }
    }

    /// Whether to look at the service's processes: other requests may wait for its permit, or its
    /// time is over and it may be at rest.
    pub fn wants_observation(&self, now: Instant, scarce: bool) -> bool {
        let wanted = scarce && self.last().is_some() && now - self.slow.0 >= rest::STILL;
        self.shut_down.is_none() && (wanted || (self.is_overdue(now) && self.observation.is_none()))
    }

    /// Takes the result of a look at the service's processes.
    pub fn observed(&mut self, now: Instant, seen: Observation) {
        let first = self.observation.replace(seen).is_none();
        if first && self.is_overdue(now) {
            // The last look has waited for this result.
            self.next_look = Some(now);
        }
    }

    /// Whether nothing has moved for as long as `--timeout` allows.
    fn is_overdue(&self, now: Instant) -> bool {
        self.timeout.is_some_and(|limit| now - self.moved >= limit)
    }

    /// Whether git itself ends the service at `--timeout`: upload-pack before version 2 does.
    fn has_alarm(&self) -> bool {
        self.service == Service::UploadPack && !self.exchange.may_rest()
    }

    /// The counters at the last look.
    fn last(&self) -> Option<&Counters> {
        match &self.source {
            Source::Counters(last) => Some(last),
            Source::Unknown | Source::Queues(_) => None,
        }
    }

    /// Whether the client has all that it asked for: see [`rest`].
    fn has_answered(&self) -> bool {
        self.last().is_some_and(|seen| self.exchange.is_over(seen))
    }

    /// What to read from the socket at the next look.
    pub fn questions(&self) -> Questions {
        Questions {
            // In bulk the socket is not registered, so no event reports the client's end.
            ended: self.phase == Phase::Bulk && !self.ended,
            // A silent client that has only closed its side may come back after an outage.
            broken: self.ended && self.shut_down.is_none(),
            unsent: matches!(self.phase, Phase::Corked(_)),
        }
    }

    /// Decides what to do, given the state of the socket.
    pub fn look(&mut self, now: Instant, seen: &Seen) -> Actions {
        self.ended |= seen.ended;
        let Some(counters) = seen.counters else { return self.look_at_queues(now, seen.queues) };
        let moving = self.last().is_none_or(|last| last.bytes() != counters.bytes());
        let pause = if moving { Duration::ZERO } else { now - self.moved };
        if moving {
            self.moved = now;
            self.observation = None;
        }
        let total = counters.sent + counters.received;
        if total > self.slow.1 + rest::LITTLE {
            self.slow = (now, total);
        }
        let last = self.last().copied();
        self.exchange.look(last.as_ref(), &counters);
        self.source = Source::Counters(counters);
        self.transport = self.transport.max(counters.transport);
        let mut actions = self.choose_phase(&counters, seen.unsent, moving);
        self.judge(now, seen.broken, self.has_answered(), &mut actions);
        self.next_look = Some(now + self.next_pause(now, pause));
        actions
    }

    /// Looks at a connection without counters: queues and events show what moved.
    fn look_at_queues(&mut self, now: Instant, queues: Queues) -> Actions {
        let blind = match self.source {
            Source::Queues(mut blind) => {
                if blind.look(queues) {
                    self.moved = now;
                    self.observation = None;
                }
                blind
            }
            _ => Blind::new(queues),
        };
        self.source = Source::Queues(blind);
        let mut actions = Actions::default();
        let answered = self.exchange.may_rest() && blind.is_empty();
        self.judge(now, false, answered, &mut actions);
        let looks = self.timeout.is_some() || self.shut_down.is_some();
        self.next_look = looks.then(|| now + self.next_pause(now, now - self.moved));
        actions
    }

    /// Chooses the phase. Uncorks once the service has written something and pauses.
    fn choose_phase(&mut self, seen: &Counters, unsent: Option<u64>, moving: bool) -> Actions {
        let total = seen.sent + seen.received;
        let mut actions = Actions::default();
        match self.phase {
            Phase::Corked(_) if total > BULK => {
                self.phase = Phase::Bulk;
                actions.uncork = true;
                actions.segments = Some(Segments::Full);
            }
            Phase::Corked(before) => {
                let waiting = match seen.transport {
                    Transport::Unix | Transport::Tcp => unsent.unwrap_or(before),
                    // MPTCP counts bytes that a path holds back as sent.
                    Transport::FellBack | Transport::Multipath { .. } => seen.unacknowledged,
                };
                actions.uncork = waiting > 0 && waiting == before;
                self.phase = if actions.uncork { Phase::Prompt(0) } else { Phase::Corked(waiting) };
            }
            Phase::Prompt(began) if total > began + BULK => {
                self.phase = Phase::Bulk;
                actions.segments = Some(Segments::Full);
            }
            Phase::Bulk if !moving && seen.unacknowledged == 0 => {
                self.phase = Phase::Prompt(total);
                actions.segments = Some(Segments::Prompt);
            }
            Phase::Prompt(_) | Phase::Bulk => {}
        }
        actions
    }

    /// Ends a session that has stood still for too long, or whose client is gone. The kernel never
    /// wakes a service that is blocked in a write to a connection without any path; the shutdown
    /// does, or the signal after it.
    fn judge(&mut self, now: Instant, broken: bool, answered: bool, actions: &mut Actions) {
        let still = now - self.moved;
        let gone = broken && still >= GIVEN_UP;
        // If the processes have not been looked at yet, the look that is requested now decides.
        let at_rest = answered && self.observation.is_none_or(|seen| seen.waits);
        let most = self.timeout.map(|timeout| if at_rest { timeout * AT_REST } else { timeout });
        let timed_out = most.is_some_and(|most| still >= most);
        match self.shut_down {
            None if gone || timed_out => {
                // A push that can still report that it was cut short removes what it has received.
                // A push that is stopped by a broken pipe leaves it in the repository.
                let pushed = self.service == Service::ReceivePack;
                let shutdown = if pushed && timed_out { Shutdown::Read } else { Shutdown::Both };
                actions.stuck = Some(Stuck { shutdown, gone, still });
                self.shut_down = Some(ShutDown { since: now, kill: timed_out || !pushed });
            }
            // The hooks have had the time that any session may stand still.
            Some(ShutDown { kill: false, .. }) if timed_out => {
                self.shut_down = Some(ShutDown { since: now, kill: true });
            }
            // The service has not noticed the end of its connection.
            Some(ShutDown { since, kill: true }) => {
                actions.signal = match now - since {
                    passed if passed >= 2 * LAST_CHANCE => Some(Signal::KILL),
                    passed if passed >= LAST_CHANCE => Some(Signal::HUP),
                    _ => None,
                };
            }
            _ => {}
        }
    }

    /// How long until the next look at a session that has stood still for `pause`.
    fn next_pause(&self, now: Instant, pause: Duration) -> Duration {
        if matches!(self.phase, Phase::Corked(_)) {
            // A service that is slow to begin, or waits for the client's first command, is not
            // worth 2,000 looks a second.
            return (pause / 8).clamp(CORKED_TICK, TICK);
        }
        let careful =
            self.ended || self.shut_down.is_some() || self.transport > Transport::FellBack;
        let longest = if careful { CAREFUL_TICK } else { SLOWEST_TICK };
        let due = self.timeout.map(|timeout| (self.moved + timeout) - now);
        // After its time-out only a session at rest goes on.
        let due = due.filter(|left| !left.is_zero()).unwrap_or(longest);
        // Other requests may wait for its permit.
        let slow = (self.slow.0 + rest::STILL).checked_duration_since(now).unwrap_or(longest);
        pause.min(longest).min(due).min(slow).max(TICK)
    }
}
