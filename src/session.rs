//! A running service and its client, until both are gone.

use std::future::pending;
use std::io;
use std::os::fd::BorrowedFd;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use socket2::Socket;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::{sleep, sleep_until};

use crate::admission::{Burden, Place};
use crate::child;
use crate::event;
use crate::rest::Exchange;
use crate::service::Service;
use crate::stderr::Stderr;
use crate::sys::errno_text;
use crate::sys::process::{Child, End};
use crate::sys::readiness::wait_for;
use crate::traffic::{Fate, Traffic};
use crate::watch::Counters;

/// How long to wait before asking again a kernel that had no memory for a registration.
const BACK_OFF: Duration = Duration::from_millis(100);

/// A client's socket, registered with the runtime; the service shares the same socket.
pub type Wire = AsyncFd<Arc<Socket>>;

/// Registers a client's socket, which can be done once at a time. Both directions: when the service has
/// already taken what arrived, epoll would drop an event for reading alone.
///
/// # Errors
/// Those of `epoll_ctl(2)`, for lack of memory.
pub fn register(client: &Arc<Socket>) -> io::Result<Wire> {
    wait_for(Arc::clone(client), Interest::READABLE | Interest::WRITABLE)
}

/// Registers as soon as the kernel has the memory for it.
pub async fn patiently<T>(register: impl Fn() -> io::Result<T>) -> T {
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
    pub wire: Wire,
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
    #[must_use]
    pub fn stillborn(&self) -> bool {
        self.end.is_some_and(|end| !end.success())
            && self.counters.is_some_and(|counters| !counters.answered())
    }
}

impl Session {
    /// Watches until the service has ended, and lets go of the connection. The last words are still in
    /// the pipe then. Meanwhile `place` is lent to others when the service has nothing to do. Once the
    /// server is `ending`, the service must end too.
    pub async fn watch(
        self,
        place: &mut Place,
        ending: impl Future<Output = ()>,
    ) -> (Outcome, Stderr) {
        let Session { wire, process, service, mut stderr, corked, timeout, exchange } = self;
        let ended = patiently(|| wait_for(process.pidfd(), Interest::READABLE)).await;
        let client = Arc::clone(wire.get_ref());
        let mut traffic =
            Traffic::new(Arc::clone(&client), process.pid, service, corked, timeout, exchange);
        let mut wire = Some(wire);
        let mut ending = pin!(ending);
        let mut told = false;
        let end = loop {
            tokio::select! {
                biased;
                () = readable(&ended) => {
                    match child::ended(&process, service) {
                        Ok(None) => {}
                        Ok(end) => break end,
                        Err(error) => {
                            event::service_lost(process.pid, &errno_text(&error));
                            break None;
                        }
                    }
                }
                hung_up = arrival(wire.as_ref()) => traffic.arrived(hung_up),
                () = until(traffic.next_look()) => match traffic.look(Instant::now()) {
                    Fate::Open => {
                        stderr.listen();
                        lend(place, &traffic);
                    }
                    // It may have ended on its own by now.
                    Fate::Sealed(signal) => drop(process.signal(signal)),
                },
                () = stderr.read() => {}
                () = &mut ending, if !told => {
                    told = true;
                    traffic.seal(Instant::now());
                    let _ = process.signal(libc::SIGHUP);
                }
            }
            if traffic.wants_arrivals() != wire.is_some() {
                // For lack of memory the session goes on without: slower, not broken.
                wire = if wire.is_none() { register(&client).ok() } else { None };
            }
        };
        (Outcome { end, counters: traffic.finish() }, stderr)
    }
}

/// A service that waits for its client needs no place; once it is seen to work it counts again.
fn lend(place: &mut Place, traffic: &Traffic) {
    if !place.is_scarce() || !traffic.waits_for_client() {
        return place.resume();
    }
    let light = traffic.has_answered() && traffic.holds_little();
    place.rest(if light { Burden::Light } else { Burden::Laden });
}

/// Waits until something has arrived or left; for ever without a registration. `true` when the client
/// has closed its side.
async fn arrival(wire: Option<&Wire>) -> bool {
    let Some(wire) = wire else { return pending().await };
    match wire.ready(Interest::READABLE | Interest::WRITABLE).await {
        Ok(mut event) => {
            let hung_up = event.ready().is_read_closed();
            event.clear_ready();
            hung_up
        }
        // The runtime is going away, and this session with it.
        Err(_) => pending().await,
    }
}

/// Waits until the connection is closed in both directions: nobody can be answered any more. A client that
/// has only closed its own side still listens.
pub async fn broken(wire: &Wire) {
    loop {
        match wire.ready(Interest::WRITABLE).await {
            Ok(event) if event.ready().is_write_closed() => return,
            Ok(mut event) => event.clear_ready(),
            // As in `arrival`.
            Err(_) => return pending().await,
        }
    }
}

async fn readable(pidfd: &AsyncFd<BorrowedFd<'_>>) {
    match pidfd.readable().await {
        Ok(mut event) => event.clear_ready(),
        // As in `arrival`.
        Err(_) => pending().await,
    }
}

async fn until(instant: Option<Instant>) {
    match instant {
        Some(instant) => sleep_until(instant.into()).await,
        None => pending().await,
    }
}
