//! From the command line to a running server, in a straight line with no thread before its last step:
//! from_options → bind → detach → pid file → drop privileges → start the runtime → `Ready to rumble`.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Read, Write};
use std::num::NonZeroUsize;
use std::os::fd::OwnedFd;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit, setsid};
use rustix::stdio::{dup2_stderr, dup2_stdin, dup2_stdout};
use thiserror::Error;

use crate::config::options::{Options, Port, Stop};
use crate::config::{self, Config, ConfigError, Daemon, Identity, Limits, Mode};
use crate::daemon::init;
use crate::daemon::state_file::StateFile;
use crate::escape::Escaped;
use crate::git::starter::Starter;
use crate::limits::admission::{Admission, Bounds};
use crate::limits::pending::Pending;
use crate::limits::threads::{Threads, WhenBusy};
use crate::listen::activation::{self, BadSocket};
use crate::listen::listener;
use crate::listen::listener::{Listener, Listening};
use crate::listen::unix::SocketFile;
use crate::log::Destination;
use crate::log::event;
use crate::log::outlet::Outlet;
use crate::net::address::Address;
use crate::server::connection::{Phase, Shared};
use crate::server::heartbeat::Heartbeat;
use crate::server::inetd;
use crate::server::notify::Manager;
use crate::sys::child::End;
use crate::sys::family::{self, Side};
use crate::sys::process::Spawner;
use crate::sys::signal::{self, Signals};
use crate::sys::{account, descriptor, errno_text};
use crate::{log, server};

/// Spare threads, because a thread is free only a moment after it has sent its result.
const LATE_THREADS: usize = 16;

/// The most threads that look at services' processes. The kernel may block each of them.
const OBSERVERS: usize = 4;

/// The most descriptors that one request takes, while it is checked and its service started.
const DESCRIPTORS: usize = 8;

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
    #[error("could not open '{0}' for writing: {1}")]
    StateFile(String, String),
    #[error("cannot drop privileges: {0}")]
    Privileges(String),
    #[error("cannot detach: {0}")]
    Detach(String),
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
        Err(stop) => return Ending::Exit(ExitCode::from(explain(&stop))),
    };
    let destination = config::destination(&options);
    let log = log::start(destination, options.verbose);
    let config = Config::from_options(options).map_err(Failure::from);
    let ending = match config.and_then(|config| start(&config, passed, log.as_ref())) {
        Ok(ending) => ending,
        Err(failure) => Ending::Exit(ExitCode::from(complain(destination, &failure))),
    };
    if let Some(log) = log {
        log.flush(LAST_LINES);
    }
    ending
}

/// Errors of the command line go to standard error, even if the log goes elsewhere (contract 6).
fn explain(stop: &Stop) -> u8 {
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
fn complain(destination: Destination, failure: &Failure) -> u8 {
    if destination == Destination::Syslog {
        event::fatal(failure);
    } else {
        let _ = writeln!(io::stderr(), "fatal: {failure}");
    }
    destination.fatal_status()
}

fn start(config: &Config, passed: Passed, log: Option<&Arc<Outlet>>) -> Result<Ending, Failure> {
    match &config.mode {
        Mode::Inetd => {
            silence_stderr(config.destination)?;
            let starter =
                Starter::new(Spawner::alone(), config.git.clone(), seconds(&config.limits));
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
    let (passed, warnings) = activation::listeners(passed, daemon.multipath)?;
    let listening = listener::listen(daemon, passed)?;
    if listening.listeners.is_empty() {
        return Err(Failure::NoSocket(daemon.port));
    }
    if listening.partial && daemon.require_all {
        drop(socket_files(&listening.listeners));
        return Err(Failure::PartialBind);
    }
    let parent = if daemon.detach {
        match detach()? {
            Detached::Parent(ending) => return Ok(ending),
            Detached::Child(parent) => Some(parent),
        }
    } else {
        None
    };
    silence_stderr(config.destination)?;
    let files = Files::write(daemon, &listening.listeners)?;
    if let Some(identity) = &daemon.identity {
        become_identity(identity)?;
    }
    let spawner = Spawner::shared()?;
    let signals = Signals::block(&[libc::SIGTERM, libc::SIGINT])?;
    let starter = Starter::new(spawner, config.git.clone(), seconds(&config.limits)).survey();
    let heartbeat = Arc::new(Heartbeat::default());
    let runtime = heartbeat.runtime()?;
    let (phase, observed) = tokio::sync::watch::channel(Phase::Serving);
    let limits = config.limits.clone();
    let bounds = Bounds {
        places: limits.max_connections,
        per_address: limits.max_connections_per_address,
        room: limits.max_queue,
    };
    let room = raise_descriptors(&bounds);
    let shared = Arc::new(Shared {
        policy: config.policy.clone(),
        starter,
        admission: Admission::new(bounds),
        pending: Pending::new(Some(limits.max_pending.map_or(room, |most| most.min(room)))),
        threads: Threads::new(bounds.checks() + LATE_THREADS, WhenBusy::Refuse),
        observers: Threads::new(OBSERVERS, WhenBusy::Wait),
        activities: Arc::default(),
        phase: observed,
        limits,
    });
    if parent.is_some() {
        // Until here the caller could read errors.
        dup2_stderr(null()?).map_err(io::Error::from)?;
    }
    if let Some(log) = log {
        // Without a thread the sender writes the lines, as until here.
        let _ = log.serve();
    }
    // Without a thread a stuck runtime is not noticed, but gitd serves.
    let _ = heartbeat.watch(runtime.handle().clone(), Arc::clone(&shared.activities));
    // Tools wait for this line; everything else comes after it.
    event::ready();
    let Listening { listeners, warnings: more, .. } = listening;
    for listener in &listeners {
        event::listening(&listener.address);
    }
    for warning in config.warnings.iter().chain(&warnings).chain(&more) {
        event::warning(warning);
    }
    if let Some(mut parent) = parent {
        // The parent may have been killed; gitd serves without it.
        let _ = parent.write_all(&[LISTENING]);
    }
    let manager = Arc::new(Manager::find());
    manager.ready();
    let sockets = listeners.into_iter().map(|listener| listener.socket).collect();
    let signal = runtime.block_on(server::serve(shared, sockets, signals, phase, manager))?;
    drop(files);
    Ok(Ending::Signal(signal))
}

/// Raises the limit of open files as far as allowed, for this process alone. Returns how many
/// clients without a request still leave enough descriptors to serve the others.
fn raise_descriptors(bounds: &Bounds) -> NonZeroUsize {
    let now = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: now.maximum, ..now };
    let limit = setrlimit(Resource::Nofile, raised).map_or(now, |()| raised).current;
    let all = limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX);
    let served =
        bounds.most().and_then(|most| most.checked_mul(DESCRIPTORS)?.checked_add(bounds.room?));
    let reserved = served.map_or(all / 2, |served| served.min(all / 2));
    NonZeroUsize::new(all.saturating_sub(reserved)).unwrap_or(NonZeroUsize::MIN)
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

fn seconds(limits: &Limits) -> u64 {
    limits.timeout.map_or(0, |timeout| timeout.as_secs())
}

/// The byte that the child writes to its parent once it serves.
const LISTENING: u8 = b'+';

enum Detached {
    Parent(Ending),
    Child(io::PipeWriter),
}

/// Goes to the background; standard error stays the caller's. The parent ends when the child
/// serves, or with the child's status if it ends before (B11).
fn detach() -> Result<Detached, Failure> {
    let failed = |error: io::Error| Failure::Detach(errno_text(&error));
    let (mut reader, writer) = io::pipe().map_err(failed)?;
    match family::fork().map_err(failed)? {
        Side::Parent(child) => {
            drop(writer);
            let mut answer = Vec::new();
            let listening = reader.read_to_end(&mut answer).is_ok() && answer == [LISTENING];
            let ending = if listening {
                Ending::Exit(ExitCode::SUCCESS)
            } else {
                family::wait(child).map_or(Ending::Exit(ExitCode::FAILURE), Ending::from)
            };
            Ok(Detached::Parent(ending))
        }
        Side::Child => {
            setsid().map_err(|error| failed(error.into()))?;
            let null = null().map_err(failed)?;
            dup2_stdin(&null).and_then(|()| dup2_stdout(&null)).map_err(|e| failed(e.into()))?;
            Ok(Detached::Child(writer))
        }
    }
}

fn null() -> io::Result<fs::File> {
    fs::File::options().read(true).write(true).open("/dev/null")
}

/// Unless the log goes to standard error, nothing else does (contract 20).
fn silence_stderr(destination: Destination) -> Result<(), Failure> {
    if destination != Destination::Stderr {
        dup2_stderr(null()?).map_err(io::Error::from)?;
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
