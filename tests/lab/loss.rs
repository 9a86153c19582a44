//! The ways in which a link is lost, and found again.

use super::network::{Link, Network};

/// What happens to a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// Packets are dropped in both directions without an error: a dead radio link, a switch that hangs.
    Blackhole,
    /// The server's interface goes down.
    ServerDown,
    /// The client's interface goes down: the cable is pulled, Wi-Fi is switched off.
    ClientDown,
    /// The client's address is taken away: a lease has run out.
    AddressDeleted,
}

impl Loss {
    pub const ALL: [Self; 4] =
        [Self::Blackhole, Self::ServerDown, Self::ClientDown, Self::AddressDeleted];

    pub fn name(self) -> &'static str {
        match self {
            Self::Blackhole => "silent blackhole",
            Self::ServerDown => "server's interface down",
            Self::ClientDown => "client's interface down",
            Self::AddressDeleted => "client's address deleted",
        }
    }

    pub fn lose(self, network: &Network, link: Link) {
        let Network { server, client, .. } = network;
        let (at_server, at_client) = (link.server_device(), link.client_device());
        match self {
            Self::Blackhole => {
                for (host, device) in [(server, at_server), (client, at_client)] {
                    host.nft(&format!(
                        "add table netdev lost{0}; add chain netdev lost{0} packets \
                         {{ type filter hook ingress device {device} priority 0; policy drop; }}",
                        link.number
                    ));
                }
            }
            Self::ServerDown => drop(server.run(&format!("ip link set {at_server} down"))),
            Self::ClientDown => drop(client.run(&format!("ip link set {at_client} down"))),
            Self::AddressDeleted => {
                client.run(&format!("ip addr del {}/24 dev {at_client}", link.client_address()));
            }
        }
    }

    pub fn restore(self, network: &Network, link: Link) {
        let Network { server, client, .. } = network;
        let (at_server, at_client) = (link.server_device(), link.client_device());
        match self {
            Self::Blackhole => {
                for host in [server, client] {
                    host.nft(&format!("delete table netdev lost{}", link.number));
                }
            }
            Self::ServerDown => {
                server.run(&format!("ip link set {at_server} up"));
                server.run(&format!(
                    "ip addr replace {}/64 dev {at_server} nodad",
                    link.server_address_6()
                ));
            }
            Self::ClientDown => {
                client.run(&format!("ip link set {at_client} up"));
                client.run(&format!(
                    "ip addr replace {}/64 dev {at_client} nodad",
                    link.client_address_6()
                ));
                network.route(link);
            }
            Self::AddressDeleted => {
                client.run(&format!("ip addr add {}/24 dev {at_client}", link.client_address()));
                network.route(link);
            }
        }
    }
}
