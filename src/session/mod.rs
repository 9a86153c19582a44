//! A running service and its client, until both have ended.

pub mod child;
pub mod first_byte;
pub mod live;
pub mod monitor;
pub mod rest;
pub mod stderr;
pub mod traffic;
mod watcher;
pub mod work;

use std::future::pending;
use std::io;
use std::os::fd::BorrowedFd;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use socket2::Socket;
use tokio::io::Interest;
use tokio::time::{sleep, sleep_until};

use crate::limits::admission::Admitted;
use crate::limits::threads::Threads;
use crate::log::event;
use crate::net::registered::Registered;
use crate::protocol::service::Service;
use crate::session::live::Live;
use crate::session::monitor::{Monitor, Watched};
use crate::session::rest::Exchange;
use crate::session::stderr::Stderr;
use crate::session::traffic::Traffic;
use crate::session::watcher::{Watcher, observed};
use crate::session::work::Work;
use crate::sys::child::{Child, End, Usage};
use crate::sys::errno_text;

/// How long to wait before a retry when the kernel has no memory for a registration.
const BACK_OFF: Duration = Duration::from_millis(100);

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
    /// Where to tell what the session does, if somebody wants to know.
    pub live: Option<Arc<Live>>,
}

/// How a session ended.
#[derive(Debug, Default)]
pub struct Outcome {
    /// How the service ended; `None` if its status is unknown.
    pub end: Option<End>,
    /// What the service has used, with the processes that it has waited for.
    pub usage: Option<Usage>,
    /// What the connection's watch has found.
    pub watched: Watched,
}

impl Outcome {
    /// Whether the service failed before it wrote anything, so that the client has got no answer.
    pub fn failed_silently(&self) -> bool {
        self.end.is_some_and(|end| !end.success())
            && self.watched.counters.is_some_and(|counters| !counters.answered())
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
        let Session { mut wire, process, service, mut stderr, .. } = self;
        let Session { corked, timeout, exchange, live, .. } = self;
        let pidfd =
            register_with_retry(|| Registered::new(process.pidfd()?, Interest::READABLE)).await;
        let client = wire.as_ref().map(|wire| Arc::clone(wire.get_ref()));
        let now = Instant::now();
        let traffic = Traffic::new(service, corked, timeout, exchange, now);
        let monitor = Monitor::new(client, process.pid, traffic, live, now);
        if monitor.next_look().is_none() {
            stderr.listen();
        }
        let work = Work::begin(&process, admitted);
        let mut watcher = Watcher::new(monitor, work, process.pid);
        let mut ending = pin!(ending);
        let mut told = false;
        let ended = loop {
            watcher.tell();
            tokio::select! {
                biased;
                () = reported(&pidfd) => {
                    match child::ended(&process, service, watcher.monitor.traffic.is_killed()) {
                        Ok(None) => {}
                        Ok(ended) => break ended,
                        Err(error) => {
                            event::service_lost(process.pid, &errno_text(&error));
                            break None;
                        }
                    }
                }
                closed = arrival(wire.as_ref()) => watcher.arrived(closed),
                permit = watcher.work.permitted() => watcher.permitted(permit),
                seen = observed(&mut watcher.observation) => watcher.observed(seen),
                () = until(watcher.monitor.next_look()) => watcher.look(&mut stderr),
                () = stderr.read() => {}
                () = &mut ending, if !told => {
                    told = true;
                    watcher.end();
                }
            }
            watcher.observe(observers);
            if watcher.monitor.traffic.wants_arrivals() != wire.is_some() {
                // Without memory for the registration the session goes on: slower, but correct.
                wire = if wire.is_none() { watcher.monitor.register() } else { None };
            }
        };
        let (end, usage) = ended.unzip();
        (Outcome { end, usage, watched: watcher.finish() }, stderr)
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
