//! Telling the service manager how the server is: sd_notify(3) and the watchdog, without systemd's
//! library.

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

/// The least time between two reports: a busy server has better things to do.
const PAUSE: Duration = Duration::from_secs(1);

/// The service manager, if there is one that wants to hear.
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
        // Only this one is worth waiting for: without it the manager ends the service.
        self.say("READY=1\nSTATUS=listening");
        if let Some(socket) = &self.socket {
            let _ = socket.set_nonblocking(true);
        }
    }

    /// A signal asked the server to end.
    pub fn stopping(&self) {
        self.say("STOPPING=1\nSTATUS=stopping");
    }

    async fn pat_watchdog(&self) {
        let Some(limit) = self.watchdog else { return };
        // Twice in the time that the manager waits, as sd_watchdog_enabled(3) advises.
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

    /// A manager that does not listen is its own misfortune.
    fn say(&self, state: &str) {
        if let Some(socket) = &self.socket {
            let _ = socket.send(state.as_bytes());
        }
    }
}

/// Keeps the manager informed: that the runtime still runs, and how many are served. Without a manager
/// there is nothing to do, and without news nothing wakes up.
pub async fn keep_informed(manager: Arc<Manager>, census: Arc<Census>, admission: Arc<Admission>) {
    if manager.socket.is_some() {
        tokio::join!(manager.pat_watchdog(), manager.report(&census, &admission));
    }
}

/// The name begins with `/` for a file and with `@` for a socket outside of the file system.
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

/// How many clients there are and were.
#[derive(Debug, Default)]
pub struct Census {
    present: AtomicUsize,
    served: AtomicU64,
    changed: Notify,
}

impl Census {
    /// A client came; with it there are `present`.
    pub fn arrived(&self, present: usize) {
        self.served.fetch_add(1, Relaxed);
        self.left(present);
    }

    /// A client left; without it there are `present`.
    pub fn left(&self, present: usize) {
        self.present.store(present, Relaxed);
        self.changed.notify_one();
    }
}
