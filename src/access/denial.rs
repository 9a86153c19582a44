//! Refusals: one value gives both the client's message and the administrator's log line.

use thiserror::Error;

use crate::escape::Escaped;
use crate::protocol::pktline;
use crate::protocol::service::Service;
use crate::sys::shortage::Shortage;

/// Why a request is refused. `Display` is the log line, in the stock daemon's words.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Denial {
    /// The server does not offer the service, and no repository can enable it.
    #[error("'{}': service not enabled.", .0.name())]
    ServiceOff(Service),
    /// The pathname is not the only one for what it names.
    #[error("'{}': aliased", Escaped(.0))]
    Aliased(Vec<u8>),
    /// A `~user` path where those are not allowed.
    #[error("'{}': User-path not allowed", Escaped(.0))]
    UserPath(Vec<u8>),
    /// A path that is longer than any file system allows.
    #[error("{what} too large: {}", Escaped(path))]
    TooLong {
        /// What it was built from.
        what: &'static str,
        /// The path.
        path: Vec<u8>,
    },
    /// There is no git directory under this path.
    #[error("'{}' does not appear to be a git repository", Escaped(path))]
    NotARepository {
        /// The path that was looked for.
        path: Vec<u8>,
        /// What was found instead, for the administrator only.
        found: String,
    },
    /// The repository belongs to another user.
    #[error("detected dubious ownership in repository at '{}'", Escaped(path))]
    Foreign {
        /// Where it is.
        path: Vec<u8>,
        /// The name that `safe.directory` must contain.
        safe: Vec<u8>,
        /// The user that gitd runs as.
        uid: u32,
    },
    /// The path is not in the directory list of the command line.
    #[error("'{}': not in directory list", Escaped(.0))]
    NotListed(Vec<u8>),
    /// The repository was not exported by its owner.
    #[error("'{}': repository not exported.", Escaped(path))]
    NotExported {
        /// Where it was found.
        path: Vec<u8>,
        /// Its git directory.
        location: Vec<u8>,
    },
    /// The service is not offered in this repository.
    #[error("'{}': service not enabled for '{}'", .0.name(), Escaped(.1))]
    ServiceOffFor(Service, Vec<u8>),
    /// git cannot read its configuration, or a value in it.
    #[error("'{}': {}", Escaped(path), Escaped(reason))]
    Config {
        /// Where the repository was found.
        path: Vec<u8>,
        /// git's error message.
        reason: Vec<u8>,
    },
    /// The access hook refused.
    #[error("'{}': access hook refused: {}", Escaped(path), Escaped(reason))]
    Hook {
        /// Where the repository was found.
        path: Vec<u8>,
        /// The hook's message, for the client.
        reason: Vec<u8>,
    },
    /// git could not be started.
    #[error("cannot run {}: {reason}", service.name())]
    Spawn {
        /// The service that was to run.
        service: Service,
        /// The system's reason.
        reason: String,
    },
    /// The check ended without a result: a bug of gitd.
    #[error("cannot run {}: internal error", .0.name())]
    Internal(Service),
    /// The system has no descriptor, process, thread or memory left for this request.
    #[error("cannot run {}: {reason}", service.name())]
    Exhausted {
        /// The service that was to run.
        service: Service,
        /// The resource that ran out, in the system's words.
        reason: String,
    },
    /// git ended without output, as it does when it refuses a format or configuration (contract 33,
    /// 49).
    #[error("{} failed before it answered", service.name())]
    FailedSilently {
        /// The service that ran.
        service: Service,
        /// The process id, under which the log lines say why.
        pid: u32,
    },
    /// The server is retired; the new URL.
    #[error("moved to {}", Escaped(.0))]
    Moved(Vec<u8>),
    /// Too many requests for this path are in checks that do not end.
    #[error("'{}': too many requests are being checked", Escaped(.0))]
    Hanging(Vec<u8>),
    /// Too many services run already.
    #[error("Too many children, dropping connection")]
    Busy,
}

/// Why a check does not pass.
#[derive(Debug)]
pub enum Refusal {
    /// The request is refused.
    Denied(Denial),
    /// The check was impossible.
    Undecided(Shortage),
}

impl From<Denial> for Refusal {
    fn from(denial: Denial) -> Self {
        Refusal::Denied(denial)
    }
}

impl From<Shortage> for Refusal {
    fn from(shortage: Shortage) -> Self {
        Refusal::Undecided(shortage)
    }
}

impl Refusal {
    /// Only git can answer a question about the repository, and git could not be run.
    pub fn unaskable(path: &[u8], error: &std::io::Error) -> Self {
        if let Some(shortage) = Shortage::of(error) {
            return Refusal::Undecided(shortage);
        }
        let reason = format!("cannot run git: {}", crate::sys::errno_text(error)).into_bytes();
        Denial::Config { path: path.to_vec(), reason }.into()
    }

    /// The denial for the client; no service runs without a decision.
    pub fn into_denial(self, service: Service) -> Denial {
        match self {
            Refusal::Denied(denial) => denial,
            Refusal::Undecided(shortage) => Denial::cannot_run(service, &shortage.into()),
        }
    }
}

impl Denial {
    /// git could not be started, for this reason.
    pub fn cannot_run(service: Service, error: &std::io::Error) -> Self {
        let reason = crate::sys::errno_text(error);
        if Shortage::of(error).is_some() {
            Denial::Exhausted { service, reason }
        } else {
            Denial::Spawn { service, reason }
        }
    }

    /// git does not accept the configuration; its output says why.
    pub fn refused_by_git(path: &[u8], output: &std::process::Output) -> Self {
        let reason = output.stderr.trim_ascii_end().to_vec();
        Denial::Config { path: path.to_vec(), reason }
    }

    /// The reason in one word that never changes, for programs.
    pub fn word(&self) -> &'static str {
        match self {
            Denial::ServiceOff(_) => "service-not-offered",
            Denial::Aliased(_) => "aliased",
            Denial::UserPath(_) => "user-path",
            Denial::TooLong { .. } => "too-long",
            Denial::NotARepository { .. } => "not-a-repository",
            Denial::Foreign { .. } => "foreign-owner",
            Denial::NotListed(_) => "not-listed",
            Denial::NotExported { .. } => "not-exported",
            Denial::ServiceOffFor(..) => "service-not-enabled",
            Denial::Config { .. } => "bad-configuration",
            Denial::Hook { .. } => "access-hook",
            Denial::Spawn { .. } => "cannot-run-git",
            Denial::Exhausted { .. } => "exhausted",
            Denial::FailedSilently { .. } => "service-failed",
            Denial::Moved(_) => "moved",
            Denial::Hanging(_) => "hanging",
            Denial::Internal(_) => "internal-error",
            Denial::Busy => "busy",
        }
    }

    /// The repository's path, if one was found before the refusal.
    pub fn found(&self) -> Option<&[u8]> {
        match self {
            Denial::Foreign { path, .. }
            | Denial::NotListed(path)
            | Denial::NotExported { path, .. }
            | Denial::ServiceOffFor(_, path)
            | Denial::Config { path, .. }
            | Denial::Hook { path, .. } => Some(path),
            _ => None,
        }
    }

    /// The reason in the client's message, if clients may know it (contract 32). All refusals by
    /// which a client could probe for files have the same reason.
    fn reason(&self, informative: bool) -> &[u8] {
        match self {
            Denial::Busy | Denial::Hanging(_) | Denial::Exhausted { .. } => {
                b"server is busy, try again later"
            }
            Denial::Moved(_) => b"moved",
            _ if !informative => b"access denied or repository not exported",
            Denial::ServiceOff(_) | Denial::ServiceOffFor(..) => b"service not enabled",
            Denial::Aliased(_)
            | Denial::UserPath(_)
            | Denial::TooLong { .. }
            | Denial::NotARepository { .. }
            | Denial::NotListed(_) => b"no such repository",
            Denial::NotExported { .. } => b"repository not exported",
            Denial::Foreign { .. } => b"repository is owned by another user than the server",
            Denial::Config { .. } => b"repository has a configuration that git refuses",
            Denial::Hook { reason, .. } => reason,
            Denial::Spawn { .. } | Denial::Internal(_) => b"server cannot run git",
            Denial::FailedSilently { .. } => b"git cannot serve this repository",
        }
    }

    /// The packet for the client, which asked for `pathname`.
    pub fn packet(&self, informative: bool, pathname: &[u8]) -> Vec<u8> {
        match self {
            // The URL comes last and alone, to be copied.
            Denial::Moved(url) => pktline::error(&[b"moved; use ".as_slice(), url].concat()),
            _ => pktline::refusal(self.reason(informative), pathname),
        }
    }

    /// What the administrator can do about it; empty if nothing.
    pub fn remedy(&self) -> String {
        match self {
            Denial::ServiceOff(service) | Denial::ServiceOffFor(service, _) => {
                format!(
                    "to offer it: --enable={}, or {} = true in the repository's config",
                    service.name(),
                    service.config_key()
                )
            }
            Denial::NotARepository { found, .. } => found.clone(),
            Denial::UserPath(_) => "to serve users' repositories: --user-path".to_owned(),
            Denial::Foreign { safe, uid, .. } => format!(
                "gitd runs as uid {uid}; chown the repository, or: git config --system --add safe.directory '{}'",
                Escaped(safe)
            ),
            Denial::NotExported { location, .. } => format!(
                "to export it: touch '{}/git-daemon-export-ok', or --export-all",
                Escaped(location)
            ),
            Denial::Config { .. } => "mend the configuration that git names".to_owned(),
            Denial::Spawn { .. } => {
                "is git installed, in PATH, and executable for gitd's user?".to_owned()
            }
            Denial::Internal(_) => {
                "a bug of gitd: please report it, with the line `internal error at` before this one"
                    .to_owned()
            }
            Denial::FailedSilently { pid, .. } => format!("the lines of [{pid}] say why"),
            Denial::Exhausted { .. } => {
                "raise the limits of open files and processes, or lower --max-connections"
                    .to_owned()
            }
            Denial::Busy => "see --max-connections".to_owned(),
            Denial::Hanging(_) => {
                "does its file system, the resolver or the access hook hang?".to_owned()
            }
            Denial::Aliased(_)
            | Denial::TooLong { .. }
            | Denial::NotListed(_)
            | Denial::Moved(_)
            | Denial::Hook { .. } => String::new(),
        }
    }
}
