//! The descriptors of this process, counted before they are opened.
//!
//! A shortage of descriptors may look like an answer: if the C library cannot open its files, it
//! says that a host has no name and that a user does not exist, and the request would be decided
//! on that. So a check begins only when all descriptors that it may need are free. What a client
//! can cause to be opened is counted here; what gitd opens otherwise is bounded, and set aside.

use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// Descriptors of a session beside its connection: standard error and the process.
const SESSION: usize = 2;

/// The most descriptors of a check and of the start of a service: a repository, what it points to,
/// pipes, and what the C library opens to resolve a host or to look a user up.
const CHECK: usize = 20;

/// Descriptors that gitd may open beside those for clients, for instance to look at processes.
const SPARE: usize = 16;

/// The descriptors for clients.
#[derive(Debug)]
pub struct Descriptors {
    /// All of them.
    all: usize,
    /// How many of them connections and sessions leave to checks.
    for_checks: usize,
    used: Mutex<Used>,
    /// Tells one waiting check that some were given back.
    given_back: Notify,
}

/// For how many of each there are descriptors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shares {
    /// Requests in their checks.
    pub checks: usize,
    /// Sessions, including those in their checks.
    pub sessions: usize,
    /// Requests in the queue.
    pub queue: usize,
    /// Clients without a request.
    pub pending: usize,
}

#[derive(Debug, Default)]
struct Used {
    connections: usize,
    checks: usize,
}

/// A connection's descriptors, and later its session's. Given back on drop.
#[derive(Debug)]
pub struct OfConnection {
    descriptors: Arc<Descriptors>,
    count: usize,
}

/// The descriptors of a check. Given back on drop.
#[derive(Debug)]
pub struct OfCheck(Arc<Descriptors>);

impl Descriptors {
    /// What remains for clients under a `limit` of open files when so many are `open` already, and
    /// at most so many `checks` are made at a time. It is enough for one check and one connection
    /// in any case.
    pub fn new(limit: usize, open: usize, checks: usize) -> Arc<Self> {
        let all = limit.saturating_sub(open.saturating_add(SPARE)).max(2 * CHECK);
        let for_checks = checks.saturating_mul(CHECK).clamp(CHECK, all / 2);
        Arc::new(Descriptors { all, for_checks, used: Mutex::default(), given_back: Notify::new() })
    }

    /// The most connections.
    pub fn connections(&self) -> usize {
        self.all - self.for_checks
    }

    /// Divides them, if at most so many sessions and so many requests in the queue are wanted.
    /// Sessions leave a third of what checks leave to clients that wait: if sessions took all, no
    /// client would be accepted, and none would hear why.
    pub fn divide(&self, sessions: usize, queue: usize) -> Shares {
        let connections = self.connections();
        let most = (connections - connections / 3) / (1 + SESSION);
        let sessions = sessions.min(most.max(1));
        let waiting = connections.saturating_sub(sessions * (1 + SESSION));
        let queue = queue.min(waiting / 2);
        Shares {
            checks: self.for_checks / CHECK,
            sessions,
            queue,
            pending: (waiting - queue).max(1),
        }
    }

    /// One for a connection that is about to be accepted; `None` if there is none left.
    pub fn connection(self: &Arc<Self>) -> Option<OfConnection> {
        let mut used = self.lock();
        let free =
            used.connections < self.connections() && used.checks + used.connections < self.all;
        free.then(|| {
            used.connections += 1;
            OfConnection { descriptors: Arc::clone(self), count: 1 }
        })
    }

    /// Those for a check. Waits until there are enough.
    pub async fn check(self: &Arc<Self>) -> OfCheck {
        loop {
            let mut given_back = pin!(self.given_back.notified());
            // From here on nothing is missed.
            given_back.as_mut().enable();
            if let Some(descriptors) = self.try_check() {
                return descriptors;
            }
            given_back.await;
        }
    }

    fn try_check(self: &Arc<Self>) -> Option<OfCheck> {
        let mut used = self.lock();
        let free = used.connections + used.checks + CHECK <= self.all;
        free.then(|| {
            used.checks += CHECK;
            OfCheck(Arc::clone(self))
        })
    }

    /// Whether connections and sessions leave too few for a check.
    pub fn lack_for_a_check(&self) -> bool {
        self.lock().connections + CHECK > self.all
    }

    fn lock(&self) -> MutexGuard<'_, Used> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl OfConnection {
    /// The service runs: what is left of its check's descriptors is the session's.
    pub fn start(&mut self, check: OfCheck) {
        self.descriptors.lock().connections += SESSION;
        self.count += SESSION;
        drop(check);
    }
}

impl Drop for OfConnection {
    fn drop(&mut self) {
        self.descriptors.lock().connections -= self.count;
        self.descriptors.given_back.notify_one();
    }
}

impl Drop for OfCheck {
    fn drop(&mut self) {
        self.0.lock().checks -= CHECK;
        self.0.given_back.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Waker};

    use super::*;

    /// Everything that fits at a time, taken in turn.
    fn fill(descriptors: &Arc<Descriptors>) -> (Vec<OfConnection>, Vec<OfCheck>) {
        let (mut connections, mut checks) = (Vec::new(), Vec::new());
        loop {
            let (connection, check) = (descriptors.connection(), descriptors.try_check());
            if connection.is_none() && check.is_none() {
                return (connections, checks);
            }
            connections.extend(connection);
            checks.extend(check);
        }
    }

    #[test]
    fn never_more_than_there_are() {
        for limit in [0, 20, 60, 61, 100, 128, 1024, usize::MAX] {
            let descriptors = Descriptors::new(limit, 20, 160);
            if limit == usize::MAX {
                assert_eq!(descriptors.for_checks, 160 * CHECK);
                continue;
            }
            let (connections, checks) = fill(&descriptors);
            let used = connections.len() + CHECK * checks.len();
            assert!(used <= descriptors.all && used + CHECK > descriptors.all, "{limit}: {used}");
            assert!(
                limit < 20 + SPARE + 2 * CHECK || used + 20 + SPARE <= limit,
                "{limit}: {used}"
            );
            drop((connections, checks));
            assert!(descriptors.try_check().is_some());
        }
    }

    #[test]
    fn connections_leave_some_to_checks() {
        let descriptors = Descriptors::new(128, 20, 160);
        let connections: Vec<_> = std::iter::from_fn(|| descriptors.connection()).collect();
        assert_eq!(connections.len(), descriptors.connections());
        let checks: Vec<_> = std::iter::from_fn(|| descriptors.try_check()).collect();
        assert_eq!(checks.len(), 2);
    }

    /// However few there are, each kind of client gets some, and all of them fit.
    #[test]
    fn shares_fit() {
        for limit in [0, 60, 100, 128, 256, 1024, 4096, 524_288] {
            let descriptors = Descriptors::new(limit, 20, 176);
            let shares = descriptors.divide(160, 256);
            let Shares { checks, sessions, queue, pending } = shares;
            assert!(
                checks >= 1 && sessions >= 1 && queue >= 1 && pending >= 1,
                "{limit} {shares:?}"
            );
            let used = checks * CHECK + sessions * (1 + SESSION) + queue + pending;
            assert!(used <= descriptors.all, "{limit} {shares:?}");
            let enough = (sessions, queue) == (160, 256);
            assert_eq!(enough, limit >= 4096, "{limit} {shares:?}");
        }
    }

    #[test]
    fn a_session_keeps_some_of_its_check() {
        let descriptors = Descriptors::new(1000, 0, 1);
        let mut connection = descriptors.connection().unwrap();
        connection.start(descriptors.try_check().unwrap());
        let used = |descriptors: &Descriptors| {
            let used = descriptors.lock();
            (used.connections, used.checks)
        };
        assert_eq!(used(&descriptors), (1 + SESSION, 0));
        drop(connection);
        assert_eq!(used(&descriptors), (0, 0));
    }

    #[test]
    fn a_check_waits_for_its_descriptors() {
        let descriptors = Descriptors::new(0, 0, 1);
        let mut context = Context::from_waker(Waker::noop());
        let first = descriptors.try_check().unwrap();
        let second = descriptors.try_check().unwrap();
        let mut third = pin!(descriptors.check());
        assert!(third.as_mut().poll(&mut context).is_pending());
        drop(first);
        assert!(third.as_mut().poll(&mut context).is_ready());
        drop(second);
    }
}
