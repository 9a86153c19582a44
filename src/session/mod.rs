//! A running service and its client, until both have ended.

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

/// How long to wait before a retry when the kernel has no memory for a registration.
const BACK_OFF: Duration = Duration::from_millis(100);

/// How long a look at a service's processes may take before the service counts as working. The
/// kernel blocks reads of `/proc/PID/syscall` while the process executes a program, for as long as
/// the program's file system takes.
const HANGING: Duration = Duration::from_secs(1);

/// A client's socket, registered with the runtime. The service shares the socket.
pub type ClientSocket = Registered<Arc<Socket>>;

/// Registers a client's socket, which can be registered only once at a time. Registers both
/// directions: epoll drops a read event if the service has already read the data.
///
/// # Errors
/// Those of `epoll_ctl(2)`, for lack of memory.
pub fn register(client: &Arc<Socket>) -> io::Result<ClientSocket> {
    Registered::new(Arc::clone(client), Interest::READABLE | Interest::WRITABLE)
}

/// Retries `register` until the kernel has the memory for it.
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

/// What a session starts with.
#[derive(Debug)]
pub struct Session {
    /// The client's connection; `None` if it is no socket, or cannot be watched.
    pub wire: Option<ClientSocket>,
    /// The service's process.
    pub process: Child,
    /// The service.
    pub service: Service,
    /// Its standard error.
    pub stderr: Stderr,
    /// Whether the first segments are held back (corked).
    pub corked: bool,
    /// How long nothing may move.
    pub timeout: Option<Duration>,
    /// What the client has sent so far.
    pub exchange: Exchange,
}

/// How a session ended.
#[derive(Debug)]
pub struct Outcome {
    /// How the service ended; `None` if its status is unknown.
    pub end: Option<End>,
    /// The counters at the end, with the highest number of paths.
    pub counters: Option<Counters>,
}

impl Outcome {
    /// Whether the service failed before it wrote anything, so that the client has got no answer.
    pub fn failed_silently(&self) -> bool {
        self.end.is_some_and(|end| !end.success())
            && self.counters.is_some_and(|counters| !counters.answered())
    }
}

impl Session {
    /// Watches until the service has ended, then releases the connection. The service's last output
    /// may still be in the standard error pipe then. The permit of `admitted` is given back while
    /// the service waits for its client, and a service that has work but no permit is stopped until
    /// it gets one. `observers` are the threads that look at its processes. Once the server is
    /// `ending`, the service is ended too.
    pub async fn watch(
        self,
        admitted: &mut Admitted,
        observers: &Threads,
        ending: impl Future<Output = ()>,
    ) -> (Outcome, Stderr) {
        let Session { mut wire, process, service, mut stderr, corked, timeout, exchange } = self;
        let pid = process.pid;
        let ended =
            register_with_retry(|| Registered::new(process.pidfd()?, Interest::READABLE)).await;
        let client = wire.as_ref().map(|wire| Arc::clone(wire.get_ref()));
        let traffic = Traffic::new(service, corked, timeout, exchange, Instant::now());
        let mut monitor = Monitor::new(client, pid, traffic);
        if monitor.next_look().is_none() {
            stderr.listen();
        }
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
                () = until(monitor.next_look()) => {
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
                    // If it is unknown, bytes have moved: another process has continued the service.
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
                // Without memory for the registration the session goes on: slower, but correct.
                wire = if wire.is_none() { monitor.register() } else { None };
            }
        };
        work.ended();
        (Outcome { end, counters: monitor.finish() }, stderr)
    }
}

/// A service needs a permit while it works, and none while it waits for its client.
fn follow(work: &mut Work<'_>, traffic: &Traffic) {
    match traffic.activity(Instant::now()) {
        Activity::Works => drop(work.claim()),
        Activity::Waits { reads, light: true } => work.rest(Holding::Light, reads),
        Activity::Waits { reads, light: false } => work.rest(Holding::Heavy, reads),
        Activity::Unknown => {}
    }
}

/// Waits until the socket reports an event; without a registration, for ever. `true` when a
/// direction has ended: no further event comes then, so this must not be called again.
async fn arrival(wire: Option<&ClientSocket>) -> bool {
    let Some(wire) = wire else { return pending().await };
    match wire.report(Interest::READABLE | Interest::WRITABLE).await {
        Ok(report) => report.closed(),
        // The runtime shuts down, and this session with it.
        Err(_) => pending().await,
    }
}

/// Waits for the result of a look at the service's processes, if one is under way.
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
