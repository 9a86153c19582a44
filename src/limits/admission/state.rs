//! The state of [`Admission`](super::Admission), always accessed under its lock.

use std::collections::{HashMap, VecDeque};
use std::num::NonZeroUsize;

use tokio::sync::oneshot;

use super::{
    Admitted, Bounds, Checks, ClientAddress, HEAVY_PER_PERMIT, Holding, IDLE_PER_PERMIT, Permit,
    Subject,
};

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) running: usize,
    pub(super) idle: usize,
    /// Idle sessions that hold the memory of an answer.
    pub(super) heavy: usize,
    pub(super) waiting: usize,
    /// Idle sessions that have work again and wait for a permit, oldest first.
    pub(super) woken: VecDeque<Woken>,
    /// Whether the queue gets the next permit, if idle sessions wait for one too.
    pub(super) queue_is_next: bool,
    /// Addresses with waiting requests; the first is served next, and then goes to the end.
    pub(super) turn: VecDeque<ClientAddress>,
    pub(super) accounts: HashMap<ClientAddress, Account>,
    /// The requests in their checks.
    pub(super) checking: usize,
    /// The same by subject.
    pub(super) checks: HashMap<Subject, Checks>,
}

/// An idle session that has work again and waits for a permit.
#[derive(Debug)]
pub(super) struct Woken {
    /// What the session holds until it works.
    pub(super) holding: Option<Holding>,
    pub(super) sender: oneshot::Sender<Permit>,
}

/// One address. Removed when it has neither sessions nor requests.
#[derive(Debug, Default)]
pub(super) struct Account {
    /// Its sessions, including idle ones.
    pub(super) held: usize,
    /// Those of them that are in their checks.
    pub(super) checking: usize,
    /// Its waiting requests, oldest first.
    pub(super) queue: VecDeque<Waiting>,
}

#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) subject: Subject,
    pub(super) sender: oneshot::Sender<Admitted>,
}

impl State {
    pub(super) fn has_free(&self, bounds: &Bounds) -> bool {
        bounds.places.is_none_or(|places| self.running < places.get())
    }

    /// Whether one more request may be admitted, whoever asks.
    pub(super) fn has_room(&self, bounds: &Bounds) -> bool {
        self.checking < bounds.checks()
            && bounds.sessions.is_none_or(|most| self.running + self.idle < most)
    }

    pub(super) fn may_have_more(&self, bounds: &Bounds, client: ClientAddress) -> bool {
        let held = self.accounts.get(&client).map_or(0, |account| account.held);
        bounds.per_address.is_none_or(|most| held < most.get())
    }

    pub(super) fn may_check(
        &self,
        bounds: &Bounds,
        client: ClientAddress,
        subject: Subject,
    ) -> bool {
        let most = bounds.checks_of_one();
        let checking = self.accounts.get(&client).map_or(0, |account| account.checking);
        checking < most.all
            && self
                .checks
                .get(&subject)
                .is_none_or(|checks| checks.all < most.all && checks.working < most.working)
    }

    /// Whether one more session may be idle with `holding`, if `instead_of` stops being idle in
    /// exchange.
    pub(super) fn may_idle(
        &self,
        bounds: &Bounds,
        holding: Holding,
        instead_of: Option<&Woken>,
    ) -> bool {
        let most = |each| bounds.places.map_or(0, |places| places.get().saturating_mul(each));
        let unburdens = instead_of.is_some_and(|woken| woken.holding == Some(Holding::Heavy));
        (instead_of.is_some() || self.idle < most(IDLE_PER_PERMIT))
            && (holding == Holding::Light || unburdens || self.heavy < most(HEAVY_PER_PERMIT))
    }

    /// Whether an idle session with `own` may work over the limit, beside all others that may have
    /// to.
    pub(super) fn has_spare(&self, bounds: &Bounds, own: Option<Holding>) -> bool {
        let most = |places: NonZeroUsize| places.get().saturating_mul(1 + HEAVY_PER_PERMIT);
        let others = self.heavy - usize::from(own == Some(Holding::Heavy));
        bounds.places.is_none_or(|places| self.running + others < most(places))
    }

    /// The idle session that gets the next permit.
    pub(super) fn first_woken(&self) -> Option<&Woken> {
        self.woken.iter().find(|woken| !woken.sender.is_closed())
    }

    pub(super) fn next_woken(&mut self) -> Option<oneshot::Sender<Permit>> {
        while let Some(woken) = self.woken.pop_front() {
            if !woken.sender.is_closed() {
                return Some(woken.sender);
            }
        }
        None
    }

    /// Drops what no longer waits, once there is more of it than there are idle sessions.
    pub(super) fn forget_woken(&mut self) {
        if self.woken.len() > self.idle {
            self.woken.retain(|woken| !woken.sender.is_closed());
        }
    }

    pub(super) fn begin_idle(&mut self, holding: Holding) {
        self.idle += 1;
        self.heavy += usize::from(holding == Holding::Heavy);
    }

    pub(super) fn end_idle(&mut self, holding: Holding) {
        self.idle -= 1;
        self.heavy -= usize::from(holding == Holding::Heavy);
    }

    pub(super) fn check_idles(&mut self, subject: Subject) {
        if let Some(checks) = self.checks.get_mut(&subject) {
            checks.working -= 1;
        }
    }

    pub(super) fn end_check(&mut self, client: ClientAddress, subject: Subject, working: bool) {
        self.checking -= 1;
        if let Some(account) = self.accounts.get_mut(&client) {
            account.checking -= 1;
        }
        if let Some(checks) = self.checks.get_mut(&subject) {
            checks.all -= 1;
            checks.working -= usize::from(working);
            if checks.all == 0 {
                self.checks.remove(&subject);
            }
        }
    }

    pub(super) fn enqueue(&mut self, client: ClientAddress, waiting: Waiting) {
        let queue = &mut self.accounts.entry(client).or_default().queue;
        if queue.is_empty() {
            self.turn.push_back(client);
        }
        queue.push_back(waiting);
        self.waiting += 1;
    }

    /// The next request that may have a permit: its index in `turn` and in its address's queue.
    pub(super) fn next(&self, bounds: &Bounds) -> Option<(usize, usize)> {
        self.turn.iter().enumerate().find_map(|(turn, &client)| {
            let queue = &self.accounts.get(&client)?.queue;
            let may = |waiting: &Waiting| {
                !waiting.sender.is_closed() && self.may_check(bounds, client, waiting.subject)
            };
            let index = queue.iter().position(may)?;
            self.may_have_more(bounds, client).then_some((turn, index))
        })
    }

    pub(super) fn dequeue(&mut self, bounds: &Bounds) -> Option<(ClientAddress, Waiting)> {
        if !self.has_room(bounds) {
            return None;
        }
        let (turn, index) = self.next(bounds)?;
        let client = self.turn.remove(turn)?;
        let queue = &mut self.accounts.get_mut(&client)?.queue;
        let waiting = queue.remove(index)?;
        if !queue.is_empty() {
            self.turn.push_back(client);
        }
        self.waiting -= 1;
        Some((client, waiting))
    }

    /// Drops requests whose clients have left.
    pub(super) fn forget_closed(&mut self) {
        self.accounts.retain(|_, account| {
            account.queue.retain(|waiting| !waiting.sender.is_closed());
            account.held > 0 || !account.queue.is_empty()
        });
        let accounts = &self.accounts;
        self.turn.retain(|client| accounts.get(client).is_some_and(|a| !a.queue.is_empty()));
        self.waiting = self.accounts.values().map(|account| account.queue.len()).sum();
    }

    /// Makes room for `client` by dropping the latest request of the address with the most, if that
    /// is another address that keeps at least as many.
    pub(super) fn drop_latest_for(&mut self, client: ClientAddress) -> bool {
        let own = self.accounts.get(&client).map_or(0, |account| account.queue.len());
        let greedy = self.accounts.iter_mut().max_by_key(|(_, account)| account.queue.len());
        let Some((_, account)) = greedy.filter(|(_, account)| account.queue.len() > own + 1) else {
            return false;
        };
        account.queue.pop_back();
        self.waiting -= 1;
        true
    }

    pub(super) fn close_if_empty(&mut self, client: ClientAddress) {
        if self.accounts.get(&client).is_some_and(|a| a.held == 0 && a.queue.is_empty()) {
            self.accounts.remove(&client);
        }
    }
}
