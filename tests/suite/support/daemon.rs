//! A running daemon: where it listens, what it has logged, and its end, which is by its own pid.

use std::net::SocketAddr;
use std::process::{Child, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::Signal;

use super::invocation::unused_port;
use super::log::Log;
use super::process::{children, end, listening, signal, wait_until};
use super::{Client, Implementation, Invocation, Session};

/// Longer than a line takes that is on its way.
const SOON: Duration = Duration::from_secs(5);

pub struct Daemon {
    pub implementation: Implementation,
    pub port: u16,
    pub log: Log,
    /// Whether each connection ends with a line of its own.
    pub verbose: bool,
    child: Child,
    address: SocketAddr,
    status: Option<ExitStatus>,
}

impl Daemon {
    pub(super) fn start(invocation: &Invocation) -> Self {
        Self::try_start(invocation)
            .unwrap_or_else(|log| panic!("the daemon has not started: {log:#?}"))
    }

    /// The daemon, or what it said when it did not start.
    pub(super) fn try_start(invocation: &Invocation) -> Result<Self, Vec<String>> {
        // A free port can be taken by another before the daemon binds it.
        for _ in 0..5 {
            match Self::attempt(invocation) {
                Err(log)
                    if invocation.port.is_none()
                        && log.iter().any(|line| line.contains("Address already in use")) => {}
                result => return result,
            }
        }
        panic!("no port was free in five tries");
    }

    fn attempt(invocation: &Invocation) -> Result<Self, Vec<String>> {
        let port = invocation.port.unwrap_or_else(unused_port);
        let mut command = invocation.command(&invocation.server_args(port));
        let mut child = command
            .stdin(invocation.server_stdin())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let host = match invocation.listen.first() {
            Some(address) if address.contains(':') => format!("[{address}]:{port}"),
            Some(address) if address.starts_with("127.") => format!("{address}:{port}"),
            _ => format!("127.0.0.1:{port}"),
        };
        let mut daemon = Self {
            implementation: invocation.implementation,
            port,
            log: Log::read(child.stderr.take().unwrap()),
            verbose: invocation.verbose && !invocation.logs_elsewhere(),
            child,
            address: host.parse().unwrap(),
            status: None,
        };
        let ready = if daemon.verbose {
            daemon.log.try_wait(0, |line| line == "Ready to rumble").is_ok()
        } else {
            daemon.wait_listening()
        };
        if ready { Ok(daemon) } else { Err(daemon.log.since(0)) }
    }

    fn wait_listening(&mut self) -> bool {
        let mut ended = false;
        let port = self.port;
        wait_until("it listens", || {
            ended = self.try_status().is_some();
            ended || listening(port)
        });
        !ended
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn connect(&self) -> Client {
        Client::connect(self.address)
    }

    pub fn url(&self, path: &str) -> String {
        format!("git://{}{path}", self.address)
    }

    /// One connection from the first byte to its last log line: see [`Session`].
    pub fn talk(&self, request: impl AsRef<[u8]>) -> Session {
        Session::run(self, request.as_ref())
    }

    /// The same with the request that git sends.
    pub fn ask(&self, service: &str, pathname: &str) -> Session {
        self.talk(super::request(service, pathname))
    }

    pub fn signal(&self, which: Signal) {
        signal(self.pid(), which);
    }

    pub fn try_status(&mut self) -> Option<ExitStatus> {
        if self.status.is_none() {
            self.status = self.child.try_wait().unwrap();
        }
        self.status
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> ExitStatus {
        wait_until("the daemon ends", || self.try_status().is_some());
        self.status.unwrap()
    }

    /// Waits for the end of one more connection; the lines since `mark`.
    pub fn wait_disconnected(&self, mark: usize) -> Vec<String> {
        let disconnected = |line: &str| line.starts_with("Disconnected");
        if self.implementation == Implementation::Stock
            && !self.log.has_within(SOON, mark, disconnected)
        {
            // It misses a child that ends just before it waits for the next client, until something else happens.
            let daemons = std::iter::once(self.pid()).chain(children(self.pid()));
            daemons.for_each(|pid| signal(pid, Signal::CHILD));
        }
        self.log.wait(mark, disconnected)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}
