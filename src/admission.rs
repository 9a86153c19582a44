//! Who runs, who waits, and who goes next: bookkeeping without sockets.
//!
//! A client that has sent its request asks for a place. While there are places it gets one; then it
//! waits in a queue that serves client addresses in turn, so that an address with a thousand requests
//! delays the others by no more than its share. When the queue is full, the address that waits most
//! often loses its latest request, which may be the one that just came.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

/// The places of a server and the queue before them.
#[derive(Debug)]
pub struct Admission {
    /// Places for running services; `None` for any number.
    places: Option<NonZeroUsize>,
    /// How many may wait.
    room: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    taken: usize,
    waiting: usize,
    /// Addresses with waiting requests; the first is served next, and then goes to the end.
    turn: VecDeque<IpAddr>,
    /// Their requests, oldest first. No queue in here is empty.
    queues: HashMap<IpAddr, VecDeque<oneshot::Sender<Place>>>,
}

/// A place among the running services; free again when dropped.
#[derive(Debug)]
pub struct Place(Arc<Admission>);

/// The answer to a client that asks for a place.
#[derive(Debug)]
pub enum Answer {
    /// There is one.
    Now(Place),
    /// It must wait: the receiver brings the place, or an error if the request was pushed out.
    Later(oneshot::Receiver<Place>),
    /// There is no room to wait either.
    Never,
}

impl Admission {
    /// Opens an empty house.
    #[must_use]
    pub fn new(places: Option<NonZeroUsize>, room: usize) -> Arc<Self> {
        Arc::new(Admission { places, room, state: Mutex::default() })
    }

    /// Asks for a place in the name of a client address.
    pub fn ask(self: &Arc<Self>, client: IpAddr) -> Answer {
        let mut state = self.lock();
        if self.places.is_none_or(|places| state.taken < places.get()) {
            state.taken += 1;
            return Answer::Now(Place(Arc::clone(self)));
        }
        state.forget_the_gone();
        if state.waiting >= self.room && !state.push_out_for(client) {
            return Answer::Never;
        }
        let (sender, receiver) = oneshot::channel();
        state.enqueue(client, sender);
        Answer::Later(receiver)
    }

    /// The number of services that run.
    #[must_use]
    pub fn running(&self) -> usize {
        self.lock().taken
    }

    /// Hands a free place to the next that still waits. The lock is not held while a place is offered:
    /// an offer that nobody takes comes back as a dropped place.
    fn release(self: &Arc<Self>) {
        loop {
            let next = {
                let mut state = self.lock();
                let next = state.dequeue();
                if next.is_none() {
                    state.taken -= 1;
                }
                next
            };
            let Some(waiting) = next else { return };
            match waiting.send(Place(Arc::clone(self))) {
                Ok(()) => return,
                Err(place) => std::mem::forget(place),
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.release();
    }
}

impl State {
    fn enqueue(&mut self, client: IpAddr, sender: oneshot::Sender<Place>) {
        let queue = self.queues.entry(client).or_default();
        if queue.is_empty() {
            self.turn.push_back(client);
        }
        queue.push_back(sender);
        self.waiting += 1;
    }

    fn dequeue(&mut self) -> Option<oneshot::Sender<Place>> {
        let client = self.turn.pop_front()?;
        let queue = self.queues.get_mut(&client)?;
        let sender = queue.pop_front();
        if queue.is_empty() {
            self.queues.remove(&client);
        } else {
            self.turn.push_back(client);
        }
        self.waiting -= 1;
        sender
    }

    /// Requests whose clients have left take no room.
    fn forget_the_gone(&mut self) {
        self.queues.retain(|_, queue| {
            queue.retain(|sender| !sender.is_closed());
            !queue.is_empty()
        });
        self.turn.retain(|client| self.queues.contains_key(client));
        self.waiting = self.queues.values().map(VecDeque::len).sum();
    }

    /// Makes room for `client` at the cost of the address that waits most often, if that is another
    /// one that would still wait at least as often.
    fn push_out_for(&mut self, client: IpAddr) -> bool {
        let own = self.queues.get(&client).map_or(0, VecDeque::len);
        let Some((&greedy, queue)) = self.queues.iter_mut().max_by_key(|(_, queue)| queue.len())
        else {
            return false;
        };
        if queue.len() <= own + 1 {
            return false;
        }
        queue.pop_back();
        self.waiting -= 1;
        debug_assert_ne!(greedy, client);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> IpAddr {
        IpAddr::from([127, 0, 0, last])
    }

    fn house(places: usize, room: usize) -> Arc<Admission> {
        Admission::new(NonZeroUsize::new(places), room)
    }

    fn now(answer: Answer) -> Place {
        let Answer::Now(place) = answer else { panic!("{answer:?}") };
        place
    }

    fn later(answer: Answer) -> oneshot::Receiver<Place> {
        let Answer::Later(receiver) = answer else { panic!("{answer:?}") };
        receiver
    }

    #[test]
    fn a_place_is_free_again_when_dropped() {
        let house = house(1, 0);
        let place = now(house.ask(address(1)));
        assert!(matches!(house.ask(address(2)), Answer::Never));
        drop(place);
        drop(now(house.ask(address(2))));
        assert_eq!(house.running(), 0);
    }

    #[test]
    fn no_limit_means_no_queue() {
        let house = Admission::new(None, 0);
        let places: Vec<Place> = (0..1000).map(|_| now(house.ask(address(1)))).collect();
        assert_eq!(house.running(), 1000);
        drop(places);
        assert_eq!(house.running(), 0);
    }

    #[test]
    fn addresses_take_turns() {
        let house = house(1, 100);
        let first = now(house.ask(address(1)));
        let mut greedy: Vec<_> = (0..10).map(|_| later(house.ask(address(1)))).collect();
        let mut modest = later(house.ask(address(2)));
        drop(first);
        let second = greedy[0].try_recv().unwrap();
        assert!(modest.try_recv().is_err());
        drop(second);
        let third = modest.try_recv().unwrap();
        assert!(greedy[1].try_recv().is_err());
        drop(third);
        assert!(greedy[1].try_recv().is_ok());
    }

    #[test]
    fn who_left_is_passed_over() {
        let house = house(1, 2);
        let first = now(house.ask(address(1)));
        drop(later(house.ask(address(1))));
        drop(later(house.ask(address(2))));
        let mut third = later(house.ask(address(3)));
        drop(later(house.ask(address(4))));
        drop(first);
        drop(third.try_recv().unwrap());
        assert_eq!(house.running(), 0);
        drop(now(house.ask(address(1))));
    }

    #[test]
    fn a_full_queue_pushes_out_the_greedy() {
        let house = house(1, 3);
        let _running = now(house.ask(address(1)));
        let mut greedy: Vec<_> = (0..3).map(|_| later(house.ask(address(1)))).collect();
        assert!(matches!(house.ask(address(1)), Answer::Never));
        let _modest = later(house.ask(address(2)));
        assert!(matches!(greedy[2].try_recv(), Err(oneshot::error::TryRecvError::Closed)));
        assert!(matches!(greedy[1].try_recv(), Err(oneshot::error::TryRecvError::Empty)));
        assert!(matches!(house.ask(address(2)), Answer::Never));
    }
}
