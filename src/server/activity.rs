//! What each connection is doing, for the log line that reports a stuck runtime.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter, Write as _};
use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::net::peer::{Origin, Peer};

/// How many connections a report names; the others are counted.
const NAMED: usize = 8;

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
    origin: Origin,
    state: Mutex<(Stage, Instant)>,
}

impl Activity {
    /// Records the start of a stage.
    pub fn enter(&self, stage: Stage) {
        *self.lock() = (stage, Instant::now());
    }

    fn lock(&self) -> MutexGuard<'_, (Stage, Instant)> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Display for Activity {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let (stage, since) = *self.lock();
        write!(f, "client {}, {stage} for {} s", Peer::from(self.origin), since.elapsed().as_secs())
    }
}

impl Activities {
    /// Runs a connection's future, and records when it is polled and when it ends.
    pub async fn track<F: Future>(
        self: Arc<Self>,
        origin: Origin,
        serve: impl FnOnce(Arc<Activity>) -> F,
    ) -> F::Output {
        let activity =
            Arc::new(Activity { origin, state: Mutex::new((Stage::Reading, Instant::now())) });
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
                let mut client =
                    Box::pin(Arc::clone(&activities).track(origin(port), |activity| async move {
                        activity.enter(Stage::Watching(7));
                        std::future::pending::<()>().await;
                    }));
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
        assert!(report.contains("; client 127.0.0.1:1, watching its service 7 for 0 s; "));
        assert!(report.ends_with("; and 2 more clients"), "{report}");
        drop(waiting);
        assert_eq!(activities.report(), "it works for no client");
    }
}
