//! The life of one client, from accept to close: read the request, wait for a place, decide, hand the
//! socket to git, watch, say how it ended.

use std::future::pending;
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use socket2::Socket;
use tokio::sync::watch::Receiver;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep_until};

use crate::access::authorize;
use crate::admission::{Admission, Answer, Place};
use crate::child::{self, Running};
use crate::config::{Limits, Policy};
use crate::denial::Denial;
use crate::event;
use crate::farewell;
use crate::inbound::{Packet, Unread};
use crate::peer::{Origin, Peer};
use crate::request::{Fields, Request};
use crate::session::{Outcome, Session, Wire, register};
use crate::starter::Starter;
use crate::stderr::Stderr;
use crate::summary::Summary;
use crate::sys::socket;
use crate::watch;

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
    socket: Arc<Socket>,
    origin: Origin,
    accepted: Instant,
}

/// Serves one client until it is gone.
pub async fn serve(house: Arc<House>, socket: Socket, origin: Origin) {
    event::connection(&Peer::from(origin));
    watch::prepare(&socket);
    let client = Client { socket: Arc::new(socket), origin, accepted: Instant::now() };
    let Some((wire, request)) = client.request(&house).await else { return };
    // Apart, so that ten thousand clients that have said nothing take no room for what comes later.
    Box::pin(client.admit_and_serve(house, wire, request)).await;
}

impl Client {
    fn peer(&self) -> Peer {
        Peer::from(self.origin)
    }

    /// Reads and understands the request; `None` when there is none, which has been logged.
    async fn request(&self, house: &House) -> Option<(Wire, Request)> {
        // This one registration serves reading the request and watching the session.
        let received = match register(&self.socket) {
            Ok(wire) => self.read_packet(&wire, house).await.map(|payload| (wire, payload)),
            Err(error) => Err(error.into()),
        };
        let (wire, payload) = match received {
            Ok(received) => received,
            Err(reason) => {
                if reason.log(&self.peer()) {
                    event::refused(&self.summary(None, None));
                }
                return None;
            }
        };
        match understand(&payload) {
            Ok(request) => Some((wire, request)),
            Err(reason) => {
                reason.log(&self.peer());
                event::refused(&self.summary(None, None));
                None
            }
        }
    }

    async fn read_packet(&self, wire: &Wire, house: &House) -> Result<Vec<u8>, Unread> {
        let mut packet = Packet::default();
        // One deadline from accept on: a byte a second must not move it.
        let limit = house.limits.init_timeout;
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
                let mut ready = wire.readable().await?;
                match socket::receive(wire.get_ref(), packet.room()) {
                    Ok(read) => packet.advance(read)?,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready.clear_ready(),
                    Err(error) => return Err(error.into()),
                }
            }
        };
        tokio::select! {
            result = read => result,
            () = until(limit.map(|limit| self.accepted + limit)) => {
                Err(Unread::TimedOut(limit.unwrap_or_default()))
            }
            () = stopped => Err(Unread::Nothing),
        }
    }

    async fn admit_and_serve(self, house: Arc<House>, wire: Wire, request: Request) {
        let Some(place) = self.admit(&house).await else {
            return self.turn_away(&house, wire, &request, &Denial::Busy).await;
        };
        let request = Arc::new(request);
        let corked = watch::cork_if_far(&self.socket);
        match self.start(&house, &request).await {
            Ok(Running { process, stderr }) => {
                let timeout = house.limits.timeout;
                let service = request.service;
                let stderr = Stderr::new(process.pid, stderr);
                let session = Session { wire, process, service, stderr, corked, timeout };
                self.attend(&house, &request, session, place).await;
            }
            Err(denial) => {
                drop(place);
                self.turn_away(&house, wire, &request, &denial).await;
            }
        }
    }

    async fn admit(&self, house: &House) -> Option<Place> {
        match house.admission.ask(self.origin.ip()) {
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
        let (house, request) = (Arc::clone(house), Arc::clone(request));
        let (socket, peer, service) = (Arc::clone(&self.socket), self.peer(), request.service);
        let spawn = move |reason| Denial::Spawn { service, reason };
        let work = spawn_blocking(move || {
            let grant = authorize(&house.policy, &house.starter, &request, &peer)?;
            let extra = request.extra_parameters.as_deref();
            watch::acknowledge(&socket);
            child::start(&house.starter, &grant, &peer, extra, (socket.as_fd(), socket.as_fd()))
                .map_err(|error| spawn(crate::sys::errno_text(&error)))
        });
        work.await.unwrap_or_else(|_| Err(spawn("internal error".to_owned())))
    }

    /// Watches the service to its end, then closes the connection at once: as long as gitd holds a
    /// duplicate, the client does not see the end of the answer.
    async fn attend(self, house: &House, request: &Request, session: Session, place: Place) {
        let pid = session.process.pid;
        let (outcome, stderr) = match session.watch().await {
            Ok((outcome, stderr)) => (outcome, Some(stderr)),
            Err(error) => {
                event::service_lost(pid, &crate::sys::errno_text(&error));
                (Outcome { end: None, counters: None }, None)
            }
        };
        let summary = self.summary(Some(request), outcome.counters);
        let unheard = outcome.stillborn().then_some(self);
        drop(place);
        if let Some(mut stderr) = stderr
            && !stderr.read_now()
        {
            tokio::spawn(stderr.read_to_end());
        }
        event::ended(pid, request.service, outcome.end, &summary);
        if let Some(client) = unheard {
            let denial = Denial::Stillborn { service: request.service, pid };
            client.refuse(house, request, &denial).await;
        }
    }

    /// Ends a connection for which nothing was started.
    async fn turn_away(&self, house: &House, wire: Wire, request: &Request, denial: &Denial) {
        // A socket can be registered once.
        drop(wire);
        self.refuse(house, request, denial).await;
        event::refused(&self.summary(Some(request), None));
    }

    async fn refuse(&self, house: &House, request: &Request, denial: &Denial) {
        event::denied(denial, &denial.remedy(), &self.peer());
        let packet = denial.packet(house.policy.informative_errors, &request.pathname);
        farewell::say(&self.socket, &packet).await;
    }

    fn summary(&self, request: Option<&Request>, counters: Option<watch::Counters>) -> Summary {
        Summary {
            peer: self.peer().to_string(),
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
