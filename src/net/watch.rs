//! Options and counters of the client's socket while the service uses it.
//!
//! gitd is not in the data path. But it can keep both kernels from delaying small packets, which
//! makes a fetch eight times faster. And it can read the counters that say whether a session still
//! moves and whether the service ever answered. Every option is best effort: MPTCP and older
//! kernels lack some, and a session without them is slower, but correct.

use std::fmt::{self, Display, Formatter};
use std::os::fd::AsFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags};
use socket2::{SockRef, Socket};

use crate::sys::socket;
use crate::sys::wait::wait;

/// `TCP_DELACK_MAX_US`: the longest time that the kernel may delay an ACK, in microseconds.
const TCP_DELACK_MAX_US: libc::c_int = 46;

/// From this round-trip time on, holding back the first segments saves one round trip. On a LAN it
/// costs more than it saves.
const FAR: Duration = Duration::from_millis(5);

/// Prepares an accepted socket.
pub fn prepare(client: &Socket) {
    let _ = client.set_keepalive(true);
    prefer_prompt_segments(client);
    // An overloaded gitd may be late with its prompt ACKs; this bounds the delay. The minimum
    // depends on the kernel's clock.
    for microseconds in [1001, 4001, 10001] {
        if socket::set_option(client, libc::IPPROTO_TCP, TCP_DELACK_MAX_US, microseconds).is_ok() {
            break;
        }
    }
}

/// Has the kernel acknowledge at once what has arrived. The kernel returns to delayed ACKs, so this
/// must be called at each arrival.
pub fn acknowledge(client: impl AsFd) {
    let _ = SockRef::from(&client).set_tcp_quickack(true);
}

/// Holds back what the service writes if the client is far. Otherwise the greeting of upload-pack
/// leaves as eleven small segments, and the initial window of ten costs a round trip. `true` if it
/// must be [uncorked](uncork). Not over MPTCP, whose sockets hold the data for 200 ms more when
/// they are uncorked.
#[must_use]
pub fn cork_if_far(client: impl AsFd) -> bool {
    !socket::is_mptcp(&client)
        && round_trip(&client).is_some_and(|time| time > FAR)
        && SockRef::from(&client).set_tcp_cork(true).is_ok()
}

/// The smoothed round-trip time of the (first) path.
pub fn round_trip(client: impl AsFd) -> Option<Duration> {
    let tcp = Structure::<72>::read(client, libc::IPPROTO_TCP, libc::TCP_INFO)?;
    Some(Duration::from_micros(tcp.u32(68)?.into()))
}

/// Whether a direction of the connection has ended.
pub fn has_ended(client: &Socket) -> bool {
    is_now(client, PollFlags::RDHUP)
}

/// Whether the kernel has given the connection up: it was reset, or the peer has not answered
/// retransmissions or probes for as long as the kernel tries (`tcp_retries2` and `TCP_KEEPCNT` of
/// tcp(7); for MPTCP also `net.mptcp.close_timeout` after the last path has died).
pub fn is_broken(client: &Socket) -> bool {
    is_now(client, PollFlags::empty())
}

/// Whether the socket is in one of these states, has an error, or has ended in both directions.
fn is_now(client: &Socket, states: PollFlags) -> bool {
    wait(&mut [PollFd::new(client, states)], Some(Duration::ZERO)).is_ok_and(|ready| ready > 0)
}

/// Sends what was held back.
pub fn uncork(client: impl AsFd) {
    let _ = SockRef::from(&client).set_tcp_cork(false);
}

/// Lets the kernel fill its segments, at the cost of delay.
pub fn prefer_full_segments(client: &Socket) {
    let _ = client.set_tcp_nodelay(false);
}

/// Has the kernel send what is written at once.
pub fn prefer_prompt_segments(client: &Socket) {
    let _ = client.set_tcp_nodelay(true);
}

/// How long the peer's kernel has acknowledged nothing while data is in flight. `None` if no data
/// is, or the kernel does not tell (MPTCP before Linux 6.10, Unix sockets).
pub fn unanswered(socket: impl AsFd) -> Option<Duration> {
    if self::socket::unacknowledged(&socket).ok()? == 0 {
        return None;
    }
    // The time since the last ACK, in milliseconds.
    let milliseconds = match Structure::<96>::read(&socket, SOL_MPTCP, MPTCP_INFO) {
        Some(mptcp) => mptcp.u32(92),
        None => Structure::<72>::read(&socket, libc::IPPROTO_TCP, libc::TCP_INFO)?.u32(56),
    };
    Some(Duration::from_millis(milliseconds?.into()))
}

/// The bytes that have crossed a connection so far, and its transport.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counters {
    /// Bytes that the client has acknowledged.
    pub sent: u64,
    /// Bytes that the client has sent.
    pub received: u64,
    /// Bytes that were written and are not acknowledged.
    pub unacknowledged: u64,
    /// How long the kernel has sent no data, to the millisecond; over MPTCP, on the first path.
    pub idle: Duration,
    /// The transport of the connection.
    pub transport: Transport,
}

/// The lengths of a socket's queues.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Queues {
    /// Bytes that the service has not read.
    pub unread: u64,
    /// Bytes that the client has not read, including the kernel's overhead for each piece.
    pub unsent: u64,
}

impl Queues {
    /// Reads the lengths; 0 where there are no queues, as on a pipe.
    pub fn read(client: impl AsFd) -> Self {
        Queues {
            unread: socket::unread(&client).unwrap_or(0),
            unsent: socket::unacknowledged(&client).unwrap_or(0),
        }
    }
}

/// How bytes reach the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Transport {
    /// A Unix socket.
    Unix,
    /// The client asked for TCP.
    Tcp,
    /// The client asked for MPTCP, and a middlebox did not let it through.
    FellBack,
    /// MPTCP with this many paths: 0 when the last one has died.
    Multipath {
        /// The subflows that are established.
        paths: u8,
    },
}

impl Display for Transport {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Transport::Unix => f.write_str("unix"),
            Transport::Tcp => f.write_str("tcp"),
            Transport::FellBack => f.write_str("mptcp, fell back"),
            Transport::Multipath { paths: 1 } => f.write_str("mptcp, 1 path"),
            Transport::Multipath { paths } => write!(f, "mptcp, {paths} paths"),
        }
    }
}

impl Transport {
    /// Reads the transport of a TCP or MPTCP socket.
    pub fn read(client: impl AsFd) -> Self {
        if socket::is_mptcp(&client) { Self::of(mptcp(client).as_ref()) } else { Transport::Tcp }
    }

    /// The transport of a client that asked for MPTCP.
    fn of(info: Option<&Structure<96>>) -> Self {
        info.map_or(Transport::FellBack, |info| Transport::Multipath { paths: paths(info) })
    }

    /// Its name, without the paths, in one word that never changes.
    pub fn word(self) -> &'static str {
        match self {
            Transport::Unix => "unix",
            Transport::Tcp => "tcp",
            Transport::FellBack => "mptcp-fallback",
            Transport::Multipath { .. } => "mptcp",
        }
    }
}

fn mptcp(client: impl AsFd) -> Option<Structure<96>> {
    Structure::read(client, SOL_MPTCP, MPTCP_INFO)
}

impl Counters {
    /// Reads the kernel's counters; `None` where there are none, as on a pipe.
    pub fn read(client: impl AsFd) -> Option<Self> {
        let tcp = Structure::<136>::read(&client, libc::IPPROTO_TCP, libc::TCP_INFO)?;
        let unacknowledged = socket::unacknowledged(&client).unwrap_or(0);
        // struct tcp_info, Linux 4.1 and later.
        let by_tcp = Counters {
            sent: tcp.u64(120)?,
            received: tcp.u64(128)?,
            unacknowledged,
            idle: Duration::from_millis(tcp.u32(44)?.into()),
            transport: Transport::Tcp,
        };
        if !socket::is_mptcp(&client) {
            return Some(by_tcp);
        }
        let info = mptcp(&client);
        Some(Counters {
            // Before Linux 6.5 only the first path's are counted, which still shows progress.
            received: info.as_ref().and_then(|info| info.u64(64)).unwrap_or(by_tcp.received),
            sent: info.as_ref().and_then(|info| info.u64(72)).unwrap_or(by_tcp.sent),
            transport: Transport::of(info.as_ref()),
            ..by_tcp
        })
    }

    /// The bytes acknowledged, received and unacknowledged; while all stay the same, nothing moves.
    pub fn bytes(&self) -> (u64, u64, u64) {
        (self.sent, self.received, self.unacknowledged)
    }

    /// Whether the service has written anything.
    pub fn answered(&self) -> bool {
        self.sent + self.unacknowledged > 0
    }
}

const SOL_MPTCP: libc::c_int = 284;

/// `struct mptcp_info`, Linux 5.16 and later.
const MPTCP_INFO: libc::c_int = 1;

/// Linux 6.8 and later count all subflows. Before that only those beside the first were counted,
/// and the first is assumed to live.
fn paths(info: &Structure<96>) -> u8 {
    info.u8(80).unwrap_or_else(|| info.u8(0).unwrap_or(0).saturating_add(1))
}

/// A structure that the kernel filled, as far as its version knows it.
struct Structure<const N: usize> {
    bytes: [u8; N],
    length: usize,
}

impl<const N: usize> Structure<N> {
    fn read(socket: impl AsFd, level: libc::c_int, option: libc::c_int) -> Option<Self> {
        let (bytes, length) = socket::option(socket, level, option).ok()?;
        Some(Structure { bytes, length })
    }

    fn field<const M: usize>(&self, offset: usize) -> Option<[u8; M]> {
        self.bytes[..self.length].get(offset..offset + M)?.try_into().ok()
    }

    fn u8(&self, offset: usize) -> Option<u8> {
        self.field::<1>(offset).map(|[byte]| byte)
    }

    fn u32(&self, offset: usize) -> Option<u32> {
        self.field(offset).map(u32::from_ne_bytes)
    }

    fn u64(&self, offset: usize) -> Option<u64> {
        self.field(offset).map(u64::from_ne_bytes)
    }
}
