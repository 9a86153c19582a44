//! Connections without a request: the client has not sent one yet, or is being told why it is
//! refused. Bookkeeping without sockets or clocks.
//!
//! Each costs little, but not nothing, so their number has a bound. Past it the client that has
//! been silent longest is dismissed. An honest client sends its request within a round trip, so it
//! is rarely the one.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter};
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{mpsc, oneshot};

/// Clients dismissed at once when descriptors run out: enough for a check.
const ROOM: usize = 24;

/// The bound on the number of such connections, and its origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    /// `--max-pending`, given or by default.
    Option(NonZeroUsize),
    /// Less than `--max-pending` allows, because no more descriptors can be spared.
    Descriptors {
        /// The bound.
        most: NonZeroUsize,
        /// The limit of open files that it is derived from.
        limit: usize,
    },
}

impl Bound {
    /// The number of clients.
    pub fn most(&self) -> NonZeroUsize {
        match *self {
            Bound::Option(most) | Bound::Descriptors { most, .. } => most,
        }
    }
}

/// Names the origin, for the log.
impl Display for Bound {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Bound::Option(_) => f.write_str("--max-pending is the bound"),
            Bound::Descriptors { limit, .. } => {
                write!(f, "the limit of {limit} open files is the bound, --max-pending allows more")
            }
        }
    }
}

/// The connections without a request.
#[derive(Debug)]
pub struct Pending {
    bound: Bound,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Ordered by last arrival of data, or by accept. A message dismisses the client, and so does
    /// the end of its sender.
    clients: BTreeMap<u64, oneshot::Sender<Presence>>,
    next: u64,
    /// Whether clients are being dismissed. Reset when the number falls to half of the bound.
    overflowed: bool,
}

/// One client's entry, removed on drop.
#[derive(Debug)]
pub struct PendingClient {
    pending: Arc<Pending>,
    number: u64,
    dismissal: oneshot::Receiver<Presence>,
    /// Kept until the entry is dropped, so that [`Pending::make_room`] can wait for that.
    _presence: Option<Presence>,
}

/// Nothing is ever sent. While a dismissed client is present, the channel stays open.
type Presence = mpsc::Sender<()>;

impl Pending {
    /// No connections yet.
    pub fn new(bound: Bound) -> Arc<Self> {
        Arc::new(Pending { bound, state: Mutex::default() })
    }

    /// Adds a client, and dismisses the one that has been silent longest if the bound is reached.
    /// Returns the bound too for the first dismissal since the number last fell to half of it.
    pub fn enter(self: &Arc<Self>) -> (PendingClient, Option<Bound>) {
        let (sender, dismissal) = oneshot::channel();
        let mut state = self.lock();
        let full = state.clients.len() >= self.bound.most().get();
        let overflows =
            full && state.pop_silent().is_some() && !std::mem::replace(&mut state.overflowed, true);
        let number = state.insert(sender);
        let pending = Arc::clone(self);
        (
            PendingClient { pending, number, dismissal, _presence: None },
            overflows.then_some(self.bound),
        )
    }

    /// Dismisses the clients that have been silent longest, and waits until they have left: their
    /// tasks run in an order that is the runtime's choice. `false` when there are none.
    pub async fn make_room(&self) -> bool {
        let (presence, mut absence) = mpsc::channel(1);
        let dismiss = |client: oneshot::Sender<Presence>| {
            // An error means that the client is leaving anyway.
            let _ = client.send(presence.clone());
        };
        let dismissed = {
            let mut state = self.lock();
            (0..ROOM).map_while(|_| state.pop_silent()).map(dismiss).count()
        };
        drop(presence);
        let _: Option<()> = absence.recv().await;
        dismissed > 0
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.lock().clients.len()
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
        self._presence = (&mut self.dismissal).await.ok();
    }
}

impl Drop for PendingClient {
    fn drop(&mut self) {
        let mut state = self.pending.lock();
        state.clients.remove(&self.number);
        let half = self.pending.bound.most().get() / 2;
        if state.clients.len() <= half {
            state.overflowed = false;
        }
    }
}

impl State {
    fn insert(&mut self, sender: oneshot::Sender<Presence>) -> u64 {
        let number = self.next;
        self.next += 1;
        self.clients.insert(number, sender);
        number
    }

    /// Removes the client that has been silent longest.
    fn pop_silent(&mut self) -> Option<oneshot::Sender<Presence>> {
        self.clients.pop_first().map(|(_, sender)| sender)
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::sync::atomic::AtomicUsize;
    use std::sync::atomic::Ordering::Relaxed;
    use std::task::{Context, Poll, Waker};
    use std::time::Duration;

    use super::*;

    fn bounded(most: usize) -> Arc<Pending> {
        Pending::new(Bound::Option(NonZeroUsize::new(most).unwrap()))
    }

    fn is_dismissed(entry: &mut PendingClient) -> bool {
        let mut context = Context::from_waker(Waker::noop());
        pin!(entry.dismissed()).poll(&mut context).is_ready()
    }

    #[test]
    fn the_longest_silent_is_dismissed() {
        let pending = bounded(2);
        let (mut first, _) = pending.enter();
        let (mut second, overflowed) = pending.enter();
        assert_eq!(overflowed, None);
        first.spoke();
        let (mut third, overflowed) = pending.enter();
        assert_eq!(overflowed, Some(pending.bound));
        assert!(is_dismissed(&mut second) && !is_dismissed(&mut first));
        // The client is dismissed already, so its data comes too late.
        second.spoke();
        let (_fourth, overflowed) = pending.enter();
        assert_eq!(overflowed, None, "it was reported already");
        assert!(is_dismissed(&mut first) && !is_dismissed(&mut third));
        assert_eq!(pending.lock().clients.len(), 2);
    }

    #[test]
    fn clients_that_leave_make_room() {
        let pending = bounded(2);
        for _ in 0..10 {
            let ((mut first, _), (mut second, _)) = (pending.enter(), pending.enter());
            assert!(!is_dismissed(&mut first) && !is_dismissed(&mut second));
        }
        assert!(pending.lock().clients.is_empty());
    }

    #[test]
    fn an_overflow_is_reported_once() {
        let pending = bounded(4);
        let mut entries: Vec<PendingClient> = (0..4).map(|_| pending.enter().0).collect();
        let told: Vec<bool> = (0..6)
            .map(|_| {
                let (entry, overflowed) = pending.enter();
                entries.push(entry);
                overflowed.is_some()
            })
            .collect();
        assert_eq!(told, [true, false, false, false, false, false]);
        drop(entries);
        let entries: Vec<bool> = (0..5)
            .map(|_| pending.enter())
            .collect::<Vec<_>>()
            .iter()
            .map(|e| e.1.is_some())
            .collect();
        assert_eq!(entries, [false, false, false, false, true]);
    }

    #[test]
    fn make_room_dismisses_a_few() {
        let pending = bounded(100);
        let mut entries: Vec<PendingClient> = (0..100).map(|_| pending.enter().0).collect();
        assert!(!entries.iter_mut().any(is_dismissed));
        let mut room = pin!(pending.make_room());
        let mut context = Context::from_waker(Waker::noop());
        assert_eq!(room.as_mut().poll(&mut context), Poll::Pending);
        assert!(entries[..ROOM].iter_mut().all(is_dismissed));
        assert!(!entries[ROOM..].iter_mut().any(is_dismissed));
        drop(entries);
        assert_eq!(room.as_mut().poll(&mut context), Poll::Ready(true));
        assert_eq!(pin!(pending.make_room()).poll(&mut context), Poll::Ready(false));
    }

    /// However many tasks are ready before theirs.
    #[test]
    fn room_is_made_once_the_dismissed_have_left() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let pending = bounded(100);
            for _ in 0..1000 {
                tokio::spawn(async {
                    loop {
                        tokio::task::yield_now().await;
                    }
                });
            }
            let left = Arc::new(AtomicUsize::new(0));
            for _ in 0..ROOM {
                let (mut entry, _) = pending.enter();
                let left = Arc::clone(&left);
                tokio::spawn(async move {
                    entry.dismissed().await;
                    left.fetch_add(1, Relaxed);
                });
            }
            let room = tokio::time::timeout(Duration::from_secs(10), pending.make_room());
            assert_eq!(room.await, Ok(true));
            assert_eq!(left.load(Relaxed), ROOM);
        });
    }
}
