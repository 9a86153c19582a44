//! The client's socket, seen from outside while the service owns it.
//!
//! gitd is never in the data path. What it does from here: it keeps both kernels from delaying small
//! packets, which makes a fetch eight times faster, and reads the counters that say whether a session
//! still moves and whether the service ever answered.

use std::os::fd::AsFd;

use socket2::Socket;

use crate::sys::socket;

/// `TCP_DELACK_MAX_US` (Linux 7.0 or so): the most time that the kernel may delay an ACK.
const TCP_DELACK_MAX_US: libc::c_int = 46;

/// The offset of `tcpi_bytes_acked` in `struct tcp_info`, a u64 (Linux 4.1).
const BYTES_ACKED: usize = 120;
/// The offset of `tcpi_bytes_received`, a u64 (Linux 4.1).
const BYTES_RECEIVED: usize = 128;
/// The octets of `struct tcp_info` up to the fields that gitd reads.
const TCP_INFO_SIZE: usize = 136;

/// The octets after which a session counts as bulk: from here on full segments matter more than
/// prompt ones, and TCP_NODELAY costs a third of the throughput.
pub const BULK: u64 = 256 * 1024;

/// Prepares an accepted socket. Every option is best effort: MPTCP and older kernels lack some.
pub fn prepare(client: &Socket) {
    let _ = client.set_keepalive(true);
    let _ = client.set_tcp_nodelay(true);
    // An overloaded gitd may be late with its prompt ACKs; this bounds the damage.
    for microseconds in [1001, 4001, 10001] {
        if socket::set_option(client, libc::IPPROTO_TCP, TCP_DELACK_MAX_US, microseconds).is_ok() {
            break;
        }
    }
}

/// Has the kernel acknowledge what has arrived at once. It falls back to delaying by itself, so this
/// must be said again at each arrival.
pub fn acknowledge(client: impl AsFd) {
    let _ = socket::set_option(client, libc::IPPROTO_TCP, libc::TCP_QUICKACK, 1);
}

/// Lets the kernel fill its segments again.
pub fn prefer_full_segments(client: &Socket) {
    let _ = client.set_tcp_nodelay(false);
}

/// What has crossed a connection so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Octets that the client has acknowledged.
    pub sent: u64,
    /// Octets that the client has sent.
    pub received: u64,
    /// Octets that were written and are not acknowledged.
    pub unacknowledged: u64,
}

impl Counters {
    /// Reads the kernel's counters; `None` where there are none, as on a pipe.
    #[must_use]
    pub fn read(client: impl AsFd) -> Option<Self> {
        let (info, length) =
            socket::option::<TCP_INFO_SIZE>(&client, libc::IPPROTO_TCP, libc::TCP_INFO).ok()?;
        let unacknowledged = socket::unacknowledged(client).unwrap_or(0);
        let field = |offset: usize| {
            let octets = info[..length].get(offset..offset + 8)?;
            Some(u64::from_ne_bytes(octets.try_into().ok()?))
        };
        Some(Counters {
            sent: field(BYTES_ACKED)?,
            received: field(BYTES_RECEIVED)?,
            unacknowledged,
        })
    }

    /// Whether the service has written anything.
    #[must_use]
    pub fn answered(&self) -> bool {
        self.sent + self.unacknowledged > 0
    }
}
