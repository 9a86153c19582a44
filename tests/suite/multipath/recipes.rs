//! What `docs/mptcp.md` tells people to type.

use super::{LIMIT, Lab, MULTIPATH};
use crate::lab::{Client, Loss, Network, Transfer};

#[test]
fn a_second_address_that_the_server_announces_is_used() {
    needs_lab!();
    let lab = Lab::new(&[50, 50], MULTIPATH, 10);
    let Network { server, client, .. } = &lab.network;
    client.run("ip mptcp endpoint flush");
    server.run("ip mptcp endpoint add 10.50.2.1 dev ms2 signal");
    client.run("ip mptcp limits set subflow 2 add_addr_accepted 1");
    let transfer = Transfer::clone(&lab.network, Client::Connect, &lab.repository, "10.50.1.1");
    let outcome = transfer.finish(LIMIT);
    outcome.verify(&lab.repository);
    let bytes = outcome.record.link_bytes();
    assert!(bytes.iter().all(|bytes| *bytes > 3_000_000), "{bytes:?}");
}

/// The server's common address may be a balancer's; its own one is announced.
#[test]
fn paths_keep_off_an_address_that_denies_them() {
    needs_lab!();
    let lab = Lab::new(&[50, 50], MULTIPATH, 2);
    let Network { server, client, .. } = &lab.network;
    server.sysctl("net.mptcp.allow_join_initial_addr_port=0");
    let paths = || {
        let transfer = Transfer::clone(&lab.network, Client::Connect, &lab.repository, "10.50.1.1");
        transfer.finish(LIMIT).verify(&lab.repository);
        server.mptcp_counter("MPJoinAckRx")
    };
    assert_eq!(paths(), 0);
    server.run("ip mptcp endpoint add 10.50.2.1 dev ms2 signal");
    client.run("ip mptcp limits set subflow 2 add_addr_accepted 2");
    assert!(paths() > 0);
}

/// Two default routes that differ in their metric, and a server that is on neither network.
#[test]
fn a_laptop_needs_no_rules() {
    needs_lab!();
    let lab = Lab::new(&[50, 50], MULTIPATH, 10);
    let Network { server, client, links, .. } = &lab.network;
    server.run("ip addr add 10.99.0.1/32 dev lo");
    for link in links {
        let (table, metric) = (50 + link.number, 300 * link.number);
        client.run(&format!("ip rule del from {} table {table}", link.client_address()));
        client.run(&format!(
            "ip route add default via {} dev {} metric {metric}",
            link.server_address(),
            link.client_device()
        ));
    }
    // NetworkManager names both addresses.
    client.run("ip mptcp endpoint add 10.50.1.2 dev mc1 subflow");
    let transfer = Transfer::clone(&lab.network, Client::Connect, &lab.repository, "10.99.0.1");
    let outcome = transfer.finish(LIMIT);
    outcome.verify(&lab.repository);
    let bytes = outcome.record.link_bytes();
    assert!(bytes.iter().all(|bytes| *bytes > 3_000_000), "{bytes:?}");
}

#[test]
#[ignore = "clones over links for many seconds"]
fn a_backup_link_is_used_only_when_the_other_is_lost() {
    needs_lab!();
    let lab = Lab::new(&[50, 50], MULTIPATH, 20);
    let Network { client, links, .. } = &lab.network;
    client.run("ip mptcp endpoint flush");
    client.run("ip mptcp endpoint add 10.50.2.2 dev mc2 subflow backup");
    let mut transfer = Transfer::clone(&lab.network, Client::Connect, &lab.repository, "10.50.1.1");
    transfer.await_share(0.5);
    let before = transfer.elapsed();
    Loss::Blackhole.lose(&lab.network, links[0]);
    let outcome = transfer.finish(LIMIT);
    outcome.verify(&lab.repository);
    let (all, since) = (outcome.record.link_bytes(), outcome.record.link_bytes_since(before));
    assert!(all[1] - since[1] < 100_000, "used before it was needed: {all:?}, {since:?}");
    assert!(since[1] > 5_000_000, "{since:?}");
}
