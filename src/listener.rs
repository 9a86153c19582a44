//! Addresses and listening sockets: TCP, or Multipath TCP where it was asked for and the kernel plays
//! along.

use std::ffi::CStr;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::process::Command;

use socket2::{Domain, Protocol, Socket, Type};

use crate::config::Daemon;
use crate::event;
use crate::options::Multipath;
use crate::sys::errno_text;
use crate::sys::resolve::{Purpose, resolve};

/// What came of listening.
#[derive(Debug, Default)]
pub struct Listening {
    /// The sockets that listen.
    pub sockets: Vec<Socket>,
    /// What the administrator should hear once the server is ready.
    pub warnings: Vec<String>,
}

/// Multipath TCP was required, and the kernel refuses it.
#[derive(Debug, thiserror::Error)]
#[error("--mptcp=require: Multipath TCP is not available: {}; {}", errno_text(.0), cure(.0))]
pub struct NoMultipath(io::Error);

/// Binds and listens on every address of every host. An address that cannot be listened on is logged
/// and passed over (contract 11).
///
/// # Errors
/// [`NoMultipath`]
pub fn listen(daemon: &Daemon) -> Result<Listening, NoMultipath> {
    let mut listening = Listening::default();
    let mut addresses = Vec::new();
    if daemon.hosts.is_empty() {
        let every: [IpAddr; 2] = [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()];
        addresses.extend(every.map(|ip| SocketAddr::new(ip, daemon.port)));
        bind_all(daemon, &addresses, &mut listening)?;
    }
    for host in &daemon.hosts {
        addresses.extend(listen_on_host(daemon, host, &mut listening)?);
    }
    if daemon.multipath != Multipath::Off {
        listening.warnings.extend(unreachable_endpoints(&addresses));
    }
    Ok(listening)
}

fn listen_on_host(
    daemon: &Daemon,
    host: &CStr,
    listening: &mut Listening,
) -> Result<Vec<SocketAddr>, NoMultipath> {
    let before = listening.sockets.len();
    let addresses = match resolve(Some(host), daemon.port, Purpose::Listen) {
        Ok(resolved) => resolved.addresses,
        Err(error) => {
            event::resolve_failed(host.to_bytes(), &error);
            Vec::new()
        }
    };
    bind_all(daemon, &addresses, listening)?;
    if listening.sockets.len() == before {
        event::host_failed(host.to_bytes(), daemon.port);
    }
    Ok(addresses)
}

fn bind_all(
    daemon: &Daemon,
    addresses: &[SocketAddr],
    listening: &mut Listening,
) -> Result<(), NoMultipath> {
    for address in addresses {
        let socket = open(daemon.multipath, address, &mut listening.warnings)?;
        match socket.and_then(|socket| bind(socket, address, daemon.reuse_address)) {
            Ok(socket) => listening.sockets.push(socket),
            Err(error) => event::bind_failed(address, &errno_text(&error)),
        }
    }
    Ok(())
}

/// Opens a socket for one listener. Any refusal of Multipath TCP means TCP, for this listener: which
/// errors there are depends on the kernel's version, its configuration, and what watches over it.
fn open(
    multipath: Multipath,
    address: &SocketAddr,
    warnings: &mut Vec<String>,
) -> Result<io::Result<Socket>, NoMultipath> {
    let socket =
        |protocol| Socket::new(Domain::for_address(*address), Type::STREAM, Some(protocol));
    if multipath == Multipath::Off {
        return Ok(socket(Protocol::TCP));
    }
    match (socket(Protocol::MPTCP), multipath) {
        (Ok(socket), _) => Ok(Ok(socket)),
        (Err(error), Multipath::Require) => Err(NoMultipath(error)),
        (Err(error), _) => {
            let (reason, cure) = (errno_text(&error), cure(&error));
            warnings.push(format!("no Multipath TCP on {address}, only TCP: {reason}; {cure}"));
            Ok(socket(Protocol::TCP))
        }
    }
}

/// What the administrator can do about a kernel that refuses Multipath TCP.
fn cure(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::ENOPROTOOPT) => "it is switched off: sysctl net.mptcp.enabled=1",
        Some(libc::EPROTONOSUPPORT) => "this kernel is built without it (CONFIG_MPTCP)",
        Some(libc::EINVAL) => "this kernel does not know it: Linux 5.6 or later is needed",
        Some(libc::EPERM | libc::EACCES) => {
            "a seccomp filter or security module forbids socket protocol 262"
        }
        _ => "see docs/mptcp.md",
    }
}

fn bind(socket: Socket, address: &SocketAddr, reuse_address: bool) -> io::Result<Socket> {
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    if reuse_address {
        socket.set_reuse_address(true)?;
    }
    socket.bind(&(*address).into())?;
    // As many as the system allows: the kernel cuts this to net.core.somaxconn (B14).
    socket.listen(libc::c_int::MAX)?;
    // Readiness may be stale by the time of accept; only then must it not wait.
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// Addresses that this host announces to its MPTCP peers and nobody listens on: paths to them would be
/// reset. Asked of ip(8), which speaks the kernel's netlink; without it there is nothing to warn of.
fn unreachable_endpoints(listening: &[SocketAddr]) -> Vec<String> {
    if listening.iter().any(|address| address.ip().is_unspecified()) {
        return Vec::new();
    }
    let Ok(output) = Command::new("ip").args(["mptcp", "endpoint", "show"]).output() else {
        return Vec::new();
    };
    let text = String::from_utf8_lossy(&output.stdout);
    announced(&text)
        .filter(|endpoint| listening.iter().all(|address| address.ip() != *endpoint))
        .map(|endpoint| {
            format!(
                "{endpoint} is announced to MPTCP peers (ip mptcp endpoint), but gitd does not listen \
                 there; add --listen={endpoint}, or listen on all addresses"
            )
        })
        .collect()
}

/// The endpoints with the flag `signal` and no port of their own, from lines such as
/// `10.0.0.1 id 1 signal dev eth0`.
fn announced(endpoints: &str) -> impl Iterator<Item = IpAddr> {
    endpoints.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let address = words.next()?.parse().ok()?;
        words.any(|word| word == "signal").then_some(address)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_signalled_endpoints_are_announced() {
        let text = "10.0.0.1 id 1 signal dev eth0 \n\
                    10.0.0.2 id 2 subflow dev eth1\n\
                    2001:db8::1 id 3 subflow signal\n\
                    nonsense signal\n\n";
        let expected: [IpAddr; 2] = ["10.0.0.1".parse().unwrap(), "2001:db8::1".parse().unwrap()];
        assert_eq!(announced(text).collect::<Vec<_>>(), expected);
    }
}
