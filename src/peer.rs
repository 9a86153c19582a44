//! The other end of a connection.

use std::fmt::{self, Display, Formatter};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::escape::Escaped;

/// Where a connection comes from, as the kernel says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// Another host, or this one, by TCP.
    Inet(SocketAddr),
    /// A user of this machine, through a Unix socket.
    Local(Option<u32>),
}

impl Origin {
    /// The address in whose name a client takes its turn. All users of this machine share one.
    #[must_use]
    pub fn ip(self) -> IpAddr {
        match self {
            // A socket for both families has IPv4 clients in IPv6's clothes.
            Origin::Inet(address) => address.ip().to_canonical(),
            Origin::Local(_) => Ipv4Addr::UNSPECIFIED.into(),
        }
    }
}

/// Who a client is, in the spelling of the log and of REMOTE_ADDR (contract 51).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// The address; IPv6 in brackets. `None` where nobody told (inetd without REMOTE_ADDR).
    pub address: Option<String>,
    /// The port, in decimal.
    pub port: Option<String>,
    /// The user of this machine that came through a Unix socket.
    pub user: Option<u32>,
}

impl From<Origin> for Peer {
    fn from(origin: Origin) -> Self {
        let address = match origin {
            Origin::Inet(address) => address,
            Origin::Local(user) => return Peer { address: None, port: None, user },
        };
        let host = match origin.ip() {
            IpAddr::V4(v4) => v4.to_string(),
            IpAddr::V6(v6) => format!("[{v6}]"),
        };
        Peer { address: Some(host), port: Some(address.port().to_string()), user: None }
    }
}

impl Display for Peer {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if let (None, Some(user)) = (&self.address, self.user) {
            return write!(f, "unix:uid={user}");
        }
        // Under inetd they are what the environment says.
        fn shown(part: Option<&String>) -> Escaped<'_> {
            Escaped(part.map_or(b"?", |part| part.as_bytes()))
        }
        write!(f, "{}:{}", shown(self.address.as_ref()), shown(self.port.as_ref()))
    }
}
