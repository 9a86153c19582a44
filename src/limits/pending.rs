//! Connections without a request: the client has not sent one yet, or is being told why it is
//! refused. Bookkeeping without sockets or clocks.
//!
//! Each costs little, but not nothing, so their number has a bound. Past it the client that has
//! been silent longest is dismissed. An honest client sends its request within a round trip, so it
//! is rarely the one.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

/// Clients dismissed at once when descriptors run out.
const ROOM: usize = 16;

/// The connections without a request.
#[derive(Debug)]
pub struct Pending {
    most: Option<NonZeroUsize>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Ordered by last arrival of data, or by accept. The sender carries no message: dropping it
    /// dismisses the client.
    clients: BTreeMap<u64, oneshot::Sender<()>>,
    next: u64,
    /// Whether clients are being dismissed. Reset when the number falls to half of the bound.
    overflowed: bool,
}

/// One client's entry, removed on drop.
#[derive(Debug)]
pub struct PendingClient {
    pending: Arc<Pending>,
    number: u64,
    dismissal: oneshot::Receiver<()>,
}

impl Pending {
    /// `most` is the bound; `None` for no bound.
    pub fn new(most: Option<NonZeroUsize>) -> Arc<Self> {
        Arc::new(Pending { most, state: Mutex::default() })
    }

    /// Adds a client, and dismisses the one that has been silent longest if the bound is reached.
    /// The flag is `true` for the first dismissal since the number last fell to half of the bound.
    pub fn enter(self: &Arc<Self>) -> (PendingClient, bool) {
        let (sender, dismissal) = oneshot::channel();
        let mut state = self.lock();
        let full = self.most.is_some_and(|most| state.clients.len() >= most.get());
        let overflowed =
            full && state.push_out(1) > 0 && !std::mem::replace(&mut state.overflowed, true);
        let number = state.insert(sender);
        (PendingClient { pending: Arc::clone(self), number, dismissal }, overflowed)
    }

    /// Dismisses the clients that have been silent longest, to free their descriptors. `false` when
    /// there are none.
    pub fn make_room(&self) -> bool {
        self.lock().push_out(ROOM) > 0
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PendingClient {
    /// The client has sent something, so it moves to the end of the order.
    pub fn spoke(&mut self) {
        let mut state = self.pending.lock();
        if let Some(sender) = state.clients.remove(&self.number) {
            self.number = state.insert(sender);
        }
    }

    /// Waits until the client is dismissed. Must not be called again after that.
    pub async fn dismissed(&mut self) {
        // Nothing is ever sent; a dropped sender is the signal.
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
        // The client is dismissed already, so its data comes too late.
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
