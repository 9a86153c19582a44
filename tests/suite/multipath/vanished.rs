//! A client that is gone must not keep a service.

use std::thread;
use std::time::{Duration, Instant};

use super::{Lab, MULTIPATH};
use crate::lab::{Client, Transfer};

/// Waits until no service runs on the server's host; returns how long that took.
fn await_end_of_services(lab: &Lab, limit: Duration) -> Duration {
    let begin = Instant::now();
    while lab.network.server.runs("upload-pack") || lab.network.server.runs("pack-objects") {
        assert!(begin.elapsed() < limit, "a service is left: {:#?}", lab.server.log());
        thread::sleep(Duration::from_millis(20));
    }
    begin.elapsed()
}

fn a_killed_client(client: Client, limit: Duration) {
    let lab = Lab::new(&[2], MULTIPATH, 30);
    let mut transfer = Transfer::clone(&lab.network, client, &lab.repository, "10.50.1.1");
    transfer.await_share(0.01);
    assert!(lab.network.server.runs("upload-pack"));
    drop(transfer);
    let took = await_end_of_services(&lab, limit);
    println!("{client:?}: the service ended after {took:?}");
    lab.server.await_line("Disconnected");
}

#[test]
#[ignore = "clones over links for many seconds"]
fn killed_over_tcp() {
    needs_lab!();
    a_killed_client(Client::Git, Duration::from_secs(10));
}

/// The client's kernel answers for it for a minute, and then resets the connection.
#[test]
#[ignore = "clones over links for many seconds"]
fn killed_over_mptcp() {
    needs_lab!();
    a_killed_client(Client::Connect, Duration::from_secs(80));
}

/// The kernel never wakes a writer whose last path has died.
#[test]
#[ignore = "clones over links for many seconds"]
fn all_paths_dead_under_a_service_that_writes() {
    needs_lab!();
    let lab = Lab::new(&[10, 10], MULTIPATH, 30);
    let server = &lab.network.server;
    server.sysctl("net.mptcp.close_timeout=2");
    let mut transfer = Transfer::clone(&lab.network, Client::Connect, &lab.repository, "10.50.1.1");
    transfer.await_share(0.05);
    // Each path is reset on its own host, and the client hears nothing of it.
    server.nft(
        "add table inet box; add chain inet box c { type filter hook output priority 0; }; \
         add rule inet box c tcp sport 9418 reject with tcp reset",
    );
    let took = await_end_of_services(&lab, Duration::from_secs(40));
    println!("the service ended after {took:?}");
    lab.server.await_line("Disconnected");
    drop(transfer);
}
