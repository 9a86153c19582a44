//! What gitd says about its connections' paths.

use std::process::Stdio;

use super::{LIMIT, Lab, MULTIPATH};
use crate::lab::{Client, Daemon, Network, Repository, Server, Transfer, middlebox};
use crate::support::invocation::run;

/// The line at the end of one small clone.
fn last_words(lab: &Lab, client: Client, host: &str) -> String {
    let outcome = Transfer::clone(&lab.network, client, &lab.repository, host).finish(LIMIT);
    outcome.verify(&lab.repository);
    lab.server.await_line("bytes out")
}

#[test]
fn two_paths_are_counted() {
    needs_lab!();
    let lab = Lab::new(&[50, 50], MULTIPATH, 2);
    let line = last_words(&lab, Client::Connect, "10.50.1.1");
    assert!(line.ends_with(", mptcp, 2 paths"), "{line}");
}

#[test]
fn one_path_is_counted() {
    needs_lab!();
    let lab = Lab::new(&[50], MULTIPATH, 2);
    let line = last_words(&lab, Client::Connect, "10.50.1.1");
    assert!(line.ends_with(", mptcp, 1 path"), "{line}");
}

#[test]
fn tcp_is_tcp() {
    needs_lab!();
    let lab = Lab::new(&[50, 50], MULTIPATH, 2);
    let line = last_words(&lab, Client::Git, "10.50.1.1");
    assert!(line.ends_with(", tcp"), "{line}");
}

#[test]
fn what_fell_back_is_told_from_what_never_asked() {
    needs_lab!();
    let lab = Lab::new(&[50], MULTIPATH, 2);
    // The handshake gets through with its options, and the data without: DSS is MPTCP's subtype 2.
    middlebox(&lab.network, "tcp option mptcp subtype 2 reset tcp option mptcp");
    let line = last_words(&lab, Client::Connect, "10.50.1.1");
    assert!(line.ends_with(", mptcp, fell back"), "{line}");
}

#[test]
fn a_server_whose_kernel_refuses_says_so_and_serves_tcp() {
    needs_lab!();
    let repository = Repository::of_megabytes(2);
    let network = Network::new(&[50]);
    network.server.sysctl("net.mptcp.enabled=0");
    let server = Server::start(&network.server, Daemon::Gitd, repository.base());
    let warning = server.await_line("warning: ");
    assert!(warning.contains("sysctl net.mptcp.enabled=1"), "{warning}");
    let transfer = Transfer::clone(&network, Client::Connect, &repository, "10.50.1.1");
    transfer.finish(LIMIT).verify(&repository);
    assert!(server.await_line("bytes out").ends_with(", tcp"));
    // One for each listener, IPv4's and IPv6's, and none for a client.
    let warnings = server.log().iter().filter(|line| line.contains("warning: ")).count();
    assert_eq!(warnings, 2, "{:#?}", server.log());

    let mut required = network.server.command(env!("CARGO_BIN_EXE_gitd"));
    required.args(["--mptcp=require", "--export-all", "--port=9419"]).stdin(Stdio::null());
    let outcome = run(&mut required);
    assert_eq!(outcome.code(), Some(128));
    let error = outcome.stderr;
    assert!(error.starts_with("fatal: ") && error.contains("net.mptcp.enabled=1"), "{error}");
}
