//! Two hosts and a long wire between them.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

use super::tun;
use crate::lab::Network;
use crate::support::Client;
use crate::support::process::in_network_of;

const SERVER: Ipv4Addr = Ipv4Addr::new(10, 51, 0, 1);
const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 51, 0, 2);

/// Its devices are deleted at its end.
pub struct Wire {
    pub network: Network,
    _ends: [File; 2],
}

/// Where a client is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// On the server's own host.
    Near,
    /// At the other end of the wire.
    Far,
}

impl Wire {
    /// A packet takes `delay` from one end to the other.
    pub fn lay(delay: Duration) -> Self {
        let network = Network::new(&[]);
        let ends = [(Place::Near, SERVER), (Place::Far, CLIENT)].map(|(place, address)| {
            let host = if place == Place::Near { &network.server } else { &network.client };
            let end = in_network_of(host.pid(), || tun::open("wire").unwrap());
            host.run(&format!("ip address add {address}/24 dev wire"));
            host.run("ip link set wire up");
            end
        });
        tun::carry(&ends[0], &ends[1], delay).unwrap();
        Self { network, _ends: ends }
    }

    pub fn connect(&self, place: Place, protocol: Protocol, port: u16) -> Client {
        let host = if place == Place::Near { &self.network.server } else { &self.network.client };
        in_network_of(host.pid(), || {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(protocol)).unwrap();
            socket.connect(&SocketAddr::from((SERVER, port)).into()).unwrap();
            Client::from(TcpStream::from(socket))
        })
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        // The device exists while a thread reads from it, and the thread waits as long as the device exists.
        for host in [&self.network.server, &self.network.client] {
            host.try_run("ip link delete wire");
        }
    }
}
