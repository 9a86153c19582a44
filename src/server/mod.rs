//! The accept loop, and stopping.

pub mod activity;
pub mod check;
pub mod connection;
pub mod farewell;
pub mod heartbeat;
pub mod inetd;
pub mod notify;
pub mod open;
pub mod parse;
pub mod shared;
pub mod status;

use std::io;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use socket2::{SockAddr, Socket};
use tokio::io::Interest;
use tokio::io::unix::{AsyncFd, AsyncFdReadyGuard};
use tokio::sync::watch::Sender;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::limits::descriptors::OfConnection;
use crate::log::event;
use crate::net::peer::Origin;
use crate::net::registered::Registered;
use crate::server::notify::{Census, Manager};
use crate::server::shared::{Phase, Shared};
use crate::sys::errno_text;
use crate::sys::readiness::register;
use crate::sys::shortage::is_shortage;
use crate::sys::signal::Signals;
use crate::sys::socket::peer_user;

/// How long to wait before a retry when accept fails, for instance for lack of descriptors or
/// memory.
const BACK_OFF: Duration = Duration::from_millis(100);

/// How long not to log the same failure again: clients can cause it as often as they like.
const TELL_AGAIN: Duration = Duration::from_secs(10);

/// How long services may take to end after they were told to.
const LAST_MOMENT: Duration = Duration::from_secs(5);

/// How many clients to accept from one listener before the other listeners and the accepted clients
/// get their turn. Before the next batch at most [`heartbeat::TASKS`] tasks run, and a client needs
/// several, so the clients of one batch must be far fewer.
const BATCH: usize = 16;

const _: () = assert!(BATCH * 3 < heartbeat::TASKS as usize);

/// How many clients the kernel may have queued (`net.core.somaxconn`, unless it was raised). During
/// a flood the queue is never empty.
const QUEUED: usize = 4096;

/// Serves until one of `signals` arrives. Returns it once all running services have ended, for
/// which there may be a limit, or at once when a second signal arrives.
///
/// # Errors
/// When the listening sockets or the signals cannot be watched, for lack of memory.
pub async fn serve(
    shared: Arc<Shared>,
    listeners: Vec<Socket>,
    signals: Signals,
    phase: Sender<Phase>,
    manager: Arc<Manager>,
) -> io::Result<i32> {
    let signals = Registered::new(signals, Interest::READABLE)?;
    let census = Arc::default();
    let running = Arc::clone(&shared.admission);
    tokio::spawn(notify::keep_informed(Arc::clone(&manager), Arc::clone(&census), running));
    let mut server = Server { shared, connections: JoinSet::new(), census, waiting: None };
    let listeners: Vec<AsyncFd<Socket>> = listeners
        .into_iter()
        .map(|listener| register(listener, Interest::READABLE))
        .collect::<io::Result<_>>()?;
    let signal = tokio::select! {
        signal = next(&signals) => signal?,
        never = server.accept_for_ever(&listeners) => match never {},
    };
    manager.stopping();
    // Clients in the kernel's queue would be reset when the sockets close.
    for listener in &listeners {
        let _ = server.accept_batch(listener.get_ref(), QUEUED);
    }
    drop(listeners);
    server.waiting = None;
    phase.send_replace(Phase::Draining);
    if !server.connections.is_empty() {
        event::draining(server.connections.len());
    }
    tokio::select! {
        () = server.finish(&phase) => Ok(signal),
        second = next(&signals) => second,
    }
}

async fn next(signals: &Registered<Signals>) -> io::Result<i32> {
    signals.perform(Interest::READABLE, Signals::next).await
}

type Ready<'a> = AsyncFdReadyGuard<'a, Socket>;

struct Server {
    shared: Arc<Shared>,
    connections: JoinSet<()>,
    census: Arc<Census>,
    /// An accepted client for which no descriptor was left.
    waiting: Option<(Socket, SockAddr)>,
}

enum Never {}

impl Server {
    async fn accept_for_ever(&mut self, listeners: &[AsyncFd<Socket>]) -> Never {
        let mut first = 0;
        let mut told: Option<Instant> = None;
        loop {
            tokio::select! {
                (index, ready) = readable(listeners, first) => {
                    // Each listener in turn: a flood on one address must not starve another.
                    first = index + 1;
                    self.forget_ended();
                    match self.accept_batch(listeners[index].get_ref(), BATCH) {
                        Ok(()) => tokio::task::yield_now().await,
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                            if let Ok(mut ready) = ready { ready.clear_ready() }
                        }
                        Err(error) => {
                            if told.is_none_or(|told| told.elapsed() >= TELL_AGAIN) {
                                told = Some(Instant::now());
                                event::accept_failed(&errno_text(&error), is_shortage(&error));
                            }
                            self.make_room(is_shortage(&error)).await;
                        }
                    }
                }
                Some(ended) = self.connections.join_next() => self.forget(&ended),
            }
        }
    }

    /// Removes connections that have ended. Needed because `select!` seldom takes the other branch
    /// while clients arrive without a pause.
    fn forget_ended(&mut self) {
        while let Some(ended) = self.connections.try_join_next() {
            self.forget(&ended);
        }
    }

    fn forget(&mut self, ended: &Result<(), tokio::task::JoinError>) {
        report(ended);
        self.census.left(self.connections.len());
    }

    /// Accepts at most `most` clients. Returns an error when there is none left, when the kernel
    /// lacks a resource, or when the next accept would fail in the same way.
    fn accept_batch(&mut self, listener: &Socket, most: usize) -> io::Result<()> {
        for _ in 0..most {
            let (socket, address) = match self.waiting.take().map_or_else(|| listener.accept(), Ok)
            {
                Ok(client) => client,
                // The error is of one client only, so go on with the next.
                Err(error) if is_the_clients(&error) => continue,
                Err(error) => return Err(error),
            };
            let Some(descriptors) = self.shared.descriptors.connection() else {
                self.waiting = Some((socket, address));
                return Err(io::Error::from_raw_os_error(libc::EMFILE));
            };
            self.begin(socket, &address, descriptors);
        }
        Ok(())
    }

    fn begin(&mut self, socket: Socket, address: &SockAddr, descriptors: OfConnection) {
        let origin = match address.as_socket() {
            Some(address) => Origin::Inet(address),
            None => Origin::Local(peer_user(&socket)),
        };
        let shared = Arc::clone(&self.shared);
        let activities = Arc::clone(&shared.activities);
        let serve =
            move |activity| connection::serve(shared, socket, descriptors, origin, activity);
        self.connections.spawn(activities.track(origin, serve));
        self.census.arrived(self.connections.len());
    }

    /// For lack of descriptors, dismisses the clients that have been silent longest.
    async fn make_room(&mut self, lack: bool) {
        if !(lack && self.shared.pending.make_room().await) {
            tokio::time::sleep(BACK_OFF).await;
        }
    }

    async fn finish(&mut self, phase: &Sender<Phase>) {
        if let Some(limit) = self.shared.limits.shutdown_timeout {
            if tokio::time::timeout(limit, self.wait_for_all()).await.is_ok() {
                return;
            }
            event::cutting(self.connections.len(), limit);
            phase.send_replace(Phase::Ending);
            // A task that does not end now cannot be ended, such as a check that hangs.
            let _ = tokio::time::timeout(LAST_MOMENT, self.wait_for_all()).await;
        } else {
            self.wait_for_all().await;
        }
    }

    async fn wait_for_all(&mut self) {
        while let Some(ended) = self.connections.join_next().await {
            self.forget(&ended);
        }
    }
}

/// Waits for a listener with clients. Polls the one at `first` first.
async fn readable(listeners: &[AsyncFd<Socket>], first: usize) -> (usize, io::Result<Ready<'_>>) {
    std::future::poll_fn(|context| {
        for turn in 0..listeners.len() {
            let index = (first + turn) % listeners.len();
            if let Poll::Ready(ready) = listeners[index].poll_read_ready(context) {
                return Poll::Ready((index, ready));
            }
        }
        Poll::Pending
    })
    .await
}

/// Whether the error concerns only the next client, which has left, or its network: the errors that
/// accept(2) says to treat so.
fn is_the_clients(error: &io::Error) -> bool {
    const GONE: [libc::c_int; 10] = [
        libc::ECONNABORTED,
        libc::EINTR,
        libc::EPROTO,
        libc::ENOPROTOOPT,
        libc::ENETDOWN,
        libc::ENETUNREACH,
        libc::EHOSTDOWN,
        libc::EHOSTUNREACH,
        libc::ENONET,
        libc::EOPNOTSUPP,
    ];
    error.raw_os_error().is_some_and(|errno| GONE.contains(&errno))
}

/// A connection's task returns no error. A panic is logged, and the others go on.
fn report(ended: &Result<(), tokio::task::JoinError>) {
    if ended.as_ref().is_err_and(tokio::task::JoinError::is_panic) {
        event::panicked();
    }
}
