//! git kept apart from its surroundings, `gitd-connect` with three pipes, and a stock daemon to connect to.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use socket2::{Domain, Protocol, Socket, Type};
use tempfile::TempDir;

use crate::support::process::{await_readable, output, wait_for};
use crate::support::{DEADLINE, Git};

pub(crate) const CONNECT: &str = env!("CARGO_BIN_EXE_gitd-connect");

/// The client's git, apart from this machine's and this user's configuration.
pub(crate) fn git(home: &Path) -> Command {
    apart(Git::client_program(), home)
}

fn apart(program: &Path, home: &Path) -> Command {
    let mut git = Command::new(program);
    git.current_dir(home)
        .env("HOME", home)
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("LC_ALL", "C")
        .env_remove("GIT_PROXY_COMMAND")
        .env_remove("GIT_ENABLE_MPTCP")
        .args(["-c", "user.name=a", "-c", "user.email=a@example.org"])
        .stdin(Stdio::null());
    git
}

#[track_caller]
pub(crate) fn succeed(command: &mut Command) -> String {
    let output = output(command);
    assert!(output.status.success(), "{command:?}: {}", text(&output.stderr));
    text(&output.stdout)
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

pub(crate) fn listen(address: &str, protocol: Protocol) -> (Socket, SocketAddr) {
    let address: SocketAddr = address.parse().unwrap();
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(protocol)).unwrap();
    socket.bind(&address.into()).unwrap();
    socket.listen(128).unwrap();
    let bound = socket.local_addr().unwrap().as_socket().unwrap();
    (socket, bound)
}

/// The client that comes next; it must not be silent for long either.
pub(crate) fn accept(listener: &Socket) -> Socket {
    await_readable("a client comes", listener);
    let (client, _) = listener.accept().unwrap();
    client.set_read_timeout(Some(DEADLINE)).unwrap();
    client.set_write_timeout(Some(DEADLINE)).unwrap();
    client
}

pub(crate) fn connect_to(address: SocketAddr) -> Command {
    let mut command = Command::new(CONNECT);
    command
        .args([address.ip().to_string(), address.port().to_string()])
        .env_remove("GIT_ENABLE_MPTCP")
        .env("LC_ALL", "C")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// The stock daemon in its --inetd form behind a listener of ours: no port to guess, nothing to wait for.
pub(crate) struct Stock {
    base: TempDir,
    address: SocketAddr,
    ending: Arc<AtomicBool>,
    acceptor: Option<JoinHandle<()>>,
}

impl Stock {
    pub(crate) fn start(address: &str, protocol: Protocol) -> Self {
        let base = tempfile::tempdir().unwrap();
        let home = base.path();
        succeed(git(home).args(["init", "-q", "--bare", "r.git"]));
        let tree = succeed(git(home).args(["-C", "r.git", "mktree"]).stdin(Stdio::null()));
        let commit =
            succeed(git(home).args(["-C", "r.git", "commit-tree", "-m", "one", tree.trim()]));
        for name in ["master", "other"] {
            let name = format!("refs/heads/{name}");
            succeed(git(home).args(["-C", "r.git", "update-ref", &name, commit.trim()]));
        }

        let (listener, address) = listen(address, protocol);
        let ending = Arc::new(AtomicBool::new(false));
        let (ended, base_path) = (Arc::clone(&ending), home.to_owned());
        let acceptor = thread::spawn(move || {
            let mut services = Vec::new();
            while let Ok((socket, _)) = listener.accept() {
                if ended.load(Ordering::SeqCst) {
                    break;
                }
                services.push(inetd(&base_path, socket));
            }
            for service in &mut services {
                ended_service(service);
            }
        });
        Self { base, address, ending, acceptor: Some(acceptor) }
    }

    pub(crate) fn home(&self) -> &Path {
        self.base.path()
    }

    pub(crate) fn url(&self) -> String {
        format!("git://{}/r.git", self.address)
    }

    pub(crate) fn tip(&self, name: &str) -> String {
        succeed(git(self.home()).args(["-C", "r.git", "rev-parse", name]))
    }
}

fn inetd(base: &Path, socket: Socket) -> Child {
    let output: OwnedFd = socket.try_clone().unwrap().into();
    apart(Git::program(), base)
        .args(["daemon", "--inetd", "--export-all", "--enable=receive-pack"])
        .arg(format!("--base-path={}", base.display()))
        .stdin(OwnedFd::from(socket))
        .stdout(output)
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

fn ended_service(service: &mut Child) {
    let status = wait_for(service);
    assert!(status.code().is_some(), "{status}");
}

impl Drop for Stock {
    fn drop(&mut self) {
        self.ending.store(true, Ordering::SeqCst);
        let _ = std::net::TcpStream::connect(self.address);
        if let Some(acceptor) = self.acceptor.take()
            && acceptor.join().is_err()
            && !thread::panicking()
        {
            panic!("a service did not end with its client");
        }
    }
}
