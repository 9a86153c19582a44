//! A connection for which the kernel counts no bytes, such as a Unix socket. Its queues and events
//! show what moves.

use crate::net::watch::Queues;

/// The state of such a connection since the last look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Blind {
    heard: Heard,
    queues: Queues,
}

/// The events since the last look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Heard {
    /// None yet. The first event reports the state, not a change.
    Nothing,
    /// The state.
    State,
    /// A change; further events are ignored until the next look.
    Movement,
}

impl Blind {
    /// The first look.
    pub(super) fn new(queues: Queues) -> Self {
        Blind { heard: Heard::State, queues }
    }

    /// Looks again; `true` when something has moved.
    pub(super) fn look(&mut self, queues: Queues) -> bool {
        let before = std::mem::replace(self, Self::new(queues));
        if before.heard == Heard::Movement {
            // Events were ignored, so the next one is the first again.
            self.heard = Heard::Nothing;
        }
        before.queues != self.queues
    }

    /// Takes an event; `true` when it shows that something has moved.
    pub(super) fn arrived(&mut self) -> bool {
        let moved = self.heard != Heard::Nothing;
        self.heard = if moved { Heard::Movement } else { Heard::State };
        moved
    }

    /// Whether another event would tell anything new.
    pub(super) fn listens(&self) -> bool {
        self.heard != Heard::Movement
    }

    /// Whether no data is on its way.
    pub(super) fn is_empty(&self) -> bool {
        self.queues == Queues::default()
    }
}
