//! The configuration *as meant*: options with users, groups and paths looked up. It never changes,
//! and it cannot represent contradictions.

pub mod options;
pub mod proxies;
pub mod template;

mod daemon;

use std::ffi::OsStr;
use std::num::NonZeroUsize;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use thiserror::Error;

use crate::config::options::{Options, Port};
use crate::config::proxies::Proxies;
use crate::config::template::Template;
use crate::escape::Escaped;
use crate::log::{Destination, Format};
use crate::protocol::request::Request;
use crate::protocol::service::Offers;
pub use daemon::{Daemon, GIT_PORT, Identity, ListenOn, SocketRights, StatusError, StatusOn};

/// The default for the time a client may take to send its request (B4).
const DEFAULT_INIT_TIMEOUT: Duration = Duration::from_secs(60);

/// The default for the number of clients served at once (contract 61).
const DEFAULT_MAX_CONNECTIONS: NonZeroUsize = NonZeroUsize::new(32).unwrap();

/// The default for the number of requests that wait (B3).
const DEFAULT_MAX_QUEUE: usize = 256;

/// The default for how long requests wait.
const DEFAULT_QUEUE_TIMEOUT: Duration = Duration::from_secs(30);

/// The default for the number of clients without a request (B4).
const DEFAULT_MAX_PENDING: NonZeroUsize = NonZeroUsize::new(4096).unwrap();

/// All settings of the program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Where the log goes.
    pub destination: Destination,
    /// Whether ordinary events are logged, or refusals only.
    pub verbose: bool,
    /// One client on standard input, or a listening daemon.
    pub mode: Mode,
    /// What decides about requests.
    pub policy: Policy,
    /// The limits for clients.
    pub limits: Limits,
    /// How git is to run.
    pub git: GitSettings,
    /// Warnings for the administrator at start, one line each.
    pub warnings: Vec<String>,
}

/// How clients connect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mode {
    /// One client, whose socket is standard input and output.
    Inetd,
    /// Any number of clients on listening sockets.
    Daemon(Daemon),
}

/// All settings that a decision about a request depends on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Policy {
    /// The prefix for each requested path.
    pub base_path: Option<Vec<u8>>,
    /// Whether to try the requested path itself if there is nothing below the base path.
    pub base_path_relaxed: bool,
    /// How to build paths for clients that send a host-parameter.
    pub interpolated_path: Option<Template>,
    /// The directory below a user's home that `~user` stands for; empty for the home itself.
    pub user_path: Option<Vec<u8>>,
    /// Whether paths must match exactly.
    pub strict_paths: bool,
    /// The only paths that are served, with all below them; empty for no such limit.
    pub directories: Vec<Vec<u8>>,
    /// Whether repositories need no `git-daemon-export-ok`.
    pub export_all: bool,
    /// Which services are offered.
    pub offers: Offers,
    /// The command that is asked last about each request.
    pub access_hook: Option<Vec<u8>>,
    /// Whether clients get the reason of a refusal.
    pub informative_errors: bool,
    /// The new URL of a retired server, which refuses every request.
    pub moved_to: Option<Template>,
    /// The load balancers that say for whom they connect.
    pub proxies: Proxies,
}

impl Policy {
    /// What a request's checks may hang on: the repository and, where it is looked up, the
    /// host-parameter.
    pub fn subject(&self, request: &Request) -> Vec<u8> {
        let mut subject = request.pathname.clone();
        let looked_up = self.access_hook.is_some() || self.interpolated_path.is_some();
        if let (true, Some(host)) = (looked_up, &request.virtual_host) {
            // A pathname contains no NUL.
            subject.push(0);
            subject.extend_from_slice(&host.host);
        }
        subject
    }
}

/// How git is to run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GitSettings {
    /// Configuration of command scope: variables and their values.
    pub config: Vec<(Vec<u8>, Vec<u8>)>,
    /// What is added to the niceness of services.
    pub nice: u8,
}

/// The limits for clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// The time from accepting a client to the end of its request; `None` for no limit.
    pub init_timeout: Option<Duration>,
    /// How long a session may stand still; `None` for no limit.
    pub timeout: Option<Duration>,
    /// The number of services that run at once; `None` for no limit.
    pub max_connections: Option<NonZeroUsize>,
    /// The number of services for one address; `None` for no limit.
    pub max_connections_per_address: Option<NonZeroUsize>,
    /// The number of requests that wait for a service to end; `None` for no limit.
    pub max_queue: Option<usize>,
    /// How long a request waits; `None` for no limit.
    pub queue_timeout: Option<Duration>,
    /// The number of clients that have not sent their request; `None` for no limit.
    pub max_pending: Option<NonZeroUsize>,
    /// How long running services may take to finish once the server stops; `None` for no limit.
    pub shutdown_timeout: Option<Duration>,
}

impl Limits {
    /// `--timeout` as the services take it: 0 for none.
    pub fn timeout_in_seconds(&self) -> u64 {
        self.timeout.map_or(0, |timeout| timeout.as_secs())
    }
}

/// Options that are invalid, alone or together (contract 7), in the stock daemon's words.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ConfigError {
    /// `--inetd` with an option that only a daemon can follow.
    #[error("--detach, --user and --group are incompatible with --inetd")]
    InetdIdentity,
    /// `--inetd` with an address to listen on.
    #[error("--listen= and --port= are incompatible with --inetd")]
    InetdAddress,
    /// `--inetd` with an option about listening.
    #[error(
        "--port-file, --proxy-protocol, --require-all-listeners and --socket-* are incompatible \
         with --inetd"
    )]
    InetdListening,
    /// `--group` alone.
    #[error("--group supplied without --user")]
    GroupWithoutUser,
    /// A user that the account database does not have.
    #[error("user not found - {0}")]
    User(String),
    /// A group that the account database does not have.
    #[error("group not found - {0}")]
    Group(String),
    /// `--strict-paths` without directories.
    #[error("option --strict-paths requires '<directory>' arguments")]
    StrictWithoutDirectories,
    /// A base path that is no directory.
    #[error("base-path '{0}' does not exist or is not a directory")]
    BasePath(String),
    /// A Unix socket by a relative path.
    #[error("listen address '{0}' is not an absolute path")]
    RelativeSocket(String),
    /// A URL that would need the name server for every client.
    #[error("--moved-to takes no %CH and no %IP")]
    MovedToNeedsResolver,
    /// An option about explanations, without one.
    #[error("{0} works only with --explain")]
    OnlyToExplain(&'static str),
    /// The journal's entries in another place.
    #[error("--log-format=journal has its own destination")]
    JournalDestination,
    /// A host to listen on that contains a NUL.
    #[error("listen address '{0}' contains a NUL byte")]
    Host(String),
    /// `--status` that cannot be followed.
    #[error(transparent)]
    Status(#[from] StatusError),
}

/// Where the log goes. Known before anything else can fail, because failures are logged there.
pub fn destination(options: &Options) -> Destination {
    let default = match options.log_format {
        Some(Format::Journal) => Destination::Journal,
        _ if options.inetd || options.detach => Destination::Syslog,
        _ => Destination::Stderr,
    };
    options.log_destination.unwrap_or(default)
}

impl Config {
    /// The configuration from the options. Checks them in the stock daemon's order.
    pub fn from_options(options: Options) -> Result<Self, ConfigError> {
        if let Some(option) = options.only_to_explain() {
            return Err(ConfigError::OnlyToExplain(option));
        }
        if options.log_format == Some(Format::Journal) && options.log_destination.is_some() {
            return Err(ConfigError::JournalDestination);
        }
        if options.inetd && (options.detach || options.user.is_some() || options.group.is_some()) {
            return Err(ConfigError::InetdIdentity);
        }
        if options.inetd && (!options.listen.is_empty() || named(options.port)) {
            return Err(ConfigError::InetdAddress);
        }
        if options.inetd && listens(&options) {
            return Err(ConfigError::InetdListening);
        }
        if options.inetd && (options.status.is_some() || options.status_public) {
            return Err(StatusError::Inetd.into());
        }
        let identity = Identity::from_options(options.user.as_deref(), options.group.as_deref())?;
        if options.strict_paths && options.directories.is_empty() {
            return Err(ConfigError::StrictWithoutDirectories);
        }
        if let Some(path) = &options.base_path
            && !Path::new(OsStr::from_bytes(path)).is_dir()
        {
            return Err(ConfigError::BasePath(Escaped(path).to_string()));
        }
        Ok(Config {
            destination: destination(&options),
            verbose: options.verbose,
            mode: match options.inetd {
                true => Mode::Inetd,
                false => Mode::Daemon(Daemon::from_options(&options, identity)?),
            },
            limits: limits(&options),
            git: GitSettings {
                config: options.git_config.clone(),
                nice: options.nice.unwrap_or_default(),
            },
            warnings: unmatchable(&options.directories, options.strict_paths),
            policy: policy(options)?,
        })
    }
}

fn named(port: Option<Port>) -> bool {
    port.is_some_and(|port| port != Port::Number(0))
}

fn listens(options: &Options) -> bool {
    options.port_file.is_some()
        || options.require_all_listeners
        || options.socket_mode.is_some()
        || options.socket_owner.is_some()
        || options.proxies.any()
}

fn limits(options: &Options) -> Limits {
    let seconds = |n: u32| (n > 0).then(|| Duration::from_secs(n.into()));
    let timeout = options.timeout.and_then(seconds);
    // Without a limit for the request, the limit for the session applies (contract 60).
    let init_timeout = match options.init_timeout {
        Some(0) => timeout,
        Some(n) => seconds(n),
        None => timeout.or(Some(DEFAULT_INIT_TIMEOUT)),
    };
    let count = |n: i32| usize::try_from(n).ok().and_then(NonZeroUsize::new);
    Limits {
        init_timeout,
        timeout,
        max_connections: options.max_connections.map_or(Some(DEFAULT_MAX_CONNECTIONS), count),
        max_connections_per_address: options.max_connections_per_address.and_then(count),
        max_queue: options.max_queue.map_or(Some(DEFAULT_MAX_QUEUE), |n| usize::try_from(n).ok()),
        queue_timeout: options.queue_timeout.map_or(Some(DEFAULT_QUEUE_TIMEOUT), seconds),
        max_pending: options.max_pending.map_or(Some(DEFAULT_MAX_PENDING), count),
        shutdown_timeout: options.shutdown_timeout.and_then(seconds),
    }
}

fn policy(options: Options) -> Result<Policy, ConfigError> {
    let moved_to = options.moved_to.as_deref().map(Template::parse);
    if moved_to.as_ref().is_some_and(Template::needs_resolver) {
        return Err(ConfigError::MovedToNeedsResolver);
    }
    Ok(Policy {
        base_path: options.base_path,
        base_path_relaxed: options.base_path_relaxed,
        interpolated_path: options.interpolated_path.as_deref().map(Template::parse),
        user_path: options.user_path,
        strict_paths: options.strict_paths,
        directories: options.directories,
        export_all: options.export_all,
        offers: options.offers,
        access_hook: options.access_hook,
        informative_errors: options.informative_errors,
        moved_to,
        proxies: options.proxies,
    })
}

/// Directories that can match no repository (contract 40, B18). With strict paths a trailing slash
/// is part of the name and can match.
fn unmatchable(directories: &[Vec<u8>], strict: bool) -> Vec<String> {
    let ends_in_slash = |directory: &&Vec<u8>| !strict && directory.ends_with(b"/");
    let warning = |directory: &Vec<u8>| {
        let shorter = &directory[..directory.iter().rposition(|&o| o != b'/').map_or(0, |i| i + 1)];
        let remedy = match shorter {
            [] => "to serve everything, name no directory".to_owned(),
            _ => format!("write '{}'", Escaped(shorter)),
        };
        format!("directory '{}' matches no repository; {remedy}", Escaped(directory))
    };
    directories.iter().filter(ends_in_slash).map(warning).collect()
}

#[cfg(test)]
mod tests;
