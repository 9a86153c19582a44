//! Two hosts and the links between them, as an ordinary laptop with two uplinks and an ordinary server would have them.

use std::fs::File;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use super::host::Host;

/// How long a packet may wait at the end of a link: a queue of this length and no other delay.
const QUEUE: &str = "50ms";

/// One cable: `ms<n>` at the server, `mc<n>` at the client.
#[derive(Debug, Clone, Copy)]
pub struct Link {
    pub number: usize,
    pub megabits: u32,
}

impl Link {
    pub fn server_device(self) -> String {
        format!("ms{}", self.number)
    }

    pub fn client_device(self) -> String {
        format!("mc{}", self.number)
    }

    pub fn server_address(self) -> String {
        format!("10.50.{}.1", self.number)
    }

    pub fn client_address(self) -> String {
        format!("10.50.{}.2", self.number)
    }

    pub fn server_address_6(self) -> String {
        format!("fd50:{}::1", self.number)
    }

    pub fn client_address_6(self) -> String {
        format!("fd50:{}::2", self.number)
    }
}

/// The whole laboratory. One at a time on a machine: two would share the processors that they measure with.
#[derive(Debug)]
pub struct Network {
    pub server: Host,
    pub client: Host,
    pub links: Vec<Link>,
    _turn: Option<File>,
}

impl Network {
    /// A link for each of `rates`, in Mbit/s. The client tells the kernel that it may open further paths from the
    /// second link on; the server needs nothing.
    pub fn new(rates: &[u32]) -> Self {
        let turn = take_turn();
        Self { _turn: Some(turn), ..Self::in_turn(rates) }
    }

    /// The same beside others; the caller has the turn.
    pub fn in_turn(rates: &[u32]) -> Self {
        let server = Host::new(None);
        let client = Host::new(Some(&server));
        for host in [&server, &client] {
            // Answers to the client's second address may come in by the first link.
            host.sysctl("net.ipv4.conf.all.rp_filter=2");
            host.sysctl("net.ipv4.tcp_no_metrics_save=1");
            // A namespace inherits the machine's algorithm, and bbr would measure itself. Not every machine lets a
            // namespace choose cubic; reno is always allowed, and fills these short links just as well.
            if !host.try_run("sysctl -qw net.ipv4.tcp_congestion_control=cubic") {
                host.sysctl("net.ipv4.tcp_congestion_control=reno");
            }
        }
        let links: Vec<Link> = rates
            .iter()
            .enumerate()
            .map(|(index, megabits)| Link { number: index + 1, megabits: *megabits })
            .collect();
        let network = Self { server, client, links, _turn: None };
        for link in &network.links {
            network.lay(*link);
        }
        network
    }

    fn lay(&self, link: Link) {
        let Link { number, megabits } = link;
        let (at_server, at_client) = (link.server_device(), link.client_device());
        self.server.run(&format!(
            "ip link add {at_server} type veth peer name {at_client} netns {}",
            self.client.pid()
        ));
        let ends = [(&self.server, &at_server, 1), (&self.client, &at_client, 2)];
        for (host, device, end) in ends {
            host.run(&format!("ip addr add 10.50.{number}.{end}/24 dev {device}"));
            host.run(&format!("ip addr add fd50:{number}::{end}/64 dev {device} nodad"));
            host.run(&format!("ip link set {device} up"));
            host.run(&format!(
                "tc qdisc add dev {device} root tbf rate {megabits}mbit burst 16kb latency {QUEUE}"
            ));
        }
        self.route(link);
        if number > 1 {
            let endpoints = [link.client_address(), link.client_address_6()];
            for address in endpoints {
                self.client
                    .run(&format!("ip mptcp endpoint add {address} dev {at_client} subflow"));
            }
        }
    }

    /// What leaves from a link's address leaves through this link. Lost with the link, so laid again with it.
    pub fn route(&self, link: Link) {
        let (device, table) = (link.client_device(), 50 + link.number);
        let families = [
            ("-4", link.client_address(), link.server_address()),
            ("-6", link.client_address_6(), link.server_address_6()),
        ];
        for (family, client, server) in families {
            self.client.try_run(&format!("ip {family} rule del from {client} table {table}"));
            self.client.run(&format!("ip {family} rule add from {client} table {table}"));
            self.client.run(&format!(
                "ip {family} route replace default via {server} dev {device} table {table}"
            ));
        }
    }

    /// Returns when the server answers over this link.
    pub fn await_link(&self, link: Link) {
        let probe = format!("exec 3<>/dev/tcp/{}/9418", link.server_address());
        let begin = Instant::now();
        loop {
            let mut bash = self.client.command("timeout");
            bash.args(["1", "bash", "-c", &probe]).stderr(Stdio::null());
            if bash.status().unwrap().success() {
                return;
            }
            assert!(begin.elapsed() < Duration::from_secs(15), "the link stays down");
        }
    }

    /// Bits per second of all links together.
    pub fn bits_per_second(&self) -> f64 {
        self.links.iter().map(|link| f64::from(link.megabits) * 1e6).sum()
    }
}

/// Between the hosts, as near to the server as there is a place for rules of nftables.
pub fn middlebox(network: &Network, rule: &str) {
    network.server.nft(&format!(
        "add table inet box; add chain inet box c {{ type filter hook prerouting priority raw; }}; \
         add rule inet box c {rule}"
    ));
}

/// Waits until no other laboratory is in use on this machine by this project, in this process or another.
pub fn take_turn() -> File {
    let lock = Path::new(env!("CARGO_TARGET_TMPDIR")).join("lab.lock");
    let lock = File::create(lock).unwrap();
    lock.lock().unwrap();
    lock
}
