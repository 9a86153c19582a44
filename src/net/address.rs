//! Where a socket listens.

use std::fmt::{self, Display, Formatter};
use std::net::SocketAddr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use socket2::Socket;

use crate::escape::Escaped;

/// Where a socket listens: in the log `127.0.0.1:9418`, `[::1]:9418` or `unix:/run/gitd.sock`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// A TCP address.
    Inet(SocketAddr),
    /// A socket in the file system.
    Unix(PathBuf),
    /// A socket without a name in the file system.
    Unnamed,
}

impl Address {
    /// The address of an open socket.
    pub fn of(socket: &Socket) -> Self {
        let Ok(address) = socket.local_addr() else { return Address::Unnamed };
        match (address.as_socket(), address.as_pathname()) {
            (Some(inet), _) => Address::Inet(inet),
            (None, Some(path)) => Address::Unix(path.to_owned()),
            (None, None) => Address::Unnamed,
        }
    }

    /// A line of the port file: the address, a blank, and the port, or `-` if there is none.
    pub fn line(&self) -> Vec<u8> {
        match self {
            Address::Inet(inet) => format!("{} {}\n", inet.ip(), inet.port()).into_bytes(),
            Address::Unix(path) => [b"unix:", path.as_os_str().as_bytes(), b" -\n"].concat(),
            Address::Unnamed => b"unix: -\n".to_vec(),
        }
    }
}

impl Display for Address {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Address::Inet(inet) => write!(f, "{inet}"),
            Address::Unix(path) => write!(f, "unix:{}", Escaped(path.as_os_str().as_bytes())),
            Address::Unnamed => f.write_str("unix:"),
        }
    }
}
