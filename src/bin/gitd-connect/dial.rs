//! From a host's name to a connected socket: all addresses, the two families in turn, each a moment
//! after the one before (RFC 8305, "happy eyeballs"), over MPTCP where possible.
//!
//! The kernel handles a middlebox that silently drops MPTCP's SYN: it falls back to TCP after two
//! of them and remembers that for an hour. A parallel TCP attempt would save 2 s once and prevent
//! the remembering.

use std::fmt;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use gitd::sys::wait::wait;
use rustix::event::{PollFd, PollFlags};
use socket2::{Domain, Protocol, SockAddr, Socket, TcpKeepalive, Type};

use crate::arguments::Target;
use crate::failure::{DialError, Failures};

/// How long an address may be silent before the next one is tried in parallel.
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// An idle connection to a server that is gone ends after five minutes instead of two hours. An
/// outage of two minutes ends nothing.
const KEEPALIVE: TcpKeepalive = TcpKeepalive::new()
    .with_time(Duration::from_secs(60))
    .with_interval(Duration::from_secs(20))
    .with_retries(12);

/// A connected, blocking socket, and its destination.
pub(crate) struct Connection {
    pub(crate) socket: Socket,
    pub(crate) place: Place,
}

/// The destination of a connection.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Inet(SocketAddr),
    Unix(PathBuf),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inet(address) => write!(f, "{} port {}", address.ip(), address.port()),
            Self::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

/// Connects to the first address of `target` that answers.
pub(crate) fn dial(target: &Target) -> Result<Connection, DialError> {
    let Target { host, port, mptcp, socket } = target;
    if let Some(path) = socket {
        return dial_unix(path).map_err(|error| DialError::Socket { path: path.clone(), error });
    }
    // The look-up must not mention MPTCP: getaddrinfo refuses the protocol before glibc 2.39.
    let addresses = match (host.as_str(), *port).to_socket_addrs() {
        Ok(addresses) => alternate_families(addresses.collect()),
        Err(error) => {
            return Err(DialError::Unknown { host: host.clone(), error });
        }
    };
    let connection = race(addresses, *mptcp).map_err(|failures| DialError::Failed {
        host: host.clone(),
        port: *port,
        failures,
    })?;
    Ok(connection)
}

fn dial_unix(path: &Path) -> io::Result<Connection> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.connect(&SockAddr::unix(path)?)?;
    Ok(Connection { socket, place: Place::Unix(path.to_owned()) })
}

/// Alternates the families, beginning with the resolver's first one, and keeps its order within
/// each.
fn alternate_families(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let Some(first) = addresses.first() else {
        return addresses;
    };
    let (mut ours, mut others): (Vec<_>, Vec<_>) =
        addresses.iter().copied().partition(|address| address.is_ipv6() == first.is_ipv6());
    let (mut ours, mut others) = (ours.drain(..), others.drain(..));
    let mut order = Vec::with_capacity(addresses.len());
    loop {
        let pair = [ours.next(), others.next()];
        if pair.iter().all(Option::is_none) {
            return order;
        }
        order.extend(pair.into_iter().flatten());
    }
}

/// An address that has not answered yet.
struct Attempt {
    socket: Socket,
    address: SocketAddr,
    mptcp: bool,
}

fn race(addresses: Vec<SocketAddr>, mptcp: bool) -> Result<Connection, Failures> {
    let mut waiting = addresses.into_iter();
    let mut attempts: Vec<Attempt> = Vec::new();
    let mut failures = Failures::new();
    let mut next_start = Instant::now();
    loop {
        if attempts.is_empty() || Instant::now() >= next_start {
            match waiting.next() {
                Some(address) => {
                    start(address, mptcp, &mut attempts, &mut failures);
                    next_start = Instant::now() + ATTEMPT_DELAY;
                }
                None if attempts.is_empty() => return Err(failures),
                None => {}
            }
        }
        if attempts.is_empty() {
            continue;
        }
        let patience =
            (waiting.len() > 0).then(|| next_start.saturating_duration_since(Instant::now()));
        for (attempt, outcome) in settled(&mut attempts, patience) {
            match outcome {
                None => match prepare(&attempt.socket) {
                    Ok(()) => {
                        let place = Place::Inet(attempt.address);
                        return Ok(Connection { socket: attempt.socket, place });
                    }
                    Err(error) => failures.push((attempt.address, error)),
                },
                Some(error) if attempt.mptcp && is_worth_tcp(&error) => {
                    start(attempt.address, false, &mut attempts, &mut failures);
                }
                Some(error) => {
                    failures.push((attempt.address, error));
                    next_start = Instant::now();
                }
            }
        }
    }
}

/// A firewall may refuse a connection with an unknown option. But a time-out has already cost the
/// user minutes, and a reset comes from a server that had accepted the connection.
fn is_worth_tcp(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionReset, TimedOut};
    !matches!(error.kind(), ConnectionReset | TimedOut)
}

/// Starts a connect; an immediate error is recorded at once.
fn start(address: SocketAddr, mptcp: bool, attempts: &mut Vec<Attempt>, failures: &mut Failures) {
    let domain = Domain::for_address(address);
    let multipath = if mptcp { multipath_socket(domain) } else { None };
    let mptcp = multipath.is_some();
    let begun = match multipath {
        Some(socket) => Ok(socket),
        None => Socket::new(domain, Type::STREAM, Some(Protocol::TCP)),
    }
    .and_then(|socket| {
        socket.set_nonblocking(true)?;
        match socket.connect(&address.into()) {
            Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => Err(error),
            _ => Ok(socket),
        }
    });
    match begun {
        Ok(socket) => attempts.push(Attempt { socket, address, mptcp }),
        Err(error) => failures.push((address, error)),
    }
}

/// `None` if the kernel or a security module refuses: any error means TCP.
fn multipath_socket(domain: Domain) -> Option<Socket> {
    Socket::new(domain, Type::STREAM, Some(Protocol::MPTCP)).ok()
}

/// Removes from `attempts` those that have connected (no error) or failed. Waits for one if
/// necessary.
fn settled(
    attempts: &mut Vec<Attempt>,
    patience: Option<Duration>,
) -> Vec<(Attempt, Option<io::Error>)> {
    let mut waits: Vec<PollFd<'_>> =
        attempts.iter().map(|attempt| PollFd::new(&attempt.socket, PollFlags::OUT)).collect();
    if wait(&mut waits, patience).is_err() {
        return Vec::new(); // A signal; the caller tries again.
    }
    let ready: Vec<bool> = waits.iter().map(|wait| !wait.revents().is_empty()).collect();
    let mut ready = ready.into_iter();
    attempts
        .extract_if(.., |_| ready.next().unwrap_or(false))
        .map(|attempt| {
            let error = attempt.socket.take_error().unwrap_or_else(Some);
            (attempt, error)
        })
        .collect()
}

fn prepare(socket: &Socket) -> io::Result<()> {
    // git writes its request in a dozen small pieces: with Nagle's algorithm the second waits 40 ms
    // for the server's ACK. MPTCP on old kernels lacks some of these options; the connection works
    // without them.
    let _ = socket.set_tcp_nodelay(true);
    let _ = socket.set_keepalive(true);
    let _ = socket.set_tcp_keepalive(&KEEPALIVE);
    socket.set_nonblocking(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, Ipv6Addr, TcpListener};

    fn v4(last: u8) -> SocketAddr {
        (Ipv4Addr::new(192, 0, 2, last), 1).into()
    }

    fn v6(last: u16) -> SocketAddr {
        (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last), 1).into()
    }

    #[test]
    fn families_alternate_in_the_resolvers_order() {
        assert_eq!(alternate_families(vec![]), []);
        assert_eq!(
            alternate_families(vec![v6(1), v6(2), v6(3), v4(1)]),
            [v6(1), v4(1), v6(2), v6(3)]
        );
        assert_eq!(
            alternate_families(vec![v4(1), v4(2), v6(1), v6(2)]),
            [v4(1), v6(1), v4(2), v6(2)]
        );
    }

    #[test]
    fn the_next_address_is_tried_when_one_refuses() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let good = listener.local_addr().unwrap();
        let bad = SocketAddr::from(([127, 0, 0, 2], good.port()));
        let connection = race(vec![bad, bad, good], true).ok().unwrap();
        assert_eq!(connection.place, Place::Inet(good));
        assert_eq!(connection.socket.peer_addr().unwrap().as_socket(), Some(good));
    }

    /// A listener whose queue is full: the kernel drops further SYNs, as for a dead host.
    fn silent() -> (Socket, SocketAddr, Vec<Socket>) {
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        listener.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        listener.listen(0).unwrap();
        let address = listener.local_addr().unwrap();
        let fill = |_| {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            socket.set_nonblocking(true).unwrap();
            let _ = socket.connect(&address);
            socket
        };
        let queued = (0..3).map(fill).collect();
        (listener, address.as_socket().unwrap(), queued)
    }

    #[test]
    fn a_silent_address_does_not_delay_the_next_one_for_long() {
        let (_listener, dead, _queued) = silent();
        let alive = TcpListener::bind("127.0.0.1:0").unwrap();
        let begin = Instant::now();
        let connection = race(vec![dead, alive.local_addr().unwrap()], true).ok().unwrap();
        assert_eq!(connection.place, Place::Inet(alive.local_addr().unwrap()));
        // The dead address got its full delay, and the second SYN, one second later, was not
        // needed.
        let took = begin.elapsed();
        assert!(took >= ATTEMPT_DELAY && took < Duration::from_millis(900), "{took:?}");
    }

    #[test]
    fn an_immediate_failure_is_not_waited_for() {
        // TCP has no broadcast, so connect itself fails.
        let broadcast = SocketAddr::from(([255, 255, 255, 255], 1));
        let failures = race(vec![broadcast; 3], true).err().unwrap();
        assert_eq!(failures.len(), 3);
    }

    #[test]
    fn without_mptcp_the_socket_is_plain_tcp() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let target = Target { host: "127.0.0.1".to_owned(), port, mptcp: false, socket: None };
        let socket = dial(&target).ok().unwrap().socket;
        assert_eq!(socket.protocol().unwrap(), Some(Protocol::TCP));
        assert!(socket.tcp_nodelay().unwrap() && socket.keepalive().unwrap());
    }
}
