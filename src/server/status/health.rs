//! Proves that a request is served: gitd connects to itself and asks for a repository that cannot
//! exist. The answer has come through accept, the reading of a request, a thread for checks and the
//! check itself. A permit is not needed: a busy server is healthy.
//!
//! gitd recognises its own connection by its other end, which only the kernel can say. A client
//! that sends the same bytes gets the ordinary answer, and the ordinary log lines.

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use socket2::Socket;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpSocket, UnixStream};
use tokio::runtime::Handle;
use tokio::time::timeout;

use crate::access::authorize;
use crate::net::address::Address;
use crate::net::peer::{Origin, Peer};
use crate::protocol::pktline::PREFIX;
use crate::protocol::request::Request;
use crate::server::farewell;
use crate::server::shared::Shared;
use crate::server::status::Status;
use crate::sys::errno_text;
use crate::sys::socket::peer_process;

/// How long an answer may take.
const LIMIT: Duration = Duration::from_secs(5);

/// How long an answer counts for further questions.
const FRESH: Duration = Duration::from_secs(1);

/// The most bytes of an answer that are looked at.
const MOST: u64 = 1024;

/// gitd's own request, if one is under way.
#[derive(Debug)]
pub struct Probe {
    /// The address that it comes from over TCP.
    from: Mutex<Option<SocketAddr>>,
    /// A path that nobody can have guessed or made.
    pathname: Vec<u8>,
}

impl Default for Probe {
    fn default() -> Self {
        // Each hasher has random keys, so its hash of anything is a random number.
        let random = || RandomState::new().hash_one(0);
        let pathname = format!("/.gitd-health-{:016x}{:016x}", random(), random());
        Probe { from: Mutex::default(), pathname: pathname.into_bytes() }
    }
}

impl Probe {
    /// Whether an accepted connection is gitd's own.
    pub fn is_from(&self, socket: &Socket, origin: Origin) -> bool {
        match origin {
            Origin::Inet(address) => *self.lock() == Some(canonical(address)),
            Origin::Local(_) => peer_process(socket) == Some(std::process::id()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<SocketAddr>> {
        self.from.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn packet(&self) -> Vec<u8> {
        let payload = [b"git-upload-pack ", &self.pathname[..], b"\0"].concat();
        [format!("{:04x}", PREFIX + payload.len()).as_bytes(), &payload].concat()
    }
}

/// A socket for both families has IPv4 clients with mapped addresses.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// Answers gitd's own request as a client's would be: by a refusal.
pub async fn answer(shared: &Arc<Shared>, socket: &Arc<Socket>, peer: Peer, payload: &[u8]) {
    let Ok(request) = Request::parse(payload) else { return };
    let pathname = request.pathname.clone();
    let policy = Arc::clone(shared);
    let check = move || authorize(&policy.policy, &policy.starter, &request, &peer).map(drop).err();
    let Ok(verdict) = shared.threads.run(check) else { return };
    if let Ok(Some(denial)) = verdict.await {
        farewell::say(socket, &denial.packet(false, &pathname)).await;
    }
}

/// Asks, one question at a time.
#[derive(Debug)]
pub struct Health {
    listening: Vec<Address>,
    server: Handle,
    last: tokio::sync::Mutex<Option<(Instant, Verdict)>>,
}

/// What is known of the server's health.
pub type Verdict = Result<&'static str, String>;

impl Health {
    /// `listening` are the server's own addresses, and `server` is its runtime.
    pub fn new(listening: Vec<Address>, server: Handle) -> Self {
        Health { listening, server, last: tokio::sync::Mutex::default() }
    }

    /// Whether a request is served; while the server is `draining`, whether its runtime answers.
    ///
    /// # Errors
    /// Why not.
    pub async fn ask(&self, status: Option<&Status>, draining: bool) -> Verdict {
        let mut last = self.last.lock().await;
        if let Some((at, verdict)) = &*last
            && at.elapsed() < FRESH
        {
            return verdict.clone();
        }
        let asked = async {
            match status {
                Some(status) if !draining => self.ask_as_client(&status.probe).await,
                _ => self.ask_runtime().await,
            }
        };
        let late = |_| Err(format!("no answer within {} s", LIMIT.as_secs()));
        let verdict = timeout(LIMIT, asked).await.unwrap_or_else(late);
        *last = Some((Instant::now(), verdict.clone()));
        verdict
    }

    async fn ask_runtime(&self) -> Verdict {
        match self.server.spawn(async {}).await {
            Ok(()) => Ok("ok, draining"),
            Err(_) => Err("the server has ended".to_owned()),
        }
    }

    async fn ask_as_client(&self, probe: &Probe) -> Verdict {
        let inet = self.listening.iter().find_map(|address| match address {
            Address::Inet(inet) => Some(*inet),
            _ => None,
        });
        let unix = self.listening.iter().find_map(|address| match address {
            Address::Unix(path) => Some(path),
            _ => None,
        });
        let answer = match (inet, unix) {
            (Some(address), _) => over_tcp(address, probe).await,
            (None, Some(path)) => over_unix(path, probe).await,
            (None, None) => return self.ask_runtime().await,
        };
        match answer {
            Ok(answer) if answer.get(PREFIX..).is_some_and(|text| text.starts_with(b"ERR ")) => {
                Ok("ok")
            }
            Ok(_) => Err("a request got another answer than a refusal".to_owned()),
            Err(error) => Err(format!("a request is not served: {}", errno_text(&error))),
        }
    }
}

async fn over_tcp(to: SocketAddr, probe: &Probe) -> io::Result<Vec<u8>> {
    let ip = match to.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    let mut to = to;
    to.set_ip(ip);
    let socket = if ip.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    let mut own = to;
    own.set_port(0);
    socket.bind(own)?;
    // No one else can connect from here while the socket is open.
    let from = From::new(probe, canonical(socket.local_addr()?));
    let answer = converse(socket.connect(to).await?, probe).await;
    drop(from);
    answer
}

async fn over_unix(path: &Path, probe: &Probe) -> io::Result<Vec<u8>> {
    converse(UnixStream::connect(path).await?, probe).await
}

async fn converse(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    probe: &Probe,
) -> io::Result<Vec<u8>> {
    stream.write_all(&probe.packet()).await?;
    let mut answer = Vec::new();
    stream.take(MOST).read_to_end(&mut answer).await?;
    Ok(answer)
}

/// The time during which gitd's own connection comes from an address. It ends before the socket
/// closes, also when the question is given up.
struct From<'a>(&'a Probe);

impl<'a> From<'a> {
    fn new(probe: &'a Probe, address: SocketAddr) -> Self {
        *probe.lock() = Some(address);
        From(probe)
    }
}

impl Drop for From<'_> {
    fn drop(&mut self) {
        *self.0.lock() = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_process_asks_for_another_path() {
        let (one, other) = (Probe::default(), Probe::default());
        assert_ne!(one.pathname, other.pathname);
        let packet = one.packet();
        assert_eq!(
            usize::from_str_radix(std::str::from_utf8(&packet[..4]).unwrap(), 16),
            Ok(packet.len())
        );
        assert_eq!(Request::parse(&packet[4..]).unwrap().pathname, one.pathname);
    }
}
