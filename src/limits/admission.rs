//! Which sessions have a permit, which are idle, which requests wait, and which is next.
//! Bookkeeping without sockets or clocks.
//!
//! A request needs a permit to be served. There are as many permits as `--max-connections` says.
//! Without a free permit the request waits in a queue that serves client addresses in turn, so an
//! address with a thousand requests delays the others by its share. When the queue is full, the
//! address with the most waiting requests loses its latest one, which may be the new one.
//!
//! A session that waits for its client gives its permit back and is *idle*. When it has work again
//! it asks for a permit. Idle sessions that ask and the queue get permits in turn. A session that
//! cannot wait works over the limit, and so does one that has waited for long. At most as many
//! sessions as permits work over the limit. The number of idle sessions has a bound, so all
//! processes and threads have one.

use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use state::{State, Waiting, Woken};

mod state;
#[cfg(test)]
mod tests;

/// Idle sessions per permit.
const IDLE_PER_PERMIT: usize = 4;

/// Idle sessions per permit that may hold a pack in memory. So there are at most twice as many
/// packs in memory as permits.
const HEAVY_PER_PERMIT: usize = 1;

/// Requests that may be in their checks when permits have no limit. Each takes a thread.
const CHECKS: usize = 4096;

/// What counts as one client: an IPv4 address, or the /64 that one IPv6 subscriber has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ClientAddress(IpAddr);

impl From<IpAddr> for ClientAddress {
    fn from(address: IpAddr) -> Self {
        ClientAddress(match address.to_canonical() {
            IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64).into(),
            v4 @ IpAddr::V4(_) => v4,
        })
    }
}

/// The limits; `None` for no limit.
#[derive(Debug, Clone, Copy, Default)]
pub struct Bounds {
    /// Permits.
    pub places: Option<NonZeroUsize>,
    /// Sessions of one address, including idle ones.
    pub per_address: Option<NonZeroUsize>,
    /// Requests that may wait in the queue.
    pub room: Option<usize>,
    /// Sessions at a time, including idle ones, for which there are descriptors.
    pub sessions: Option<usize>,
    /// Requests in their checks at a time for which there are descriptors.
    pub checks: Option<usize>,
}

impl Bounds {
    /// The most sessions at a time, including idle ones.
    pub fn most(&self) -> Option<usize> {
        let permitted = self.places.map(|places| places.get().saturating_mul(1 + IDLE_PER_PERMIT));
        permitted.into_iter().chain(self.sessions).min()
    }

    /// The most requests in their checks at a time: as many as sessions.
    pub fn checks(&self) -> usize {
        self.most().unwrap_or(CHECKS).min(self.checks.unwrap_or(usize::MAX))
    }

    /// The most requests in their checks about one subject, such as a pathname. A file system or an
    /// access hook that hangs for one repository must leave permits to the others. One address may
    /// have no more in all, because a client can spell a pathname in many ways.
    fn checks_of_one(&self) -> Checks {
        let all = self.checks();
        match self.places.map(|places| places.get().div_ceil(2)) {
            // Half of the permits, so that other requests are not delayed. A slow check gives its
            // permit back, so no request waits long while a permit is free.
            Some(half) => Checks { all: (all - half.min(all / 2)).max(1), working: half },
            None => Checks { all: (all / 4 * 3).max(1), working: all },
        }
    }
}

/// What a request is about, as a number: a pathname may be long, and is compared often. Two subjects with one number
/// share a bound.
type Subject = u64;

/// The checks of requests about one subject.
#[derive(Debug, Clone, Copy, Default)]
struct Checks {
    all: usize,
    /// Requests that have a permit.
    working: usize,
}

/// The permits of a server, and the queue for them.
#[derive(Debug)]
pub struct Admission {
    bounds: Bounds,
    hasher: RandomState,
    state: Mutex<State>,
}

/// An admitted request: a session that works or is idle. Dropping it ends the session.
#[derive(Debug)]
pub struct Admitted {
    admission: Arc<Admission>,
    client: ClientAddress,
    /// The subject, until its checks are over.
    checking: Option<Subject>,
    /// What an idle session holds.
    idle: Option<Holding>,
    /// `None` while the session is idle.
    permit: Option<Permit>,
}

/// The permit to work. Dropping it frees it.
#[derive(Debug)]
pub struct Permit(Arc<Admission>);

/// The answer when an idle session asks for a permit.
#[derive(Debug)]
pub enum Wake {
    /// The session has a permit.
    Now,
    /// The session must wait until the receiver gets a permit, and pass that to [`Admitted::work`].
    Later(oneshot::Receiver<Permit>),
}

/// What an idle session holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holding {
    /// Little: a check, or a service that has answered and kept little memory.
    Light,
    /// The memory of an unfinished answer.
    Heavy,
}

/// The answer to a request.
#[derive(Debug)]
pub enum Answer {
    /// It is admitted.
    Now(Admitted),
    /// It waits. The receiver gets the admission, or an error if another request took its place in
    /// the queue.
    Later(oneshot::Receiver<Admitted>),
    /// The queue is full.
    Never,
}

impl Admission {
    /// An admission without sessions or requests.
    pub fn new(bounds: Bounds) -> Arc<Self> {
        Arc::new(Admission { bounds, hasher: RandomState::new(), state: Mutex::default() })
    }

    /// Asks for a permit to serve a request of `client` about `subject`.
    pub fn ask(self: &Arc<Self>, client: impl Into<ClientAddress>, subject: &[u8]) -> Answer {
        let client = client.into();
        let subject = self.hasher.hash_one(subject);
        let mut state = self.lock();
        let may_have = state.has_free(&self.bounds)
            && state.has_room(&self.bounds)
            && state.may_have_more(&self.bounds, client)
            && state.may_check(&self.bounds, client, subject);
        if may_have {
            let place = self.admit(&mut state, client, subject);
            return Answer::Now(place);
        }
        state.forget_closed();
        let full = self.bounds.room.is_some_and(|room| state.waiting >= room);
        if full && !state.drop_latest_for(client) {
            return Answer::Never;
        }
        let (sender, receiver) = oneshot::channel();
        state.enqueue(client, Waiting { subject, sender });
        Answer::Later(receiver)
    }

    /// The number of sessions, including idle ones.
    pub fn admitted(&self) -> usize {
        let state = self.lock();
        state.running + state.idle
    }

    /// How many sessions work, how many are idle, and how many requests wait in the queue.
    pub fn census(&self) -> (usize, usize, usize) {
        let state = self.lock();
        (state.running, state.idle, state.waiting)
    }

    /// Whether requests of `client` about `subject` wait because too many checks of the one or the
    /// other are under way, and not for a permit.
    pub fn waits_for_checks(&self, client: impl Into<ClientAddress>, subject: &[u8]) -> bool {
        let subject = self.hasher.hash_one(subject);
        !self.lock().may_check(&self.bounds, client.into(), subject)
    }

    fn admit(
        self: &Arc<Self>,
        state: &mut State,
        client: ClientAddress,
        subject: Subject,
    ) -> Admitted {
        let account = state.accounts.entry(client).or_default();
        account.held += 1;
        account.checking += 1;
        state.checking += 1;
        let checks = state.checks.entry(subject).or_default();
        checks.all += 1;
        checks.working += 1;
        let permit = Some(self.permit(state));
        Admitted {
            admission: Arc::clone(self),
            client,
            checking: Some(subject),
            idle: None,
            permit,
        }
    }

    fn permit(self: &Arc<Self>, state: &mut State) -> Permit {
        state.running += 1;
        Permit(Arc::clone(self))
    }

    /// Hands free permits to sessions and requests in turn. The lock is released before they are
    /// sent: a send that fails drops the permit, which takes the lock again.
    fn hand_out(self: &Arc<Self>, mut state: MutexGuard<'_, State>) {
        let mut places = Vec::new();
        let mut permits = Vec::new();
        while state.has_free(&self.bounds) {
            let woken = if state.queue_is_next { None } else { state.next_woken() };
            if let Some(sender) = woken {
                permits.push((sender, self.permit(&mut state)));
                state.queue_is_next = true;
            } else if let Some((client, waiting)) = state.dequeue(&self.bounds) {
                places.push((waiting.sender, self.admit(&mut state, client, waiting.subject)));
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

impl Admitted {
    /// The only request of a process, to which no limits apply.
    pub fn alone() -> Self {
        let admission = Admission::new(Bounds::default());
        let client = ClientAddress(Ipv6Addr::UNSPECIFIED.into());
        let mut admitted = admission.admit(&mut admission.lock(), client, Subject::default());
        admitted.checked();
        admitted
    }

    /// The request has passed its checks.
    pub fn checked(&mut self) {
        if let Some(subject) = self.checking.take() {
            let mut state = self.admission.lock();
            state.end_check(self.client, subject, self.permit.is_some());
            self.admission.hand_out(state);
        }
    }

    /// Gives the permit back; `holding` says what the session keeps meanwhile. `false` when too
    /// many such sessions are idle already; then it keeps its permit. If another session waits for
    /// a permit, it gets this one, and the number of idle sessions stays the same.
    pub fn go_idle(&mut self, holding: Holding) -> bool {
        let mut state = self.admission.lock();
        if let Some(before) = self.idle {
            state.end_idle(before);
        }
        let woken = self.permit.as_ref().and_then(|_| state.first_woken());
        let swaps = woken.is_some();
        let rests = state.may_idle(&self.admission.bounds, holding, woken);
        if rests && swaps {
            state.queue_is_next = false;
        }
        if rests {
            self.idle = Some(holding);
            if let (Some(subject), Some(_)) = (self.checking, &self.permit) {
                state.check_idles(subject);
            }
        }
        if let Some(now) = self.idle {
            state.begin_idle(now);
        }
        drop(state);
        if rests {
            self.permit = None;
        }
        rests
    }

    /// Asks for a permit, unless the session has one.
    pub fn wake(&mut self) -> Wake {
        if self.permit.is_some() {
            return Wake::Now;
        }
        let mut state = self.admission.lock();
        if !state.has_free(&self.admission.bounds) {
            state.forget_woken();
            let (sender, receiver) = oneshot::channel();
            state.woken.push_back(Woken { holding: self.idle, sender });
            return Wake::Later(receiver);
        }
        let permit = self.admission.permit(&mut state);
        drop(state);
        self.work(permit);
        Wake::Now
    }

    /// Works again without waiting, over the limit if necessary. Only a heavy session may be idle
    /// without a way to wait, so the excess is bounded by [`HEAVY_PER_PERMIT`].
    pub fn work_on(&mut self) {
        if self.permit.is_none() {
            let permit = self.admission.permit(&mut self.admission.lock());
            self.work(permit);
        }
    }

    /// Works again over the limit after a long wait. `false` when as many sessions as permits work
    /// over the limit, or may have to.
    pub fn insist(&mut self) -> bool {
        let mut state = self.admission.lock();
        let insists = self.permit.is_none() && state.has_spare(&self.admission.bounds, self.idle);
        let permit = insists.then(|| self.admission.permit(&mut state));
        drop(state);
        permit.map(|permit| self.work(permit)).is_some()
    }

    /// Works again, with the permit from [`Admitted::wake`].
    pub fn work(&mut self, permit: Permit) {
        self.permit = Some(permit);
        if let Some(holding) = self.idle.take() {
            let mut state = self.admission.lock();
            state.end_idle(holding);
            // Until here the session has counted twice.
            self.admission.hand_out(state);
        }
    }

    /// Whether the number of permits is limited.
    pub fn is_scarce(&self) -> bool {
        self.admission.bounds.places.is_some()
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        let mut state = self.admission.lock();
        if let Some(holding) = self.idle {
            state.end_idle(holding);
        }
        if let Some(subject) = self.checking {
            state.end_check(self.client, subject, self.permit.is_some());
        }
        if let Some(account) = state.accounts.get_mut(&self.client) {
            account.held -= 1;
        }
        state.close_if_empty(self.client);
        self.admission.hand_out(state);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.running -= 1;
        self.0.hand_out(state);
    }
}
