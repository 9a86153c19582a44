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
    /// What the administrator should know of the limit of open files.
    pub warning: Option<String>,
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
        let (shared, warning) = share(config, starter, observed, has_status);
        Ok(Prepared { runtime, heartbeat, signals, phase, shared: Arc::new(shared), warning })
    }
}

fn share(
    config: &Config,
    starter: Starter,
    phase: watch::Receiver<Phase>,
    has_status: bool,
) -> (Shared, Option<String>) {
    let limits = config.limits.clone();
    let mut bounds = Bounds {
        places: limits.max_connections,
        per_address: limits.max_connections_per_address,
        room: limits.max_queue,
        ..Bounds::default()
    };
    let limit = raise_descriptors();
    let open = open_descriptors() + if has_status { FOR_STATUS } else { 0 };
    let descriptors = Descriptors::new(limit, open, bounds.checks() + LATE_THREADS);
    let pending = divide(&mut bounds, &descriptors);
    let bound = pending_bound(limits.max_pending, pending, limit);
    let warning = too_few(&bounds, limit);
    let shared = Shared {
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
    };
    (shared, warning)
}

/// Whether the `limit` of open files lets fewer services run than there are permits.
fn too_few(bounds: &Bounds, limit: usize) -> Option<String> {
    let (sessions, places) = (bounds.sessions?, bounds.places?.get());
    (sessions < places).then(|| {
        format!(
            "the limit of {limit} open files suffices for {sessions} sessions, fewer than \
             --max-connections={places}; raise it (ulimit -Hn)"
        )
    })
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

/// Lowers the bounds to what there are descriptors for. Returns how many clients without a request
/// may be present beside.
fn divide(bounds: &mut Bounds, descriptors: &Descriptors) -> usize {
    let sessions = bounds.most().unwrap_or(usize::MAX);
    let shares = descriptors.divide(sessions, bounds.room.unwrap_or(usize::MAX));
    bounds.sessions = Some(shares.sessions);
    bounds.checks = Some(shares.checks);
    bounds.room = Some(shares.queue);
    shares.pending
}

fn pending_bound(option: Option<NonZeroUsize>, most: usize, limit: usize) -> Bound {
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
        let number = |n| NonZeroUsize::new(n).unwrap();
        let by_descriptors = |most| Bound::Descriptors { most: number(most), limit: 99 };
        let cases = [
            (Some(number(10)), 456, Bound::Option(number(10))),
            (Some(number(4096)), 456, by_descriptors(456)),
            (None, 456, by_descriptors(456)),
        ];
        for (option, most, expected) in cases {
            assert_eq!(pending_bound(option, most, 99), expected, "{option:?} {most}");
        }
    }
}
