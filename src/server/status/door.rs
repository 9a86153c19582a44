//! The socket of `--status`, from its opening to the thread that serves it.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::runtime::{Builder, Handle};
use tokio::time::sleep;

use crate::config::StatusOn;
use crate::listen::unix::{self, SocketFile};
use crate::log::event;
use crate::net::address::Address;
use crate::server::shared::Shared;
use crate::server::status::answer::Answerer;
use crate::server::status::http;
use crate::sys::entry::apart_from_other_threads;
use crate::sys::errno_text;

/// Clients that may wait to be accepted.
const BACKLOG: i32 = 128;

/// How much nicer the thread is than the one that serves clients.
const NICER: i32 = 10;

/// How long to wait for a gitd that still finishes its work to leave the place.
const AGAIN: Duration = Duration::from_secs(1);

/// The place to tell of the server's state, open or about to be.
#[derive(Debug)]
pub struct Door {
    place: StatusOn,
    /// `None` while another process has the place.
    socket: Option<Socket>,
    file: File,
}

/// The file of a Unix socket, once it is there.
#[derive(Debug, Default)]
pub struct File(Arc<Mutex<Option<SocketFile>>>);

impl File {
    fn keep(&self, place: &StatusOn) {
        if let StatusOn::Unix(path, _) = place {
            *self.lock() = SocketFile::keep(path);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<SocketFile>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for File {
    /// The thread that answers ends with the process, without dropping anything.
    fn drop(&mut self) {
        *self.lock() = None;
    }
}

impl Door {
    /// Listens at `place`. Another process may have it, such as a gitd that finishes its work:
    /// clients must be served meanwhile, so gitd then tries again later.
    ///
    /// # Errors
    /// Those of bind and listen, other than that.
    pub fn open(place: &StatusOn) -> io::Result<Self> {
        let socket = match listen(place) {
            Ok(socket) => Some(socket),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => None,
            Err(error) => return Err(error),
        };
        Ok(Door { place: place.clone(), socket, file: File::default() })
    }

    /// The file of its socket, which is removed when the result is dropped.
    pub fn file(&self) -> File {
        if self.socket.is_some() {
            self.file.keep(&self.place);
        }
        File(Arc::clone(&self.file.0))
    }

    /// Where it listens.
    pub fn address(&self) -> Address {
        match (&self.socket, &self.place) {
            (Some(socket), StatusOn::Inet(_)) => Address::of(socket),
            (None, StatusOn::Inet(address)) => Address::Inet(*address),
            (_, StatusOn::Unix(path, _)) => Address::Unix(path.clone()),
        }
    }

    /// Starts the thread that answers for the life of the process. `listening` are the addresses at
    /// which the server serves clients, and `server` is its runtime.
    ///
    /// # Errors
    /// When the system has no thread or no descriptor to give.
    pub fn serve(
        self,
        shared: Arc<Shared>,
        listening: Vec<Address>,
        server: Handle,
    ) -> io::Result<()> {
        let runtime = Builder::new_current_thread().enable_io().enable_time().build()?;
        let public = match &self.place {
            StatusOn::Inet(address) => !address.ip().to_canonical().is_loopback(),
            StatusOn::Unix(..) => true,
        };
        let answerer = Answerer::new(shared, listening, server, !public);
        let thread = thread::Builder::new().name("gitd-status".to_owned());
        thread.spawn(move || {
            // On Linux this is about the calling thread. It can only fail by a security module.
            let _ = rustix::process::nice(NICER);
            runtime.block_on(self.answer(Arc::new(answerer)));
        })?;
        Ok(())
    }

    async fn answer(self, answerer: Arc<Answerer>) {
        let address = self.address();
        let socket = match self.socket {
            Some(socket) => socket,
            None => match wait_for(&self.place, &self.file, &address).await {
                Some(socket) => socket,
                None => return,
            },
        };
        event::status_listening(&address);
        if let Err(error) = http::serve(socket, answerer).await {
            event::status_failed(&address, &errno_text(&error));
        }
    }
}

/// Tries again until the place is free. `None` when it cannot be had at all, which is logged here.
async fn wait_for(place: &StatusOn, file: &File, address: &Address) -> Option<Socket> {
    event::status_waits(address);
    // The socket is made with a umask of its own for a moment, which services must not inherit.
    let mut result = apart_from_other_threads().map(|()| None);
    loop {
        match result {
            Ok(Some(socket)) => {
                file.keep(place);
                return Some(socket);
            }
            Ok(None) => {}
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
            Err(error) => {
                event::status_failed(address, &errno_text(&error));
                return None;
            }
        }
        sleep(AGAIN).await;
        result = listen(place).map(Some);
    }
}

fn listen(place: &StatusOn) -> io::Result<Socket> {
    match place {
        StatusOn::Unix(path, rights) => unix::listen(path, *rights),
        StatusOn::Inet(address) => {
            let domain = Domain::for_address(*address);
            let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
            if address.is_ipv6() {
                socket.set_only_v6(true)?;
            }
            // The server closes first, so an earlier gitd's connections linger.
            socket.set_reuse_address(true)?;
            socket.bind(&(*address).into())?;
            socket.listen(BACKLOG)?;
            socket.set_nonblocking(true)?;
            Ok(socket)
        }
    }
}
