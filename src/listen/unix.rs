//! Unix sockets in the file system: made, and removed when the server that made them ends.

use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use socket2::{Domain, SockAddr, Socket, Type};

use crate::config::SocketRights;
use crate::listen::place::Place;
use crate::sys::account::effective_uid;
use crate::sys::entry;

/// Why root gives no socket away where it may be another file meanwhile.
const FOREIGN_DIRECTORY: &str = "--socket-owner needs a directory where only root can write, and so do \
                                 those above it";

/// Listens in a file. What a server that has ended left there is replaced; what one that lives listens
/// on is not.
///
/// # Errors
/// `AddrInUse` when somebody listens there or it is no socket; those of bind, chown, chmod and listen;
/// as root, a directory of another user's, with a link on the way or an owner to be given.
pub fn listen(path: &Path, rights: SocketRights) -> io::Result<Socket> {
    // As long as clients can say, too.
    let address = SockAddr::unix(path)?;
    let place = Place::find(path.as_os_str().as_bytes())?;
    let given = rights.user.is_some() || rights.group.is_some();
    let guarded = place.is_guarded();
    if given && !guarded {
        return Err(io::Error::other(FOREIGN_DIRECTORY));
    }
    // Where nobody else can change what a path means, the socket shall bear the path that it is known by.
    let address = if guarded { address } else { SockAddr::unix(OsStr::from_bytes(&place.path()))? };
    clear(&place, &address)?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    entry::bind_with_mode(&socket, rights.mode, || socket.bind(&address))?;
    // Until it listens nobody can connect, whatever its permissions are.
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
    if !place.look()?.is_some_and(|found| found.is_socket()) {
        return Ok(());
    }
    if is_served(address)? {
        return Err(io::Error::from_raw_os_error(libc::EADDRINUSE));
    }
    place.remove()
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

/// Gives the file away, once it is certain that it is the one just made: a symbolic link and a second
/// name of something else are not.
fn give(place: &Place, rights: SocketRights) -> io::Result<()> {
    let file = place.hold()?;
    let found = entry::look(&file, c"")?;
    if !found.is_socket() || found.links != 1 || found.owner != effective_uid() {
        return Err(io::Error::other("another file has taken its place"));
    }
    entry::give(&file, rights.user, rights.group)
}

/// The file of a socket that listens; removed when dropped, unless a successor has its own there.
#[derive(Debug)]
pub struct SocketFile {
    place: Place,
    /// The file, held: its inode's number is not given to a successor's meanwhile.
    file: OwnedFd,
}

impl SocketFile {
    /// Takes care of the file at `path`; `None` when it has gone already.
    pub fn keep(path: &Path) -> Option<Self> {
        let place = Place::find(path.as_os_str().as_bytes()).ok()?;
        let file = place.hold().ok()?;
        entry::look(&file, c"").ok().filter(entry::FileStatus::is_socket)?;
        Some(SocketFile { place, file })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if self.place.is(&self.file) {
            // A user who may not remove it leaves it to the next server, which replaces it.
            let _ = self.place.remove();
        }
    }
}
