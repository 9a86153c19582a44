//! Reports the server's state to the service manager: sd_notify(3) and the watchdog, without
//! systemd's library.

use std::env;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{interval, sleep};

use crate::limits::admission::Admission;

/// The least time between two reports, to save work on a busy server.
const PAUSE: Duration = Duration::from_secs(1);

/// The service manager, if there is one that takes reports.
#[derive(Debug)]
pub struct Manager {
    socket: Option<UnixDatagram>,
    watchdog: Option<Duration>,
}

impl Manager {
    /// Finds it by the environment.
    pub fn find() -> Self {
        let socket = env::var_os("NOTIFY_SOCKET").and_then(|name| connect(name.as_bytes()).ok());
        Manager { watchdog: socket.as_ref().and_then(|_| watchdog()), socket }
    }

    /// All sockets listen.
    pub fn ready(&self) {
        // Only this report is worth waiting for: without it the manager ends the service.
        self.say("READY=1\nSTATUS=listening");
        if let Some(socket) = &self.socket {
            let _ = socket.set_nonblocking(true);
        }
    }

    /// A signal asked the server to end.
    pub fn stopping(&self) {
        self.say("STOPPING=1\nSTATUS=stopping");
    }

    async fn feed_watchdog(&self) {
        let Some(limit) = self.watchdog else { return };
        // Twice in the manager's time limit, as sd_watchdog_enabled(3) advises.
        let mut ticks = interval(limit / 2);
        loop {
            ticks.tick().await;
            self.say("WATCHDOG=1");
        }
    }

    async fn report(&self, census: &Census, admission: &Admission) {
        loop {
            census.changed.notified().await;
            sleep(PAUSE).await;
            let (present, served) = (census.present.load(Relaxed), census.served.load(Relaxed));
            self.say(&format!(
                "STATUS={present} clients connected, {} services running, {served} clients since the start",
                admission.admitted()
            ));
        }
    }

    /// Errors are ignored: a manager that does not read must not affect the service.
    fn say(&self, state: &str) {
        if let Some(socket) = &self.socket {
            let _ = socket.send(state.as_bytes());
        }
    }
}

/// Reports that the runtime runs, and how many clients are served. Without a manager there is
/// nothing to do, and without a change nothing wakes up.
pub async fn keep_informed(manager: Arc<Manager>, census: Arc<Census>, admission: Arc<Admission>) {
    if manager.socket.is_some() {
        tokio::join!(manager.feed_watchdog(), manager.report(&census, &admission));
    }
}

/// A name that begins with `/` is a file; `@` begins a name in the abstract namespace.
fn connect(name: &[u8]) -> io::Result<UnixDatagram> {
    let address = match name {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        path => SocketAddr::from_pathname(std::ffi::OsStr::from_bytes(path))?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.connect_addr(&address)?;
    Ok(socket)
}

fn watchdog() -> Option<Duration> {
    let number = |name| env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let ours = env::var_os("WATCHDOG_PID").is_none()
        || number("WATCHDOG_PID") == Some(u64::from(std::process::id()));
    number("WATCHDOG_USEC").filter(|&limit| ours && limit > 1).map(Duration::from_micros)
}

/// The numbers of clients, now and in total.
#[derive(Debug, Default)]
pub struct Census {
    present: AtomicUsize,
    served: AtomicU64,
    changed: Notify,
}

impl Census {
    /// A client has connected; now there are `present`.
    pub fn arrived(&self, present: usize) {
        self.served.fetch_add(1, Relaxed);
        self.left(present);
    }

    /// A client has left; now there are `present`.
    pub fn left(&self, present: usize) {
        self.present.store(present, Relaxed);
        self.changed.notify_one();
    }
}
