//! What serves the clients, and how much of the process they may use.

use std::io;
use std::num::NonZeroUsize;
use std::sync::Arc;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::runtime::Runtime;
use tokio::sync::watch;

use crate::config::Config;
use crate::git::starter::Starter;
use crate::limits::admission::{Admission, Bounds};
use crate::limits::descriptors::Descriptors;
use crate::limits::pending::{Bound, Pending};
use crate::limits::threads::{Threads, WhenBusy};
use crate::server::heartbeat::Heartbeat;
use crate::server::shared::{Phase, Shared};
use crate::server::status::Status;
use crate::sys::process::Spawner;
use crate::sys::signal::{self, Signals};

/// Spare threads, because a thread is free only a moment after it has sent its result.
const LATE_THREADS: usize = 16;

/// The most threads that look at services' processes. The kernel may block each of them.
const OBSERVERS: usize = 4;

/// Descriptors for `--status`: its connections, the runtime's, and files of `/proc`.
const FOR_STATUS: usize = 32;

/// What serves the clients. It is made once privileges are dropped, and before there is a second
/// thread.
#[derive(Debug)]
pub struct Prepared {
    /// What runs the connections.
    pub runtime: Runtime,
    /// Notices when the runtime stops.
    pub heartbeat: Arc<Heartbeat>,
    /// The signals that end the server.
    pub signals: Signals,
    /// How far the server is.
    pub phase: watch::Sender<Phase>,
    /// What connections share.
    pub shared: Arc<Shared>,
}

impl Prepared {
    /// Makes all of it.
    ///
    /// # Errors
    /// For lack of descriptors or memory.
    pub fn new(config: &Config, has_status: bool) -> io::Result<Self> {
        // It takes low descriptors, and notes the limit of open files for the services.
        let spawner = Spawner::shared()?;
        // A descriptor would report even those that the caller has had ignored.
        let mut ends = vec![libc::SIGTERM, libc::SIGINT];
        ends.retain(|&signal| !signal::is_ignored(signal));
        let signals = Signals::block(&ends)?;
        let starter =
            Starter::new(spawner, config.git.clone(), config.limits.timeout_in_seconds()).survey();
        let heartbeat = Arc::new(Heartbeat::default());
        let runtime = heartbeat.runtime()?;
        let (phase, observed) = watch::channel(Phase::Serving);
        let shared = Arc::new(share(config, starter, observed, has_status));
        Ok(Prepared { runtime, heartbeat, signals, phase, shared })
    }
}

fn share(
    config: &Config,
    starter: Starter,
    phase: watch::Receiver<Phase>,
    has_status: bool,
) -> Shared {
    let limits = config.limits.clone();
    let bounds = Bounds {
        places: limits.max_connections,
        per_address: limits.max_connections_per_address,
        room: limits.max_queue,
    };
    let limit = raise_descriptors();
    let open = open_descriptors() + if has_status { FOR_STATUS } else { 0 };
    let descriptors = Descriptors::new(limit, open, bounds.checks() + LATE_THREADS);
    let bound = pending_bound(limits.max_pending, &bounds, &descriptors, limit);
    Shared {
        policy: config.policy.clone(),
        starter,
        admission: Admission::new(bounds),
        descriptors,
        pending: Pending::new(bound),
        threads: Threads::new(bounds.checks() + LATE_THREADS, WhenBusy::Refuse),
        observers: Threads::new(OBSERVERS, WhenBusy::Wait),
        activities: Arc::default(),
        phase,
        status: has_status.then(Status::start),
        limits,
    }
}

/// Raises the limit of open files as far as allowed, for this process alone. Returns the limit.
fn raise_descriptors() -> usize {
    let now = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: now.maximum, ..now };
    let limit = setrlimit(Resource::Nofile, raised).map_or(now, |()| raised).current;
    limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX)
}

/// How many descriptors are open. If `/proc` cannot tell, more than gitd opens to start.
fn open_descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").map_or(64, Iterator::count)
}

/// How many clients without a request may be present, so that there are enough descriptors to serve
/// the others.
fn pending_bound(
    option: Option<NonZeroUsize>,
    bounds: &Bounds,
    descriptors: &Descriptors,
    limit: usize,
) -> Bound {
    let sessions = bounds.most().unwrap_or(usize::MAX);
    let queue = bounds.room.unwrap_or(usize::MAX);
    let beside = descriptors.connections_beside(sessions).saturating_sub(queue);
    let most = beside.max(descriptors.connections() / 2).max(1);
    match (option, NonZeroUsize::new(most).unwrap_or(NonZeroUsize::MIN)) {
        (Some(option), most) if option <= most => Bound::Option(option),
        (_, most) => Bound::Descriptors { most, limit },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lower_bound_is_in_force() {
        let bounds = Bounds { places: NonZeroUsize::new(2), per_address: None, room: Some(8) };
        let number = |n| NonZeroUsize::new(n).unwrap();
        let by_descriptors = |most, limit| Bound::Descriptors { most: number(most), limit };
        let cases = [
            (Some(number(10)), 1024, Bound::Option(number(10))),
            // 20 open and 16 spare, half of the rest for checks, 3 for each of 10 sessions, and the
            // queue.
            (Some(number(4096)), 1024, by_descriptors(1024 - 36 - 494 - 30 - 8, 1024)),
            (None, 1024, by_descriptors(1024 - 36 - 494 - 30 - 8, 1024)),
            (None, 100, by_descriptors(16, 100)),
            (None, 0, by_descriptors(10, 0)),
        ];
        for (option, limit, expected) in cases {
            let descriptors = Descriptors::new(limit, 20, 160);
            assert_eq!(
                pending_bound(option, &bounds, &descriptors, limit),
                expected,
                "{option:?} {limit}"
            );
        }
    }
}
