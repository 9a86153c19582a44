//! --listen=unix:/path, and gitd-connect as its client.

use std::fs;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use rustix::process::Signal;

use super::server::{Server, gitd, scratch};
use crate::support::{Client, DEADLINE, Git, Invocation, Scratch, needs_root, request};

const CONNECT: &str = env!("CARGO_BIN_EXE_gitd-connect");

fn on(scratch: &Scratch) -> (Invocation, PathBuf) {
    let path = scratch.root().join("Socket");
    (gitd(scratch).option("--listen", format!("unix:{}", path.display())), path)
}

fn ask(path: &Path) -> String {
    let mut client = UnixStream::connect(path).unwrap();
    client.set_read_timeout(Some(DEADLINE)).unwrap();
    client.write_all(&request("upload-pack", "/repo.git")).unwrap();
    client.write_all(b"0000").unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn nothing_else_is_listened_on() {
    let scratch = scratch();
    let (invocation, path) = on(&scratch);
    let mut server = Server::start(invocation);
    assert_eq!(server.places(1), [format!("unix:{}", path.display())]);
    let file = fs::metadata(&path).unwrap();
    assert!(file.file_type().is_socket());
    assert_eq!(file.permissions().mode() & 0o777, 0o666);
    assert!(ask(&path).contains("refs/heads/is-repo"));
    let user = rustix::process::geteuid().as_raw();
    let lines = server.log.wait(0, |line| line == "Disconnected");
    assert!(lines.contains(&format!("Connection from unix:uid={user}")), "{lines:#?}");
    server.signal(Signal::TERM);
    server.wait();
    assert!(!path.exists());
}

/// The service gets no address, and the port of the request is not used.
#[test]
fn the_service_hears_of_no_address() {
    let scratch = scratch();
    let fake =
        scratch.fake_git("head -c 4 >/dev/null; printf '0010%-12s0000' \"${REMOTE_ADDR-none}\"\n");
    let (invocation, path) = on(&scratch);
    let _server = Server::start(invocation.path_first(&fake).env("REMOTE_ADDR", "forged"));
    assert_eq!(ask(&path), format!("0010{:<12}0000", "none"));
}

#[test]
fn mode_and_owner() {
    needs_root!();
    let scratch = scratch();
    let (invocation, path) = on(&scratch);
    let _server =
        Server::start(invocation.args(["--socket-mode=640", "--socket-owner=daemon:games"]));
    let file = fs::metadata(&path).unwrap();
    let number = |database: &str, name: &str| {
        let text = fs::read_to_string(database).unwrap();
        let line = text.lines().find(|line| line.starts_with(&format!("{name}:"))).unwrap();
        line.split(':').nth(2).unwrap().parse::<u32>().unwrap()
    };
    assert_eq!(file.permissions().mode() & 0o777, 0o640);
    let owner = (number("/etc/passwd", "daemon"), number("/etc/group", "games"));
    assert_eq!((file.uid(), file.gid()), owner);
}

/// gitd replaces the socket of a killed server, but not one on which a server listens, nor another kind of file.
#[test]
fn only_what_is_dead_is_replaced() {
    let scratch = scratch();
    let (invocation, path) = on(&scratch);
    drop(UnixListener::bind(&path).unwrap());
    let server = Server::start(invocation);
    let second = on(&scratch).0.run();
    assert_eq!(second.code(), Some(128));
    let words = format!("Could not bind to unix:{}: Address already in use", path.display());
    assert!(second.log().contains(&words), "{:?}", second.log());
    assert!(ask(&path).contains("refs/heads/is-repo"));
    drop(server);
    assert!(path.exists(), "a killed server cannot remove it");
    fs::remove_file(&path).unwrap();
    fs::write(&path, "precious").unwrap();
    assert_eq!(on(&scratch).0.run().code(), Some(128));
    assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
}

/// A successor's socket is not the old one's to remove.
#[test]
fn a_successor_keeps_its_socket() {
    let scratch = scratch();
    let (invocation, path) = on(&scratch);
    let mut server = Server::start(invocation);
    fs::remove_file(&path).unwrap();
    let _successor = Server::start(on(&scratch).0);
    server.signal(Signal::TERM);
    server.wait();
    assert!(ask(&path).contains("refs/heads/is-repo"));
}

/// Nor is its port file. The old one has stopped listening and still serves a client; file systems give the number of
/// its socket's inode to the next one.
#[test]
fn a_successor_of_one_that_still_serves() {
    let scratch = scratch();
    let port_file = scratch.root().join("ports");
    let start = |port: &str| {
        let (invocation, path) = on(&scratch);
        let invocation = invocation.args(["--listen=127.0.0.1", "--reuseaddr"]);
        let invocation = invocation.option("--port", port);
        (Server::start(invocation.option("--port-file", &port_file)), path)
    };
    let (mut server, path) = start("auto");
    let address: SocketAddr = server.places(2).iter().find_map(|place| place.parse().ok()).unwrap();
    let mut client = Client::connect(address);
    client.send(request("upload-pack", "/repo.git"));
    client.packets_to_flush();
    server.signal(Signal::TERM);
    server.log.wait(0, |line| line.starts_with("stopped listening"));
    let (successor, _) = start(&address.port().to_string());
    let text = fs::read(&port_file).unwrap();
    client.send("0000");
    client.rest();
    server.wait();
    assert!(ask(&path).contains("refs/heads/is-repo"));
    assert_eq!(fs::read(&port_file).unwrap(), text);
    drop(successor);
}

#[test]
fn git_clones_and_pushes_through_gitd_connect() {
    let scratch = scratch();
    let (invocation, path) = on(&scratch);
    let _server = Server::start(invocation.arg("--enable=receive-pack"));
    let git = || {
        Git::new(&scratch).env("GIT_PROXY_COMMAND", CONNECT).env("GITD_SOCKET", path.as_os_str())
    };
    git().args(["clone", "-q", "git://any.invalid/repo.git", "copy"]).ok();
    let copy = scratch.root().join("copy");
    git().cwd(&copy).args(["commit", "-q", "--allow-empty", "-m", "more"]).ok();
    git().cwd(&copy).args(["push", "-q", "origin", "HEAD:refs/heads/pushed"]).ok();
    let pushed =
        Git::new(&scratch).cwd(scratch.path("repo.git")).args(["rev-parse", "pushed"]).ok();
    assert_eq!(pushed, git().cwd(&copy).args(["rev-parse", "HEAD"]).ok());
    let said =
        git().env("GITD_SOCKET", "/nonexistent").args(["ls-remote", "git://x/repo.git"]).fails();
    assert!(
        said.contains("gitd-connect: cannot connect to /nonexistent: no such file or directory; "),
        "{said}"
    );
}
