//! The life of one connection, from accept to close: read the request, wait for a permit, decide,
//! hand the socket to git, watch, log how it ended.

mod proxied;

use std::future::pending;
use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use socket2::Socket;
use tokio::io::Interest;
use tokio::time::{Instant, sleep, sleep_until};

use crate::access::denial::Denial;
use crate::limits::admission::{Admitted, Answer, Holding};
use crate::limits::descriptors::{OfCheck, OfConnection};
use crate::log::event;
use crate::net::peer::{Origin, Peer};
use crate::net::watch;
use crate::protocol::inbound::{Packet, Unread};
use crate::protocol::pktline::PREFIX;
use crate::protocol::request::Request;
use crate::protocol::service::Service;
use crate::server::activity::{Activity, Stage};
use crate::server::check::{Check, Stop};
use crate::server::farewell;
use crate::server::open::Open;
use crate::server::parse::parse_request;
use crate::server::shared::{Phase, Shared};
use crate::server::status::health;
use crate::session::child::Running;
use crate::session::rest::Exchange;
use crate::session::stderr::{Left, Stderr};
use crate::session::{ClientSocket, Session, register, register_with_retry};
use crate::sys::socket;

/// How long a client may still take to send its request once the server stops.
const GRACE: Duration = Duration::from_secs(1);

/// After so long a check counts as slow: its permit goes to another request until it is done.
const SLOW: Duration = Duration::from_secs(1);

/// After so long a slow check is logged.
const HANGING: Duration = Duration::from_secs(10);

struct Client {
    socket: Arc<Socket>,
    /// Whether the log has its connection.
    told: bool,
    activity: Arc<Activity>,
    /// Given back after the socket is closed, because fields are dropped in order.
    descriptors: OfConnection,
    /// Dropped last: the socket is closed before the end is recorded.
    open: Open,
}

/// The client's registration, the request's payload, and the number of bytes before its packet.
type Received = (ClientSocket, Vec<u8>, usize);

/// Serves one client until it has left.
pub async fn serve(
    shared: Arc<Shared>,
    socket: Socket,
    descriptors: OfConnection,
    origin: Origin,
    activity: Arc<Activity>,
) {
    let own = shared.status.as_ref().is_some_and(|status| status.probe.is_from(&socket, origin));
    watch::prepare(&socket);
    let open = Open::new(origin);
    let mut client = Client { socket: Arc::new(socket), told: own, activity, descriptors, open };
    if own {
        if let Ok((wire, payload, _)) = client.read_packet(&shared, false).await {
            // A socket can be registered only once.
            drop(wire);
            health::answer(&shared, &client.socket, client.peer(), &payload).await;
        }
        return client.open.forget();
    }
    let Some((wire, request, exchange)) = client.request(&shared).await else { return };
    // Boxed so that idle connections don't reserve the session's state.
    Box::pin(client.admit_and_serve(shared, wire, request, exchange)).await;
}

impl Client {
    fn peer(&self) -> Peer {
        Peer::from(self.open.origin)
    }

    /// Reads and parses the request; `None` when there is none, which is logged here.
    async fn request(&mut self, shared: &Shared) -> Option<(ClientSocket, Arc<Request>, Exchange)> {
        let proxied = shared.policy.proxies.include(self.open.origin);
        if !proxied {
            self.tell();
        }
        let (wire, payload, before) = match self.read_packet(shared, proxied).await {
            Ok(received) => received,
            Err(reason) => {
                self.tell();
                event::unread(&reason, &self.peer());
                self.open.note_transport(&self.socket);
                self.open.unread(&reason);
                return None;
            }
        };
        match parse_request(&payload, &self.peer()) {
            Ok(request) => {
                let exchange = Exchange::new(&request, before + PREFIX + payload.len());
                let request = Arc::new(request);
                self.open.requested(&request);
                Some((wire, request, exchange))
            }
            Err(reason) => {
                event::malformed(&reason, &self.peer());
                self.open.note_transport(&self.socket);
                self.open.malformed(&reason);
                None
            }
        }
    }

    /// Reads the request packet, and what a load balancer says before it. Returns the registration
    /// too, because the session needs it again.
    async fn read_packet(&mut self, shared: &Shared, proxied: bool) -> Result<Received, Unread> {
        let mut packet = Packet::default();
        // One deadline, counted from accept: a client that sends a byte a second must not extend
        // it.
        let limit = shared.limits.init_timeout;
        let deadline = limit.map(|limit| (self.open.accepted + limit).into());
        let stopped = async {
            shared.reaches(Phase::Draining).await;
            sleep(GRACE).await;
        };
        let mut entry = shared.enter();
        let read = async {
            let wire = tokio::select! {
                wire = register_with_retry(|| register(&self.socket)) => wire,
                () = entry.dismissed() => return Err(Unread::Dismissed),
            };
            let before = match proxied {
                // Boxed so that other connections don't reserve its state.
                true => Box::pin(self.introduce(&wire, &mut entry)).await?,
                false => 0,
            };
            loop {
                if let Some(payload) = packet.complete() {
                    return Ok((wire, payload, before));
                }
                let room = packet.room();
                let receive = |client: &Arc<Socket>| socket::receive(client, room);
                let read = tokio::select! {
                    read = wire.perform(Interest::READABLE, receive) => read?,
                    () = entry.dismissed() => return Err(Unread::Dismissed),
                };
                packet.advance(read).map_err(|reason| reason.of_peer(proxied))?;
                entry.spoke();
            }
        };
        tokio::select! {
            result = read => result,
            () = until(deadline) => Err(Unread::TimedOut(limit.unwrap_or_default())),
            () = stopped => Err(Unread::Nothing),
        }
    }

    async fn admit_and_serve(
        mut self,
        shared: Arc<Shared>,
        wire: ClientSocket,
        request: Arc<Request>,
        exchange: Exchange,
    ) {
        self.activity.asks(&request);
        let asked = Instant::now();
        let admitted = self.admit(&shared, &wire, &request).await;
        self.open.record().queued = Some(asked.elapsed());
        let mut admitted = match admitted {
            Ok(admitted) => admitted,
            Err(stop) => return self.turn_away(&shared, wire, &request, stop).await,
        };
        let corked = watch::cork_if_far(&self.socket);
        let (running, descriptors) = match self.start(&shared, &wire, &request, &mut admitted).await
        {
            Ok(started) => started,
            Err(stop) => {
                drop(admitted);
                return self.turn_away(&shared, wire, &request, stop).await;
            }
        };
        self.descriptors.start(descriptors);
        admitted.checked();
        self.open.started(&running);
        let Running { process, stderr, .. } = running;
        let (timeout, service) = (shared.limits.timeout, request.service);
        let stderr = Stderr::new(service, process.pid, stderr);
        let wire = Some(wire);
        let live = shared.status.as_ref().map(|_| self.activity.runs(process.pid));
        let session = Session { wire, process, service, stderr, corked, timeout, exchange, live };
        self.attend(&shared, &request, session, admitted).await;
    }

    async fn admit(
        &self,
        shared: &Shared,
        wire: &ClientSocket,
        request: &Request,
    ) -> Result<Admitted, Stop> {
        self.activity.enter(Stage::Queued);
        let subject = shared.policy.subject(request);
        let busy = || match shared.admission.waits_for_checks(self.open.origin.ip(), &subject) {
            true => Denial::Hanging(request.pathname.clone()),
            false => Denial::Busy,
        };
        let admitted = match shared.admission.ask(self.open.origin.ip(), &subject) {
            Answer::Now(admitted) => return Ok(admitted),
            Answer::Never => None,
            Answer::Later(admitted) => {
                let limit = shared.limits.queue_timeout;
                tokio::select! {
                    admitted = admitted => admitted.ok(),
                    () = wire.broken() => return Err(Stop::Gone),
                    () = shared.reaches(Phase::Ending) => None,
                    () = until(limit.map(|limit| Instant::now() + limit)) => None,
                }
            }
        };
        Ok(admitted.ok_or_else(busy)?)
    }

    /// Decides and starts the service. For lack of descriptors, tries once more without the clients
    /// that have been silent longest.
    async fn start(
        &self,
        shared: &Arc<Shared>,
        wire: &ClientSocket,
        request: &Arc<Request>,
        admitted: &mut Admitted,
    ) -> Result<(Running, OfCheck), Stop> {
        self.activity.enter(Stage::Checking);
        let result = self.check_and_start(shared, wire, request, admitted).await;
        let exhausted = matches!(result, Err(Stop::Refused(Denial::Exhausted { .. })));
        if !exhausted || !shared.pending.make_room().await {
            return result;
        }
        self.check_and_start(shared, wire, request, admitted).await
    }

    /// Does it on a thread that may block on a slow file system, a resolver, or an access hook. A
    /// slow check gives its permit back meanwhile. If the client leaves, the request stays admitted
    /// until the check is over, and nothing is started.
    async fn check_and_start(
        &self,
        shared: &Arc<Shared>,
        wire: &ClientSocket,
        request: &Arc<Request>,
        admitted: &mut Admitted,
    ) -> Result<(Running, OfCheck), Stop> {
        let started = Instant::now();
        let service = request.service;
        let gone = Arc::new(AtomicBool::new(false));
        let check = Check {
            descriptors: self.descriptors_to_check(shared, wire, service).await?,
            shared: Arc::clone(shared),
            socket: Arc::clone(&self.socket),
            peer: self.peer(),
            request: Arc::clone(request),
            gone: Arc::clone(&gone),
        };
        let work = shared.threads.run(move || check.work());
        let mut work = work.map_err(|error| Denial::cannot_run(service, &error))?;
        let mut told = false;
        loop {
            tokio::select! {
                result = &mut work => {
                    // Without a result the check has panicked.
                    return result.unwrap_or(Err(Denial::Internal(service).into()));
                }
                () = wire.broken(), if !gone.load(Relaxed) => {
                    gone.store(true, Relaxed);
                    admitted.go_idle(Holding::Light);
                }
                () = shared.reaches(Phase::Ending) => {
                    gone.store(true, Relaxed);
                    return Err(Denial::Busy.into());
                }
                () = sleep(SLOW) => {
                    admitted.go_idle(Holding::Light);
                    if started.elapsed() >= HANGING && !std::mem::replace(&mut told, true) {
                        event::check_hangs(&request.pathname, HANGING, &self.peer());
                    }
                }
            }
        }
    }

    /// Waits for descriptors as long as a request may wait for a permit.
    async fn descriptors_to_check(
        &self,
        shared: &Shared,
        wire: &ClientSocket,
        service: Service,
    ) -> Result<OfCheck, Stop> {
        if shared.descriptors.lack_for_a_check() {
            shared.pending.make_room().await;
        }
        let limit = shared.limits.queue_timeout;
        tokio::select! {
            biased;
            descriptors = shared.descriptors.check() => Ok(descriptors),
            () = wire.broken() => Err(Stop::Gone),
            () = shared.reaches(Phase::Ending) => Err(Denial::Busy.into()),
            () = until(limit.map(|limit| Instant::now() + limit)) => {
                let error = io::Error::from_raw_os_error(libc::EMFILE);
                Err(Denial::cannot_run(service, &error).into())
            }
        }
    }

    /// Watches the service to its end, then closes the connection at once: the client does not see
    /// the end of the answer while gitd holds a duplicate.
    async fn attend(
        self,
        shared: &Shared,
        request: &Request,
        session: Session,
        mut admitted: Admitted,
    ) {
        let pid = session.process.pid;
        self.activity.enter(Stage::Watching(pid));
        let (outcome, mut stderr) =
            session.watch(&mut admitted, &shared.observers, shared.reaches(Phase::Ending)).await;
        let Client { socket, activity, descriptors, mut open, told } = self;
        activity.ended();
        open.ended(&outcome);
        let unheard = outcome.failed_silently().then_some((socket, descriptors));
        drop(admitted);
        if stderr.read_now() != Left::Ended {
            tokio::spawn(stderr.read_to_end());
        }
        if let Some((socket, descriptors)) = unheard {
            let denial = Denial::FailedSilently { service: request.service, pid };
            let client = Client { socket, told, activity, descriptors, open };
            client.refuse(shared, request, &denial).await;
        }
    }

    /// Ends a connection for which no service was started.
    async fn turn_away(
        mut self,
        shared: &Shared,
        wire: ClientSocket,
        request: &Request,
        stop: Stop,
    ) {
        // A socket can be registered only once.
        drop(wire);
        self.open.note_transport(&self.socket);
        match stop {
            Stop::Refused(denial) => self.refuse(shared, request, &denial).await,
            Stop::Gone => self.open.gone(),
        }
    }

    async fn refuse(mut self, shared: &Shared, request: &Request, denial: &Denial) {
        self.activity.enter(Stage::Refusing);
        self.open.refused(denial);
        event::denied(request, denial.word(), denial, &denial.remedy(), &self.peer());
        let packet = denial.packet(shared.policy.informative_errors, &request.pathname);
        let mut entry = shared.enter();
        tokio::select! {
            () = farewell::say(&self.socket, &packet) => {}
            () = entry.dismissed() => {}
        }
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => pending().await,
    }
}
