//! Unix sockets in the file system: made, and removed when the server that made them ends.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use socket2::{Domain, SockAddr, Socket, Type};

use crate::config::SocketRights;

/// Listens in a file. What a server that has ended left there is replaced; what one that lives listens
/// on is not.
///
/// # Errors
/// `AddrInUse` when somebody listens there or it is no socket; those of bind, chown, chmod and listen.
pub fn listen(path: &Path, rights: SocketRights) -> io::Result<Socket> {
    let address = SockAddr::unix(path)?;
    if fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket()) {
        if is_served(&address)? {
            return Err(io::Error::from_raw_os_error(libc::EADDRINUSE));
        }
        fs::remove_file(path)?;
    }
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.bind(&address)?;
    // Until it listens nobody can connect, whatever its permissions are.
    let listening = adorn(path, rights).and_then(|()| {
        socket.listen(libc::c_int::MAX)?;
        socket.set_nonblocking(true)
    });
    if listening.is_err() {
        let _ = fs::remove_file(path);
    }
    listening.map(|()| socket)
}

fn adorn(path: &Path, rights: SocketRights) -> io::Result<()> {
    if rights.user.is_some() || rights.group.is_some() {
        chown(path, rights.user, rights.group)?;
    }
    fs::set_permissions(path, Permissions::from_mode(rights.mode))
}

fn is_served(address: &SockAddr) -> io::Result<bool> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // A server whose queue is full is one all the same.
    socket.set_nonblocking(true)?;
    match socket.connect(address) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(false),
        Err(error) => Err(error),
    }
}

/// The file of a socket that listens; removed when dropped, unless a successor has its own there.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    identity: (u64, u64),
}

impl SocketFile {
    /// Takes care of the file at `path`; `None` when it has gone already.
    #[must_use]
    pub fn keep(path: &Path) -> Option<Self> {
        Some(SocketFile { path: path.to_owned(), identity: identity(path)? })
    }
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    fs::symlink_metadata(path).ok().map(|found| (found.dev(), found.ino()))
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if identity(&self.path) == Some(self.identity) {
            // A user who may not remove it leaves it to the next server, which replaces it.
            let _ = fs::remove_file(&self.path);
        }
    }
}
