//! The client's end of a connection.

use std::fmt::{self, Display, Formatter};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::escape::Escaped;

/// Where a connection comes from, according to the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// A TCP client.
    Inet(SocketAddr),
    /// A local client on a Unix socket, with its user.
    Local(Option<u32>),
}

impl Origin {
    /// The address that limits count by. All local users share one.
    pub fn ip(self) -> IpAddr {
        match self {
            // A socket for both families has IPv4 clients with mapped IPv6 addresses.
            Origin::Inet(address) => address.ip().to_canonical(),
            Origin::Local(_) => Ipv4Addr::UNSPECIFIED.into(),
        }
    }
}

/// A client's identity, as written in the log and in REMOTE_ADDR (contract 51).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// The address; IPv6 in brackets. `None` if unknown (inetd without REMOTE_ADDR). Any bytes if
    /// it comes from the environment.
    pub address: Option<Vec<u8>>,
    /// The port, in decimal.
    pub port: Option<Vec<u8>>,
    /// The local user that connected through a Unix socket.
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
        let port = address.port().to_string();
        Peer { address: Some(host.into()), port: Some(port.into()), user: None }
    }
}

impl Display for Peer {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if let (None, Some(user)) = (&self.address, self.user) {
            return write!(f, "unix:uid={user}");
        }
        // Under inetd they come from the environment.
        let [address, port] =
            [&self.address, &self.port].map(|part| part.as_deref().unwrap_or(b"?"));
        write!(f, "{}:{}", Escaped(address), Escaped(port))
    }
}
