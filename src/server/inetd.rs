//! One client on standard input and output, started by inetd or systemd.
//!
//! The request is read and the service is started without a runtime: that takes fewer descriptors,
//! of which a super-server may leave few. What follows is as for a client of the daemon.

use std::ffi::OsString;
use std::io::{self, Write};
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStringExt;
use std::sync::Arc;
use std::time::Instant;

use socket2::{SockRef, Socket};
use tokio::runtime::{Builder, Runtime};

use crate::access::authorize;
use crate::access::denial::Denial;
use crate::config::{Limits, Policy};
use crate::git::starter::Starter;
use crate::limits::admission::Admitted;
use crate::limits::threads::{Threads, WhenBusy};
use crate::log::event;
use crate::net::peer::{Origin, Peer};
use crate::net::watch::{self, Transport};
use crate::protocol::inbound;
use crate::protocol::pktline::PREFIX;
use crate::protocol::request::Request;
use crate::server::farewell::{MAX_SENT_AHEAD, PATIENCE};
use crate::server::open::Open;
use crate::server::parse::parse_request;
use crate::session::child::{self, Running};
use crate::session::rest::Exchange;
use crate::session::stderr::Stderr;
use crate::session::{Outcome, Session, register, register_with_retry};
use crate::sys::child::End;
use crate::sys::socket::peer_user;
use crate::sys::wait::wait_readable;
use crate::sys::{descriptor, errno_text};

/// The exit status for a refused request, as in the stock daemon (contract 55).
const REFUSED: u8 = 255;

struct Client {
    /// The address that the super-server passes. The service and the access hook get only this
    /// (contract 51).
    told: Peer,
    /// Whether standard input and output are one socket; they may be pipes.
    by_socket: bool,
    open: Open,
}

/// Serves the one client. Returns the exit status of the process, which is `fatal` without a valid
/// request.
pub fn serve(policy: &Policy, limits: &Limits, starter: &Starter, fatal: u8) -> u8 {
    let mut client = Client::on_standard_input();
    let (request, exchange) = match client.request(limits) {
        Ok(received) => received,
        Err(is_fatal) => return if is_fatal { fatal } else { REFUSED },
    };
    let corked = client.by_socket && watch::cork_if_far(io::stdin());
    let running = match client.start(policy, starter, &request) {
        Ok(running) => running,
        Err(denial) => {
            client.refuse(policy, &request, &denial);
            return REFUSED;
        }
    };
    client.open.started(&running);
    let Running { process, stderr, .. } = running;
    let (pid, service) = (process.pid, request.service);
    let stderr = Stderr::new(service, pid, stderr);
    let timeout = limits.timeout;
    let wire = None;
    let session = Session { wire, process, service, stderr, corked, timeout, exchange, live: None };
    let outcome = client.attend(session).unwrap_or_else(|error| {
        event::service_lost(pid, &errno_text(&error));
        Outcome::default()
    });
    client.open.ended(&outcome);
    if outcome.failed_silently() {
        client.refuse(policy, &request, &Denial::FailedSilently { service, pid });
    }
    match outcome.end {
        Some(End::Exited(status)) => u8::try_from(status).unwrap_or(REFUSED),
        Some(End::Killed(_)) | None => REFUSED,
    }
}

impl Client {
    fn on_standard_input() -> Self {
        let told = |name| std::env::var_os(name).map(OsString::into_vec);
        let told = Peer { address: told("REMOTE_ADDR"), port: told("REMOTE_PORT"), user: None };
        let stdin = io::stdin();
        let socket = SockRef::from(&stdin);
        let address = socket.peer_addr().ok();
        let by_socket = address.is_some() && descriptor::same(&stdin, io::stdout()) == Ok(true);
        let inet = address.as_ref().and_then(socket2::SockAddr::as_socket);
        let peer = if told.address.is_some() {
            event::connection(&told);
            told.clone()
        } else {
            let local = || Origin::Local(peer_user(&stdin));
            Peer::from(inet.map_or_else(local, Origin::Inet))
        };
        let mut open = Open::alone(peer);
        if by_socket {
            watch::prepare(&socket);
            watch::acknowledge(&*socket);
            let transport = inet.map_or(Transport::Unix, |_| Transport::read(&stdin));
            open.record().transport = Some(transport);
        }
        Client { told, by_socket, open }
    }

    fn peer(&mut self) -> &Peer {
        &self.open.record().client
    }

    /// Reads and parses the request. Logs why there is none, and returns whether that is fatal.
    fn request(&mut self, limits: &Limits) -> Result<(Arc<Request>, Exchange), bool> {
        let payload = inbound::read(io::stdin(), limits.init_timeout).map_err(|reason| {
            event::unread(&reason, self.peer());
            self.open.unread(&reason);
            true
        })?;
        let request = parse_request(&payload, self.peer()).map_err(|reason| {
            event::malformed(&reason, self.peer());
            self.open.malformed(&reason);
            reason.is_fatal()
        })?;
        let exchange = Exchange::new(&request, PREFIX + payload.len());
        let request = Arc::new(request);
        self.open.requested(&request);
        Ok((request, exchange))
    }

    fn start(
        &self,
        policy: &Policy,
        starter: &Starter,
        request: &Request,
    ) -> Result<Running, Denial> {
        let grant = authorize(policy, starter, request, &self.told)?;
        let extra = request.extra_parameters.as_deref();
        let streams = (io::stdin(), io::stdout());
        child::start(starter, &grant, &self.told, extra, (streams.0.as_fd(), streams.1.as_fd()))
            .map_err(|error| Denial::cannot_run(request.service, &error))
    }

    /// Watches the service to its end. Then reads standard error to its end, because processes that
    /// the service left behind may still write to it and gitd exits after this.
    ///
    /// # Errors
    /// When the process cannot be watched, for lack of memory or descriptors.
    fn attend(&self, mut session: Session) -> io::Result<Outcome> {
        let runtime = runtime()?;
        // Before the socket, because the last descriptor may be for only one of them.
        session.process.pidfd()?;
        runtime.block_on(async {
            match self.socket() {
                Some(socket) => {
                    session.wire = Some(register_with_retry(|| register(&socket)).await);
                }
                None if session.corked => watch::uncork(io::stdin()),
                None => {}
            }
            let observers = Threads::new(0, WhenBusy::RunHere);
            let never = std::future::pending();
            let (outcome, stderr) = session.watch(&mut Admitted::alone(), &observers, never).await;
            stderr.read_to_end().await;
            Ok(outcome)
        })
    }

    /// A duplicate of the connection. `None` if it is no socket, or if there is no descriptor.
    fn socket(&self) -> Option<Arc<Socket>> {
        let stdin = io::stdin();
        let duplicate = self.by_socket.then(|| stdin.as_fd().try_clone_to_owned().ok()).flatten();
        duplicate.map(|duplicate| Arc::new(Socket::from(duplicate)))
    }

    fn refuse(&mut self, policy: &Policy, request: &Request, denial: &Denial) {
        event::denied(request, denial.word(), denial, &denial.remedy(), self.peer());
        self.open.refused(denial);
        self.say_farewell(&denial.packet(policy.informative_errors, &request.pathname));
    }

    /// As [`crate::server::farewell::say`], without a runtime: making one takes 0.07 ms of the 1.2
    /// that a refused request takes.
    fn say_farewell(&self, packet: &[u8]) {
        let mut stdout = io::stdout();
        let said = stdout.write_all(packet).and_then(|()| stdout.flush());
        if said.is_err() || !self.by_socket {
            return;
        }
        let socket = io::stdin();
        let _ = SockRef::from(&socket).shutdown(Shutdown::Write);
        let end = Instant::now() + PATIENCE;
        let mut buffer = [0; 4096];
        let mut left = MAX_SENT_AHEAD;
        while left > 0 {
            let time = end.saturating_duration_since(Instant::now());
            match wait_readable(&socket, Some(time)) {
                Ok(true) => {}
                Ok(false) | Err(_) => return,
            }
            match rustix::io::read(&socket, &mut buffer) {
                Ok(0) | Err(_) => return,
                Ok(read) => left = left.saturating_sub(read),
            }
        }
    }
}

/// A runtime on this thread. It takes three descriptors.
fn runtime() -> io::Result<Runtime> {
    Builder::new_current_thread().enable_io().enable_time().build()
}
