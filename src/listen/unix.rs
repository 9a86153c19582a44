//! Unix sockets in the file system: created at start, and removed when the server ends.

use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::process::geteuid;
use socket2::{Domain, SockAddr, Socket, Type};

use crate::config::SocketRights;
use crate::listen::place::Place;
use crate::sys::entry;

/// Why root does not change the owner of a socket where another user could replace the file.
const FOREIGN_DIRECTORY: &str = "--socket-owner needs a directory where only root can write, and so do \
                                 those above it";

/// Listens on a socket in the file system. Replaces the socket of a server that has ended, but not
/// of one that runs.
///
/// # Errors
/// `AddrInUse` when a server listens there or it is no socket; those of bind, chown, chmod and
/// listen; as root, a directory of another user's, with a link on the way or an owner to be given.
pub fn listen(path: &Path, rights: SocketRights) -> io::Result<Socket> {
    // Clients must be able to pass the path too, so check its length first.
    let address = SockAddr::unix(path)?;
    let place = Place::find(path.as_os_str().as_bytes())?;
    let given = rights.user.is_some() || rights.group.is_some();
    let guarded = place.is_guarded();
    if given && !guarded {
        return Err(io::Error::other(FOREIGN_DIRECTORY));
    }
    // If no other user can change what the path means, the socket's address is the given path.
    let address = if guarded { address } else { SockAddr::unix(OsStr::from_bytes(&place.path()))? };
    clear(&place, &address)?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    entry::bind_with_mode(&socket, rights.mode, || socket.bind(&address))?;
    // Before `listen` no client can connect, whatever the permissions are.
    let listening = if given { give(&place, rights) } else { Ok(()) }.and_then(|()| {
        socket.listen(libc::c_int::MAX)?;
        socket.set_nonblocking(true)
    });
    if listening.is_err() {
        let _ = place.remove();
    }
    listening.map(|()| socket)
}

/// Removes the socket of a server that has ended.
fn clear(place: &Place, address: &SockAddr) -> io::Result<()> {
    if !place.look()?.is_some_and(|found| found.kind.is_socket()) {
        return Ok(());
    }
    if is_served(address)? {
        return Err(io::Error::from_raw_os_error(libc::EADDRINUSE));
    }
    place.remove()
}

fn is_served(address: &SockAddr) -> io::Result<bool> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // A server with a full queue still runs.
    socket.set_nonblocking(true)?;
    match socket.connect(address) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(false),
        Err(error) => Err(error),
    }
}

/// Changes the file's owner, once it is certain that it is the file just made, and not a symbolic
/// link or a second name of another file.
fn give(place: &Place, rights: SocketRights) -> io::Result<()> {
    let file = place.hold()?;
    let found = entry::look(&file, c"")?;
    if !found.kind.is_socket() || found.links != 1 || found.owner != geteuid().as_raw() {
        return Err(io::Error::other("another file has taken its place"));
    }
    entry::give(&file, rights.user, rights.group)
}

/// The file of a listening socket. Removed on drop, unless a successor has replaced it.
#[derive(Debug)]
pub struct SocketFile {
    place: Place,
    /// The file, held so that its inode number is not reused by a successor.
    file: OwnedFd,
}

impl SocketFile {
    /// Holds the file at `path`; `None` when it is gone already.
    pub fn keep(path: &Path) -> Option<Self> {
        let place = Place::find(path.as_os_str().as_bytes()).ok()?;
        let file = place.hold().ok()?;
        entry::look(&file, c"").ok().filter(|found| found.kind.is_socket())?;
        Some(SocketFile { place, file })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if self.place.is(&self.file) {
            // A user that may not remove it leaves it to the next server, which replaces it.
            let _ = self.place.remove();
        }
    }
}
