//! gitd started with exactly these arguments; its log tells where it listens.

use std::net::SocketAddr;
use std::process::{Child, ExitStatus, Stdio};

use rustix::process::Signal;

use crate::support::log::Log;
use crate::support::process::{end, signal, wait_until};
use crate::support::{Client, Gitd, Invocation, Scratch};

pub struct Server {
    child: Child,
    pub log: Log,
}

/// Everything below the scratch's repositories, exported, with the log's ordinary lines.
pub fn gitd(scratch: &Scratch) -> Invocation {
    Gitd.serve(scratch).arg("--verbose").arg("--log-destination=stderr")
}

impl Server {
    /// Starts it and returns when it is ready.
    pub fn start(invocation: Invocation) -> Self {
        let mut command = invocation.command(&[]);
        Self::spawn(command.stdin(Stdio::null()).stdout(Stdio::null()))
    }

    pub fn spawn(command: &mut std::process::Command) -> Self {
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let log = Log::read(child.stderr.take().unwrap());
        let server = Self { child, log };
        server.log.wait(0, |line| line == "Ready to rumble");
        server
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The addresses that it logs; waits until there are as many.
    pub fn places(&self, count: usize) -> Vec<String> {
        let mut places = Vec::new();
        wait_until("it has said where it listens", || {
            let lines = self.log.raw(0);
            let lines = lines.iter().map(|line| String::from_utf8_lossy(line).into_owned());
            places = lines
                .filter_map(|line| {
                    Some(line.split_once("] Listening on ")?.1.trim_end().to_owned())
                })
                .collect();
            places.len() >= count
        });
        assert_eq!(places.len(), count, "{places:?}");
        places
    }

    /// The same, of addresses and ports.
    pub fn addresses(&self, count: usize) -> Vec<SocketAddr> {
        self.places(count).iter().map(|place| place.parse().unwrap()).collect()
    }

    pub fn signal(&self, which: Signal) {
        signal(self.pid(), which);
    }

    pub fn wait(&mut self) -> ExitStatus {
        let mut status = None;
        wait_until("it ends", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

/// Whether the repository `/repo.git` is served at this address.
#[track_caller]
pub fn assert_serves(address: SocketAddr) {
    let mut client = Client::connect(address);
    client.send(crate::support::request("upload-pack", "/repo.git"));
    assert!(!client.packets_to_flush().is_empty());
    client.send("0000");
}

/// A scratch directory with one repository.
pub fn scratch() -> Scratch {
    let scratch = Scratch::new();
    scratch.bare("repo.git");
    scratch
}
