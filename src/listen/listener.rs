//! Addresses and listening sockets: TCP, or Multipath TCP if it was asked for and the kernel
//! supports it.

use std::env;
use std::ffi::CStr;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::process::Command;

use socket2::{Domain, Protocol, Socket, Type};

use crate::config::options::{Multipath, Port};
use crate::config::{Daemon, ListenOn};
use crate::listen::unix;
use crate::log::event;
use crate::net::address::Address;
use crate::sys::errno_text;
use crate::sys::resolve::{Purpose, ResolveError, resolve};

/// The result of listening.
#[derive(Debug, Default)]
pub struct Listening {
    /// The sockets that listen.
    pub listeners: Vec<Listener>,
    /// Whether gitd could not listen on some place that was asked for.
    pub partial: bool,
    /// Warnings for the administrator once the server is ready.
    pub warnings: Vec<String>,
}

/// A socket that listens.
#[derive(Debug)]
pub struct Listener {
    /// The socket; it is non-blocking.
    pub socket: Socket,
    /// Where it listens.
    pub address: Address,
    /// Whether it was passed by the service manager, which keeps it open when this process ends.
    pub passed: bool,
}

/// Multipath TCP was required, and the kernel refuses it.
#[derive(Debug, thiserror::Error)]
#[error("--mptcp=require: Multipath TCP is not available: {}; {}", errno_text(.0), cure(.0))]
pub struct NoMultipath(io::Error);

/// How often to try another free port until one is free on every address.
const FREE_PORT_TRIES: usize = 16;

/// Binds and listens on every address of every host, unless sockets were `passed` and no address or
/// port was named. An address that fails is logged and skipped (contract 11).
pub fn listen(daemon: &Daemon, passed: Vec<Listener>) -> Result<Listening, NoMultipath> {
    let own = passed.is_empty() || daemon.place_named;
    let mut listening = Listening { listeners: passed, ..Listening::default() };
    if !own {
        return Ok(listening);
    }
    let groups = groups(daemon);
    let mut attempt = Attempt::make(daemon, &groups, false)?;
    for turn in 1..=FREE_PORT_TRIES {
        if !attempt.port_taken {
            break;
        }
        // The ports of the last attempt are held until the next one has others. But the final
        // attempt takes any ports, and may need those.
        let settle = turn == FREE_PORT_TRIES;
        if settle {
            attempt.outcomes.clear();
        }
        attempt = Attempt::make(daemon, &groups, settle)?;
    }
    attempt.report(&groups, daemon.port, &mut listening);
    listen_in_files(daemon, &mut listening);
    if daemon.multipath != Multipath::Off {
        let addresses = groups.iter().flat_map(Group::addresses).copied();
        listening.warnings.extend(unreachable_endpoints(&addresses.collect::<Vec<_>>()));
    }
    Ok(listening)
}

/// The addresses of one host.
struct Group<'a> {
    /// The host's name; `None` for every address.
    host: Option<&'a CStr>,
    addresses: Result<Vec<SocketAddr>, ResolveError>,
}

impl Group<'_> {
    fn addresses(&self) -> &[SocketAddr] {
        self.addresses.as_deref().unwrap_or_default()
    }
}

fn groups(daemon: &Daemon) -> Vec<Group<'_>> {
    let port = match daemon.port {
        Port::Number(number) => number,
        Port::Auto => 0,
    };
    if daemon.places.is_empty() {
        let every: [IpAddr; 2] = [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()];
        let addresses = Ok(every.map(|ip| SocketAddr::new(ip, port)).to_vec());
        return vec![Group { host: None, addresses }];
    }
    daemon
        .places
        .iter()
        .filter_map(|place| match place {
            ListenOn::Host(host) => Some(host.as_c_str()),
            ListenOn::Unix(_) => None,
        })
        .map(|host| {
            let resolved = resolve(Some(host), port, Purpose::Listen);
            let resolved = resolved.unwrap_or_else(|shortage| Err(shortage.into()));
            Group { host: Some(host), addresses: resolved.map(|resolved| resolved.addresses) }
        })
        .collect()
}

/// One attempt to listen on all addresses.
struct Attempt {
    /// For each group the result of each address.
    outcomes: Vec<Vec<io::Result<Listener>>>,
    /// Whether the free port of one address is in use on another.
    port_taken: bool,
    warnings: Vec<String>,
}

impl Attempt {
    /// With `settle`, addresses may have different ports.
    fn make(daemon: &Daemon, groups: &[Group<'_>], settle: bool) -> Result<Self, NoMultipath> {
        let mut attempt = Attempt { outcomes: Vec::new(), port_taken: false, warnings: Vec::new() };
        let mut common = None;
        for group in groups {
            let mut outcomes = Vec::new();
            for &address in group.addresses() {
                let mut address = address;
                if let Some(port) = common {
                    address.set_port(port);
                }
                let mut outcome = attempt.bind(daemon, address)?;
                if common.is_some() && is_taken(&outcome) {
                    attempt.port_taken = true;
                    if settle {
                        address.set_port(0);
                        outcome = attempt.bind(daemon, address)?;
                    }
                }
                if let (Port::Auto, Ok(Listener { address: Address::Inet(bound), .. })) =
                    (daemon.port, &outcome)
                {
                    common.get_or_insert(bound.port());
                }
                outcomes.push(outcome);
            }
            attempt.outcomes.push(outcomes);
        }
        attempt.port_taken &= !settle;
        Ok(attempt)
    }

    fn bind(
        &mut self,
        daemon: &Daemon,
        address: SocketAddr,
    ) -> Result<io::Result<Listener>, NoMultipath> {
        let socket = open(daemon.multipath, &address, &mut self.warnings)?;
        Ok(socket.and_then(|socket| bind(socket, &address, daemon.reuse_address)))
    }

    /// Logs the failures in the stock daemon's words and order, and keeps the listeners.
    fn report(self, groups: &[Group<'_>], port: Port, listening: &mut Listening) {
        listening.warnings.extend(self.warnings);
        for (group, outcomes) in groups.iter().zip(self.outcomes) {
            let before = listening.listeners.len();
            if let (Some(host), Err(error)) = (group.host, &group.addresses) {
                event::resolve_failed(host.to_bytes(), error);
                listening.partial = true;
            }
            for (address, outcome) in group.addresses().iter().zip(outcomes) {
                match outcome {
                    Ok(listener) => listening.listeners.push(listener),
                    Err(error) => {
                        event::bind_failed(&address.ip(), &errno_text(&error));
                        listening.partial = true;
                    }
                }
            }
            if let Some(host) = group.host
                && listening.listeners.len() == before
            {
                event::host_failed(host.to_bytes(), &port);
            }
        }
    }
}

fn is_taken(outcome: &io::Result<Listener>) -> bool {
    outcome.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::AddrInUse)
}

fn listen_in_files(daemon: &Daemon, listening: &mut Listening) {
    for place in &daemon.places {
        let ListenOn::Unix(path) = place else { continue };
        let address = Address::Unix(path.clone());
        match unix::listen(path, daemon.socket_rights) {
            Ok(socket) => {
                listening.listeners.push(Listener { socket, address, passed: false });
            }
            Err(error) => {
                event::bind_failed(&address, &errno_text(&error));
                listening.partial = true;
            }
        }
    }
}

/// Opens a socket for one listener. After any refusal of Multipath TCP this listener uses TCP,
/// because the errors depend on the kernel's version, its configuration, and security modules.
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

/// What the administrator can do if the kernel refuses Multipath TCP.
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

fn bind(socket: Socket, address: &SocketAddr, reuse_address: bool) -> io::Result<Listener> {
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    if reuse_address {
        socket.set_reuse_address(true)?;
    }
    socket.bind(&(*address).into())?;
    // The largest backlog: the kernel cuts this to net.core.somaxconn (B14).
    socket.listen(libc::c_int::MAX)?;
    // Readiness may be stale by the time of accept, which must not block then.
    socket.set_nonblocking(true)?;
    let bound = socket.local_addr()?.as_socket().unwrap_or(*address);
    Ok(Listener { socket, address: Address::Inet(bound), passed: false })
}

/// Addresses that this host announces to its MPTCP peers but gitd does not listen on: paths to them
/// would be reset. Taken from ip(8), which uses the kernel's netlink; without ip(8) there is no
/// warning.
fn unreachable_endpoints(listening: &[SocketAddr]) -> Vec<String> {
    if listening.iter().any(|address| address.ip().is_unspecified()) {
        return Vec::new();
    }
    let output =
        ip().and_then(|ip| Command::new(ip).args(["mptcp", "endpoint", "show"]).output().ok());
    let Some(output) = output else { return Vec::new() };
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

/// The path of ip(8). Relative directories of PATH are skipped: gitd may be root in another user's
/// working directory.
fn ip() -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    let files = env::split_paths(&path).filter(|directory| directory.is_absolute());
    files.map(|directory| directory.join("ip")).find(|file| file.is_file())
}

/// The endpoints with the flag `signal` and no port of their own, from lines such as `10.0.0.1 id 1
/// signal dev eth0`.
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
