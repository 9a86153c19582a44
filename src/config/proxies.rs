//! The load balancers that say for whom they connect (`--proxy-protocol`).

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net};

use crate::net::peer::Origin;

/// The peers that begin each connection with a header of the PROXY protocol.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Proxies {
    networks: Vec<IpNet>,
    /// Whether local peers do, on Unix sockets.
    local: bool,
}

impl Proxies {
    /// A list such as `10.0.0.0/8,2001:db8::7,unix`. `None` if a part of it is something else.
    pub fn parse(list: &str) -> Option<Self> {
        let mut proxies = Proxies::default();
        for part in list.split(',') {
            match part {
                "unix" => proxies.local = true,
                _ => proxies.networks.push(network(part)?),
            }
        }
        Some(proxies)
    }

    /// Whether there are any.
    pub fn any(&self) -> bool {
        self.local || !self.networks.is_empty()
    }

    /// Whether the peer is one of them.
    pub fn include(&self, peer: Origin) -> bool {
        match peer {
            Origin::Inet(_) => {
                let address = peer.ip();
                self.networks.iter().any(|network| network.contains(&address))
            }
            Origin::Local(_) => self.local,
        }
    }
}

/// A network, or a single address. Mapped IPv4 addresses stand for what they map, as everywhere.
fn network(text: &str) -> Option<IpNet> {
    let network = match text.parse::<IpAddr>() {
        Ok(address) => address.into(),
        Err(_) => text.parse::<IpNet>().ok()?,
    };
    let mapped = || {
        let length = network.prefix_len().checked_sub(128 - 32)?;
        let IpAddr::V4(address) = network.addr().to_canonical() else { return None };
        Ipv4Net::new(address, length).ok().map(IpNet::V4)
    };
    match network {
        IpNet::V4(_) => Some(network),
        IpNet::V6(_) => Some(mapped().unwrap_or(network)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists() {
        let proxies = |list| Proxies::parse(list).unwrap();
        for (list, address, included) in [
            ("10.0.0.0/8", "10.255.0.1", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("10.1.2.3/8", "10.9.9.9", true),
            ("192.0.2.7", "192.0.2.7", true),
            ("192.0.2.7", "192.0.2.8", false),
            ("192.0.2.7", "::ffff:192.0.2.7", true),
            ("::ffff:192.0.2.0/120", "192.0.2.200", true),
            ("::ffff:192.0.2.0/120", "192.0.3.1", false),
            ("::ffff:192.0.2.7", "::ffff:192.0.2.7", true),
            ("::1,2001:db8::/32", "2001:db8:1::1", true),
            ("::1,2001:db8::/32", "2001:db9::1", false),
            ("0.0.0.0/0", "192.0.2.7", true),
            ("0.0.0.0/0", "::1", false),
            ("::/0", "::1", true),
            ("::/0", "192.0.2.7", false),
            ("unix", "127.0.0.1", false),
            ("unix,127.0.0.0/8", "127.0.0.1", true),
        ] {
            let address: IpAddr = address.parse().unwrap();
            let peer = Origin::Inet((address, 1234).into());
            assert_eq!(proxies(list).include(peer), included, "{list} {address}");
            assert!(proxies(list).any());
        }
        assert!(proxies("unix").include(Origin::Local(Some(7))));
        assert!(!proxies("0.0.0.0/0,::/0").include(Origin::Local(None)));
        assert!(!Proxies::default().any());
        assert!(!Proxies::default().include(Origin::Inet(([127, 0, 0, 1], 1).into())));
        let bad =
            ["", ",", "10.0.0.0/8,", "10.0.0.0/33", "10.0.0/8", "localhost", "unix:/run/x", " ::1"];
        for list in bad {
            assert_eq!(Proxies::parse(list), None, "{list}");
        }
    }
}
