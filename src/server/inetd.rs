//! One client on standard input and output, started by inetd or systemd. As
//! [`crate::server::connection`], but without a runtime and without other clients.

use std::ffi::OsString;
use std::io::{self, Write};
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStringExt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use socket2::{SockRef, Socket};

use crate::access::authorize;
use crate::access::denial::Denial;
use crate::config::{Limits, Policy};
use crate::git::starter::Starter;
use crate::log::event;
use crate::net::peer::{Origin, Peer};
use crate::net::watch;
use crate::protocol::inbound;
use crate::protocol::pktline::PREFIX;
use crate::protocol::request::Request;
use crate::protocol::service::Service;
use crate::server::farewell::{MAX_SENT_AHEAD, PATIENCE};
use crate::server::parse::parse_request;
use crate::session::Outcome;
use crate::session::child::{self, Running};
use crate::session::monitor::Monitor;
use crate::session::rest::{self, Exchange};
use crate::session::stderr::{Left, Stderr};
use crate::session::summary::Summary;
use crate::session::traffic::Traffic;
use crate::sys::child::{Child, End};
use crate::sys::readiness::Readiness;
use crate::sys::socket::peer_user;
use crate::sys::{descriptor, errno_text};

/// The exit status for a refused request, as in the stock daemon (contract 55).
const REFUSED: u8 = 255;

struct Client {
    /// The address that the super-server passes. The service and the access hook get only this
    /// (contract 51).
    told: Peer,
    /// The address in the log: from the super-server, else from the socket.
    peer: Peer,
    /// Whether standard input is a socket; it may be a pipe.
    by_socket: bool,
    started: Instant,
}

/// Serves the one client. Returns the exit status of the process, which is `fatal` without a valid
/// request.
#[must_use]
pub fn serve(policy: &Policy, limits: &Limits, starter: &Starter, fatal: u8) -> u8 {
    let client = Client::on_standard_input();
    let received = match inbound::read(io::stdin(), limits.init_timeout) {
        Ok(payload) => parse_request(&payload).map(|request| (request, payload.len())),
        Err(reason) => {
            event::unread(&reason, &client.peer);
            return fatal;
        }
    };
    let (request, bytes) = match received {
        Ok(received) => received,
        Err(reason) => {
            event::malformed(&reason, &client.peer);
            return if reason.is_fatal() { fatal } else { REFUSED };
        }
    };
    let corked = client.by_socket && watch::cork_if_far(io::stdin());
    let (Running { process, stderr }, readiness) = match client.start(policy, starter, &request) {
        Ok(started) => started,
        Err(denial) => {
            client.refuse(policy, &request, &denial);
            return REFUSED;
        }
    };
    let (pid, service) = (process.pid, request.service);
    let exchange = Exchange::new(&request, PREFIX + bytes);
    let monitor = client.socket().map(|socket| {
        let traffic = Traffic::new(service, corked, limits.timeout, exchange, Instant::now());
        Monitor::new(Arc::new(socket), pid, traffic)
    });
    let outcome = attend(&readiness, &process, service, Stderr::new(service, pid, stderr), monitor);
    if outcome.failed_silently() {
        client.refuse(policy, &request, &Denial::FailedSilently { service, pid });
    }
    let summary = Summary {
        peer: client.peer.to_string(),
        request: Some((service, request.pathname)),
        duration: client.started.elapsed(),
        counters: outcome.counters,
    };
    event::ended(pid, service, outcome.end, &summary);
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
        let by_socket = address.is_some();
        let peer = if told.address.is_some() {
            event::connection(&told);
            told.clone()
        } else {
            let address = address.and_then(|address| address.as_socket());
            let local = || Origin::Local(peer_user(&stdin));
            Peer::from(address.map_or_else(local, Origin::Inet))
        };
        if by_socket {
            watch::prepare(&socket);
            watch::acknowledge(&*socket);
        }
        Client { told, peer, by_socket, started: Instant::now() }
    }

    /// The connection, to be watched. A duplicate is made only when needed, because each descriptor
    /// may be the last one.
    fn socket(&self) -> Option<Socket> {
        let stdin = io::stdin();
        self.by_socket.then(|| stdin.as_fd().try_clone_to_owned().ok()).flatten().map(Socket::from)
    }

    /// Starts the service. Opens all that is needed to watch it first: a running service must not
    /// be lost for lack of a descriptor.
    fn start(
        &self,
        policy: &Policy,
        starter: &Starter,
        request: &Request,
    ) -> Result<(Running, Readiness), Denial> {
        let cannot_run = |error| Denial::cannot_run(request.service, &error);
        let grant = authorize(policy, starter, request, &self.told)?;
        let readiness = Readiness::new().map_err(cannot_run)?;
        let extra = request.extra_parameters.as_deref();
        let streams = (io::stdin(), io::stdout());
        let streams = (streams.0.as_fd(), streams.1.as_fd());
        let running = child::start(starter, &grant, &self.told, extra, streams);
        Ok((running.map_err(cannot_run)?, readiness))
    }

    fn refuse(&self, policy: &Policy, request: &Request, denial: &Denial) {
        event::denied(denial, &denial.remedy(), &self.peer);
        self.say_farewell(&denial.packet(policy.informative_errors, &request.pathname));
    }

    /// Sends the reason, and reads what the client has sent ahead: closing with unread bytes resets
    /// the connection, and the reset can overtake the reason (B8). If the client has left, the
    /// reason is lost.
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
            match descriptor::wait_readable(&socket, Some(time)) {
                Ok(true) => {}
                Ok(false) | Err(_) => return,
            }
            match descriptor::read(&socket, &mut buffer) {
                Ok(0) | Err(_) => return,
                Ok(read) => left = left.saturating_sub(read),
            }
        }
    }
}

const ENDED: u64 = 0;
const SAID: u64 = 1;
const ARRIVED: u64 = 2;

fn attend(
    readiness: &Readiness,
    process: &Child,
    service: Service,
    stderr: Stderr,
    monitor: Option<Monitor>,
) -> Outcome {
    watch_to_the_end(readiness, process, service, stderr, monitor).unwrap_or_else(|error| {
        event::service_lost(process.pid, &errno_text(&error));
        Outcome { end: None, counters: None }
    })
}

/// Waits for the service's end, its standard error and the client's data in turn. Then reads
/// standard error to its end, because processes that the service left behind may still write to it
/// and gitd exits after this.
fn watch_to_the_end(
    readiness: &Readiness,
    process: &Child,
    service: Service,
    mut stderr: Stderr,
    mut monitor: Option<Monitor>,
) -> io::Result<Outcome> {
    readiness.add(process.pidfd()?, ENDED)?;
    if let Some(pipe) = stderr.pipe() {
        readiness.add(pipe, SAID)?;
    }
    let mut registered = false;
    let mut outcome = None;
    let mut left = Left::Nothing;
    loop {
        if let Some(monitor) = &monitor {
            let wanted = outcome.is_none() && monitor.traffic.wants_arrivals();
            if wanted && !registered {
                readiness.add(monitor.client(), ARRIVED)?;
            } else if registered && !wanted {
                readiness.remove(monitor.client())?;
            }
            registered = wanted;
        }
        let next_look = monitor.as_ref().filter(|_| outcome.is_none());
        let next_look = next_look.and_then(|monitor| monitor.traffic.next_look());
        let pause = match left {
            // epoll reports no event for what is in the pipe already.
            Left::More => Some(Duration::ZERO),
            Left::Nothing | Left::Ended => {
                next_look.map(|at| at.saturating_duration_since(Instant::now()))
            }
        };
        for happened in readiness.wait(pause)? {
            match (happened.key, &mut monitor) {
                (ENDED, _) if outcome.is_none() => {
                    let killed = |monitor: &Monitor| monitor.traffic.is_killed();
                    let forced = monitor.as_ref().is_some_and(killed);
                    outcome = child::ended(process, service, forced)?;
                }
                (ARRIVED, Some(monitor)) => monitor.arrived(Instant::now(), happened.ended),
                _ => {}
            }
        }
        left = stderr.read_now();
        if let Some(end) = outcome
            && left == Left::Ended
        {
            let counters = monitor.and_then(Monitor::finish);
            return Ok(Outcome { end: Some(end), counters });
        }
        if let Some(monitor) = &mut monitor
            && outcome.is_none()
            && next_look.is_some_and(|at| at <= Instant::now())
        {
            let now = Instant::now();
            if let Some(signal) = monitor.look(now) {
                process.signal_group(signal);
            }
            // There is no other client, so this may block.
            if monitor.traffic.wants_observation(now, false) {
                monitor.traffic.observed(now, rest::observe(process.pid));
            }
        }
    }
}
