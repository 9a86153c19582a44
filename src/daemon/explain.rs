//! `--explain`: goes through the code that serves, as the daemon's user, and says at each step what
//! it finds. It decides nothing itself.

mod fix;
mod missing;
mod origin;
mod report;
mod target;
mod trace;

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::thread;

use rustix::process::geteuid;
use thiserror::Error;

use crate::access::denial::Denial;
use crate::access::{Grant, authorize_observed};
use crate::config::options::{CLIENT_PORT, Options};
use crate::config::{Config, ConfigError, Daemon, Identity, Mode, Policy};
use crate::escape::{Escaped, Word};
use crate::git::starter::Starter;
use crate::net::peer::{Origin, Peer};
use crate::protocol::pktline::PREFIX;
use crate::protocol::request::{Malformed, Request};
use crate::protocol::service::Service;
use crate::session::child::{self, Running};
use crate::sys::process::Spawner;
use crate::sys::{account, errno_text};
use report::{Asked, Fix, Kind, Refusal, Report};
use target::{NoTarget, Target};
use trace::{Trace, user};

/// The exit status for a request that is refused.
const REFUSED: u8 = 1;

/// How much of git's standard error is read.
const MAX_COMPLAINT: u64 = 1 << 16;

/// Variables that a decision may depend on, beside git's own.
const ENVIRONMENT: [&str; 3] = ["HOME", "XDG_CONFIG_HOME", "SUDO_UID"];

/// Why there is no explanation.
#[derive(Debug, Error)]
enum Failure {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Target(#[from] NoTarget),
    #[error("--explain must become the user {0} as the daemon does: run it as root")]
    NotRoot(String),
    #[error("cannot drop privileges: {0}")]
    Privileges(String),
    #[error("cannot write: {0}")]
    Output(String),
}

/// Explains how the request that the options name is decided. Opens no socket and writes no file.
pub fn run(target: &[u8], options: Options) -> ExitCode {
    match explain(target, options) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(REFUSED),
        Err(failure) => {
            let _ = writeln!(io::stderr(), "fatal: {failure}");
            ExitCode::from(128)
        }
    }
}

fn explain(target: &[u8], options: Options) -> Result<bool, Failure> {
    let target = Target::parse(target)?;
    let service = options.explain_service.unwrap_or(Service::UploadPack);
    let local = SocketAddr::from((Ipv4Addr::LOCALHOST, CLIENT_PORT));
    let peer = Peer::from(Origin::Inet(options.remote_address.unwrap_or(local)));
    let mut report = Report::new(options.log_format.unwrap_or_default());
    let config = Config::from_options(options)?;
    if let Mode::Daemon(Daemon { identity: Some(identity), .. }) = &config.mode {
        become_identity(identity)?;
    }
    let timeout = config.limits.timeout.map_or(0, |timeout| timeout.as_secs());
    let mut starter = Starter::new(Spawner::alone(), config.git.clone(), timeout);
    if matches!(config.mode, Mode::Daemon(_)) {
        starter = starter.survey();
    }
    let asked = Asked {
        service: service.name(),
        pathname: Escaped(&target.pathname).to_string(),
        host: target.host.as_ref().map(|host| Escaped(host).to_string()),
        client: peer.to_string(),
    };
    report.begin("request", asked.to_string());
    let refusal = match Request::parse(&target.payload(service)) {
        Ok(request) => {
            identify(&mut report, &starter);
            decide(&mut report, &config.policy, &starter, &request, &peer).err()
        }
        Err(malformed) => {
            report.refuse(Some("request"), malformed.to_string());
            Some(unanswered(&malformed))
        }
    };
    let written = report.finish(&asked, refusal.as_ref());
    written.map_err(|error| Failure::Output(errno_text(&error)))?;
    Ok(refusal.is_none())
}

fn become_identity(identity: &Identity) -> Result<(), Failure> {
    let uid = geteuid().as_raw();
    if uid == identity.uid {
        return Ok(());
    }
    if uid != 0 {
        return Err(Failure::NotRoot(Escaped(identity.name.to_bytes()).to_string()));
    }
    account::become_user(&identity.name, identity.uid, identity.gid)
        .map_err(|error| Failure::Privileges(errno_text(&error)))
}

/// Says as whom gitd answers, and which of its variables matter.
fn identify(report: &mut Report, starter: &Starter) {
    report.begin("user", format!("gitd runs as {}", user(starter.uid)));
    let matters = |name: &[u8]| {
        name.starts_with(b"GIT_") || ENVIRONMENT.iter().any(|known| name == known.as_bytes())
    };
    let variables = std::env::vars_os().filter(|(name, _)| matters(name.as_bytes()));
    let mut lines: Vec<_> = variables
        .map(|(name, value)| format!("{}={}", Escaped(name.as_bytes()), Word(value.as_bytes())))
        .collect();
    lines.sort();
    report.detail(lines);
}

/// Decides as for a client, and lets git answer.
fn decide(
    report: &mut Report,
    policy: &Policy,
    starter: &Starter,
    request: &Request,
    peer: &Peer,
) -> Result<(), Refusal> {
    let mut trace = Trace::new(report, policy, starter, request.service);
    let decision = authorize_observed(policy, starter, request, peer, &mut trace);
    let mut complaint = Vec::new();
    let decision = decision.and_then(|grant| {
        let program = starter.git().candidates.first().map_or(c"git", |git| git.as_c_str());
        let program = Escaped(program.to_bytes());
        trace.report.begin("git", format!("{program} {}", request.service.name()));
        serve(starter, &grant, request, peer, &mut complaint)
    });
    let Err(denial) = decision else { return Ok(()) };
    let facts = trace.facts;
    report.refuse(place(&denial), why(&denial, &complaint));
    let hears = |informative| {
        let packet = denial.packet(informative, &request.pathname);
        let text = packet.get(PREFIX..).and_then(|packet| packet.strip_prefix(b"ERR "));
        Escaped(text.unwrap_or_default()).to_string()
    };
    let informative = policy.informative_errors;
    let (client, otherwise) = (hears(informative), hears(!informative));
    let fixes = match &denial {
        Denial::FailedSilently { .. } => {
            fix::complaint(&facts, &complaint, request.service.config_key())
        }
        denial => fix::fixes(denial, &facts, policy, request),
    };
    Err(Refusal {
        reason: denial.word(),
        log: denial.to_string(),
        client_otherwise: (client != otherwise).then_some(otherwise),
        client: Some(client),
        informative_errors: informative,
        fixes,
    })
}

/// Starts the service as for a client that leaves after the first bytes.
fn serve(
    starter: &Starter,
    grant: &Grant,
    request: &Request,
    peer: &Peer,
    complaint: &mut Vec<u8>,
) -> Result<(), Denial> {
    let service = request.service;
    let cannot_run = |error: io::Error| Denial::cannot_run(service, &error);
    let (mut client, server) = UnixStream::pair().map_err(cannot_run)?;
    let extra = request.extra_parameters.as_deref();
    let ends = (server.as_fd(), server.as_fd());
    let started = child::start(starter, grant, peer, extra, ends).map_err(cannot_run)?;
    drop(server);
    let Running { process, stderr, .. } = started;
    // A full pipe would keep git from answering.
    let said = thread::spawn(move || {
        let mut said = Vec::new();
        let read = File::from(stderr).take(MAX_COMPLAINT).read_to_end(&mut said);
        read.map(|_| said).unwrap_or_default()
    });
    let answered = client.read(&mut [0]).is_ok_and(|read| read > 0);
    let _ = client.write_all(b"0000");
    drop(client);
    let end = process.wait().map_err(cannot_run)?;
    if answered || end.success() {
        return Ok(());
    }
    *complaint = said.join().unwrap_or_default();
    Err(Denial::FailedSilently { service, pid: process.pid })
}

/// The step that refuses; `None` for the one that was reported last.
fn place(denial: &Denial) -> Option<&'static str> {
    match denial {
        Denial::Moved(_) => Some("moved"),
        Denial::ServiceOff(_) => Some("service"),
        Denial::Aliased(_) => Some("name"),
        Denial::UserPath(_) | Denial::TooLong { .. } => Some("path"),
        Denial::NotARepository { .. } => Some("repository"),
        Denial::Foreign { .. } => Some("ownership"),
        Denial::NotListed(_) => Some("list"),
        Denial::NotExported { .. } => Some("export"),
        Denial::ServiceOffFor(..) => Some("setting"),
        Denial::Hook { .. } => Some("hook"),
        Denial::Config { .. }
        | Denial::Spawn { .. }
        | Denial::Exhausted { .. }
        | Denial::FailedSilently { .. }
        | Denial::Internal(_)
        | Denial::Hanging(_)
        | Denial::Busy => None,
    }
}

/// What a step says beside its own words.
fn why(denial: &Denial, complaint: &[u8]) -> String {
    let shown = |text: &[u8]| Escaped(text.trim_ascii()).to_string();
    match denial {
        Denial::Moved(url) => shown(url),
        Denial::Aliased(_) => {
            "it must begin with '/' or '~', without empty parts, '.' and '..'".to_owned()
        }
        Denial::UserPath(_) => "there is no --user-path".to_owned(),
        Denial::TooLong { .. } => "the path is too long".to_owned(),
        Denial::NotARepository { found, path } => format!("{}: {found}", shown(path)),
        Denial::Config { reason, .. } => shown(reason),
        Denial::Spawn { reason, .. } | Denial::Exhausted { reason, .. } => reason.clone(),
        Denial::FailedSilently { .. } => shown(complaint),
        Denial::ServiceOff(_)
        | Denial::Foreign { .. }
        | Denial::Hook { .. }
        | Denial::NotListed(_)
        | Denial::NotExported { .. }
        | Denial::ServiceOffFor(..)
        | Denial::Internal(_)
        | Denial::Hanging(_)
        | Denial::Busy => String::new(),
    }
}

/// A malformed request gets no answer.
fn unanswered(malformed: &Malformed) -> Refusal {
    Refusal {
        reason: "malformed",
        log: malformed.to_string(),
        client: None,
        client_otherwise: None,
        informative_errors: false,
        fixes: vec![Fix::new(Kind::Advice, "the host of the URL is misspelt")],
    }
}
