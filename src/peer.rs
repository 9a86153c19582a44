//! The other end of a connection.

use std::fmt::{self, Display, Formatter};
use std::net::{IpAddr, SocketAddr};

/// Who a client is, in the spelling of the log and of REMOTE_ADDR (contract 51).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// The address; IPv6 in brackets. `None` where nobody told (inetd without REMOTE_ADDR).
    pub address: Option<String>,
    /// The port, in decimal.
    pub port: Option<String>,
}

impl From<SocketAddr> for Peer {
    fn from(address: SocketAddr) -> Self {
        let host = match address.ip() {
            IpAddr::V4(v4) => v4.to_string(),
            IpAddr::V6(v6) => format!("[{v6}]"),
        };
        Peer { address: Some(host), port: Some(address.port().to_string()) }
    }
}

impl Display for Peer {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let part = |part: &'_ Option<String>| part.clone().unwrap_or_else(|| "?".to_owned());
        write!(f, "{}:{}", part(&self.address), part(&self.port))
    }
}
