//! Entries of directories that are held open: status and creation, even if the directory's path
//! changes meanwhile. No call here follows a symbolic link unless it says so.

use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{AtFlags, Gid, Mode, OFlags, Uid};
use rustix::process::umask;

use super::descriptor::Status;

/// The status of `name` in `directory`, or of the open file itself for an empty name.
///
/// # Errors
/// Those of `fstatat(2)`.
pub fn look(directory: impl AsFd, name: &CStr) -> io::Result<Status> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::EMPTY_PATH;
    Ok(rustix::fs::statat(directory, name, flags)?.into())
}

/// Opens the directory `name` with `O_PATH`; `ENOTDIR` for a symbolic link.
///
/// # Errors
/// Those of `openat(2)`.
pub fn hold_directory(directory: impl AsFd, name: &CStr) -> io::Result<OwnedFd> {
    // O_DIRECTORY makes the kernel trigger automounts.
    open(directory, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::DIRECTORY)
}

/// Opens `name` with `O_PATH`; of a symbolic link the link itself.
///
/// # Errors
/// Those of `openat(2)`.
pub fn hold(directory: impl AsFd, name: &CStr) -> io::Result<OwnedFd> {
    open(directory, name, OFlags::PATH | OFlags::NOFOLLOW)
}

/// Opens `name` for reading, without waiting for the writer of a pipe.
///
/// # Errors
/// Those of `openat(2)`; `ELOOP` for a symbolic link.
pub fn open_to_read(directory: impl AsFd, name: &CStr) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::NOFOLLOW;
    open(directory, name, flags).map(File::from)
}

/// Opens `name` for writing from its beginning, and creates it if necessary. Waits for the reader
/// of a pipe. With `follow` a symbolic link is followed.
///
/// # Errors
/// Those of `openat(2)`; `ELOOP` for a symbolic link that must not be followed.
pub fn open_to_write(directory: impl AsFd, name: &CStr, follow: bool) -> io::Result<File> {
    let follow = if follow { OFlags::empty() } else { OFlags::NOFOLLOW };
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOCTTY | follow;
    open(directory, name, flags).map(File::from)
}

/// Creates the file `name`.
///
/// # Errors
/// Those of `openat(2)`; `EEXIST` if the name exists, even as a dangling symbolic link.
pub fn create(directory: impl AsFd, name: &CStr) -> io::Result<File> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
    open(directory, name, flags).map(File::from)
}

fn open(directory: impl AsFd, name: &CStr, flags: OFlags) -> io::Result<OwnedFd> {
    let mode = Mode::from_raw_mode(0o666);
    Ok(rustix::fs::openat(directory, name, flags | OFlags::CLOEXEC, mode)?)
}

/// Changes the user, group, or both of the open file; `O_PATH` is enough.
///
/// # Errors
/// Those of `fchownat(2)`.
pub fn give(file: impl AsFd, user: Option<u32>, group: Option<u32>) -> io::Result<()> {
    let (user, group) = (user.map(Uid::from_raw), group.map(Gid::from_raw));
    Ok(rustix::fs::chownat(file, c"", user, group, AtFlags::EMPTY_PATH)?)
}

/// Gives the calling thread an umask and a working directory of its own (unshare(2), CLONE_FS).
///
/// # Errors
/// `ENOMEM`, or what a security module returns.
pub fn apart_from_other_threads() -> io::Result<()> {
    // SAFETY: no other code relies on this thread's sharing its umask and its working directory,
    // which gitd never changes.
    Ok(unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::FS) }?)
}

/// Runs `bind`, which creates a file for `socket`, so that its permissions are `mode`. Only for a
/// process with one thread, or a thread with an umask of its own: all others share it.
///
/// # Errors
/// Those of `fchmod(2)` and of `bind`.
pub fn bind_with_mode(
    socket: impl AsFd,
    mode: u32,
    bind: impl FnOnce() -> io::Result<()>,
) -> io::Result<()> {
    // The file gets the socket's permissions, reduced by the umask.
    rustix::fs::fchmod(socket, Mode::from_raw_mode(mode))?;
    let mask = umask(Mode::empty());
    let bound = bind();
    umask(mask);
    bound
}

/// Whether the open file belongs to /proc, where some symbolic links contain no path.
pub fn is_of_proc(file: impl AsFd) -> bool {
    rustix::fs::fstatfs(file).is_ok_and(|system| system.f_type == rustix::fs::PROC_SUPER_MAGIC)
}
