//! A connection for which the kernel counts no bytes, as on a Unix socket. What moves shows in the socket's
//! queues, and in events.

use crate::net::watch::Queues;

/// What is known of such a connection since the last look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Blind {
    heard: Heard,
    queues: Queues,
}

/// How much has been heard since the last look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Heard {
    /// Nothing yet. The first report says how things are and not that they change.
    Nothing,
    /// How things are.
    State,
    /// That something moved; more is not listened to before the next look.
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
            // It was not listened to any more, and the next report is the first again.
            self.heard = Heard::Nothing;
        }
        before.queues != self.queues
    }

    /// Takes note of an event; `true` when it says that something has moved.
    pub(super) fn arrived(&mut self) -> bool {
        let moved = self.heard != Heard::Nothing;
        self.heard = if moved { Heard::Movement } else { Heard::State };
        moved
    }

    /// Whether another event would be news.
    pub(super) fn listens(&self) -> bool {
        self.heard != Heard::Movement
    }

    /// Whether nothing is on its way.
    pub(super) fn is_empty(&self) -> bool {
        self.queues == Queues::default()
    }
}
