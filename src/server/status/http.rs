//! HTTP, within bounds: so many connections, one request on each, its head so long, and all of it
//! in so much time. A client past the bound takes the place of the one that is there longest.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use socket2::Socket;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use crate::server::status::answer::Answerer;
use crate::server::status::observer;

/// Connections at a time.
const CONNECTIONS: usize = 16;

/// The most bytes of a request's head. It is the least that hyper accepts.
const HEAD: usize = 8 * 1024;

/// The most lines of a request's head.
const HEADERS: usize = 64;

/// How long a connection may take, from accept to the last byte of the answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// The time between two accepts, so that a flood of connections takes little of a processor.
const PACE: Duration = Duration::from_millis(1);

/// How long to wait before a retry when accept fails.
const BACK_OFF: Duration = Duration::from_secs(1);

/// Answers at `socket` for ever, and observes the server once a second.
///
/// # Errors
/// When the socket cannot be watched.
pub async fn serve(socket: Socket, answerer: Arc<Answerer>) -> io::Result<()> {
    let listener = Listener::new(socket)?;
    let mut connections = Connections::default();
    let mut seconds = interval(observer::PERIOD);
    seconds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = seconds.tick() => answerer.observe(),
            accepted = listener.accept() => match accepted {
                Ok(stream) => {
                    connections.add(stream, &answerer);
                    sleep(PACE).await;
                }
                Err(_) => sleep(BACK_OFF).await,
            },
        }
    }
}

enum Listener {
    Inet(TcpListener),
    Unix(UnixListener),
}

/// A client's connection.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

impl Listener {
    fn new(socket: Socket) -> io::Result<Self> {
        if socket.local_addr()?.is_unix() {
            return UnixListener::from_std(socket.into()).map(Listener::Unix);
        }
        TcpListener::from_std(socket.into()).map(Listener::Inet)
    }

    async fn accept(&self) -> io::Result<Box<dyn Stream>> {
        match self {
            Listener::Inet(listener) => Ok(Box::new(listener.accept().await?.0)),
            Listener::Unix(listener) => Ok(Box::new(listener.accept().await?.0)),
        }
    }
}

#[derive(Default)]
struct Connections {
    tasks: JoinSet<()>,
    /// Oldest first. May contain tasks that have ended.
    order: VecDeque<AbortHandle>,
}

impl Connections {
    fn add(&mut self, stream: Box<dyn Stream>, answerer: &Arc<Answerer>) {
        while self.tasks.try_join_next().is_some() {}
        self.order.retain(|task| !task.is_finished());
        if self.order.len() >= CONNECTIONS
            && let Some(oldest) = self.order.pop_front()
        {
            oldest.abort();
        }
        let answerer = Arc::clone(answerer);
        self.order.push_back(self.tasks.spawn(async move {
            // After the time, or on an error, the connection is closed, and that is all.
            let _ = timeout(PATIENCE, converse(stream, answerer)).await;
        }));
    }
}

async fn converse(stream: Box<dyn Stream>, answerer: Arc<Answerer>) -> hyper::Result<()> {
    let answer = service_fn(move |request: Request<Incoming>| {
        let answerer = Arc::clone(&answerer);
        async move { Ok::<Response<String>, Infallible>(answerer.answer(&request).await) }
    });
    let mut server = http1::Builder::new();
    server.keep_alive(false).max_buf_size(HEAD).max_headers(HEADERS);
    server.serve_connection(TokioIo::new(stream), answer).await
}
