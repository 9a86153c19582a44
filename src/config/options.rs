//! The command line *as typed*: which options were given, without any look-up.
//!
//! git daemon takes options in one spelling only, `--name` or `--name=value`, never with a separate
//! value. So all arguments before the first one without a dash are options, and all from there on
//! are directories (contract 1 to 3). The parser gets exactly the options.

mod table;
mod value;

use std::ffi::OsString;
use std::net::SocketAddr;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use clap::{ArgMatches, error::ErrorKind};
use thiserror::Error;

use crate::config::proxies::Proxies;
use crate::log::{Destination, Format};
use crate::protocol::service::{Offers, Service};
pub use value::{CLIENT_PORT, Rejected};

/// Whether to listen for Multipath TCP.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Multipath {
    /// Listen for TCP only.
    #[default]
    Off,
    /// Listen for both, and for TCP where the kernel refuses.
    Prefer,
    /// Listen for both, or not at all.
    Require,
}

/// Which port to listen on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Port {
    /// This one; 0 means git's port, 9418.
    Number(u16),
    /// One that is free.
    Auto,
}

/// The options as typed. `None` and empty lists mean that an option was not given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// `--verbose`
    pub verbose: bool,
    /// `--export-all`
    pub export_all: bool,
    /// `--strict-paths`
    pub strict_paths: bool,
    /// `--base-path-relaxed`
    pub base_path_relaxed: bool,
    /// The last of `--mptcp`, `--mptcp=require` and `--no-mptcp`
    pub multipath: Multipath,
    /// `--reuseaddr`
    pub reuse_address: bool,
    /// `--detach`
    pub detach: bool,
    /// `--inetd`
    pub inetd: bool,
    /// `--informative-errors`, unless `--no-informative-errors` came after it
    pub informative_errors: bool,
    /// The last of `--log-destination=` and `--syslog`
    pub log_destination: Option<Destination>,
    /// `--log-format=`
    pub log_format: Option<Format>,
    /// `--listen=`, repeatable; hosts in lower case, paths of `unix:` as they are
    pub listen: Vec<Vec<u8>>,
    /// `--port=`
    pub port: Option<Port>,
    /// `--port-file=`
    pub port_file: Option<Vec<u8>>,
    /// `--require-all-listeners`
    pub require_all_listeners: bool,
    /// `--socket-mode=`
    pub socket_mode: Option<u32>,
    /// `--socket-owner=`
    pub socket_owner: Option<Vec<u8>>,
    /// `--proxy-protocol=`
    pub proxies: Proxies,
    /// `--pid-file=`
    pub pid_file: Option<Vec<u8>>,
    /// `--user=`
    pub user: Option<Vec<u8>>,
    /// `--group=`
    pub group: Option<Vec<u8>>,
    /// `--base-path=`
    pub base_path: Option<Vec<u8>>,
    /// `--interpolated-path=`
    pub interpolated_path: Option<Vec<u8>>,
    /// `--user-path` (empty) or `--user-path=<path>`
    pub user_path: Option<Vec<u8>>,
    /// `--access-hook=`
    pub access_hook: Option<Vec<u8>>,
    /// `--moved-to=`
    pub moved_to: Option<Vec<u8>>,
    /// `--git-config=`, repeatable, split at the first equals sign
    pub git_config: Vec<(Vec<u8>, Vec<u8>)>,
    /// `--nice=`
    pub nice: Option<u8>,
    /// `--timeout=`, in seconds
    pub timeout: Option<u32>,
    /// `--init-timeout=`, in seconds
    pub init_timeout: Option<u32>,
    /// `--max-connections=`; 0 and less stand for no limit
    pub max_connections: Option<i32>,
    /// `--max-connections-per-address=`; 0 and less stand for no limit
    pub max_connections_per_address: Option<i32>,
    /// `--max-pending=`; 0 and less stand for no limit
    pub max_pending: Option<i32>,
    /// `--max-queue=`; less than 0 stands for no limit
    pub max_queue: Option<i32>,
    /// `--queue-timeout=`, in seconds
    pub queue_timeout: Option<u32>,
    /// `--shutdown-timeout=`, in seconds
    pub shutdown_timeout: Option<u32>,
    /// `--status=`
    pub status: Option<Vec<u8>>,
    /// `--status-public`
    pub status_public: bool,
    /// The result of `--enable`, `--disable`, `--allow-override` and `--forbid-override`, in their
    /// order on the command line
    pub offers: Offers,
    /// `--explain=`, a URL or a path
    pub explain: Option<Vec<u8>>,
    /// `--explain-service=`
    pub explain_service: Option<Service>,
    /// `--remote-addr=`
    pub remote_address: Option<SocketAddr>,
    /// The directories after the options
    pub directories: Vec<Vec<u8>>,
}

/// Why parsing ends without options.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum Stop {
    /// `--help` or `--version`: the answer for standard output (B17).
    #[error("{0}")]
    Answer(String),
    /// An option that does not exist or is misspelt: the usage for standard error, exit 129.
    #[error("{0}")]
    Usage(String),
    /// An invalid value: `fatal: …` on standard error, exit 128.
    #[error("{0}")]
    Fatal(Rejected),
}

impl Options {
    /// Parses the arguments after the program's name.
    ///
    /// # Errors
    /// [`Stop`], for the leftmost invalid argument.
    pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Self, Stop> {
        let mut options: Vec<OsString> = arguments.into_iter().collect();
        let ends = |argument: &OsString| !argument.as_bytes().starts_with(b"-") || argument == "--";
        let end = options.iter().position(ends).unwrap_or(options.len());
        let mut directories = options.split_off(end);
        if directories.first().is_some_and(|first| first == "--") {
            directories.remove(0);
        }
        let matches = table::command().try_get_matches_from(options).map_err(stop)?;
        Ok(collect(&matches, directories))
    }

    /// An option that was given, and that has no meaning without `--explain`.
    pub fn only_to_explain(&self) -> Option<&'static str> {
        let given = [
            ("--explain-service", self.explain_service.is_some()),
            ("--remote-addr", self.remote_address.is_some()),
        ];
        let given = given.iter().find(|(_, given)| *given).map(|(option, _)| *option);
        given.filter(|_| self.explain.is_none())
    }
}

fn stop(error: clap::Error) -> Stop {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Stop::Answer(error.to_string()),
        _ => match std::error::Error::source(&error).and_then(|s| s.downcast_ref::<Rejected>()) {
            Some(Rejected::Misspelt) | None => Stop::Usage(table::usage()),
            Some(rejected) => Stop::Fatal(rejected.clone()),
        },
    }
}

fn collect(matches: &ArgMatches, directories: Vec<OsString>) -> Options {
    let flag = |name| matches.get_flag(name);
    let bytes = |name| matches.get_one::<Vec<u8>>(name).cloned();
    Options {
        verbose: flag("verbose"),
        export_all: flag("export-all"),
        strict_paths: flag("strict-paths"),
        base_path_relaxed: flag("base-path-relaxed"),
        multipath: multipath(matches),
        reuse_address: flag("reuseaddr"),
        detach: flag("detach"),
        inetd: flag("inetd"),
        informative_errors: flag("informative-errors"),
        log_destination: log_destination(matches),
        log_format: matches.get_one("log-format").copied(),
        listen: matches
            .get_many::<Vec<u8>>("listen")
            .map_or_else(Vec::new, |hosts| hosts.map(|host| in_lower_case(host)).collect()),
        port: matches.get_one("port").copied(),
        port_file: bytes("port-file"),
        require_all_listeners: flag("require-all-listeners"),
        socket_mode: matches.get_one("socket-mode").copied(),
        socket_owner: bytes("socket-owner"),
        proxies: matches.get_one("proxy-protocol").cloned().unwrap_or_default(),
        pid_file: bytes("pid-file"),
        user: bytes("user"),
        group: bytes("group"),
        base_path: bytes("base-path"),
        interpolated_path: bytes("interpolated-path"),
        user_path: bytes("user-path"),
        access_hook: bytes("access-hook"),
        moved_to: bytes("moved-to"),
        git_config: matches
            .get_many("git-config")
            .map_or_else(Vec::new, |settings| settings.cloned().collect()),
        nice: matches.get_one("nice").copied(),
        timeout: matches.get_one("timeout").copied(),
        init_timeout: matches.get_one("init-timeout").copied(),
        max_connections: matches.get_one("max-connections").copied(),
        max_connections_per_address: matches.get_one("max-connections-per-address").copied(),
        max_pending: matches.get_one("max-pending").copied(),
        max_queue: matches.get_one("max-queue").copied(),
        queue_timeout: matches.get_one("queue-timeout").copied(),
        shutdown_timeout: matches.get_one("shutdown-timeout").copied(),
        status: bytes("status"),
        status_public: flag("status-public"),
        offers: offers(matches),
        explain: bytes("explain"),
        explain_service: matches.get_one("explain-service").copied(),
        remote_address: matches.get_one("remote-addr").copied(),
        directories: directories.into_iter().map(OsString::into_vec).collect(),
    }
}

/// Hosts are case-insensitive (contract 11), paths are not.
fn in_lower_case(host: &[u8]) -> Vec<u8> {
    const UNIX: &[u8] = b"unix:";
    match host.split_at_checked(UNIX.len()) {
        Some((scheme, path)) if scheme.eq_ignore_ascii_case(UNIX) => [UNIX, path].concat(),
        _ => host.to_ascii_lowercase(),
    }
}

/// The last position of an option on the command line; `None` if it is not there.
fn place(matches: &ArgMatches, name: &str) -> Option<usize> {
    (matches.value_source(name) == Some(clap::parser::ValueSource::CommandLine))
        .then(|| matches.indices_of(name).and_then(Iterator::last))
        .flatten()
}

fn multipath(matches: &ArgMatches) -> Multipath {
    if place(matches, "no-mptcp") > place(matches, "mptcp") {
        return Multipath::Off;
    }
    matches.get_one("mptcp").copied().unwrap_or_default()
}

/// The last of `--syslog` and `--log-destination` counts.
fn log_destination(matches: &ArgMatches) -> Option<Destination> {
    if place(matches, "syslog") > place(matches, "log-destination") {
        Some(Destination::Syslog)
    } else {
        matches.get_one("log-destination").copied()
    }
}

/// Four options change one state, in their order on the command line.
fn offers(matches: &ArgMatches) -> Offers {
    let mut changes: Vec<(usize, &str, Service)> = Vec::new();
    for name in ["enable", "disable", "allow-override", "forbid-override"] {
        let services = matches.get_many::<Service>(name).into_iter().flatten();
        let places = matches.indices_of(name).into_iter().flatten();
        changes.extend(places.zip(services).map(|(place, service)| (place, name, *service)));
    }
    changes.sort_by_key(|(place, ..)| *place);
    let mut offers = Offers::default();
    for (_, name, service) in changes {
        let offer = &mut offers[service];
        match name {
            "enable" => offer.enabled = true,
            "disable" => offer.enabled = false,
            "allow-override" => offer.overridable = true,
            _ => offer.overridable = false,
        }
    }
    offers
}

#[cfg(test)]
mod tests;
