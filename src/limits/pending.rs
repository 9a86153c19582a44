//! Clients that hold nothing but a connection: they have not sent their request yet, or are being told
//! why it is refused. Bookkeeping without sockets or clocks.
//!
//! They cost little, but not nothing, so their number has a bound. Past it the one that has been
//! silent longest goes: a client that means it speaks within a round trip, and its turn to go comes
//! only after all that were silent before it.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

/// How many go at once when their descriptors are wanted.
const ROOM: usize = 16;

/// The clients without a request.
#[derive(Debug)]
pub struct Pending {
    most: Option<NonZeroUsize>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// In the order of their last words, or of their coming. The sender is for no message: dropping
    /// it sends the client away.
    clients: BTreeMap<u64, oneshot::Sender<()>>,
    next: u64,
    /// Whether clients are being sent away; it ends when half of the room is free again.
    overflowed: bool,
}

/// One client's entry, which ends when dropped.
#[derive(Debug)]
pub struct PendingClient {
    pending: Arc<Pending>,
    number: u64,
    dismissal: oneshot::Receiver<()>,
}

impl Pending {
    /// Opens an empty shared for at most so many; `None` for any number.
    pub fn new(most: Option<NonZeroUsize>) -> Arc<Self> {
        Arc::new(Pending { most, state: Mutex::default() })
    }

    /// Lets a client in, at the cost of the one that has been silent longest if there is no room.
    /// `true` beside it when this is the first to go after a time in which nobody had to.
    pub fn enter(self: &Arc<Self>) -> (PendingClient, bool) {
        let (sender, dismissal) = oneshot::channel();
        let mut state = self.lock();
        let full = self.most.is_some_and(|most| state.clients.len() >= most.get());
        let overflowed =
            full && state.push_out(1) > 0 && !std::mem::replace(&mut state.overflowed, true);
        let number = state.insert(sender);
        (PendingClient { pending: Arc::clone(self), number, dismissal }, overflowed)
    }

    /// Sends away some of those that have been silent longest, as their descriptors are wanted. `false`
    /// when there are none.
    pub fn make_room(&self) -> bool {
        self.lock().push_out(ROOM) > 0
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PendingClient {
    /// The client has sent something; its silence begins anew.
    pub fn spoke(&mut self) {
        let mut state = self.pending.lock();
        if let Some(sender) = state.clients.remove(&self.number) {
            self.number = state.insert(sender);
        }
    }

    /// Waits until the client must go. Not to be called again after that.
    pub async fn dismissed(&mut self) {
        // Nobody sends; an error is the news.
        let _ = (&mut self.dismissal).await;
    }
}

impl Drop for PendingClient {
    fn drop(&mut self) {
        let mut state = self.pending.lock();
        state.clients.remove(&self.number);
        let half = self.pending.most.map_or(0, |most| most.get() / 2);
        if state.clients.len() <= half {
            state.overflowed = false;
        }
    }
}

impl State {
    fn insert(&mut self, sender: oneshot::Sender<()>) -> u64 {
        let number = self.next;
        self.next += 1;
        self.clients.insert(number, sender);
        number
    }

    fn push_out(&mut self, count: usize) -> usize {
        (0..count).map_while(|_| self.clients.pop_first()).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_dismissed(entry: &mut PendingClient) -> bool {
        entry.dismissal.try_recv() == Err(oneshot::error::TryRecvError::Closed)
    }

    #[test]
    fn the_longest_silent_goes() {
        let pending = Pending::new(NonZeroUsize::new(2));
        let (mut first, _) = pending.enter();
        let (mut second, overflowed) = pending.enter();
        assert!(!overflowed);
        first.spoke();
        let (mut third, overflowed) = pending.enter();
        assert!(overflowed);
        assert!(is_dismissed(&mut second) && !is_dismissed(&mut first));
        // Whatever it says now comes too late.
        second.spoke();
        let (_fourth, overflowed) = pending.enter();
        assert!(!overflowed, "it was told already");
        assert!(is_dismissed(&mut first) && !is_dismissed(&mut third));
        assert_eq!(pending.lock().clients.len(), 2);
    }

    #[test]
    fn who_leaves_makes_room() {
        let pending = Pending::new(NonZeroUsize::new(2));
        for _ in 0..10 {
            let ((mut first, _), (mut second, _)) = (pending.enter(), pending.enter());
            assert!(!is_dismissed(&mut first) && !is_dismissed(&mut second));
        }
        assert!(pending.lock().clients.is_empty());
    }

    #[test]
    fn a_crowd_is_told_of_once() {
        let pending = Pending::new(NonZeroUsize::new(4));
        let mut entries: Vec<PendingClient> = (0..4).map(|_| pending.enter().0).collect();
        let told: Vec<bool> = (0..6)
            .map(|_| {
                let (entry, overflowed) = pending.enter();
                entries.push(entry);
                overflowed
            })
            .collect();
        assert_eq!(told, [true, false, false, false, false, false]);
        drop(entries);
        let entries: Vec<bool> =
            (0..5).map(|_| pending.enter()).collect::<Vec<_>>().iter().map(|e| e.1).collect();
        assert_eq!(entries, [false, false, false, false, true]);
    }

    #[test]
    fn without_a_bound_nobody_goes_but_on_demand() {
        let pending = Pending::new(None);
        let mut entries: Vec<PendingClient> = (0..100).map(|_| pending.enter().0).collect();
        assert!(!entries.iter_mut().any(is_dismissed));
        assert!(pending.make_room());
        assert!(entries[..ROOM].iter_mut().all(is_dismissed));
        assert!(!entries[ROOM..].iter_mut().any(is_dismissed));
        drop(entries);
        assert!(!pending.make_room());
    }
}
