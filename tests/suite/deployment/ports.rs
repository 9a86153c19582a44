//! --port=auto, --port-file, `Listening on`, --require-all-listeners.

use std::collections::HashSet;
use std::fs;
use std::net::{Ipv6Addr, SocketAddr, TcpListener};

use rustix::process::Signal;

use super::server::{Server, assert_serves, gitd, scratch};
use crate::support::process::wait_until;

#[test]
fn a_free_port_is_reported() {
    let scratch = scratch();
    let server = Server::start(gitd(&scratch).args(["--listen=127.0.0.1", "--port=auto"]));
    let address = server.addresses(1)[0];
    assert_eq!(address.ip().to_string(), "127.0.0.1");
    assert_serves(address);
    let first = String::from_utf8(server.log.raw(0)[0].clone()).unwrap();
    assert_eq!(first, format!("[{}] Ready to rumble\n", server.pid()));
}

#[test]
fn the_same_port_on_all_addresses() {
    let scratch = scratch();
    let listen = ["--listen=127.0.0.1", "--listen=::1", "--listen=127.0.0.3", "--port=auto"];
    let server = Server::start(gitd(&scratch).args(listen));
    let addresses = server.addresses(3);
    let ports: HashSet<u16> = addresses.iter().map(SocketAddr::port).collect();
    assert_eq!(ports.len(), 1, "{addresses:?}");
    addresses.into_iter().for_each(assert_serves);
}

/// Every port of the second address is in use, so each address has its own.
#[test]
fn different_ports_without_a_common_one() {
    let scratch = scratch();
    // In a network of its own two ports are all there are for the asking.
    let server = Server::start(
        gitd(&scratch)
            .namespace("--net")
            .shell("ip link set lo up")
            .shell("echo 20000 20001 >/proc/sys/net/ipv4/ip_local_port_range")
            .args(["--listen=127.0.0.1", "--listen=127.0.0.1", "--port=auto"]),
    );
    let mut ports: Vec<u16> = server.addresses(2).iter().map(SocketAddr::port).collect();
    ports.sort_unstable();
    assert_eq!(ports, [20000, 20001]);
}

#[test]
fn the_port_file_is_there_while_it_listens() {
    let scratch = scratch();
    let file = scratch.root().join("ports");
    let socket = scratch.root().join("socket");
    let mut server = Server::start(
        gitd(&scratch)
            .args(["--listen=127.0.0.1", "--listen=::1", "--port=auto"])
            .option("--listen", format!("unix:{}", socket.display()))
            .option("--port-file", &file),
    );
    let port = server.places(3)[0].rsplit_once(':').unwrap().1.to_owned();
    let text = fs::read_to_string(&file).unwrap();
    assert_eq!(text, format!("127.0.0.1 {port}\n::1 {port}\nunix:{} -\n", socket.display()));
    server.signal(Signal::TERM);
    server.wait();
    assert!(!file.exists() && !socket.exists());
}

/// A reader that polls never sees an empty or a half file, and what it sees works at once.
#[test]
fn the_port_file_is_complete_and_true() {
    let scratch = scratch();
    let file = scratch.root().join("ports");
    let invocation = gitd(&scratch)
        .args(["--listen=127.0.0.1", "--listen=::1", "--port=auto"])
        .option("--port-file", &file);
    let reader = std::thread::spawn(move || {
        let mut text = String::new();
        wait_until("the file is there", || {
            fs::read_to_string(&file).map(|read| text = read).is_ok()
        });
        let address: Vec<&str> = text.lines().next().unwrap().split(' ').collect();
        assert_serves(format!("{}:{}", address[0], address[1]).parse().unwrap());
        text.lines().count()
    });
    let _server = Server::start(invocation);
    assert_eq!(reader.join().unwrap(), 2);
}

/// The new text takes the old one's place in one step: a reader of the old one gets all of that, and one that looks
/// again and again never finds an empty or a half one.
#[test]
fn the_port_file_is_never_half_written() {
    let scratch = scratch();
    let file = scratch.root().join("ports");
    let old = "an older and much longer text\n".repeat(1000);
    fs::write(&file, &old).unwrap();
    let mut opened = fs::File::open(&file).unwrap();
    let (also, before) = (file.clone(), old.clone());
    let reader = std::thread::spawn(move || {
        let mut text = String::new();
        wait_until("there is another text", || {
            text = fs::read_to_string(&also).unwrap();
            text != before
        });
        text
    });
    let _server = Server::start(
        gitd(&scratch)
            .args(["--listen=127.0.0.1", "--listen=::1", "--port=auto"])
            .option("--port-file", &file),
    );
    let text = reader.join().unwrap();
    assert_eq!(text.lines().count(), 2, "{text}");
    assert_eq!(text, fs::read_to_string(&file).unwrap());
    let mut kept = String::new();
    std::io::Read::read_to_string(&mut opened, &mut kept).unwrap();
    assert!(kept == old, "the old file was written over");
}

#[test]
fn a_partial_bind_may_be_fatal() {
    let scratch = scratch();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = format!("--port={}", taken.local_addr().unwrap().port());
    let socket = scratch.root().join("socket");
    let listen = ["--listen=127.0.0.1", "--listen=127.0.0.2", &port];
    let partial =
        || gitd(&scratch).args(listen).option("--listen", format!("unix:{}", socket.display()));
    let server = Server::start(partial());
    assert_eq!(server.places(2)[0], format!("127.0.0.2:{}", taken.local_addr().unwrap().port()));
    drop(server);
    let failed = partial().arg("--require-all-listeners").run();
    assert_eq!(failed.code(), Some(128));
    assert_eq!(
        failed.log(),
        [
            "Could not bind to 127.0.0.1: Address already in use",
            &format!("unable to allocate any listen sockets for host 127.0.0.1 on {}", &port[2..])
                .replace('=', " "),
            "fatal: --require-all-listeners: not every address could be listened on",
        ]
    );
    assert!(!socket.exists());
}

#[test]
fn all_or_nothing_when_all_is_well() {
    let scratch = scratch();
    let server = Server::start(gitd(&scratch).args(["--port=auto", "--require-all-listeners"]));
    let addresses = server.addresses(2);
    assert!(addresses[0].ip().is_unspecified() && addresses[1].ip().is_unspecified());
    assert_eq!(addresses[0].port(), addresses[1].port());
    assert_serves((Ipv6Addr::LOCALHOST, addresses[1].port()).into());
}

/// A pipe is written through, and so is a file behind a symbolic link: neither is gitd's to replace or to remove.
#[test]
fn the_port_file_may_be_no_plain_file() {
    let scratch = scratch();
    let (link, file) = (scratch.root().join("link"), scratch.root().join("file"));
    fs::write(&file, "").unwrap();
    std::os::unix::fs::symlink(&file, &link).unwrap();
    let mut server = Server::start(
        gitd(&scratch).args(["--listen=127.0.0.1", "--port=auto"]).option("--port-file", &link),
    );
    let address = server.addresses(1)[0];
    let text = format!("{} {}\n", address.ip(), address.port());
    assert_eq!(fs::read_to_string(&file).unwrap(), text);
    server.signal(Signal::TERM);
    server.wait();
    assert_eq!(fs::read_to_string(&link).unwrap(), text);
}
