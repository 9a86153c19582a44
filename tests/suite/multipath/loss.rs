//! A link lost in the middle of a clone.

use std::time::Duration;

use super::{LIMIT, Lab, MULTIPATH};
use crate::lab::{Client, Loss, Network, Transfer};

fn lose(loss: Loss) {
    for index in [0, 1] {
        let lab = Lab::new(&[50, 50], MULTIPATH, 20);
        let link = lab.network.links[index];
        let mut transfer =
            Transfer::clone(&lab.network, Client::Connect, &lab.repository, "10.50.1.1");
        transfer.await_share(0.3);
        loss.lose(&lab.network, link);
        let outcome = transfer.finish(LIMIT);
        println!(
            "{} of link {}: {:?} stall {:?} {:?}",
            loss.name(),
            link.number,
            outcome.duration,
            outcome.record.longest_stall(),
            outcome.record.link_bytes()
        );
        outcome.verify(&lab.repository);
        // Far below a second on an idle machine; this one may be busy, and plain TCP waits for ever.
        assert!(outcome.record.longest_stall() < Duration::from_secs(2));
    }
}

#[test]
#[ignore = "clones over links for many seconds"]
fn silent_blackhole() {
    needs_lab!();
    lose(Loss::Blackhole);
}

#[test]
#[ignore = "clones over links for many seconds"]
fn server_interface_down() {
    needs_lab!();
    lose(Loss::ServerDown);
}

#[test]
#[ignore = "clones over links for many seconds"]
fn client_interface_down() {
    needs_lab!();
    lose(Loss::ClientDown);
}

#[test]
#[ignore = "clones over links for many seconds"]
fn client_address_deleted() {
    needs_lab!();
    lose(Loss::AddressDeleted);
}

/// Shows that it is MPTCP which saves the others.
#[test]
#[ignore = "clones over links for many seconds"]
fn plain_tcp_gets_no_further_byte() {
    needs_lab!();
    let lab = Lab::new(&[50, 50], MULTIPATH, 20);
    let mut transfer = Transfer::clone(&lab.network, Client::Git, &lab.repository, "10.50.1.1");
    transfer.await_share(0.3);
    Loss::Blackhole.lose(&lab.network, lab.network.links[0]);
    // What had crossed the link may still be on its way through git.
    let outcome = transfer.finish(Duration::from_secs(6));
    assert!(!outcome.succeeded);
    assert!(outcome.bytes < lab.repository.pack_bytes() / 2);
    let silence = outcome.record.silence_at_the_end();
    assert!(silence > Duration::from_secs(4), "{silence:?}");
}

#[test]
#[ignore = "clones over links for many seconds"]
fn a_link_that_comes_back_is_used_again() {
    needs_lab!();
    let lab = Lab::new(&[50, 50], MULTIPATH, 60);
    let link = lab.network.links[1];
    let mut transfer = Transfer::clone(&lab.network, Client::Connect, &lab.repository, "10.50.1.1");
    transfer.await_share(0.2);
    Loss::Blackhole.lose(&lab.network, link);
    transfer.await_share(0.3);
    Loss::Blackhole.restore(&lab.network, link);
    let restored = transfer.elapsed();
    let outcome = transfer.finish(LIMIT);
    outcome.verify(&lab.repository);
    let bytes = outcome.record.link_bytes_since(restored);
    println!("since it is back: {bytes:?}");
    assert!(bytes[1] > 5_000_000, "{bytes:?}");
}

/// As NetworkManager does when a network is left and entered again: the address goes with its endpoint, and both come back.
#[test]
#[ignore = "clones over links for many seconds"]
fn a_network_that_is_entered_again_joins_the_clone_under_way() {
    needs_lab!();
    let lab = Lab::new(&[50, 50], MULTIPATH, 60);
    let Network { client, links, .. } = &lab.network;
    let (address, device) = (links[1].client_address(), links[1].client_device());
    let mut transfer = Transfer::clone(&lab.network, Client::Connect, &lab.repository, "10.50.1.1");
    transfer.await_share(0.2);
    client.run("ip mptcp endpoint flush");
    Loss::ClientDown.lose(&lab.network, links[1]);
    transfer.await_share(0.3);
    Loss::ClientDown.restore(&lab.network, links[1]);
    // The kernel tries a new path only once, and an interface needs a moment.
    lab.network.await_link(links[1]);
    let restored = transfer.elapsed();
    client.run(&format!("ip mptcp endpoint add {address} dev {device} subflow"));
    let outcome = transfer.finish(LIMIT);
    outcome.verify(&lab.repository);
    let bytes = outcome.record.link_bytes_since(restored);
    println!("since it is back: {bytes:?}");
    assert!(bytes[1] > 5_000_000, "{bytes:?}");
}
