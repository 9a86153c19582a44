//! Addresses, ports and readiness: contract 4 and 10 to 12.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use rustix::process::Signal;

use crate::support::process::{listeners, wait_until};
use crate::support::{Client, Implementation, Scratch, compliance, request};

compliance! {
    ready_is_the_first_line,
    spellings_of_a_port,
    port_0,
    every_address,
    several_addresses,
    an_address_that_fails,
    no_address_at_all,
    names_are_lowercased,
    restart_needs_reuseaddr,
    keepalive,
}

const LOOPBACK4: &str = "0100007F";
const LOOPBACK6: &str = "00000000000000000000000001000000";

/// Contract 10: tools wait for this line, and only --verbose has it.
fn ready_is_the_first_line(d: Implementation) {
    let scratch = Scratch::new();
    let daemon = d.serve(&scratch).start();
    assert_eq!(daemon.log.since(0), ["Ready to rumble"]);
    assert_eq!(daemon.log.raw(0)[0], format!("[{}] Ready to rumble\n", daemon.pid()).as_bytes());
    assert!(!listeners(daemon.port).is_empty());
    let daemon = d.serve(&scratch).quiet().start();
    daemon.ask("upload-pack", "/nothing");
    let first = daemon.log.wait(0, |_| true);
    assert!(first[0].contains("/nothing"), "{first:?}");
}

/// Contract 4: hexadecimal, octal, with a blank or a plus.
fn spellings_of_a_port(d: Implementation) {
    let scratch = Scratch::new();
    for spelling in [
        |port: u16| format!("{port}"),
        |port| format!("0x{port:x}"),
        |port| format!("0X{port:X}"),
        |port| format!("0{port:o}"),
        |port| format!(" {port}"),
        |port| format!("+{port}"),
    ] {
        let daemon = d.serve(&scratch).spell_port(spelling).start();
        assert_eq!(listeners(daemon.port), [LOOPBACK4]);
    }
}

/// Contract 4, 11: git's own port, on every address of either family. In a network of its own, where it is free.
fn port_0(d: Implementation) {
    let scratch = Scratch::new();
    let mut daemon = d.serve(&scratch).namespace("--net").listen(&[]).port(0).start();
    let table =
        |name: &str| std::fs::read_to_string(format!("/proc/{}/net/{name}", daemon.pid())).unwrap();
    assert!(table("tcp").contains(" 00000000:24CA 00000000:0000 0A "));
    assert!(table("tcp6").contains(&format!(" {}:24CA ", "0".repeat(32))));
    daemon.signal(Signal::TERM);
    daemon.wait();
}

/// Contract 11: without --listen both families, by sockets of their own.
fn every_address(d: Implementation) {
    let scratch = Scratch::new();
    let daemon = d.serve(&scratch).listen(&[]).start();
    let mut addresses = listeners(daemon.port);
    addresses.sort();
    assert_eq!(addresses, ["0".repeat(8), "0".repeat(32)]);
    for address in [
        SocketAddr::from((Ipv4Addr::LOCALHOST, daemon.port)),
        SocketAddr::from((Ipv6Addr::LOCALHOST, daemon.port)),
    ] {
        let mark = daemon.log.mark();
        let mut client = Client::connect(address);
        client.send(request("upload-pack", "/nothing"));
        let ours = client.address();
        client.rest();
        drop(client);
        let log = daemon.wait_disconnected(mark);
        assert_eq!(log[0], format!("Connection from {ours}"));
    }
}

/// Contract 11: --listen repeats.
fn several_addresses(d: Implementation) {
    let scratch = Scratch::new();
    let daemon = d.serve(&scratch).listen(&["127.0.0.1", "127.0.0.2", "::1"]).start();
    let mut addresses = listeners(daemon.port);
    addresses.sort();
    assert_eq!(addresses, [LOOPBACK6, LOOPBACK4, "0200007F"]);
    let address = SocketAddr::from((Ipv4Addr::new(127, 0, 0, 2), daemon.port));
    let mut client = Client::connect(address);
    client.send(request("upload-pack", "/nothing"));
    assert!(!client.rest().0.is_empty());
}

/// Contract 11: one address that can be had is enough.
fn an_address_that_fails(d: Implementation) {
    let scratch = Scratch::new();
    let daemon = d.serve(&scratch).listen(&["127.0.0.1", "198.51.100.7", "[::1]"]).start();
    let port = daemon.port;
    assert_eq!(listeners(port), [LOOPBACK4]);
    let log = daemon.log.since(0);
    assert_eq!(
        log,
        [
            "Could not bind to 198.51.100.7: Cannot assign requested address".to_owned(),
            format!("unable to allocate any listen sockets for host 198.51.100.7 on port {port}"),
            "getaddrinfo() for [::1] failed: Name or service not known".to_owned(),
            format!("unable to allocate any listen sockets for host [::1] on port {port}"),
            "Ready to rumble".to_owned(),
        ]
    );
}

/// Contract 11: none is not.
fn no_address_at_all(d: Implementation) {
    let scratch = Scratch::new();
    let outcome = d.serve(&scratch).listen(&["198.51.100.7"]).port(4711).run_as_server();
    assert_eq!(outcome.code(), Some(128));
    assert_eq!(
        outcome.log(),
        [
            "Could not bind to 198.51.100.7: Cannot assign requested address",
            "unable to allocate any listen sockets for host 198.51.100.7 on port 4711",
            "fatal: unable to allocate any listen sockets on port 4711",
        ]
    );
    let other = d.serve(&scratch).start();
    let outcome = d.serve(&scratch).port(other.port).run_as_server();
    assert_eq!(outcome.code(), Some(128));
    assert_eq!(
        outcome.log(),
        [
            "Could not bind to 127.0.0.1: Address already in use".to_owned(),
            format!(
                "unable to allocate any listen sockets for host 127.0.0.1 on port {}",
                other.port
            ),
            format!("fatal: unable to allocate any listen sockets on port {}", other.port),
        ]
    );
    let outcome = d
        .serve(&scratch)
        .listen(&["NoWhere.Example"])
        .etc("nsswitch.conf", "hosts: files\n")
        .port(4711)
        .run_as_server();
    assert_eq!(outcome.code(), Some(128));
    assert_eq!(
        outcome.log(),
        [
            "getaddrinfo() for nowhere.example failed: Name or service not known",
            "unable to allocate any listen sockets for host nowhere.example on port 4711",
            "fatal: unable to allocate any listen sockets on port 4711",
        ]
    );
}

/// Contract 11: names are names in any case.
fn names_are_lowercased(d: Implementation) {
    let scratch = Scratch::new();
    let daemon = d
        .serve(&scratch)
        .etc("hosts", "127.0.0.9 myhost.example\n")
        .etc("nsswitch.conf", "hosts: files\n")
        .listen(&["MyHost.Example"])
        .start();
    assert_eq!(listeners(daemon.port), ["0900007F"]);
}

/// Contract 12: a connection that the daemon closed keeps the port for a minute, unless --reuseaddr.
fn restart_needs_reuseaddr(d: Implementation) {
    let scratch = Scratch::new();
    let mut daemon = d.serve(&scratch).arg("--reuseaddr").start();
    let port = daemon.port;
    // The side that closes first keeps the port, and a refusal is closed by the daemon.
    let mut client = daemon.connect();
    client.send(request("upload-pack", "/nothing"));
    client.rest();
    drop(client);
    wait_until("the connection is in TIME_WAIT", || table_line(port, "06").is_some());
    daemon.signal(Signal::TERM);
    daemon.wait();
    let outcome = d.serve(&scratch).port(port).run_as_server();
    assert_eq!(outcome.log()[0], "Could not bind to 127.0.0.1: Address already in use");
    d.serve(&scratch).port(port).arg("--reuseaddr").start();
}

/// Contract 12: a client that has vanished is noticed some day.
fn keepalive(d: Implementation) {
    let scratch = Scratch::new();
    let daemon = d.serve(&scratch).start();
    let _client = daemon.connect();
    // The timer in the table: 02 is keepalive, with its time in hex.
    wait_until("the keepalive timer runs", || {
        table_line(daemon.port, "01").is_some_and(|line| {
            let timer = line.split_whitespace().nth(5).unwrap();
            let (kind, time) = timer.split_once(':').unwrap();
            kind == "02" && u64::from_str_radix(time, 16).unwrap() > 100_000
        })
    });
}

/// The entry of /proc/net/tcp with this local port in this state.
fn table_line(port: u16, state: &str) -> Option<String> {
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    table.lines().skip(1).find_map(|line| {
        let columns: Vec<_> = line.split_whitespace().collect();
        let ours = columns[1].ends_with(&format!(":{port:04X}")) && columns[3] == state;
        ours.then(|| line.to_owned())
    })
}
