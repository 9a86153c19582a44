//! What is to be done for a connection while the service has it: prompt while packets are small, out of the
//! way while there are many, and an end to what nobody listens to any more.
//!
//! A session alternates between two phases. While it is *prompt*, gitd waits for every arrival and has
//! it acknowledged at once, and the kernel sends what the service writes at once. When much has moved,
//! it is *bulk*: now full segments count, ACKs come by themselves, and every wake-up of gitd would take
//! time from the service, so it lets go of the socket and only looks at the counters now and then. When
//! all has been acknowledged and nothing moves, it is prompt again.
//!
//! Here is decided and nothing is done: [`Traffic`] hears what was seen of the socket, and answers what to do
//! with it. [`crate::session::monitor`] does both.

use std::net::Shutdown;
use std::time::{Duration, Instant};

use crate::net::watch::{Counters, Queues, Transport};
use crate::protocol::service::Service;
use crate::session::rest::{self, Activity, Exchange, Observation};
use blind::Blind;
pub use look::{Actions, Questions, Seen, Segments, Stuck};

mod blind;
mod look;
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

/// The bytes after which a session counts as bulk: from here on full segments matter more than
/// prompt ones, and TCP_NODELAY costs a third of the throughput.
const BULK: u64 = 256 * 1024;

/// How long a service may take to notice that its connection was shut down before it is killed.
const LAST_CHANCE: Duration = Duration::from_secs(3);

/// How many times as long as others a session at rest may stand still: its client works.
const AT_REST: u32 = 10;

/// What the socket is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// The first segments are held back; so many bytes waited at the last look.
    Corked(u64),
    /// Each packet counts; so many bytes had moved when that began.
    Prompt(u64),
    /// Full segments count.
    Bulk,
}

/// Where news of the connection comes from.
#[derive(Debug, Clone, Copy)]
enum Source {
    /// Nobody has looked yet.
    Unknown,
    /// The last counters.
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
    /// What was seen of the service's processes since something moved.
    observation: Option<Observation>,
    /// When a look last found that something had moved, or that nothing could move.
    moved: Instant,
    /// Since when next to nothing has moved, and the bytes both ways at that time.
    slow: (Instant, u64),
    /// The most paths that were ever seen.
    transport: Transport,
    next_look: Option<Instant>,
    shut_down: Option<ShutDown>,
}

/// The connection was shut down from here.
#[derive(Debug, Clone, Copy)]
struct ShutDown {
    since: Instant,
    /// Whether the service is to end too. A push may have arrived whole and its hooks be at work; they
    /// are not cut short because nobody waits for the report, unless `--timeout` does.
    kill: bool,
}

impl Traffic {
    /// Starts to decide for a connection that a service was just given.
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

    /// Whether to wait for arrivals: not in bulk, unless the service waits for its client, and not once a
    /// direction has ended, as that is reported for ever. Without counters only a time-out needs them.
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

    /// Something has arrived or left, or a direction of the connection has ended. `true` when what has
    /// arrived is to be acknowledged.
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

    /// The most paths that there ever were.
    pub fn transport(&self) -> Transport {
        self.transport
    }

    /// Whether a direction of the connection has ended.
    pub fn has_ended(&self) -> bool {
        self.ended
    }

    /// The connection is shut down because the server ends, and the service is to end too.
    pub fn shut_down(&mut self, now: Instant) {
        // The chance to end by itself was all the time until now.
        self.shut_down = Some(ShutDown { since: now - LAST_CHANCE, kill: true });
        self.next_look = Some(now + CAREFUL_TICK);
    }

    /// Whether the service is ended from here.
    pub fn is_killed(&self) -> bool {
        self.shut_down.is_some_and(|shut_down| shut_down.kill)
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
    pub fn activity(&self, now: Instant) -> Activity {
        match self.observation {
            _ if self.is_killed() => Activity::Unknown,
            _ if self.last().is_none() || self.shut_down.is_some() => Activity::Works,
            None if now.saturating_duration_since(self.slow.0) < rest::STILL => Activity::Works,
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
    pub fn wants_observation(&self, now: Instant, scarce: bool) -> bool {
        let wanted = scarce && self.last().is_some() && now - self.slow.0 >= rest::STILL;
        self.shut_down.is_none() && (wanted || (self.is_overdue(now) && self.observation.is_none()))
    }

    /// What was seen of the service's processes.
    pub fn observed(&mut self, now: Instant, seen: Observation) {
        let first = self.observation.replace(seen).is_none();
        if first && self.is_overdue(now) {
            // The last look has waited for this.
            self.next_look = Some(now);
        }
    }

    /// Whether nothing has moved for as long as `--timeout` allows.
    fn is_overdue(&self, now: Instant) -> bool {
        self.timeout.is_some_and(|limit| now - self.moved >= limit)
    }

    /// Whether git itself ends the service at `--timeout`: upload-pack before version 2.
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

    /// Whether the client has all that it has asked for: see [`rest`].
    fn has_answered(&self) -> bool {
        self.last().is_some_and(|seen| self.exchange.is_over(seen))
    }

    /// What to read of the socket at the next look.
    pub fn questions(&self) -> Questions {
        Questions {
            // In bulk nobody waits for events, by which the client's end would have been seen.
            ended: self.phase == Phase::Bulk && !self.ended,
            // A client that has only closed its side, and is not heard of, may come back after an outage.
            broken: self.ended && self.shut_down.is_none(),
            unsent: matches!(self.phase, Phase::Corked(_)),
        }
    }

    /// Looks at what was seen of the socket, and decides what to do.
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

    /// Looks at a connection without counters: what moved shows in its queues, or was heard.
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

    /// What the socket is used for from now on. Uncorks once the service has written something and pauses.
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
                    Transport::Tcp => unsent.unwrap_or(before),
                    // What a path holds back, MPTCP counts as sent.
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

    /// Ends what stands still for too long, and what nobody listens to any more. A service that is
    /// blocked in a write to a connection without any path is never woken by the kernel: the shutdown,
    /// or the signal after it, does.
    fn judge(&mut self, now: Instant, broken: bool, answered: bool, actions: &mut Actions) {
        let still = now - self.moved;
        let gone = broken && still >= GIVEN_UP;
        // Where nobody has looked at the processes yet, the look that is asked for now decides.
        let at_rest = answered && self.observation.is_none_or(|seen| seen.waits);
        let most = self.timeout.map(|timeout| if at_rest { timeout * AT_REST } else { timeout });
        let timed_out = most.is_some_and(|most| still >= most);
        match self.shut_down {
            None if gone || timed_out => {
                // A push that can still report that it was cut short puts away what it has received;
                // one that is stopped by a broken pipe leaves it in the repository.
                let pushed = self.service == Service::ReceivePack;
                let shutdown = if pushed && timed_out { Shutdown::Read } else { Shutdown::Both };
                actions.stuck = Some(Stuck { shutdown, gone, still });
                self.shut_down = Some(ShutDown { since: now, kill: timed_out || !pushed });
            }
            // The hooks have had the time that any session has to stand still.
            Some(ShutDown { kill: false, .. }) if timed_out => {
                self.shut_down = Some(ShutDown { since: now, kill: true });
            }
            // The service has not noticed its connection's end.
            Some(ShutDown { since, kill: true }) => {
                actions.signal = match now - since {
                    passed if passed >= 2 * LAST_CHANCE => Some(libc::SIGKILL),
                    passed if passed >= LAST_CHANCE => Some(libc::SIGHUP),
                    _ => None,
                };
            }
            _ => {}
        }
    }

    /// How long until the next look at a session that has stood still for `pause`.
    fn next_pause(&self, now: Instant, pause: Duration) -> Duration {
        if matches!(self.phase, Phase::Corked(_)) {
            // A service that is slow to begin, or waits for its client's first word, is not worth two
            // thousand looks a second.
            return (pause / 8).clamp(CORKED_TICK, TICK);
        }
        let careful =
            self.ended || self.shut_down.is_some() || self.transport > Transport::FellBack;
        let longest = if careful { CAREFUL_TICK } else { SLOWEST_TICK };
        let due = self.timeout.map(|timeout| (self.moved + timeout) - now);
        // Past its time only a session at rest goes on.
        let due = due.filter(|left| !left.is_zero()).unwrap_or(longest);
        // Others may wait for its place.
        let slow = (self.slow.0 + rest::STILL).checked_duration_since(now).unwrap_or(longest);
        pause.min(longest).min(due).min(slow).max(TICK)
    }
}
