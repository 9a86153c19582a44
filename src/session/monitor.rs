//! The connection of a running service: reads its state and does what [`Traffic`] decides.

use std::net::Shutdown;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use socket2::Socket;

use crate::log::event;
use crate::log::record::Cut;
use crate::net::watch::{self, Counters, Queues};
use crate::session::first_byte::FirstByte;
use crate::session::live::{Doing, Live};
use crate::session::rest::Activity;
use crate::session::traffic::{Actions, Seen, Segments, Traffic};
use crate::session::{ClientSocket, register};
use crate::sys::socket;

/// How often to measure the round-trip time for readers.
const MEASURE: Duration = Duration::from_secs(1);

/// One session's connection.
#[derive(Debug)]
pub struct Monitor {
    /// `None` if there is nothing to watch: the service then ends by itself.
    client: Option<Arc<Socket>>,
    pid: u32,
    /// Decides what to do.
    pub traffic: Traffic,
    first_byte: FirstByte,
    cut: Option<Cut>,
    live: Option<Arc<Live>>,
    /// When the round-trip time was last measured.
    measured: Option<Instant>,
}

/// A connection that was watched to its end.
#[derive(Debug, Clone, Copy, Default)]
pub struct Watched {
    /// The last counters, with the highest number of paths. `None` where there are none, as on a
    /// Unix socket or a pipe.
    pub counters: Option<Counters>,
    /// When the service's first byte left.
    pub first_byte: Option<Instant>,
    /// Why gitd has ended the session, if it has.
    pub cut: Option<Cut>,
}

impl Monitor {
    /// Watches `client`, which the process `pid` has as its standard input and output.
    pub fn new(
        client: Option<Arc<Socket>>,
        pid: u32,
        traffic: Traffic,
        live: Option<Arc<Live>>,
        now: Instant,
    ) -> Self {
        let first_byte = FirstByte::new(now);
        Monitor { client, pid, traffic, first_byte, cut: None, live, measured: None }
    }

    /// Tells readers what the service does; `held` if it is stopped until it gets a permit.
    pub fn tell(&self, held: bool) {
        if let Some(live) = &self.live {
            live.does(match self.traffic.activity(Instant::now()) {
                _ if held => Doing::Held,
                Activity::Works => Doing::Works,
                Activity::Waits { .. } => Doing::Waits,
                Activity::Unknown => Doing::Unknown,
            });
        }
    }

    /// Tells readers what has moved.
    fn publish(&mut self, now: Instant, counters: Option<&Counters>) {
        if let (Some(live), Some(counters), Some(client)) = (&self.live, counters, &self.client) {
            live.count(counters);
            if self.measured.is_none_or(|measured| now - measured >= MEASURE) {
                self.measured = Some(now);
                let _ = watch::round_trip(client).map(|time| live.measure(time));
            }
        }
    }

    /// Registers the client's socket to wait for events. `None` for lack of memory.
    pub fn register(&self) -> Option<ClientSocket> {
        register(self.client.as_ref()?).ok()
    }

    /// When to look next; `None` for never.
    pub fn next_look(&self) -> Option<Instant> {
        self.client.as_ref().and_then(|_| self.traffic.next_look())
    }

    /// The socket has reported an event, or a direction of the connection has ended.
    pub fn arrived(&mut self, now: Instant, ended: bool) {
        if let Some(client) = &self.client
            && self.traffic.arrived(now, ended)
        {
            watch::acknowledge(client);
            // The client may have answered the first byte.
            if self.first_byte.is_unknown()
                && let Some(counters) = Counters::read(client)
            {
                self.first_byte.look(now, &counters);
            }
        }
    }

    /// Reads the state of the connection and does what is decided. Returns the signal that must end
    /// the service, if it has not noticed that its connection was shut down.
    pub fn look(&mut self, now: Instant) -> Option<Signal> {
        let counters = Counters::read(self.client.as_ref()?);
        self.publish(now, counters.as_ref());
        let client = self.client.as_ref()?;
        let questions = self.traffic.questions();
        let seen = Seen {
            counters,
            queues: counters.map_or_else(|| Queues::read(client), |_| Queues::default()),
            ended: questions.ended && watch::has_ended(client),
            broken: questions.broken && watch::is_broken(client),
            unsent: questions.unsent.then(|| socket::unsent(client).ok()).flatten(),
        };
        if let Some(counters) = &counters {
            self.first_byte.look(now, counters);
        }
        let actions = self.traffic.look(now, &seen);
        act(client, &actions);
        if let Some(stuck) = actions.stuck {
            event::session_stuck(self.pid, stuck.gone, stuck.still);
            self.cut = Some(if stuck.gone { Cut::Gone } else { Cut::Still });
            self.close(stuck.shutdown);
        }
        actions.signal
    }

    /// Shuts the connection down because the server ends, and the service with it.
    pub fn shut_down(&mut self, now: Instant) {
        self.close(Shutdown::Both);
        self.cut.get_or_insert(Cut::Stop);
        self.traffic.shut_down(now);
    }

    fn close(&self, how: Shutdown) {
        // ENOTCONN: it is down already.
        let _ = self.client.as_ref().map(|client| client.shutdown(how));
    }

    /// Whether the service's next read returns at once, with data or with the end.
    pub fn has_input(&self) -> bool {
        let unread = |client: &Arc<Socket>| socket::unread(client).is_ok_and(|bytes| bytes > 0);
        self.traffic.has_ended() || self.client.as_ref().is_some_and(unread)
    }

    /// Releases the connection: the client sees its end as soon as the caller's own duplicate is
    /// closed.
    pub fn finish(mut self, now: Instant) -> Watched {
        let last = self.client.as_ref().and_then(Counters::read);
        if let Some(last) = &last {
            self.first_byte.look(now, last);
        }
        let transport = self.traffic.transport();
        let most = |last: Counters| Counters { transport: last.transport.max(transport), ..last };
        Watched { counters: last.map(most), first_byte: self.first_byte.instant(), cut: self.cut }
    }
}

fn act(client: &Socket, actions: &Actions) {
    if actions.uncork {
        watch::uncork(client);
    }
    match actions.segments {
        Some(Segments::Prompt) => {
            watch::prefer_prompt_segments(client);
            watch::acknowledge(client);
        }
        Some(Segments::Full) => watch::prefer_full_segments(client),
        None => {}
    }
}
