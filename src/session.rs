//! A running service and its client, until both are gone.

use std::future::pending;
use std::io;
use std::time::Duration;

use socket2::Socket;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::{Instant, sleep_until};

use crate::event;
use crate::service::Service;
use crate::stderr::Stderr;
use crate::sys::process::{Child, End};
use crate::sys::readiness::wait_for;
use crate::sys::socket;
use crate::watch::{self, BULK, Counters, Transport};

/// How often a session is looked at while it moves and may turn into bulk.
const TICK: Duration = Duration::from_millis(25);

/// How often to see whether a service has filled the segments that are held back.
const CORKED_TICK: Duration = Duration::from_micros(500);

/// How often a session is looked at that needs no more than being looked after.
const SLOW_TICK: Duration = Duration::from_secs(1);

/// How long a client that has closed its side may leave an answer unacknowledged before it counts as
/// gone. A proxy that half-closes early still acknowledges.
const VANISHED: Duration = Duration::from_secs(5);

/// How long a service may take to notice that its connection was shut down before it is killed.
const LAST_CHANCE: Duration = Duration::from_secs(3);

/// How a session ended.
#[derive(Debug)]
pub struct Outcome {
    /// How the service ended; `None` if gitd lost track of it.
    pub end: Option<End>,
    /// What had crossed the connection then, and the most paths that it ever had.
    pub counters: Option<Counters>,
}

impl Outcome {
    /// Whether the service failed before it said anything: the client would hear nothing at all.
    #[must_use]
    pub fn stillborn(&self) -> bool {
        self.end.is_some_and(|end| !end.success())
            && self.counters.is_some_and(|counters| !counters.answered())
    }
}

/// What a session starts from.
#[derive(Debug)]
pub struct Session<'a> {
    /// The client's connection, which the service shares.
    pub client: &'a AsyncFd<Socket>,
    /// The service's process.
    pub process: &'a Child,
    /// Which service it is.
    pub service: Service,
    /// Its standard error.
    pub stderr: &'a mut Stderr,
    /// Whether the first segments are held back.
    pub corked: bool,
    /// How long it may stand still.
    pub timeout: Option<Duration>,
}

impl Session<'_> {
    /// Watches until the service has ended. Its last words may still be in the pipe then.
    ///
    /// # Errors
    /// When the service cannot be watched at all, for lack of memory or descriptors.
    pub async fn watch(self) -> io::Result<Outcome> {
        let ended = wait_for(self.process.pidfd(), Interest::READABLE)?;
        let mut traffic = Traffic::new(&self);
        let end = loop {
            tokio::select! {
                biased;
                ready = ended.readable() => {
                    ready?.clear_ready();
                    match self.process.try_wait() {
                        Ok(None) => {}
                        Ok(end) => break end,
                        Err(error) => {
                            event::service_lost(self.process.pid, &crate::sys::errno_text(&error));
                            break None;
                        }
                    }
                }
                fate = traffic.next() => if let Fate::Sealed(signal) = fate {
                    // It may have ended on its own by now.
                    let _ = self.process.signal(signal);
                },
                () = self.stderr.read() => {}
            }
        };
        let counters = Counters::read(self.client.get_ref())
            .map(|last| Counters { transport: last.transport.max(traffic.transport), ..last });
        Ok(Outcome { end, counters })
    }
}

/// What becomes of the service after a look.
enum Fate {
    /// It goes on.
    Open,
    /// Its connection was shut down; if it has not noticed, this signal ends it. git's services ignore
    /// SIGTERM; at SIGHUP they remove their temporary files.
    Sealed(i32),
}

/// The connection's events and counters, and what is done about them.
struct Traffic<'a> {
    client: &'a AsyncFd<Socket>,
    pid: u32,
    service: Service,
    timeout: Option<Duration>,
    /// Whether more events can come: a closed connection stays ready for ever.
    events: bool,
    /// Whether the client has closed its side.
    hung_up: bool,
    /// What was held back at the last look, while segments are held back.
    corked: Option<u64>,
    /// Whether full segments matter more than prompt ones.
    bulk: bool,
    /// Whether the client sends so much that its ACKs come by themselves.
    flood: bool,
    last: Option<Counters>,
    moved: Instant,
    /// The most paths that were ever seen.
    transport: Transport,
    next_look: Option<Instant>,
    sealed: Option<Seal>,
}

/// The connection was shut down from here.
struct Seal {
    since: Instant,
    /// Whether the service is to end too. A push may have arrived whole and its hooks be at work; they
    /// are not cut short because nobody waits for the report.
    kill: bool,
}

impl<'a> Traffic<'a> {
    fn new(session: &Session<'a>) -> Self {
        let now = Instant::now();
        let corked = session.corked;
        Traffic {
            client: session.client,
            pid: session.process.pid,
            service: session.service,
            timeout: session.timeout,
            events: true,
            hung_up: false,
            corked: corked.then_some(0),
            bulk: false,
            flood: false,
            last: None,
            moved: now,
            transport: Transport::Tcp,
            next_look: Some(now + if corked { CORKED_TICK } else { TICK }),
            sealed: None,
        }
    }

    /// Waits for the next event or look, and does what it calls for. Losing this future loses nothing.
    async fn next(&mut self) -> Fate {
        let next_look = self.next_look;
        tokio::select! {
            // OUT beside IN: when the service has already taken what arrived, epoll would drop an event
            // for IN alone.
            event = self.client.ready(Interest::READABLE | Interest::WRITABLE), if self.events => {
                let Ok(mut event) = event else { self.events = false; return Fate::Open };
                if !self.flood {
                    watch::acknowledge(self.client.get_ref());
                }
                let ready = event.ready();
                event.clear_ready();
                self.hung_up |= ready.is_read_closed();
                self.events = !ready.is_read_closed();
                let soon = Instant::now() + TICK;
                self.next_look = Some(next_look.map_or(soon, |planned| planned.min(soon)));
                Fate::Open
            }
            () = async { match next_look { Some(at) => sleep_until(at).await, None => pending().await } } => {
                self.look(Instant::now())
            }
        }
    }

    fn look(&mut self, now: Instant) -> Fate {
        let Some(seen) = Counters::read(self.client.get_ref()) else {
            self.next_look = None;
            return Fate::Open;
        };
        let before = self.last.replace(seen);
        let moving = before.is_none_or(|before| {
            (before.sent, before.received, before.unacknowledged)
                != (seen.sent, seen.received, seen.unacknowledged)
        });
        if moving {
            self.moved = now;
        }
        self.transport = self.transport.max(seen.transport);
        self.flood = seen.received - before.map_or(0, |before| before.received) > BULK;
        if !self.bulk && seen.sent > BULK {
            self.bulk = true;
            watch::prefer_full_segments(self.client.get_ref());
        }
        self.let_go_when_full();
        let fate = self.judge(now, &seen);
        self.next_look = self.plan(now, moving);
        fate
    }

    /// Uncorks once the service has written something and pauses.
    fn let_go_when_full(&mut self) {
        let Some(before) = self.corked else { return };
        let unsent = socket::unsent(self.client.get_ref()).unwrap_or(before);
        if unsent > 0 && unsent == before || self.bulk {
            watch::uncork(self.client.get_ref());
            self.corked = None;
        } else {
            self.corked = Some(unsent);
        }
    }

    /// Ends what stands still for too long, and what nobody listens to any more. A service that is
    /// blocked in a write to a connection without any path is never woken by the kernel: the shutdown,
    /// or the signal after it, does.
    fn judge(&mut self, now: Instant, seen: &Counters) -> Fate {
        let still = now - self.moved;
        let vanished = self.hung_up && seen.unacknowledged > 0 && still >= VANISHED;
        let timed_out = self.timeout.is_some_and(|timeout| still >= timeout);
        match &self.sealed {
            None if vanished || timed_out => {
                event::session_stuck(self.pid, vanished, still);
                // ENOTCONN says that it is down already.
                let _ = self.client.get_ref().shutdown(std::net::Shutdown::Both);
                let kill = timed_out || self.service != Service::ReceivePack;
                self.sealed = Some(Seal { since: now, kill });
                Fate::Open
            }
            Some(Seal { since, kill: true }) => match now - *since {
                passed if passed >= 2 * LAST_CHANCE => Fate::Sealed(libc::SIGKILL),
                passed if passed >= LAST_CHANCE => Fate::Sealed(libc::SIGHUP),
                _ => Fate::Open,
            },
            _ => Fate::Open,
        }
    }

    /// When to look again: soon while small packets may turn into many, at leisure where a clock runs,
    /// never where only an event can bring news.
    fn plan(&self, now: Instant, moving: bool) -> Option<Instant> {
        if self.corked.is_some() {
            return Some(now + CORKED_TICK);
        }
        if moving && (!self.bulk || self.flood) {
            return Some(now + TICK);
        }
        let multipath = self.transport > Transport::FellBack;
        let clock = self.hung_up || self.sealed.is_some() || multipath;
        let timeout = self.timeout.map(|timeout| (self.moved + timeout).max(now + TICK));
        let slow = clock.then_some(now + SLOW_TICK);
        [timeout, slow].into_iter().flatten().min()
    }
}
