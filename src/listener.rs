//! Addresses and listening sockets.

use std::ffi::CStr;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use socket2::{Domain, Protocol, Socket, Type};

use crate::config::Daemon;
use crate::event;
use crate::sys::resolve::{Purpose, resolve};

/// Binds and listens on every address of every host. An address that cannot be listened on is logged
/// and passed over (contract 11).
#[must_use]
pub fn listen(daemon: &Daemon) -> Vec<Socket> {
    if daemon.hosts.is_empty() {
        let every: [IpAddr; 2] = [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()];
        let addresses = every.map(|ip| SocketAddr::new(ip, daemon.port));
        return bind_all(daemon, &addresses);
    }
    daemon.hosts.iter().flat_map(|host| listen_on_host(daemon, host)).collect()
}

fn listen_on_host(daemon: &Daemon, host: &CStr) -> Vec<Socket> {
    let sockets = match resolve(Some(host), daemon.port, Purpose::Listen) {
        Ok(resolved) => bind_all(daemon, &resolved.addresses),
        Err(error) => {
            event::resolve_failed(host.to_bytes(), &error);
            Vec::new()
        }
    };
    if sockets.is_empty() {
        event::host_failed(host.to_bytes(), daemon.port);
    }
    sockets
}

fn bind_all(daemon: &Daemon, addresses: &[SocketAddr]) -> Vec<Socket> {
    let bind = |address: &SocketAddr| match bind(daemon, address) {
        Ok(socket) => Some(socket),
        Err(error) => {
            event::bind_failed(address, &crate::sys::errno_text(&error));
            None
        }
    };
    addresses.iter().filter_map(bind).collect()
}

fn bind(daemon: &Daemon, address: &SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(*address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    if daemon.reuse_address {
        socket.set_reuse_address(true)?;
    }
    socket.bind(&(*address).into())?;
    // As many as the system allows: the kernel cuts this to net.core.somaxconn (B14).
    socket.listen(libc::c_int::MAX)?;
    // Readiness may be stale by the time of accept; only then must it not wait.
    socket.set_nonblocking(true)?;
    Ok(socket)
}
