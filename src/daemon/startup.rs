//! From the command line to a running server, in a straight line with no thread before its last step:
//! from_options → bind → detach → pid file → drop privileges → start the runtime → `Ready to rumble`.

use std::ffi::OsString;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;

use crate::config::options::{Options, Port, Stop};
use crate::config::{self, Config, ConfigError, Daemon, Identity, Mode};
use crate::daemon::prepared::Prepared;
use crate::daemon::state_file::StateFile;
use crate::daemon::{background, explain, init};
use crate::escape::Escaped;
use crate::git::starter::Starter;
use crate::listen::activation::{self, BadSocket};
use crate::listen::listener;
use crate::listen::listener::{Listener, Listening};
use crate::listen::unix::SocketFile;
use crate::log::Destination;
use crate::log::event;
use crate::log::outlet::Outlet;
use crate::net::address::Address;
use crate::server::inetd;
use crate::server::notify::Manager;
use crate::server::status::door::Door;
use crate::sys::child::End;
use crate::sys::process::Spawner;
use crate::sys::signal::{self};
use crate::sys::{account, descriptor, errno_text};
use crate::{log, server};

/// The descriptors that the service manager opened for this process.
type Passed = Result<Vec<OwnedFd>, BadSocket>;

/// How long to wait for the log's last lines.
const LAST_LINES: Duration = Duration::from_secs(1);

/// How the program ends.
#[derive(Debug)]
pub enum Ending {
    /// With this status.
    Exit(ExitCode),
    /// By the signal that told it to end, which its parent must see (contract 15).
    Signal(i32),
}

/// Why a server does not start.
#[derive(Debug, Error)]
enum Failure {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Multipath(#[from] listener::NoMultipath),
    #[error(transparent)]
    Passed(#[from] BadSocket),
    #[error("unable to allocate any listen sockets on port {0}")]
    NoSocket(Port),
    #[error("--require-all-listeners: not every address could be listened on")]
    PartialBind,
    #[error("cannot listen for --status: {0}")]
    Status(String),
    #[error("could not open '{0}' for writing: {1}")]
    StateFile(String, String),
    #[error("cannot drop privileges: {0}")]
    Privileges(String),
    #[error("cannot detach: {0}")]
    Detach(String),
    #[error("cannot log to the journal: {0}")]
    Journal(String),
    #[error("cannot start: {0}")]
    System(String),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Failure::System(errno_text(&error))
    }
}

/// Runs the program with the arguments after its name.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> Ending {
    if descriptor::fill_standard_streams().is_err() {
        return Ending::Exit(ExitCode::from(128));
    }
    descriptor::close_inherited_on_exec();
    let passed = activation::take();
    let options = match Options::parse(arguments) {
        Ok(options) => options,
        Err(stop) => return Ending::Exit(ExitCode::from(answer(&stop))),
    };
    if let Some(target) = options.explain.clone() {
        return Ending::Exit(explain::run(&target, options));
    }
    let destination = config::destination(&options);
    let format = options.log_format.unwrap_or_default();
    let log = match log::start(destination, format, options.verbose) {
        Ok(log) => log,
        Err(error) => return complain(Destination::Stderr, &Failure::Journal(errno_text(&error))),
    };
    let config = Config::from_options(options).map_err(Failure::from);
    let ending = match config.and_then(|config| start(&config, passed, log.as_ref())) {
        Ok(ending) => ending,
        Err(failure) => complain(destination, &failure),
    };
    if let Some(log) = log {
        log.flush(LAST_LINES);
    }
    ending
}

/// Errors of the command line go to standard error, even if the log goes elsewhere (contract 6).
fn answer(stop: &Stop) -> u8 {
    match stop {
        Stop::Answer(answer) => match io::stdout().write_all(answer.as_bytes()) {
            Ok(()) => 0,
            Err(_) => 1,
        },
        Stop::Usage(usage) => {
            let _ = io::stderr().write_all(usage.as_bytes());
            129
        }
        Stop::Fatal(rejected) => {
            let _ = writeln!(io::stderr(), "fatal: {rejected}");
            128
        }
    }
}

/// All later errors go to the log, and have another exit status there (contract 7).
fn complain(destination: Destination, failure: &Failure) -> Ending {
    if destination.is_system() {
        event::fatal(failure);
    } else {
        let _ = writeln!(io::stderr(), "fatal: {failure}");
    }
    Ending::Exit(ExitCode::from(destination.fatal_status()))
}

fn start(config: &Config, passed: Passed, log: Option<&Arc<Outlet>>) -> Result<Ending, Failure> {
    match &config.mode {
        Mode::Inetd => {
            silence_stderr(config.destination)?;
            let starter = Starter::new(
                Spawner::alone(),
                config.git.clone(),
                config.limits.timeout_in_seconds(),
            );
            let fatal = config.destination.fatal_status();
            let status = inetd::serve(&config.policy, &config.limits, &starter, fatal);
            Ok(Ending::Exit(status.into()))
        }
        Mode::Daemon(daemon) => start_daemon(daemon, config, passed?, log),
    }
}

fn start_daemon(
    daemon: &Daemon,
    config: &Config,
    passed: Vec<OwnedFd>,
    log: Option<&Arc<Outlet>>,
) -> Result<Ending, Failure> {
    let passed = match init::fork_server(passed)? {
        Ok(passed) => passed,
        Err(end) => return Ok(end.into()),
    };
    let Listening { listeners, warnings, .. } = listen(daemon, passed)?;
    let door = daemon.status.as_ref().map(Door::open).transpose().map_err(|error| {
        drop(socket_files(&listeners));
        Failure::Status(errno_text(&error))
    })?;
    let caller = match background::detach(daemon.detach).map_err(cannot_detach)? {
        Ok(caller) => caller,
        Err(end) => return Ok(end.into()),
    };
    silence_stderr(config.destination)?;
    let files = Files::write(daemon, &listeners)?;
    let _status_file = door.as_ref().map(Door::file);
    if let Some(identity) = &daemon.identity {
        become_identity(identity)?;
    }
    let Prepared { runtime, heartbeat, signals, phase, shared, warning } =
        Prepared::new(config, door.is_some())?;
    caller.release_stderr()?;
    if let Some(log) = log {
        // Without a thread the sender writes the lines, as until here.
        let _ = log.serve();
    }
    // Without a thread a stuck runtime is not noticed, but gitd serves.
    let _ = heartbeat.watch(runtime.handle().clone(), Arc::clone(&shared.activities));
    announce(&listeners, config.warnings.iter().chain(&warnings).chain(&warning));
    caller.tell();
    if let Some(door) = door {
        let addresses = listeners.iter().map(|listener| listener.address.clone()).collect();
        door.serve(Arc::clone(&shared), addresses, runtime.handle().clone())?;
    }
    let manager = Arc::new(Manager::find());
    manager.ready();
    let sockets = listeners.into_iter().map(|listener| listener.socket).collect();
    let signal = runtime.block_on(server::serve(shared, sockets, signals, phase, manager))?;
    drop(files);
    Ok(Ending::Signal(signal))
}

/// Listens on the passed sockets, and on the addresses that the options name. The warnings of both
/// are in the result.
fn listen(daemon: &Daemon, passed: Vec<OwnedFd>) -> Result<Listening, Failure> {
    let (passed, mut warnings) = activation::listeners(passed, daemon.multipath)?;
    let mut listening = listener::listen(daemon, passed)?;
    if listening.listeners.is_empty() {
        return Err(Failure::NoSocket(daemon.port));
    }
    if listening.partial && daemon.require_all {
        drop(socket_files(&listening.listeners));
        return Err(Failure::PartialBind);
    }
    warnings.append(&mut listening.warnings);
    Ok(Listening { warnings, ..listening })
}

fn announce<'a>(listeners: &[Listener], warnings: impl Iterator<Item = &'a String>) {
    // Tools wait for this line; everything else comes after it.
    event::ready();
    for listener in listeners {
        event::listening(&listener.address);
    }
    for warning in warnings {
        event::warning(warning);
    }
}

/// Files that exist while the server listens.
struct Files {
    _state: Vec<StateFile>,
    _sockets: Vec<SocketFile>,
}

impl Files {
    fn write(daemon: &Daemon, listeners: &[Listener]) -> Result<Self, Failure> {
        let ports = || listeners.iter().flat_map(|listener| listener.address.line()).collect();
        let wanted = [
            daemon.pid_file.as_ref().map(|file| (file, format!("{}\n", std::process::id()).into())),
            daemon.port_file.as_ref().map(|file| (file, ports())),
        ];
        let write = |(path, text): (&Vec<u8>, Vec<u8>)| {
            StateFile::write(path, text)
                .map_err(|error| Failure::StateFile(Escaped(path).to_string(), errno_text(&error)))
        };
        Ok(Files {
            _sockets: socket_files(listeners),
            _state: wanted.into_iter().flatten().map(write).collect::<Result<_, _>>()?,
        })
    }
}

/// The sockets that this process made; systemd removes its own.
fn socket_files(listeners: &[Listener]) -> Vec<SocketFile> {
    let own = |listener: &Listener| match &listener.address {
        Address::Unix(path) if !listener.passed => SocketFile::keep(path),
        _ => None,
    };
    listeners.iter().filter_map(own).collect()
}

fn cannot_detach(error: io::Error) -> Failure {
    Failure::Detach(errno_text(&error))
}

/// Unless the log goes to standard error, nothing else does (contract 20).
fn silence_stderr(destination: Destination) -> Result<(), Failure> {
    if destination != Destination::Stderr {
        background::silence_stderr()?;
    }
    Ok(())
}

fn become_identity(identity: &Identity) -> Result<(), Failure> {
    account::become_user(&identity.name, identity.uid, identity.gid)
        .map_err(|error| Failure::Privileges(errno_text(&error)))
}

impl From<End> for Ending {
    fn from(end: End) -> Self {
        match end {
            End::Exited(status) => Ending::Exit(ExitCode::from(u8::try_from(status).unwrap_or(1))),
            End::Killed(signal) => Ending::Signal(signal),
        }
    }
}

impl Ending {
    /// Ends the process by a signal, or returns the exit code for `main`.
    #[must_use]
    pub fn carry_out(self) -> ExitCode {
        match self {
            Ending::Exit(code) => code,
            Ending::Signal(signal) => {
                signal::die_by(signal);
                ExitCode::from(128 | u8::try_from(signal).unwrap_or(0))
            }
        }
    }
}
