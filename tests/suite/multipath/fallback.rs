//! Where MPTCP is refused, stripped or dropped, git works over TCP.

use super::{LIMIT, Lab, MULTIPATH};
use crate::lab::{Client, Daemon, Outcome, Transfer, middlebox};

const SMALL: u32 = 2;
const SERVER: &str = "10.50.1.1";

/// A clone, and how many MPTCP sessions and further paths the server has seen.
fn clone(lab: &Lab, client: Client, host: &str) -> (Outcome, [u64; 2]) {
    let count =
        || ["MPCapableACKRX", "MPJoinAckRx"].map(|name| lab.network.server.mptcp_counter(name));
    let before = count();
    let outcome = Transfer::clone(&lab.network, client, &lab.repository, host).finish(LIMIT);
    outcome.verify(&lab.repository);
    let after = count();
    (outcome, [after[0] - before[0], after[1] - before[1]])
}

#[test]
fn without_hindrance_there_are_two_paths() {
    needs_lab!();
    let lab = Lab::new(&[50, 50], MULTIPATH, SMALL);
    for client in [Client::Connect, Client::Mptcpize] {
        assert_eq!(clone(&lab, client, SERVER).1, [1, 1], "{client:?}");
    }
    for client in [Client::Git, Client::ConnectTcp] {
        assert_eq!(clone(&lab, client, SERVER).1, [0, 0], "{client:?}");
    }
}

#[test]
fn ipv6_has_two_paths_too() {
    needs_lab!();
    let lab = Lab::new(&[50, 50], MULTIPATH, SMALL);
    for client in [Client::Connect, Client::Mptcpize] {
        let (_, seen) = clone(&lab, client, "[fd50:1::1]");
        assert_eq!(seen, [1, 1], "{client:?}");
    }
}

#[test]
fn a_client_whose_kernel_refuses_uses_tcp() {
    needs_lab!();
    let lab = Lab::new(&[50], MULTIPATH, SMALL);
    lab.network.client.sysctl("net.mptcp.enabled=0");
    assert_eq!(clone(&lab, Client::Connect, SERVER).1, [0, 0]);
}

#[test]
fn a_server_without_mptcp_is_reached_by_tcp() {
    needs_lab!();
    let lab = Lab::new(&[50], Daemon::Stock, SMALL);
    assert_eq!(clone(&lab, Client::Connect, SERVER).1, [0, 0]);
}

#[test]
fn a_middlebox_that_strips_the_option_costs_nothing() {
    needs_lab!();
    let lab = Lab::new(&[50], MULTIPATH, SMALL);
    middlebox(&lab.network, "reset tcp option mptcp");
    let (_, seen) = clone(&lab, Client::Connect, SERVER);
    assert_eq!(seen, [0, 0]);
    // Not because the client had not asked.
    assert_eq!(lab.network.client.mptcp_counter("MPCapableSYNTX"), 1);
}

#[test]
fn a_middlebox_that_drops_the_option_is_found_out_by_the_kernel() {
    needs_lab!();
    let lab = Lab::new(&[50], MULTIPATH, SMALL);
    middlebox(&lab.network, "tcp flags syn tcp option mptcp exists drop");
    let (_, seen) = clone(&lab, Client::Connect, SERVER);
    assert_eq!(seen, [0, 0]);
    assert_eq!(lab.network.client.mptcp_counter("MPCapableSYNTXDrop"), 1);
}

#[test]
fn a_firewall_that_refuses_the_option_is_asked_again_without() {
    needs_lab!();
    let lab = Lab::new(&[50], MULTIPATH, SMALL);
    let network = &lab.network;
    network.server.nft(
        "add table inet box; add chain inet box c { type filter hook input priority 0; }; \
         add rule inet box c tcp option mptcp exists reject with tcp reset",
    );
    assert_eq!(clone(&lab, Client::Connect, SERVER).1, [0, 0]);
    assert!(network.client.mptcp_counter("MPCapableSYNTX") >= 1);
}
