//! The server's half: gitd, or the stock daemon with and without MPTCP.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::host::Host;
use super::repository::isolate;

/// Which daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Daemon {
    /// `gitd --mptcp`.
    Gitd,
    /// `gitd` as it comes.
    GitdTcp,
    /// `gitd --inetd` behind a listener for MPTCP.
    GitdInetd,
    /// `git daemon`.
    Stock,
    /// `mptcpize run git daemon`.
    StockMptcp,
}

/// A running daemon, on every address of its host.
#[derive(Debug)]
pub struct Server {
    child: Child,
    log: Arc<Mutex<Vec<String>>>,
    reader: Option<JoinHandle<()>>,
}

impl Server {
    /// Starts it on git's own port.
    pub fn start(host: &Host, daemon: Daemon, base: &Path) -> Self {
        Self::start_on(host, daemon, base, 9418)
    }

    /// Starts it on another port.
    pub fn start_on(host: &Host, daemon: Daemon, base: &Path, port: u16) -> Self {
        Self::start_build(host, daemon, Path::new(env!("CARGO_BIN_EXE_gitd")), base, port)
    }

    /// Starts it, or another build of gitd if it is gitd; returns when it listens.
    pub fn start_build(host: &Host, daemon: Daemon, gitd: &Path, base: &Path, port: u16) -> Self {
        let mut command = match daemon {
            Daemon::Gitd | Daemon::GitdTcp => host.command(gitd),
            Daemon::Stock => host.command("git"),
            Daemon::StockMptcp | Daemon::GitdInetd => host.command("mptcpize"),
        };
        match daemon {
            Daemon::GitdInetd => command
                .args(["run", "systemd-socket-activate", "--accept", "--inetd", "-l"])
                .arg(port.to_string())
                .arg(gitd)
                .arg("--inetd"),
            Daemon::Gitd => command.arg("--mptcp"),
            Daemon::GitdTcp => &mut command,
            Daemon::Stock => command.arg("daemon"),
            Daemon::StockMptcp => command.args(["run", "git", "daemon"]),
        };
        isolate(&mut command);
        let listens = daemon != Daemon::GitdInetd;
        let mut child = command
            .args(["--verbose", "--export-all", "--enable=receive-pack"])
            .arg(format!("--base-path={}", base.display()))
            .args(listens.then(|| format!("--port={port}")))
            .args(listens.then_some("--max-connections=0"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let log = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&log);
        let reader = thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                kept.lock().unwrap().push(line);
            }
        });
        let server = Self { child, log, reader: Some(reader) };
        server.await_line(if listens { "Ready to rumble" } else { "Listening on" });
        server
    }

    /// What it has logged so far.
    pub fn log(&self) -> Vec<String> {
        self.log.lock().unwrap().clone()
    }

    /// Waits for a line that contains `text`, and returns it.
    #[track_caller]
    pub fn await_line(&self, text: &str) -> String {
        let begin = Instant::now();
        loop {
            let log = self.log();
            if let Some(line) = log.iter().find(|line| line.contains(text)) {
                return line.clone();
            }
            assert!(begin.elapsed() < Duration::from_secs(30), "no {text:?} in {log:#?}");
            thread::sleep(Duration::from_millis(5));
        }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Daemon {
    pub fn name(self) -> &'static str {
        match self {
            Self::Gitd => "gitd --mptcp",
            Self::GitdTcp => "gitd",
            Self::GitdInetd => "gitd --inetd",
            Self::Stock => "git daemon",
            Self::StockMptcp => "mptcpize run git daemon",
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // `git daemon` is a wrapper that passes a SIGTERM on and would not pass on a SIGKILL. gitd waits for services that
        // run, of which one may have lost its client for ever; the second signal ends it at once.
        let pid = self.child.id().to_string();
        let begin = Instant::now();
        while matches!(self.child.try_wait(), Ok(None)) {
            if begin.elapsed() > Duration::from_secs(10) {
                // What is below it ends with the host.
                let _ = self.child.kill();
            }
            let _ = Command::new("kill").arg(&pid).status();
            thread::sleep(Duration::from_millis(50));
        }
        // Its last services hold the log open; they end with their clients.
        drop(self.reader.take());
    }
}
