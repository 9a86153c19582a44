//! One server under test: git daemon, gitd, or the floor, started on a port of its own and ended by its own pid.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::{Result, git, process, procfs};

/// The programs that are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Stock,
    Gitd,
    /// No daemon at all: an accepted connection is handed to a spawned `git upload-pack`, nothing is read or checked.
    Floor,
}

impl Side {
    pub(crate) const ALL: [Side; 3] = [Side::Stock, Side::Gitd, Side::Floor];
    pub(crate) const DAEMONS: [Side; 2] = [Side::Stock, Side::Gitd];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Side::Stock => "git daemon",
            Side::Gitd => "gitd",
            Side::Floor => "floor",
        }
    }
}

/// Where and how a server is started.
pub(crate) struct Place<'a> {
    pub(crate) gitd: &'a Path,
    pub(crate) base_path: &'a Path,
    /// What the floor serves; the daemons get it from each request.
    pub(crate) repository: &'a str,
    pub(crate) log: PathBuf,
    pub(crate) address: IpAddr,
    /// In a namespace of our own all ports are free; elsewhere one is found.
    pub(crate) port: Option<u16>,
    /// A command that runs the server somewhere else, such as in another network namespace. Must not fork.
    pub(crate) through: Vec<String>,
    pub(crate) options: Vec<String>,
}

impl<'a> Place<'a> {
    pub(crate) fn loopback(
        gitd: &'a Path,
        base_path: &'a Path,
        repository: &'a str,
        scratch: &Path,
    ) -> Self {
        Self {
            gitd,
            base_path,
            repository,
            log: scratch.join("server.log"),
            address: IpAddr::V4(Ipv4Addr::LOCALHOST),
            port: None,
            through: Vec::new(),
            options: Vec::new(),
        }
    }
}

pub(crate) struct Server {
    pub(crate) side: Side,
    pub(crate) address: SocketAddr,
    child: Child,
    resting_processes: usize,
}

impl Server {
    pub(crate) fn start(side: Side, place: &Place<'_>) -> Result<Self> {
        let mut server = match side {
            Side::Floor => Self::start_floor(place)?,
            Side::Stock | Side::Gitd => Self::start_daemon(side, place)?,
        };
        server.resting_processes = procfs::tree(server.pid())?.len();
        Ok(server)
    }

    fn start_daemon(side: Side, place: &Place<'_>) -> Result<Self> {
        let program = match side {
            Side::Stock => git::exec_path()?.join("git-daemon"),
            _ => place.gitd.to_owned(),
        };
        let port = place.port.map_or_else(|| free_port(place.address), Ok)?;
        let mut command = process::tied(&place.through, &program);
        command
            .args(["--export-all", "--reuseaddr", "--enable=receive-pack", "--max-connections=0"])
            .arg(format!("--base-path={}", place.base_path.display()))
            .arg(format!("--listen={}", place.address))
            .arg(format!("--port={port}"))
            .args(&place.options)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::options().create(true).append(true).open(&place.log)?);
        git::clean_environment(&mut command);
        let child = command.spawn()?;
        let address = SocketAddr::new(place.address, port);
        let mut server = Self { side, address, child, resting_processes: 1 };
        server.wait_until_it_listens(&place.log)?;
        Ok(server)
    }

    fn wait_until_it_listens(&mut self, log: &Path) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(10);
        while TcpStream::connect_timeout(&self.address, Duration::from_secs(2)).is_err() {
            if let Some(status) = self.child.try_wait()? {
                let said = std::fs::read_to_string(log).unwrap_or_default();
                let last = said.lines().last().unwrap_or("nothing");
                return Err(
                    format!("{} ended at its start, {status}: {last}", self.side.name()).into()
                );
            }
            if Instant::now() > deadline {
                return Err(
                    format!("{} does not listen on {}", self.side.name(), self.address).into()
                );
            }
            thread::sleep(Duration::from_millis(5));
        }
        // git daemon has a child for the connection just made: it must be gone before anything is counted.
        procfs::settle(self.pid(), 1, Duration::from_secs(5))
    }

    fn start_floor(place: &Place<'_>) -> Result<Self> {
        let mut command = process::tied(&place.through, &std::env::current_exe()?);
        command
            .arg("@floor")
            .arg(place.base_path.join(place.repository))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit());
        git::clean_environment(&mut command);
        let mut child = command.spawn()?;
        let mut line = String::new();
        if let Some(stdout) = child.stdout.take() {
            BufReader::new(stdout).read_line(&mut line)?;
        }
        let address = line
            .trim()
            .parse()
            .map_err(|_| format!("the floor said {line:?} instead of its address"))?;
        Ok(Self { side: Side::Floor, address, child, resting_processes: 1 })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn url(&self, repository: &str) -> String {
        format!("git://{}/{repository}", self.address)
    }

    /// Waits until every service has ended and has been reaped.
    pub(crate) fn settle(&self) -> Result<()> {
        procfs::settle(self.pid(), self.resting_processes, Duration::from_secs(20))
    }

    pub(crate) fn processes(&self) -> Result<usize> {
        Ok(procfs::tree(self.pid())?.len())
    }

    /// Of the server and all that it has started, in MiB.
    pub(crate) fn pss_mib(&self) -> Result<f64> {
        Ok(procfs::pss_kib(self.pid())? as f64 / 1024.0)
    }

    /// CPU seconds of the server and of all it has started, once that has ended.
    pub(crate) fn cpu_seconds(&self) -> Result<f64> {
        self.settle()?;
        procfs::cpu_seconds(self.pid())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Its services too: most have lost their clients and end by themselves, but one whose client's last packet met
        // a full accept queue does not know.
        let tree = procfs::tree(self.pid()).unwrap_or_default();
        if tree.len() > 1 {
            let pids = tree.iter().skip(1).map(u32::to_string);
            let _ = Command::new("kill").arg("-KILL").args(pids).stderr(Stdio::null()).status();
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A port on which no server listens now.
fn free_port(address: IpAddr) -> Result<u16> {
    Ok(TcpListener::bind((address, 0))?.local_addr()?.port())
}
