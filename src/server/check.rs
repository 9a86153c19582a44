//! The decision about one request, and the start of its service: all that may block on a slow file
//! system, a resolver, or an access hook.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;

use socket2::Socket;

use crate::access::authorize;
use crate::access::denial::Denial;
use crate::limits::descriptors::OfCheck;
use crate::net::peer::Peer;
use crate::net::watch;
use crate::protocol::request::Request;
use crate::server::shared::Shared;
use crate::session::child::{self, Running};

/// Why no service is started for a client.
#[derive(Debug)]
pub enum Stop {
    /// It is refused and told why.
    Refused(Denial),
    /// Its connection broke while it waited.
    Gone,
}

impl From<Denial> for Stop {
    fn from(denial: Denial) -> Self {
        Stop::Refused(denial)
    }
}

/// What decides about a request and starts its service, on a thread that may block.
#[derive(Debug)]
pub struct Check {
    /// What it may open.
    pub descriptors: OfCheck,
    /// What all connections share.
    pub shared: Arc<Shared>,
    /// The client's connection.
    pub socket: Arc<Socket>,
    /// The client's address.
    pub peer: Peer,
    /// The request.
    pub request: Arc<Request>,
    /// Whether the client has left meanwhile.
    pub gone: Arc<AtomicBool>,
}

impl Check {
    /// Decides and starts.
    ///
    /// # Errors
    /// Why nothing was started.
    pub fn work(self) -> Result<(Running, OfCheck), Stop> {
        let Check { descriptors, shared, socket, peer, request, gone } = self;
        let grant = authorize(&shared.policy, &shared.starter, &request, &peer)?;
        if gone.load(Relaxed) {
            return Err(Stop::Gone);
        }
        let extra = request.extra_parameters.as_deref();
        watch::acknowledge(&socket);
        let streams = (socket.as_fd(), socket.as_fd());
        let running = child::start(&shared.starter, &grant, &peer, extra, streams)
            .map_err(|error| Denial::cannot_run(request.service, &error))?;
        Ok((running, descriptors))
    }
}
