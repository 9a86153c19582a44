//! Listening sockets from systemd's socket activation, sd_listen_fds(3), without its library.

use std::io;
use std::os::fd::OwnedFd;

use socket2::{Socket, Type};
use thiserror::Error;

use crate::config::options::Multipath;
use crate::listen::listener::Listener;
use crate::net::address::Address;
use crate::sys::{errno_text, inherited, socket};

/// Invalid sockets from the environment.
#[derive(Debug, Error)]
pub enum BadSocket {
    /// The environment names descriptors that are not open.
    #[error("LISTEN_FDS={0}: {reason}", reason = errno_text(.1))]
    Missing(String, io::Error),
    /// A descriptor that is no listening stream socket.
    #[error(
        "descriptor {0} from LISTEN_FDS is no listening stream socket (in a socket unit: ListenStream=, Accept=no)"
    )]
    NotListening(usize),
    /// `--mptcp=require`, but the socket is a TCP socket.
    #[error(
        "--mptcp=require: the socket {0} was passed without Multipath TCP; in its socket unit: SocketProtocol=mptcp"
    )]
    NoMultipath(Address),
}

/// Takes over the descriptors that the environment says are for this process. Must be called once,
/// before anything else is opened.
pub fn take() -> Result<Vec<OwnedFd>, BadSocket> {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<i32>().ok());
    let for_us = number("LISTEN_PID").and_then(|pid| u32::try_from(pid).ok());
    let count = number("LISTEN_FDS").filter(|&count| count > 0);
    let (Some(count), true) = (count, for_us == Some(std::process::id())) else {
        return Ok(Vec::new());
    };
    inherited::take(count).map_err(|error| BadSocket::Missing(count.to_string(), error))
}

/// Makes listeners of the passed sockets; also returns warnings for the administrator.
pub fn listeners(
    descriptors: Vec<OwnedFd>,
    multipath: Multipath,
) -> Result<(Vec<Listener>, Vec<String>), BadSocket> {
    let mut warnings = Vec::new();
    let mut listeners = Vec::new();
    for (number, descriptor) in (3..).zip(descriptors) {
        let socket = Socket::from(descriptor);
        let listens = socket.is_listener().unwrap_or(false);
        if !listens || socket.r#type().ok() != Some(Type::STREAM) {
            return Err(BadSocket::NotListening(number));
        }
        // Readiness may be stale by the time of accept, which must not block then.
        if socket.set_nonblocking(true).is_err() {
            return Err(BadSocket::NotListening(number));
        }
        let address = Address::of(&socket);
        let inet = matches!(address, Address::Inet(_));
        if inet && multipath != Multipath::Off && !socket::is_mptcp(&socket) {
            if multipath == Multipath::Require {
                return Err(BadSocket::NoMultipath(address));
            }
            warnings.push(format!(
                "{address} was passed without Multipath TCP; in its socket unit: SocketProtocol=mptcp"
            ));
        }
        listeners.push(Listener { socket, address, passed: true });
    }
    Ok((listeners, warnings))
}
