//! The connection of a running service: reads its state and does what [`Traffic`] decides.
//!
//! The caller does the waiting, with a runtime ([`crate::session`]) or without
//! ([`crate::server::inetd`]).

use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Instant;

use socket2::Socket;

use crate::log::event;
use crate::net::watch::{self, Counters, Queues};
use crate::session::traffic::{Actions, Seen, Segments, Traffic};
use crate::sys::socket;

/// One session's connection.
#[derive(Debug)]
pub struct Monitor {
    client: Arc<Socket>,
    pid: u32,
    /// Decides what to do.
    pub traffic: Traffic,
}

impl Monitor {
    /// Watches `client`, which the process `pid` has as its standard input and output.
    pub fn new(client: Arc<Socket>, pid: u32, traffic: Traffic) -> Self {
        Monitor { client, pid, traffic }
    }

    /// The client's socket, to wait for events.
    pub fn client(&self) -> BorrowedFd<'_> {
        self.client.as_fd()
    }

    /// The socket has reported an event, or a direction of the connection has ended.
    pub fn arrived(&mut self, now: Instant, ended: bool) {
        if self.traffic.arrived(now, ended) {
            watch::acknowledge(&self.client);
        }
    }

    /// Reads the state of the connection and does what is decided. Returns the signal that must end
    /// the service, if it has not noticed that its connection was shut down.
    pub fn look(&mut self, now: Instant) -> Option<i32> {
        let questions = self.traffic.questions();
        let counters = Counters::read(&self.client);
        let seen = Seen {
            counters,
            queues: counters.map_or_else(|| Queues::read(&self.client), |_| Queues::default()),
            ended: questions.ended && watch::has_ended(&self.client),
            broken: questions.broken && watch::is_broken(&self.client),
            unsent: questions.unsent.then(|| socket::unsent(&self.client).ok()).flatten(),
        };
        let actions = self.traffic.look(now, &seen);
        self.act(&actions);
        actions.signal
    }

    fn act(&self, actions: &Actions) {
        if actions.uncork {
            watch::uncork(&self.client);
        }
        match actions.segments {
            Some(Segments::Prompt) => {
                watch::prefer_prompt_segments(&self.client);
                watch::acknowledge(&self.client);
            }
            Some(Segments::Full) => watch::prefer_full_segments(&self.client),
            None => {}
        }
        if let Some(stuck) = actions.stuck {
            event::session_stuck(self.pid, stuck.gone, stuck.still);
            self.close(stuck.shutdown);
        }
    }

    /// Shuts the connection down because the server ends, and the service with it.
    pub fn shut_down(&mut self, now: Instant) {
        self.close(Shutdown::Both);
        self.traffic.shut_down(now);
    }

    fn close(&self, how: Shutdown) {
        // ENOTCONN: it is down already.
        let _ = self.client.shutdown(how);
    }

    /// Whether the service's next read returns at once, with data or with the end.
    pub fn has_input(&self) -> bool {
        self.traffic.has_ended() || socket::unread(&self.client).is_ok_and(|bytes| bytes > 0)
    }

    /// The last counters, with the highest number of paths. Releases the connection: the client
    /// sees its end as soon as the caller's own duplicate is closed.
    pub fn finish(self) -> Option<Counters> {
        let last = Counters::read(&self.client)?;
        Some(Counters { transport: last.transport.max(self.traffic.transport()), ..last })
    }
}
