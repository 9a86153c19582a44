//! A command line for either implementation, and running it: to its end, or as a server.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU16, Ordering};

use socket2::{Domain, Socket, Type};

use super::process::wait_until;
use super::scratch::install;
use super::{Daemon, Git, Implementation, Scratch, Stock};

pub struct Invocation {
    pub(super) implementation: Implementation,
    root: PathBuf,
    args: Vec<OsString>,
    directories: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    cwd: PathBuf,
    user: Option<(u32, u32)>,
    shell: Vec<String>,
    namespaces: Vec<&'static str>,
    pub(super) listen: Vec<String>,
    pub(super) port: Option<u16>,
    spell_port: fn(u16) -> String,
    pub(super) verbose: bool,
    stdin: Option<File>,
}

/// How a run to the end has ended.
#[derive(Debug)]
pub struct Outcome {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

impl Invocation {
    pub(super) fn new(implementation: Implementation, scratch: &Scratch) -> Self {
        let home = scratch.home();
        let environment = [
            ("PATH", Git::server_path()),
            ("HOME", home.clone().into()),
            ("XDG_CONFIG_HOME", home.join(".config").into()),
            ("GIT_CONFIG_SYSTEM", home.join("system").into()),
            ("LC_ALL", "C".into()),
        ];
        Self {
            implementation,
            root: scratch.root().to_owned(),
            args: Vec::new(),
            directories: Vec::new(),
            environment: environment.map(|(name, value)| (name.into(), value)).into(),
            cwd: scratch.root().to_owned(),
            user: None,
            shell: Vec::new(),
            namespaces: Vec::new(),
            listen: vec!["127.0.0.1".to_owned()],
            port: None,
            spell_port: |port| port.to_string(),
            verbose: true,
            stdin: None,
        }
    }

    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    pub fn args<S: AsRef<OsStr>>(self, args: impl IntoIterator<Item = S>) -> Self {
        args.into_iter().fold(self, Self::arg)
    }

    /// `--name=value`, where the value is a path.
    pub fn option(self, name: &str, value: impl AsRef<OsStr>) -> Self {
        let mut arg = OsString::from(name);
        arg.push("=");
        arg.push(value);
        self.arg(arg)
    }

    pub fn base_path(self) -> Self {
        let base = self.root.join("srv");
        self.option("--base-path", base)
    }

    /// A directory of the list at the end of the command line.
    pub fn directory(mut self, directory: impl AsRef<OsStr>) -> Self {
        self.directories.push(directory.as_ref().to_owned());
        self
    }

    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        let value = value.as_ref().to_owned();
        self.environment.push((name.as_ref().to_owned(), value));
        self
    }

    /// Without a variable that every daemon has.
    pub fn without_env(mut self, name: &str) -> Self {
        self.environment.retain(|(given, _)| given != name);
        self
    }

    /// Configuration of command scope, as `git -c` passes it on.
    pub fn command_config(self, pairs: &[(&str, &str)]) -> Self {
        let mut this = self.env("GIT_CONFIG_COUNT", pairs.len().to_string());
        for (i, (key, value)) in pairs.iter().enumerate() {
            this = this
                .env(format!("GIT_CONFIG_KEY_{i}"), key)
                .env(format!("GIT_CONFIG_VALUE_{i}"), value);
        }
        this
    }

    /// A directory that comes first in PATH.
    pub fn path_first(self, directory: &Path) -> Self {
        let mut path = directory.as_os_str().to_owned();
        path.push(":");
        path.push(Git::server_path());
        self.env("PATH", path)
    }

    pub fn cwd(mut self, directory: impl AsRef<Path>) -> Self {
        self.cwd = directory.as_ref().to_owned();
        self
    }

    /// Runs as another user; only root can.
    pub fn user(mut self, uid: u32, gid: u32) -> Self {
        self.user = Some((uid, gid));
        self
    }

    /// Standard input for a server and for the shell before it.
    pub fn stdin(mut self, stdin: File) -> Self {
        self.stdin = Some(stdin);
        self
    }

    pub(super) fn server_stdin(&self) -> Stdio {
        let given = self.stdin.as_ref().map(|stdin| stdin.try_clone().unwrap());
        given.map_or_else(Stdio::null, Stdio::from)
    }

    /// A line of shell to run before the daemon, in the process that becomes it.
    pub fn shell(mut self, line: impl Into<String>) -> Self {
        self.shell.push(line.into());
        self
    }

    /// A namespace of its own, as `unshare` names it: `--mount`, `--net`.
    pub fn namespace(mut self, option: &'static str) -> Self {
        if !self.namespaces.contains(&option) {
            self.namespaces.push(option);
        }
        self
    }

    /// Another file in /etc, for this daemon alone.
    pub fn etc(self, name: &str, contents: &str) -> Self {
        let ours = self.root.join(format!("etc-{name}"));
        fs::write(&ours, contents).unwrap();
        self.namespace("--mount").shell(format!("mount --bind {} /etc/{name}", ours.display()))
    }

    /// No --verbose: only what stock logs in any case.
    pub fn quiet(mut self) -> Self {
        self.verbose = false;
        self
    }

    /// Where to listen instead of 127.0.0.1; nothing for every address.
    pub fn listen(mut self, addresses: &[&str]) -> Self {
        self.listen = addresses.iter().map(|&a| a.to_owned()).collect();
        self
    }

    /// This port and no other.
    pub fn port(mut self, port: u16) -> Self {
        self.port = Some(port);
        self
    }

    /// How the number of the port is written.
    pub fn spell_port(mut self, spell: fn(u16) -> String) -> Self {
        self.spell_port = spell;
        self
    }

    /// Starts the server and returns when it listens.
    pub fn start(self) -> Daemon {
        Daemon::start(&self)
    }

    /// The same; `None` for a command line with which it does not start.
    pub fn try_start(self) -> Option<Daemon> {
        Daemon::try_start(&self).ok()
    }

    /// Runs it with these arguments alone, to its end.
    pub fn run(self) -> Outcome {
        let mut command = self.command(&[]);
        run(command.stdin(Stdio::null()))
    }

    /// Starts it like a server, but to see it fail.
    pub fn run_as_server(self) -> Outcome {
        let port = self.port.unwrap_or_else(unused_port);
        let mut command = self.command(&self.server_args(port));
        run(command.stdin(Stdio::null()))
    }

    pub(super) fn server_args(&self, port: u16) -> Vec<String> {
        let mut args: Vec<_> =
            self.listen.iter().map(|address| format!("--listen={address}")).collect();
        args.push(format!("--port={}", (self.spell_port)(port)));
        if self.verbose {
            args.push("--verbose".to_owned());
        }
        args
    }

    /// Whether standard error stays empty.
    pub(super) fn logs_elsewhere(&self) -> bool {
        let last = self.args.iter().rev().find_map(|arg| {
            let arg = arg.to_str()?;
            match arg {
                "--syslog" => Some("syslog"),
                _ => arg.strip_prefix("--log-destination="),
            }
        });
        !matches!(last, None | Some("stderr"))
    }

    /// The command, with `first` before the case's own arguments.
    pub fn command(&self, first: &[String]) -> Command {
        let program = self.program();
        let mut command = if self.shell.is_empty() && self.namespaces.is_empty() {
            Command::new(program)
        } else {
            self.through_shell(&program)
        };
        command
            .env_clear()
            .args(first)
            .args(&self.args)
            .args(&self.directories)
            .current_dir(&self.cwd);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        if let Some((uid, gid)) = self.user {
            command.uid(uid).gid(gid);
        }
        command
    }

    fn program(&self) -> PathBuf {
        let built = self.implementation.binary();
        if self.implementation == Stock || self.user.is_none() {
            return built;
        }
        // Another user may not be able to reach the build directory.
        let copy = self.root.join("gitd");
        if !copy.exists() && fs::hard_link(&built, &copy).is_err() {
            install(&built, &copy);
        }
        copy
    }

    /// `exec` makes no process, nor does `unshare` without --fork: the pid stays the daemon's.
    fn through_shell(&self, program: &Path) -> Command {
        let script = self.root.join("prepare.sh");
        let lines = self.shell.join("\n");
        fs::write(&script, format!("set -e\n{lines}\nexec \"$@\"\n")).unwrap();
        let mut command = if self.namespaces.is_empty() {
            Command::new("sh")
        } else {
            let mut command = Command::new("unshare");
            if !rustix::process::geteuid().is_root() {
                command.arg("--map-root-user");
            }
            command.args(&self.namespaces).arg("sh");
            command
        };
        command.arg(script).arg(program);
        command
    }
}

impl Outcome {
    pub fn code(&self) -> Option<i32> {
        self.status.code()
    }

    /// Standard error with every `[pid] ` removed.
    pub fn log(&self) -> Vec<String> {
        let log = super::log::Log::read(std::io::Cursor::new(self.stderr.clone()));
        log.wait_end()
    }
}

/// A port on which no process listens, for a daemon that binds with SO_REUSEADDR: an inetd, or gitd and stock with
/// `--reuseaddr`.
pub fn free_port() -> u16 {
    next_port(true)
}

/// A port for a daemon that binds without SO_REUSEADDR: no connection of an earlier daemon is left either. It may still
/// be taken when the daemon binds it, because a child that another thread forks meanwhile has a copy of the socket that
/// tried the port. Then [`Daemon::try_start`] tries another port.
pub(super) fn unused_port() -> u16 {
    next_port(false)
}

/// A port of this process's own block, which lies below the ports that the kernel gives to connecting sockets. A port
/// comes again only after all others of the block, so that neither another test nor its clients take it before the
/// daemon does.
fn next_port(shared: bool) -> u16 {
    static BLOCK: OnceLock<(UnixDatagram, u16)> = OnceLock::new();
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let (_, first) = BLOCK.get_or_init(claim_ports);
    let is_free = |port: &u16| {
        [IpAddr::from(Ipv4Addr::UNSPECIFIED), Ipv6Addr::UNSPECIFIED.into()].iter().all(|&address| {
            let address = SocketAddr::new(address, *port);
            let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).unwrap();
            socket.set_reuse_address(shared).unwrap();
            socket.bind(&address.into()).is_ok()
        })
    };
    let mut free = None;
    wait_until("a port is free", || {
        let mut all = (0..PORTS).map(|_| first + NEXT.fetch_add(1, Ordering::Relaxed) % PORTS);
        free = all.find(is_free);
        free.is_some()
    });
    free.unwrap()
}

/// How many ports a process has. The kernel keeps a port for a minute after a daemon has closed a connection on it, and
/// the tests need fewer ports in a minute. A power of two, so that their order survives the counter's overflow.
const PORTS: u16 = 2048;

/// The first port of a free block, and the bound name that keeps other processes from the block.
fn claim_ports() -> (UnixDatagram, u16) {
    let mut claimed = None;
    wait_until("a block of ports is free", || {
        claimed = (10_000..32_000 - PORTS).step_by(PORTS.into()).find_map(|first| {
            let name = format!("gitd-test-ports-{first}");
            let name = std::os::unix::net::SocketAddr::from_abstract_name(name).unwrap();
            Some((UnixDatagram::bind_addr(&name).ok()?, first))
        });
        claimed.is_some()
    });
    claimed.unwrap()
}

/// Runs to the end, with a deadline: a server that starts although it should not would run for ever.
pub fn run(command: &mut Command) -> Outcome {
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let stdout = super::log::Log::read(child.stdout.take().unwrap());
    let stderr = super::log::Log::read(child.stderr.take().unwrap());
    let mut status = None;
    let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        wait_until("the command ends", || {
            status = child.try_wait().unwrap();
            status.is_some()
        });
    }));
    if ended.is_err() {
        child.kill().unwrap();
        child.wait().unwrap();
        panic!("{command:?} runs on: {:?}", stderr.since(0));
    }
    let text = |log: super::log::Log| {
        log.wait_end();
        String::from_utf8_lossy(&log.raw(0).concat()).into_owned()
    };
    Outcome { status: status.unwrap(), stdout: text(stdout), stderr: text(stderr) }
}
