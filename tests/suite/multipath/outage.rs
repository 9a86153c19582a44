//! The network is gone for a while, or the client: the transfer goes on afterwards.

use std::thread::sleep;
use std::time::Duration;

use rustix::process::Signal;

use super::{LIMIT, Lab, MULTIPATH};
use crate::lab::{Client, Loss, Network, Transfer, git, succeed};
use crate::support::process::{descendants, signal};

/// Longer than gitd and gitd-connect once waited before they closed the connection.
const OUTAGE: Duration = Duration::from_secs(20);

fn clone_of(lab: &Lab, client: Client) -> Transfer {
    let mut transfer = Transfer::clone(&lab.network, client, &lab.repository, "10.50.1.1");
    transfer.await_share(0.3);
    transfer
}

/// git is stopped, or its disk is slow: nothing is wrong with the connection.
#[test]
#[ignore = "clones over links for many seconds"]
fn a_git_that_stands_still() {
    needs_lab!();
    let lab = Lab::new(&[50], MULTIPATH, 20);
    let transfer = clone_of(&lab, Client::Connect);
    let program =
        |pid: u32| std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    let mut client = descendants(transfer.pid());
    client.retain(|&pid| !program(pid).starts_with("gitd-connect"));
    assert!(!client.is_empty());
    client.iter().for_each(|&pid| signal(pid, Signal::STOP));
    sleep(OUTAGE);
    client.iter().for_each(|&pid| signal(pid, Signal::CONT));
    transfer.finish(LIMIT).verify(&lab.repository);
}

/// A laptop leaves one network, and enters another a while later.
#[test]
#[ignore = "clones over links for many seconds"]
fn one_network_after_another() {
    needs_lab!();
    let lab = Lab::new(&[50, 50], MULTIPATH, 20);
    let Network { client, links, .. } = &lab.network;
    client.run("ip mptcp endpoint flush");
    Loss::ClientDown.lose(&lab.network, links[1]);
    let transfer = clone_of(&lab, Client::Connect);
    Loss::ClientDown.lose(&lab.network, links[0]);
    sleep(OUTAGE);
    Loss::ClientDown.restore(&lab.network, links[1]);
    lab.network.await_link(links[1]);
    let (address, device) = (links[1].client_address(), links[1].client_device());
    client.run(&format!("ip mptcp endpoint add {address} dev {device} subflow"));
    let outcome = transfer.finish(LIMIT);
    outcome.verify(&lab.repository);
    println!("stall {:?}", outcome.record.longest_stall());
}

/// All links are gone, and come back.
fn no_link(client: Client, pushes: bool) {
    let lab = Lab::new(&[50], MULTIPATH, 20);
    let pushed = tempfile::tempdir_in(lab.repository.base()).unwrap();
    let transfer = if pushes {
        succeed(git(pushed.path()).args(["init", "-q", "--bare", "-b", "master"]));
        // Else its objects would be unpacked, and no pack would grow.
        succeed(git(pushed.path()).args(["config", "receive.unpackLimit", "1"]));
        let destination = pushed.path();
        let mut transfer =
            Transfer::push(&lab.network, client, &lab.repository, "10.50.1.1", destination);
        transfer.await_share(0.3);
        transfer
    } else {
        clone_of(&lab, client)
    };
    Loss::Blackhole.lose(&lab.network, lab.network.links[0]);
    sleep(OUTAGE);
    Loss::Blackhole.restore(&lab.network, lab.network.links[0]);
    let outcome = transfer.finish(LIMIT);
    outcome.verify(&lab.repository);
    println!("{client:?} stall {:?}", outcome.record.longest_stall());
}

#[test]
#[ignore = "clones over links for many seconds"]
fn a_clone_without_a_link() {
    needs_lab!();
    no_link(Client::Connect, false);
}

#[test]
#[ignore = "clones over links for many seconds"]
fn a_clone_without_a_link_over_tcp() {
    needs_lab!();
    no_link(Client::ConnectTcp, false);
}

#[test]
#[ignore = "clones over links for many seconds"]
fn a_push_without_a_link() {
    needs_lab!();
    no_link(Client::Connect, true);
}
