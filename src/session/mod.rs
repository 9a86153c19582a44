//! A running service and its client, until both are gone.

pub mod child;
pub mod monitor;
pub mod rest;
pub mod stderr;
pub mod summary;
pub mod traffic;
pub mod work;

use std::future::pending;
use std::io;
use std::os::fd::BorrowedFd;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use socket2::Socket;
use tokio::io::Interest;
use tokio::sync::oneshot;
use tokio::time::{sleep, sleep_until};

use crate::limits::admission::{Admitted, Holding};
use crate::limits::threads::Threads;
use crate::log::event;
use crate::net::registered::Registered;
use crate::net::watch::Counters;
use crate::protocol::service::Service;
use crate::session::monitor::Monitor;
use crate::session::rest::{Activity, Exchange, Observation};
use crate::session::stderr::Stderr;
use crate::session::traffic::Traffic;
use crate::session::work::Work;
use crate::sys::child::{Child, End};
use crate::sys::errno_text;

/// How long to wait before asking again a kernel that had no memory for a registration.
const BACK_OFF: Duration = Duration::from_millis(100);

/// How long a look at a service's processes may take before it counts as at work. The kernel lets nobody
/// look at a process that executes a program, for as long as the program's file system takes.
const HANGING: Duration = Duration::from_secs(1);

/// A client's socket, registered with the runtime; the service shares the same socket.
pub type ClientSocket = Registered<Arc<Socket>>;

/// Registers a client's socket, which can be done once at a time. Both directions: when the service has
/// already taken what arrived, epoll would drop an event for reading alone.
///
/// # Errors
/// Those of `epoll_ctl(2)`, for lack of memory.
pub fn register(client: &Arc<Socket>) -> io::Result<ClientSocket> {
    Registered::new(Arc::clone(client), Interest::READABLE | Interest::WRITABLE)
}

/// Registers as soon as the kernel has the memory for it.
pub async fn register_with_retry<T>(register: impl Fn() -> io::Result<T>) -> T {
    let mut told = false;
    loop {
        match register() {
            Ok(registered) => return registered,
            Err(error) => {
                if !std::mem::replace(&mut told, true) {
                    event::unwatched(&errno_text(&error));
                }
                sleep(BACK_OFF).await;
            }
        }
    }
}

/// What a session starts from.
#[derive(Debug)]
pub struct Session {
    /// The client's connection.
    pub wire: ClientSocket,
    /// The service's process.
    pub process: Child,
    /// Which service it is.
    pub service: Service,
    /// Its standard error.
    pub stderr: Stderr,
    /// Whether the first segments are held back.
    pub corked: bool,
    /// How long it may stand still.
    pub timeout: Option<Duration>,
    /// What the client has said so far.
    pub exchange: Exchange,
}

/// How a session ended.
#[derive(Debug)]
pub struct Outcome {
    /// How the service ended; `None` if gitd lost track of it.
    pub end: Option<End>,
    /// What had crossed the connection then, and the most paths that it ever had.
    pub counters: Option<Counters>,
}

impl Outcome {
    /// Whether the service failed before it said anything: the client would hear nothing at all.
    pub fn failed_silently(&self) -> bool {
        self.end.is_some_and(|end| !end.success())
            && self.counters.is_some_and(|counters| !counters.answered())
    }
}

impl Session {
    /// Watches until the service has ended, and lets go of the connection. The last words are still in
    /// the pipe then. The permit of `admitted` is given back for as long as the service has nothing to do, and
    /// a service that works without a permit is stopped until there is one. `observers` are the threads that
    /// look at its processes. Once the server is `ending`, the service must end too.
    pub async fn watch(
        self,
        admitted: &mut Admitted,
        observers: &Threads,
        ending: impl Future<Output = ()>,
    ) -> (Outcome, Stderr) {
        let Session { wire, process, service, mut stderr, corked, timeout, exchange } = self;
        let pid = process.pid;
        let ended =
            register_with_retry(|| Registered::new(process.pidfd()?, Interest::READABLE)).await;
        let client = Arc::clone(wire.get_ref());
        let traffic = Traffic::new(service, corked, timeout, exchange, Instant::now());
        let mut monitor = Monitor::new(Arc::clone(&client), pid, traffic);
        let mut wire = Some(wire);
        let mut work = Work::begin(&process, admitted);
        let mut observation = None;
        let mut ending = pin!(ending);
        let mut told = false;
        let mut was_stopped = work.is_stopped();
        let mut unverified = false;
        let end = loop {
            let mut wanted = false;
            tokio::select! {
                biased;
                () = reported(&ended) => {
                    match child::ended(&process, service, monitor.traffic.is_killed()) {
                        Ok(None) => {}
                        Ok(end) => break end,
                        Err(error) => {
                            event::service_lost(pid, &errno_text(&error));
                            break None;
                        }
                    }
                }
                closed = arrival(wire.as_ref()) => {
                    monitor.arrived(Instant::now(), closed);
                    if work.is_stopped() && monitor.has_input() && work.claim() {
                        monitor.traffic.go_on(Instant::now());
                    }
                }
                permit = work.permitted() => {
                    work.go_on(permit);
                    monitor.traffic.go_on(Instant::now());
                }
                seen = observed(&mut observation) => {
                    monitor.traffic.observed(Instant::now(), seen);
                    if work.is_stopped() && !seen.reads {
                        work.undo_stop();
                    } else {
                        follow(&mut work, &monitor.traffic);
                    }
                }
                () = until(monitor.traffic.next_look()) => {
                    let now = Instant::now();
                    if work.is_held() {
                        if work.insist(now) {
                            monitor.traffic.go_on(now);
                        } else {
                            monitor.traffic.postpone(now);
                        }
                        continue;
                    }
                    match monitor.look(now) {
                        None => stderr.listen(),
                        Some(signal) => work.end(signal),
                    }
                    if observation.as_ref().is_some_and(|(since, _)| now - *since >= HANGING) {
                        monitor.traffic.observed(now, Observation::WORKS);
                        work.undo_stop();
                    }
                    let stopped = work.is_stopped();
                    // Something moves: it has been continued, be it by somebody else.
                    let unknown = monitor.traffic.activity(now) == Activity::Unknown;
                    if stopped && (unknown || monitor.has_input()) && work.claim() {
                        monitor.traffic.go_on(now);
                    }
                    follow(&mut work, &monitor.traffic);
                    let scarce = work.is_scarce() && !stopped;
                    wanted = monitor.traffic.wants_observation(now, scarce);
                }
                () = stderr.read() => {}
                () = &mut ending, if !told => {
                    told = true;
                    monitor.shut_down(Instant::now());
                    work.end(libc::SIGHUP);
                }
            }
            // Between the look and the stop the service may have left its read. So another look follows each stop.
            unverified = work.is_stopped() && (unverified || !was_stopped);
            was_stopped = work.is_stopped();
            if (wanted || unverified) && observation.is_none() {
                let observe = if unverified { rest::observe_stopped } else { rest::observe };
                let observed = observers.run(move || observe(pid)).ok();
                observation = observed.map(|receiver| (Instant::now(), receiver));
                unverified &= observation.is_none();
            }
            if monitor.traffic.wants_arrivals() != wire.is_some() {
                // For lack of memory the session goes on without: slower, not broken.
                wire = if wire.is_none() { register(&client).ok() } else { None };
            }
        };
        work.ended();
        (Outcome { end, counters: monitor.finish() }, stderr)
    }
}

/// A service that waits for its client needs no permit; one that works does.
fn follow(work: &mut Work<'_>, traffic: &Traffic) {
    match traffic.activity(Instant::now()) {
        Activity::Works => drop(work.claim()),
        Activity::Waits { reads, light: true } => work.rest(Holding::Light, reads),
        Activity::Waits { reads, light: false } => work.rest(Holding::Heavy, reads),
        Activity::Unknown => {}
    }
}

/// Waits until something has arrived or left; for ever without a registration. `true` when a direction has
/// ended: then nothing else is ever heard of it, and it must not be asked again.
async fn arrival(wire: Option<&ClientSocket>) -> bool {
    let Some(wire) = wire else { return pending().await };
    match wire.report(Interest::READABLE | Interest::WRITABLE).await {
        Ok(report) => report.closed(),
        // The runtime is going away, and this session with it.
        Err(_) => pending().await,
    }
}

/// Waits for a look at the service's processes that is under way, if there is one.
async fn observed(
    observation: &mut Option<(Instant, oneshot::Receiver<Observation>)>,
) -> Observation {
    let Some((_, receiver)) = observation else { return pending().await };
    let seen = receiver.await;
    *observation = None;
    // A look that failed has seen nothing.
    seen.unwrap_or(Observation::WORKS)
}

async fn reported(pidfd: &Registered<BorrowedFd<'_>>) {
    if pidfd.report(Interest::READABLE).await.is_err() {
        // As in `arrival`.
        pending().await
    }
}

async fn until(instant: Option<Instant>) {
    match instant {
        Some(instant) => sleep_until(instant.into()).await,
        None => pending().await,
    }
}
