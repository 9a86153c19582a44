//! Who runs, who rests, who waits, and who goes next: bookkeeping without sockets or clocks.
//!
//! A client that has sent its request asks for a place. While there are places it gets one; then it
//! waits in a queue that serves client addresses in turn, so that an address with a thousand requests
//! delays the others by no more than its share. When the queue is full, the address that waits most
//! often loses its latest request, which may be the one that just came.
//!
//! A place comes with a permit to work. A holder that has nothing to do gives the permit back: it *rests*,
//! and somebody else works. Once it has work again it asks for a permit; those that ask so and the queue
//! take turns. A holder that cannot wait for one works over the limit, and so does one that has waited for
//! long; there are at most as many of them as places. How many may rest has a bound, so that there is one for
//! all processes and threads.

use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use state::{State, Waiting, Woken};

mod state;
#[cfg(test)]
mod tests;

/// How many may rest for each place that there is.
const RESTING: usize = 4;

/// How many of them may hold the memory of an answer for each place that there is. Whoever reckons with so many
/// packs at a time finds at most twice as many.
const LADEN: usize = 1;

/// How many requests may be in their checks where places have no limit: each takes a thread.
const CHECKS: usize = 4096;

/// Who counts as one client: an IPv4 address, or the /64 that one IPv6 subscriber has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Address(IpAddr);

impl From<IpAddr> for Address {
    fn from(address: IpAddr) -> Self {
        Address(match address.to_canonical() {
            IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64).into(),
            v4 @ IpAddr::V4(_) => v4,
        })
    }
}

/// What is limited; `None` for what is not.
#[derive(Debug, Clone, Copy, Default)]
pub struct Bounds {
    /// Places for running services.
    pub places: Option<NonZeroUsize>,
    /// How many of them one address may have; those that rest count too.
    pub per_address: Option<NonZeroUsize>,
    /// How many requests may wait.
    pub room: Option<usize>,
}

impl Bounds {
    /// How many may be at work, running and resting.
    pub fn most(&self) -> Option<usize> {
        self.places.map(|places| places.get().saturating_mul(1 + RESTING))
    }

    /// How many requests may be in their checks: all that may be at work.
    pub fn checks(&self) -> usize {
        self.most().unwrap_or(CHECKS)
    }

    /// How many of them may be about one subject, a pathname or what else they may hang over. A file system
    /// or an access hook that hangs over one repository must leave places to the others.
    fn checks_of_one(&self) -> Checks {
        match self.places.map(|places| places.get().div_ceil(2)) {
            // Half of the places at a time, so that the others are not even late. Checks that take long
            // give their permit back, so nobody waits long for a place that is free.
            Some(half) => Checks { all: self.checks() - half, working: half },
            None => Checks { all: CHECKS / 4 * 3, working: CHECKS },
        }
    }
}

/// The checks of requests about one subject.
#[derive(Debug, Clone, Copy, Default)]
struct Checks {
    all: usize,
    /// Those that have a permit.
    working: usize,
}

/// The places of a server and the queue before them.
#[derive(Debug)]
pub struct Admission {
    bounds: Bounds,
    state: Mutex<State>,
}

/// A place among the running services, or among the resting; free again when dropped.
#[derive(Debug)]
pub struct Place {
    house: Arc<Admission>,
    client: Address,
    /// The subject, until its checks are over.
    checking: Option<Box<[u8]>>,
    /// What is held while it rests.
    resting: Option<Burden>,
    /// Missing while it rests.
    permit: Option<Permit>,
}

/// The permit to work; free again when dropped.
#[derive(Debug)]
pub struct Permit(Arc<Admission>);

/// The answer to a holder of a place that has work again.
#[derive(Debug)]
pub enum Wake {
    /// It may work.
    Now,
    /// It must not work before the receiver brings a permit, which goes to [`Place::work`].
    Later(oneshot::Receiver<Permit>),
}

/// What those hold that rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Burden {
    /// Hardly anything: a check, or a service that has answered and kept little memory.
    Light,
    /// Whatever an answer takes that has not been finished.
    Laden,
}

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
    pub fn new(bounds: Bounds) -> Arc<Self> {
        Arc::new(Admission { bounds, state: Mutex::default() })
    }

    /// Asks for a place in the name of a client address, for a request about `subject`.
    pub fn ask(self: &Arc<Self>, client: impl Into<Address>, subject: &[u8]) -> Answer {
        let client = client.into();
        let mut state = self.lock();
        let may_have = state.has_free(&self.bounds)
            && state.may_have_more(&self.bounds, client)
            && state.may_check(&self.bounds, subject);
        if may_have {
            let place = self.give(&mut state, client, subject.into());
            return Answer::Now(place);
        }
        state.forget_the_gone();
        let full = self.bounds.room.is_some_and(|room| state.waiting >= room);
        if full && !state.push_out_for(client) {
            return Answer::Never;
        }
        let (sender, receiver) = oneshot::channel();
        state.enqueue(client, Waiting { subject: subject.into(), sender });
        Answer::Later(receiver)
    }

    /// How many have been let in and have not left, with those that rest.
    pub fn admitted(&self) -> usize {
        let state = self.lock();
        state.running + state.resting
    }

    /// Whether requests about `subject` wait for its checks, of which too many are under way, and not for a
    /// place.
    pub fn waits_for_checks(&self, subject: &[u8]) -> bool {
        !self.lock().may_check(&self.bounds, subject)
    }

    fn give(self: &Arc<Self>, state: &mut State, client: Address, subject: Box<[u8]>) -> Place {
        state.accounts.entry(client).or_default().held += 1;
        let checks = state.checks.entry(subject.clone()).or_default();
        checks.all += 1;
        checks.working += 1;
        let permit = Some(self.permit(state));
        Place { house: Arc::clone(self), client, checking: Some(subject), resting: None, permit }
    }

    fn permit(self: &Arc<Self>, state: &mut State) -> Permit {
        state.running += 1;
        Permit(Arc::clone(self))
    }

    /// Hands free permits to those whose turn it is. The lock is not held while one is offered: an offer that
    /// nobody takes comes back as a dropped place or permit.
    fn hand_out(self: &Arc<Self>, mut state: MutexGuard<'_, State>) {
        let mut places = Vec::new();
        let mut permits = Vec::new();
        while state.has_free(&self.bounds) {
            let woken = if state.queue_is_next { None } else { state.next_woken() };
            if let Some(sender) = woken {
                permits.push((sender, self.permit(&mut state)));
                state.queue_is_next = true;
            } else if let Some((client, waiting)) = state.dequeue(&self.bounds) {
                places.push((waiting.sender, self.give(&mut state, client, waiting.subject)));
                state.queue_is_next = false;
            } else if !std::mem::take(&mut state.queue_is_next) {
                break;
            }
        }
        drop(state);
        for (sender, permit) in permits {
            drop(sender.send(permit));
        }
        for (sender, place) in places {
            drop(sender.send(place));
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// The request has passed its checks.
    pub fn checked(&mut self) {
        if let Some(subject) = self.checking.take() {
            let mut state = self.house.lock();
            state.end_check(&subject, self.permit.is_some());
            self.house.hand_out(state);
        }
    }

    /// Gives the permit back, and says what is held meanwhile. `false` when too many rest like that already:
    /// then it keeps what it has. One that has work again and waits for a permit changes places with it: no
    /// more rest than before, and nobody waits for a client that does nothing.
    pub fn rest(&mut self, burden: Burden) -> bool {
        let mut state = self.house.lock();
        if let Some(before) = self.resting {
            state.end_rest(before);
        }
        let woken = self.permit.as_ref().and_then(|_| state.first_woken());
        let swaps = woken.is_some();
        let rests = state.may_rest(&self.house.bounds, burden, woken);
        if rests && swaps {
            state.queue_is_next = false;
        }
        if rests {
            self.resting = Some(burden);
            if let (Some(subject), Some(_)) = (&self.checking, &self.permit) {
                state.check_rests(subject);
            }
        }
        if let Some(now) = self.resting {
            state.begin_rest(now);
        }
        drop(state);
        if rests {
            self.permit = None;
        }
        rests
    }

    /// Asks for a permit, if it has none.
    pub fn wake(&mut self) -> Wake {
        if self.permit.is_some() {
            return Wake::Now;
        }
        let mut state = self.house.lock();
        if !state.has_free(&self.house.bounds) {
            let (sender, receiver) = oneshot::channel();
            state.woken.push_back(Woken { burden: self.resting, sender });
            return Wake::Later(receiver);
        }
        let permit = self.house.permit(&mut state);
        drop(state);
        self.work(permit);
        Wake::Now
    }

    /// Works again over the limit, if it has no permit: it has no way to wait for one. Only what is laden may
    /// rest like that, so the limit is exceeded by no more than all places.
    pub fn work_on(&mut self) {
        if self.permit.is_none() {
            let permit = self.house.permit(&mut self.house.lock());
            self.work(permit);
        }
    }

    /// Works again over the limit after a long wait, unless as many do as there are places, or will.
    pub fn insist(&mut self) -> bool {
        let mut state = self.house.lock();
        let insists = self.permit.is_none() && state.has_spare(&self.house.bounds, self.resting);
        let permit = insists.then(|| self.house.permit(&mut state));
        drop(state);
        permit.map(|permit| self.work(permit)).is_some()
    }

    /// Works again, with the permit that [`Place::wake`] promised.
    pub fn work(&mut self, permit: Permit) {
        if let Some(burden) = self.resting.take() {
            self.house.lock().end_rest(burden);
        }
        self.permit = Some(permit);
    }

    /// Whether it has a permit.
    pub fn works(&self) -> bool {
        self.permit.is_some()
    }

    /// Whether there is a limit that makes others wait for this place.
    pub fn is_scarce(&self) -> bool {
        self.house.bounds.places.is_some()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.house.lock();
        if let Some(burden) = self.resting {
            state.end_rest(burden);
        }
        if let Some(subject) = &self.checking {
            state.end_check(subject, self.permit.is_some());
        }
        if let Some(account) = state.accounts.get_mut(&self.client) {
            account.held -= 1;
        }
        state.close_if_empty(self.client);
        self.house.hand_out(state);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.running -= 1;
        self.0.hand_out(state);
    }
}
