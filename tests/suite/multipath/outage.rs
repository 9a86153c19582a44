//! The network is gone for a while, or the client: the transfer goes on afterwards.

use std::thread::sleep;
use std::time::Duration;

use rustix::process::Signal;

use super::{LIMIT, Lab, MULTIPATH};
use crate::lab::{Client, Loss, Network, Transfer, git, succeed, take_turn};
use crate::support::process::{descendants, signal};

/// Longer than gitd and gitd-connect once waited before they closed the connection.
const OUTAGE: Duration = Duration::from_secs(20);

fn clone_of(lab: &Lab, client: Client) -> Transfer {
    let mut transfer = Transfer::clone(&lab.network, client, &lab.repository, "10.50.1.1");
    transfer.await_share(0.3);
    transfer
}

/// All at a time, each in a network of its own: they do next to nothing but wait.
#[test]
#[ignore = "clones over links for many seconds"]
fn transfers_go_on() {
    needs_lab!();
    let _turn = take_turn();
    let cases: [(&str, fn()); 5] = [
        ("a git that stands still", a_git_that_stands_still),
        ("one network after another", one_network_after_another),
        ("a clone without a link", || no_link(Client::Connect, false)),
        ("a clone without a link over TCP", || no_link(Client::ConnectTcp, false)),
        ("a push without a link", || no_link(Client::Connect, true)),
    ];
    std::thread::scope(|scope| {
        for (name, case) in cases {
            std::thread::Builder::new().name(name.to_owned()).spawn_scoped(scope, case).unwrap();
        }
    });
}

/// A laboratory with links of 20 Mbit/s.
fn lab(links: usize) -> Lab {
    Lab::on(Network::in_turn(&[20, 20][..links]), MULTIPATH, 20)
}

/// git is stopped, or its disk is slow: nothing is wrong with the connection.
fn a_git_that_stands_still() {
    let lab = lab(1);
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
fn one_network_after_another() {
    let lab = lab(2);
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
    let lab = lab(1);
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
