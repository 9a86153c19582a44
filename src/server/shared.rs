//! What all connections of a server share.

use std::sync::Arc;

use tokio::sync::watch::Receiver;

use crate::config::{Limits, Policy};
use crate::git::starter::Starter;
use crate::limits::admission::Admission;
use crate::limits::descriptors::Descriptors;
use crate::limits::pending::{Pending, PendingClient};
use crate::limits::threads::Threads;
use crate::log::event;
use crate::server::activity::Activities;
use crate::server::status::Status;

/// How far a server is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// It accepts clients.
    Serving,
    /// It waits for running sessions to finish.
    Draining,
    /// It ends sessions that have not finished.
    Ending,
}

/// What all connections of a server share.
#[derive(Debug)]
pub struct Shared {
    /// What decides about requests.
    pub policy: Policy,
    /// The limits for clients.
    pub limits: Limits,
    /// How processes are started.
    pub starter: Starter,
    /// The permits and the queue.
    pub admission: Arc<Admission>,
    /// The descriptors for clients.
    pub descriptors: Arc<Descriptors>,
    /// The connections without a request.
    pub pending: Arc<Pending>,
    /// The threads that check requests.
    pub threads: Threads,
    /// The threads that look at services' processes.
    pub observers: Threads,
    /// What all connections are doing.
    pub activities: Arc<Activities>,
    /// Whether the server is stopping.
    pub phase: Receiver<Phase>,
    /// What the administrator is told of the server, if asked for.
    pub status: Option<Arc<Status>>,
}

impl Shared {
    /// Adds a client without a request; logs if that dismisses others.
    pub fn enter(&self) -> PendingClient {
        let (entry, overflowed) = self.pending.enter();
        if let Some(bound) = overflowed {
            event::pending_overflowed(bound.most(), &bound);
        }
        entry
    }

    /// Waits until the server is so far.
    pub async fn reaches(&self, phase: Phase) {
        // An error means that the server has ended, which is final too.
        let _ = self.phase.clone().wait_for(|&now| now >= phase).await;
    }
}
