//! The life of one client, from accept to close: read the request, wait for a place, decide, hand the
//! socket to git, watch, say how it ended.

use std::future::pending;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use socket2::Socket;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::watch::Receiver;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::access::authorize;
use crate::admission::{Admission, Answer, Place};
use crate::child::{self, Running};
use crate::config::{Limits, Policy};
use crate::denial::Denial;
use crate::event;
use crate::inbound::{Packet, Unread};
use crate::peer::Peer;
use crate::pktline;
use crate::request::{Fields, Request};
use crate::session::{Outcome, Session};
use crate::starter::Starter;
use crate::stderr::Stderr;
use crate::summary::Summary;
use crate::sys::readiness::wait_for;
use crate::sys::socket;
use crate::watch;

/// How long a client that was refused may take to read why.
const FAREWELL: Duration = Duration::from_secs(2);

/// How many octets a refused client may have sent ahead.
const MAX_SENT_AHEAD: usize = 1 << 20;

/// How long a client that has not sent its request may still do so once the server stops.
const GRACE: Duration = Duration::from_secs(1);

/// What all connections of a server share.
#[derive(Debug)]
pub struct House {
    /// What is served to whom.
    pub policy: Policy,
    /// What a client may use up.
    pub limits: Limits,
    /// How processes are started.
    pub starter: Starter,
    /// Who runs and who waits.
    pub admission: Arc<Admission>,
    /// Whether the server is stopping.
    pub stopping: Receiver<bool>,
}

/// One client.
struct Client {
    socket: AsyncFd<Socket>,
    peer: Peer,
    address: IpAddr,
    accepted: Instant,
}

/// Serves one client until it is gone.
pub async fn serve(house: Arc<House>, socket: Socket, peer: Peer, address: IpAddr) {
    let accepted = Instant::now();
    event::connection(&peer);
    watch::prepare(&socket);
    // Both directions from the start: one registration serves reading the request and watching.
    let interest = Interest::READABLE | Interest::WRITABLE;
    let socket = match wait_for(socket, interest) {
        Ok(socket) => socket,
        Err(error) => return event::connection_lost(&peer, &crate::sys::errno_text(&error)),
    };
    let client = Client { socket, peer, address, accepted };
    if let Some(request) = client.request(&house).await {
        client.admit_and_serve(house, request).await;
    }
}

impl Client {
    /// Reads and understands the request; `None` when there is none, which has been logged.
    async fn request(&self, house: &House) -> Option<Request> {
        let payload = match self.read_packet(house).await {
            Ok(payload) => payload,
            Err(reason) => {
                if reason.log(&self.peer) {
                    event::refused(&self.summary(None, None));
                }
                return None;
            }
        };
        match understand(&payload) {
            Ok(request) => Some(request),
            Err(reason) => {
                reason.log(&self.peer);
                event::refused(&self.summary(None, None));
                None
            }
        }
    }

    async fn read_packet(&self, house: &House) -> Result<Vec<u8>, Unread> {
        let mut packet = Packet::default();
        // One deadline from accept on: a byte a second must not move it.
        let deadline = house.limits.init_timeout.map(|limit| self.accepted + limit);
        let mut stopping = house.stopping.clone();
        let stopped = async {
            // An error means that the server is gone, which is as final.
            let _ = stopping.wait_for(|&stopping| stopping).await;
            tokio::time::sleep(GRACE).await;
        };
        let read = async {
            loop {
                if let Some(payload) = packet.complete() {
                    return Ok(payload);
                }
                let mut ready = self.socket.readable().await?;
                match socket::receive(self.socket.get_ref(), packet.room()) {
                    Ok(read) => packet.advance(read)?,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready.clear_ready(),
                    Err(error) => return Err(error.into()),
                }
            }
        };
        tokio::select! {
            result = read => result,
            () = until(deadline) => Err(Unread::TimedOut(house.limits.init_timeout.unwrap_or_default())),
            () = stopped => Err(Unread::Nothing),
        }
    }

    async fn admit_and_serve(self, house: Arc<House>, request: Request) {
        let Some(place) = self.admit(&house).await else {
            return self.turn_away(&house, &request, &Denial::Busy).await;
        };
        let request = Arc::new(request);
        let corked = watch::cork_if_far(self.socket.get_ref());
        match self.start(&house, &request).await {
            Ok(running) => self.attend(&house, &request, running, place, corked).await,
            Err(denial) => {
                drop(place);
                self.turn_away(&house, &request, &denial).await;
            }
        }
    }

    async fn admit(&self, house: &House) -> Option<Place> {
        match house.admission.ask(self.address) {
            Answer::Now(place) => Some(place),
            Answer::Never => None,
            Answer::Later(place) => {
                tokio::select! {
                    place = place => place.ok(),
                    () = until(house.limits.queue_timeout.map(|limit| Instant::now() + limit)) => None,
                }
            }
        }
    }

    /// Decides and starts the service, on a thread that may wait: for a slow file system, a resolver,
    /// an access hook.
    async fn start(&self, house: &Arc<House>, request: &Arc<Request>) -> Result<Running, Denial> {
        let (house, request, peer) = (Arc::clone(house), Arc::clone(request), self.peer.clone());
        let service = request.service;
        // The thread gets its own descriptor: this task may be gone before it is done.
        let socket = self.socket.get_ref().try_clone();
        let spawn = move |reason| Denial::Spawn { service, reason };
        let work = spawn_blocking(move || {
            let socket = socket.map_err(|error| spawn(crate::sys::errno_text(&error)))?;
            let grant = authorize(&house.policy, &house.starter, &request, &peer)?;
            let extra = request.extra_parameters.as_deref();
            let streams = (std::os::fd::AsFd::as_fd(&socket), std::os::fd::AsFd::as_fd(&socket));
            watch::acknowledge(&socket);
            child::start(&house.starter, &grant, &peer, extra, streams)
                .map_err(|error| spawn(crate::sys::errno_text(&error)))
        });
        work.await.unwrap_or_else(|_| Err(spawn("internal error".to_owned())))
    }

    /// Watches the service to its end, then closes the connection at once: as long as gitd holds a
    /// duplicate, the client does not see the end of the answer.
    async fn attend(
        self,
        house: &House,
        request: &Request,
        running: Running,
        place: Place,
        corked: bool,
    ) {
        let Running { process, stderr } = running;
        let pid = process.pid;
        let outcome = match Stderr::new(pid, stderr) {
            Ok(mut stderr) => {
                let session = Session {
                    client: &self.socket,
                    process: &process,
                    service: request.service,
                    stderr: &mut stderr,
                    corked,
                    timeout: house.limits.timeout,
                };
                let outcome = session.watch().await;
                if !stderr.read_now() {
                    tokio::spawn(stderr.read_to_end());
                }
                outcome
            }
            Err(error) => Err(error),
        };
        drop(place);
        let outcome = outcome.unwrap_or_else(|error| {
            event::service_lost(pid, &crate::sys::errno_text(&error));
            Outcome { end: None, counters: None }
        });
        let summary = self.summary(Some(request), outcome.counters);
        event::ended(pid, request.service, outcome.end, &summary);
        if outcome.stillborn() {
            self.refuse(house, request, &Denial::Stillborn { service: request.service, pid }).await;
        }
    }

    /// Ends a connection for which nothing was started.
    async fn turn_away(&self, house: &House, request: &Request, denial: &Denial) {
        self.refuse(house, request, denial).await;
        event::refused(&self.summary(Some(request), None));
    }

    async fn refuse(&self, house: &House, request: &Request, denial: &Denial) {
        event::denied(denial, &denial.remedy(), &self.peer);
        let reason = denial.reason(house.policy.informative_errors);
        self.say_farewell(&pktline::refusal(reason, &request.pathname)).await;
    }

    /// Sends the reason, then reads what the client had sent ahead: closing over unread bytes resets
    /// the connection, and the reset can overtake the reason.
    async fn say_farewell(&self, packet: &[u8]) {
        let end = Instant::now() + FAREWELL;
        // The client may be gone already; there is nobody left to tell.
        let _ = timeout_at(end, self.send_and_drain(packet)).await;
    }

    async fn send_and_drain(&self, mut packet: &[u8]) -> io::Result<()> {
        // Try before waiting: what epoll reported once, it does not report again.
        while !packet.is_empty() {
            match socket::send(self.socket.get_ref(), packet) {
                Ok(sent) => packet = &packet[sent..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.socket.writable().await?.clear_ready();
                }
                Err(error) => return Err(error),
            }
        }
        self.socket.get_ref().shutdown(std::net::Shutdown::Write)?;
        let mut buffer = [0; 4096];
        let mut left = MAX_SENT_AHEAD;
        while left > 0 {
            match socket::receive(self.socket.get_ref(), &mut buffer) {
                Ok(0) => break,
                Ok(read) => left = left.saturating_sub(read),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.socket.readable().await?.clear_ready();
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn summary(&self, request: Option<&Request>, counters: Option<watch::Counters>) -> Summary {
        Summary {
            peer: self.peer.to_string(),
            request: request.map(|request| (request.service, request.pathname.clone())),
            duration: self.accepted.elapsed(),
            counters,
        }
    }
}

/// Splits and understands a request, and logs what it says on the way.
pub(crate) fn understand(payload: &[u8]) -> Result<Request, crate::request::Malformed> {
    let fields = Fields::split(payload)?;
    if let Some(host) = fields.host {
        event::host_parameter(host);
    }
    if let Some(parameters) = &fields.extra_parameters {
        event::protocol_parameter(parameters);
    }
    let request = Request::understand(fields)?;
    event::request(request.service, &request.pathname);
    Ok(request)
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => pending().await,
    }
}
