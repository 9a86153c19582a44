//! The settings of a listening daemon: where it listens, which files it writes, which user it
//! becomes.

use std::ffi::{CString, OsStr};
use std::fmt::{self, Display, Formatter};
use std::net::SocketAddr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::ConfigError;
use crate::config::options::{Multipath, Options, Port};
use crate::escape::Escaped;
use crate::sys::account;

/// The port that IANA assigned to git.
pub const GIT_PORT: u16 = 9418;

/// The default permissions of a Unix socket: every local user may connect, as with a TCP port.
const SOCKET_MODE: u32 = 0o666;

/// The permissions of the status's Unix socket.
const STATUS_SOCKET_MODE: u32 = 0o660;

/// A listening daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Daemon {
    /// Where to listen. Empty for every address, unless sockets were passed.
    pub places: Vec<ListenOn>,
    /// The port to listen on, 1 to 65535, or a free one.
    pub port: Port,
    /// Whether the options name an address or a port.
    pub place_named: bool,
    /// Whether all places must be listened on, or at least one.
    pub require_all: bool,
    /// Permissions and owner of Unix sockets.
    pub socket_rights: SocketRights,
    /// Whether to listen for Multipath TCP.
    pub multipath: Multipath,
    /// Whether to bind although connections of an earlier server linger.
    pub reuse_address: bool,
    /// Whether to go to the background once listening.
    pub detach: bool,
    /// The file for the process id, relative to the working directory.
    pub pid_file: Option<Vec<u8>>,
    /// The file for the addresses and ports, relative to the working directory.
    pub port_file: Option<Vec<u8>>,
    /// Where to tell of the server's state, if anywhere.
    pub status: Option<StatusOn>,
    /// The user to become after binding.
    pub identity: Option<Identity>,
}

/// A place to listen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListenOn {
    /// All addresses of a host, with the port.
    Host(CString),
    /// A socket in the file system.
    Unix(PathBuf),
}

/// Permissions and owner of a Unix socket, which decide who may connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SocketRights {
    /// The permissions of its file.
    pub mode: u32,
    /// The owner of its file, if not gitd's user.
    pub user: Option<u32>,
    /// The group of its file, if not gitd's.
    pub group: Option<u32>,
}

/// A user and group to become.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The login name, for the supplementary groups.
    pub name: CString,
    /// The numeric user.
    pub uid: u32,
    /// The numeric group: the user's own unless `--group` names another.
    pub gid: u32,
}

impl Daemon {
    /// The settings for listening from the options.
    pub(super) fn from_options(
        options: &Options,
        identity: Option<Identity>,
    ) -> Result<Self, ConfigError> {
        let places: Vec<ListenOn> =
            options.listen.iter().map(|host| ListenOn::parse(host)).collect::<Result<_, _>>()?;
        Ok(Daemon {
            place_named: options.port.is_some() || !places.is_empty(),
            places,
            port: match options.port {
                None | Some(Port::Number(0)) => Port::Number(GIT_PORT),
                Some(port) => port,
            },
            require_all: options.require_all_listeners,
            socket_rights: SocketRights::from_options(options)?,
            multipath: options.multipath,
            reuse_address: options.reuse_address,
            detach: options.detach,
            pid_file: options.pid_file.clone(),
            port_file: options.port_file.clone(),
            status: StatusOn::from_options(options)?,
            identity,
        })
    }
}

/// Where to tell of the server's state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StatusOn {
    /// An address and its port.
    Inet(SocketAddr),
    /// A socket in the file system, with its rights.
    Unix(PathBuf, SocketRights),
}

/// Why `--status` cannot be followed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum StatusError {
    /// One client has no use for it.
    #[error("--status is incompatible with --inetd")]
    Inetd,
    /// Neither an address with a port nor a path.
    #[error("invalid status '{0}', expecting <address>:<port> or unix:/<path>")]
    Place(String),
    /// An address that others can reach.
    #[error("--status={0} is no loopback address; to tell everybody, add --status-public")]
    Public(SocketAddr),
    /// `--status-public` alone.
    #[error("--status-public supplied without --status")]
    Nowhere,
}

impl StatusOn {
    fn from_options(options: &Options) -> Result<Option<Self>, ConfigError> {
        let Some(text) = &options.status else {
            let alone = options.status_public;
            return if alone { Err(StatusError::Nowhere.into()) } else { Ok(None) };
        };
        let misspelt = || StatusError::Place(Escaped(text).to_string());
        if let Some(path) = text.strip_prefix(b"unix:") {
            let path = Path::new(OsStr::from_bytes(path));
            let given = SocketRights::from_options(options)?;
            // It names clients and repositories, so not every local user may read it.
            let rights = SocketRights { mode: STATUS_SOCKET_MODE, ..given };
            return match path.is_absolute() {
                true => Ok(Some(StatusOn::Unix(path.to_owned(), rights))),
                false => Err(misspelt().into()),
            };
        }
        let address = std::str::from_utf8(text).ok().and_then(|text| text.parse().ok());
        let address: SocketAddr = address.ok_or_else(misspelt)?;
        if !options.status_public && !address.ip().to_canonical().is_loopback() {
            return Err(StatusError::Public(address).into());
        }
        Ok(Some(StatusOn::Inet(address)))
    }
}

impl ListenOn {
    fn parse(text: &[u8]) -> Result<Self, ConfigError> {
        if let Some(path) = text.strip_prefix(b"unix:") {
            let path = Path::new(OsStr::from_bytes(path));
            return match path.is_absolute() {
                true => Ok(ListenOn::Unix(path.to_owned())),
                false => Err(ConfigError::RelativeSocket(Escaped(text).to_string())),
            };
        }
        let host = CString::new(text);
        host.map(ListenOn::Host).map_err(|_| ConfigError::Host(Escaped(text).to_string()))
    }
}

impl SocketRights {
    fn from_options(options: &Options) -> Result<Self, ConfigError> {
        let mode = options.socket_mode.unwrap_or(SOCKET_MODE);
        let owner = options.socket_owner.as_deref().unwrap_or_default();
        let (user, group) = match owner.iter().position(|&byte| byte == b':') {
            Some(colon) => (&owner[..colon], &owner[colon + 1..]),
            None => (owner, [].as_slice()),
        };
        let named = |name: &[u8]| (!name.is_empty()).then(|| name.to_vec());
        let user = named(user).map(|name| find_user(&name)).transpose()?.map(|user| user.uid);
        let group = named(group).map(|name| find_group(&name)).transpose()?;
        Ok(SocketRights { mode, user, group })
    }
}

impl Identity {
    /// Looks up `--user` and `--group`.
    pub(super) fn from_options(
        user: Option<&[u8]>,
        group: Option<&[u8]>,
    ) -> Result<Option<Self>, ConfigError> {
        let Some(user) = user else {
            return if group.is_some() { Err(ConfigError::GroupWithoutUser) } else { Ok(None) };
        };
        let found = find_user(user)?;
        let gid = group.map_or(Ok(found.gid), find_group)?;
        Ok(Some(Identity { name: found.name, uid: found.uid, gid }))
    }
}

fn find_user(name: &[u8]) -> Result<account::User, ConfigError> {
    let found = CString::new(name).ok().and_then(|name| account::user(&name).ok()?);
    found.ok_or_else(|| ConfigError::User(Escaped(name).to_string()))
}

fn find_group(name: &[u8]) -> Result<u32, ConfigError> {
    let found = CString::new(name).ok().and_then(|name| account::group(&name).ok()?);
    found.ok_or_else(|| ConfigError::Group(Escaped(name).to_string()))
}

impl Display for Port {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Port::Number(number) => write!(f, "{number}"),
            Port::Auto => f.write_str("auto"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::*;

    #[test]
    fn status_is_for_this_machine_unless_told_otherwise() {
        let place = |arguments: &[&str]| {
            let options = Options::parse(arguments.iter().map(OsString::from)).unwrap();
            StatusOn::from_options(&options).map_err(|error| error.to_string())
        };
        let inet = |text: &str| Ok(Some(StatusOn::Inet(text.parse().unwrap())));
        assert_eq!(place(&[]), Ok(None));
        for local in ["127.0.0.1:9419", "127.9.9.9:0", "[::1]:9419", "[::ffff:127.0.0.1]:1"] {
            assert_eq!(place(&[&format!("--status={local}")]), inet(local));
        }
        for public in ["0.0.0.0:9419", "[::]:9419", "192.0.2.1:80", "[::ffff:192.0.2.1]:1"] {
            let status = format!("--status={public}");
            assert!(place(&[&status]).unwrap_err().ends_with("add --status-public"), "{public}");
            assert_eq!(place(&["--status-public", &status]), inet(public));
        }
        let rights = SocketRights { mode: 0o660, user: None, group: None };
        assert_eq!(
            place(&["--status=unix:/run/status", "--socket-mode=777"]),
            Ok(Some(StatusOn::Unix("/run/status".into(), rights)))
        );
        for misspelt in ["", "9419", "localhost:1", "127.0.0.1", "unix:x", "127.0.0.1:65536"] {
            let error = place(&[&format!("--status={misspelt}")]).unwrap_err();
            assert!(error.starts_with(&format!("invalid status '{misspelt}', ")), "{error}");
        }
        assert_eq!(
            place(&["--status-public"]),
            Err("--status-public supplied without --status".into())
        );
    }
}
