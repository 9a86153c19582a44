//! What each connection is doing, for the log line that reports a stuck runtime and for the
//! administrator's [`status`](crate::server::status).

use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter, Write as _};
use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;

use crate::net::peer::{Origin, Peer};
use crate::protocol::request::Request;
use crate::session::live::Live;

/// How many connections a report names; the others are counted.
const NAMED: usize = 8;

/// How many connections to list without giving the lock back.
const PORTION: usize = 128;

/// What a connection is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// gitd reads its request.
    Reading,
    /// Its request waits for a permit.
    Queued,
    /// Its request is checked, or its service is started.
    Checking,
    /// Its service runs; this is the process.
    Watching(u32),
    /// It is told why it is refused.
    Refusing,
}

impl Display for Stage {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Stage::Reading => f.write_str("reading its request"),
            Stage::Queued => f.write_str("queued"),
            Stage::Checking => f.write_str("checking its request"),
            Stage::Watching(pid) => write!(f, "watching its service {pid}"),
            Stage::Refusing => f.write_str("refusing it"),
        }
    }
}

/// All connections.
#[derive(Debug, Default)]
pub struct Activities {
    /// The number of the connection that the runtime polls now; 0 for none.
    current: AtomicU64,
    all: Mutex<All>,
}

#[derive(Debug, Default)]
struct All {
    last: u64,
    connections: BTreeMap<u64, Arc<Activity>>,
}

/// One connection.
#[derive(Debug)]
pub struct Activity {
    /// When it was accepted.
    pub accepted: Instant,
    request: OnceLock<Arc<Request>>,
    live: OnceLock<Arc<Live>>,
    state: Mutex<State>,
}

#[derive(Debug, Clone, Copy)]
struct State {
    origin: Origin,
    stage: Stage,
    since: Instant,
}

impl Activity {
    fn new(origin: Origin) -> Self {
        let now = Instant::now();
        Activity {
            accepted: now,
            state: Mutex::new(State { origin, stage: Stage::Reading, since: now }),
            request: OnceLock::new(),
            live: OnceLock::new(),
        }
    }

    /// Records the request.
    pub fn asks(&self, request: &Arc<Request>) {
        let _ = self.request.set(Arc::clone(request));
    }

    /// Records the start of the service. Returns where its session tells what it does.
    pub fn runs(&self, pid: u32) -> Arc<Live> {
        Arc::clone(self.live.get_or_init(|| Arc::new(Live::new(pid))))
    }

    /// The service has ended, and its bytes are in the connection's record.
    pub fn ended(&self) {
        if let Some(live) = self.live() {
            live.end();
        }
    }

    /// Where the connection comes from.
    pub fn origin(&self) -> Origin {
        self.lock().origin
    }

    /// What it does.
    pub fn stage(&self) -> Stage {
        self.lock().stage
    }

    /// The request, once it is there.
    pub fn request(&self) -> Option<&Request> {
        self.request.get().map(|request| &**request)
    }

    /// The session, once its service runs.
    pub fn live(&self) -> Option<&Live> {
        self.live.get().map(|live| &**live)
    }

    /// Records the start of a stage.
    pub fn enter(&self, stage: Stage) {
        let mut state = self.lock();
        (state.stage, state.since) = (stage, Instant::now());
    }

    /// Records where it comes from, as a load balancer says.
    pub fn comes_from(&self, origin: Origin) {
        self.lock().origin = origin;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Display for Activity {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let State { origin, stage, since } = *self.lock();
        write!(f, "client {}, {stage} for {} s", Peer::from(origin), since.elapsed().as_secs())
    }
}

impl Activities {
    /// Runs a connection's future, and records when it is polled and when it ends.
    pub async fn track<F: Future>(
        self: Arc<Self>,
        origin: Origin,
        serve: impl FnOnce(Arc<Activity>) -> F,
    ) -> F::Output {
        let activity = Arc::new(Activity::new(origin));
        let entry = Entry::new(self, Arc::clone(&activity));
        let mut serving = pin!(serve(activity));
        poll_fn(|context| {
            entry.activities.current.store(entry.number, Relaxed);
            let poll = serving.as_mut().poll(context);
            entry.activities.current.store(0, Relaxed);
            poll
        })
        .await
    }

    /// What the runtime polls now, and what all connections are doing: the oldest are named.
    pub fn report(&self) -> String {
        let all = self.lock();
        let current = all.connections.get(&self.current.load(Relaxed));
        let mut text = match current {
            Some(activity) => format!("it works for {activity}"),
            None => "it works for no client".to_owned(),
        };
        for activity in all.connections.values().take(NAMED) {
            // Writing to a string does not fail.
            let _ = write!(text, "; {activity}");
        }
        let more = all.connections.len().saturating_sub(NAMED);
        if more > 0 {
            let _ = write!(text, "; and {more} more clients");
        }
        text
    }

    /// At most `most` connections with their numbers, the oldest first. The lock is taken for a few
    /// of them at a time, so that the server never waits long for it.
    pub fn list(&self, most: usize) -> Vec<(u64, Arc<Activity>)> {
        let mut list: Vec<(u64, Arc<Activity>)> = Vec::new();
        loop {
            let next = list.last().map_or(0, |(number, _)| number + 1);
            let room = (most - list.len()).min(PORTION);
            let before = list.len();
            let all = self.lock();
            let portion = all.connections.range(next..).take(room);
            list.extend(portion.map(|(&number, activity)| (number, Arc::clone(activity))));
            drop(all);
            if list.len() == before {
                return list;
            }
        }
    }

    /// The number of connections.
    pub fn count(&self) -> usize {
        self.lock().connections.len()
    }

    fn lock(&self) -> MutexGuard<'_, All> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection's entry, removed on drop.
struct Entry {
    activities: Arc<Activities>,
    number: u64,
}

impl Entry {
    fn new(activities: Arc<Activities>, activity: Arc<Activity>) -> Self {
        let mut all = activities.lock();
        all.last += 1;
        let number = all.last;
        all.connections.insert(number, activity);
        drop(all);
        Entry { activities, number }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.activities.lock().connections.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_current_client_comes_first() {
        let activities = Arc::new(Activities::default());
        assert_eq!(activities.report(), "it works for no client");
        let origin = |port| Origin::Inet(([127, 0, 0, 1], port).into());
        let waiting: Vec<_> = (1..=9)
            .map(|port| {
                let mut client = Box::pin(Arc::clone(&activities).track(
                    origin(port),
                    move |activity| async move {
                        activity.enter(Stage::Watching(7));
                        // Behind a load balancer.
                        activity.comes_from(origin(port + 1000));
                        std::future::pending::<()>().await;
                    },
                ));
                let waker = std::task::Waker::noop();
                assert!(
                    client.as_mut().poll(&mut std::task::Context::from_waker(waker)).is_pending()
                );
                client
            })
            .collect();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let inner = Arc::clone(&activities);
        let report = runtime
            .block_on(Arc::clone(&activities).track(origin(99), |_| async move { inner.report() }));
        assert!(
            report.starts_with("it works for client 127.0.0.1:99, reading its request for 0 s; ")
        );
        assert!(report.contains("; client 127.0.0.1:1001, watching its service 7 for 0 s; "));
        assert!(report.ends_with("; and 2 more clients"), "{report}");
        let ports = |most| -> Vec<u64> {
            activities.list(most).into_iter().map(|(number, _)| number).collect()
        };
        assert!(ports(0).is_empty());
        assert_eq!(ports(3), [1, 2, 3]);
        assert_eq!(ports(1000), (1..=9).collect::<Vec<_>>());
        drop(waiting);
        assert_eq!(activities.report(), "it works for no client");
    }
}
