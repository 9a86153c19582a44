//! --moved-to: a retired server.

use super::server::{Server, gitd, scratch};
use crate::support::strace::Trace;
use crate::support::{Client, End, Git, Packet, pkt, request};

#[test]
fn every_request_is_sent_elsewhere() {
    let scratch = scratch();
    let server = Server::start(gitd(&scratch).args([
        "--listen=127.0.0.1",
        "--port=auto",
        "--moved-to=https://new.example.org/%H%D",
    ]));
    let address = server.addresses(1)[0];
    let moved = "moved; use https://new.example.org/localhost";
    for (service, path) in [
        ("upload-pack", "/repo.git"),
        ("upload-pack", "/no/such"),
        ("receive-pack", "/repo.git"),
        ("upload-archive", "/../%x"),
    ] {
        let mark = server.log.mark();
        let mut client = Client::connect(address);
        client.send(request(service, path));
        let url = format!("{moved}{}", path.replace('%', "%25"));
        assert_eq!(client.packet(), Packet::Data(format!("ERR {url}").into_bytes()));
        assert_eq!(client.rest().1, End::Closed);
        // gitd waits for a client that stays.
        drop(client);
        let lines = server.log.wait(mark, |line| line.starts_with("Disconnected"));
        assert!(lines.contains(&url.replace("moved; use", "moved to")), "{lines:#?}");
    }
    let mut client = Client::connect(address);
    client.send(pkt("no request"));
    assert_eq!(client.rest().0, b"");
}

/// The user of git reads where to go.
#[test]
fn in_the_clients_words() {
    let scratch = scratch();
    let server = Server::start(gitd(&scratch).args([
        "--listen=127.0.0.1",
        "--port=auto",
        "--moved-to=https://new.example.org%D",
    ]));
    let url = format!("git://{}/a%20b.git", server.addresses(1)[0]);
    let said = Git::new(&scratch).args(["ls-remote", &url]).fails();
    assert!(
        said.contains("remote error: moved; use https://new.example.org/a%20b.git\n"),
        "{said}"
    );
}

/// Nothing on disk is touched: there need not even be a directory to serve.
#[test]
fn no_repository_is_opened() {
    let scratch = scratch();
    let server = Server::start(
        gitd(&scratch)
            .args(["--listen=127.0.0.1", "--port=auto", "--moved-to=x%D", "--strict-paths"])
            .directory("/nonexistent"),
    );
    let calls = "trace=openat,open,newfstatat,readlink,execve,clone,fork,vfork";
    let Some(trace) = Trace::attach(&scratch, server.pid(), &[calls]) else { return };
    let mut client = Client::connect(server.addresses(1)[0]);
    client.send(request("upload-pack", "/repo.git"));
    assert_eq!(client.packet(), Packet::Data(b"ERR moved; use x/repo.git".to_vec()));
    client.rest();
    let calls = trace.end();
    assert!(!calls.contains("repo.git") && !calls.contains("exec"), "{calls}");
}
