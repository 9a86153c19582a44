//! Entries of directories that are held open: status, creation, renaming and removal, even if the
//! directory's path changes meanwhile. No call here follows a symbolic link unless it says so.

use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

use super::check;

/// The status of an entry.
#[derive(Debug, Clone, Copy)]
pub struct FileStatus {
    mode: libc::mode_t,
    /// The numeric user that owns it.
    pub owner: u32,
    /// How many names it has.
    pub links: u64,
    /// Device and inode.
    pub identity: (u64, u64),
}

impl FileStatus {
    /// Whether it is a plain file.
    #[must_use]
    pub fn is_file(&self) -> bool {
        self.mode & libc::S_IFMT == libc::S_IFREG
    }

    /// Whether it is a symbolic link.
    #[must_use]
    pub fn is_link(&self) -> bool {
        self.mode & libc::S_IFMT == libc::S_IFLNK
    }

    /// Whether it is a socket.
    #[must_use]
    pub fn is_socket(&self) -> bool {
        self.mode & libc::S_IFMT == libc::S_IFSOCK
    }

    /// Whether a user other than the owner may write it; for a directory, create and remove
    /// entries.
    #[must_use]
    pub fn others_write(&self) -> bool {
        self.mode & 0o022 != 0
    }

    /// Whether only the owner of an entry of this directory may remove it.
    #[must_use]
    pub fn is_sticky(&self) -> bool {
        self.mode & libc::S_ISVTX != 0
    }
}

/// The status of `name` in `directory`, or of the open file itself for an empty name.
///
/// # Errors
/// Those of `fstatat(2)`.
pub fn look(directory: impl AsFd, name: &CStr) -> io::Result<FileStatus> {
    let mut stat = std::mem::MaybeUninit::<libc::stat>::uninit();
    let (fd, flags) =
        (directory.as_fd().as_raw_fd(), libc::AT_SYMLINK_NOFOLLOW | libc::AT_EMPTY_PATH);
    // SAFETY: `name` is NUL-terminated and `stat` is writable memory of the right size.
    check(unsafe { libc::fstatat(fd, name.as_ptr(), stat.as_mut_ptr(), flags) })?;
    // SAFETY: the call succeeded, so the kernel filled the whole structure.
    let stat = unsafe { stat.assume_init() };
    Ok(FileStatus {
        mode: stat.st_mode,
        owner: stat.st_uid,
        // Its width differs between architectures.
        #[allow(clippy::useless_conversion)]
        links: stat.st_nlink.into(),
        identity: (stat.st_dev, stat.st_ino),
    })
}

/// Opens the directory `name` with `O_PATH`; `ENOTDIR` for a symbolic link.
///
/// # Errors
/// Those of `openat(2)`.
pub fn hold_directory(directory: impl AsFd, name: &CStr) -> io::Result<OwnedFd> {
    // O_DIRECTORY makes the kernel trigger automounts.
    open(directory, name, libc::O_PATH | libc::O_NOFOLLOW | libc::O_DIRECTORY)
}

/// Opens `name` with `O_PATH`; of a symbolic link the link itself.
///
/// # Errors
/// Those of `openat(2)`.
pub fn hold(directory: impl AsFd, name: &CStr) -> io::Result<OwnedFd> {
    open(directory, name, libc::O_PATH | libc::O_NOFOLLOW)
}

/// Opens `name` for reading, without waiting for the writer of a pipe.
///
/// # Errors
/// Those of `openat(2)`; `ELOOP` for a symbolic link.
pub fn open_to_read(directory: impl AsFd, name: &CStr) -> io::Result<File> {
    let flags = libc::O_RDONLY | libc::O_NONBLOCK | libc::O_NOCTTY | libc::O_NOFOLLOW;
    open(directory, name, flags).map(File::from)
}

/// Opens `name` for writing from its beginning, and creates it if necessary. Waits for the reader
/// of a pipe. With `follow` a symbolic link is followed.
///
/// # Errors
/// Those of `openat(2)`; `ELOOP` for a symbolic link that must not be followed.
pub fn open_to_write(directory: impl AsFd, name: &CStr, follow: bool) -> io::Result<File> {
    let follow = if follow { 0 } else { libc::O_NOFOLLOW };
    let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_TRUNC | libc::O_NOCTTY | follow;
    open(directory, name, flags).map(File::from)
}

/// Creates the file `name`.
///
/// # Errors
/// Those of `openat(2)`; `EEXIST` if the name exists, even as a dangling symbolic link.
pub fn create(directory: impl AsFd, name: &CStr) -> io::Result<File> {
    let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL | libc::O_NOFOLLOW;
    open(directory, name, flags).map(File::from)
}

fn open(directory: impl AsFd, name: &CStr, flags: libc::c_int) -> io::Result<OwnedFd> {
    let fd = directory.as_fd().as_raw_fd();
    let mode: libc::mode_t = 0o666;
    // SAFETY: `name` is a NUL-terminated string that outlives the call, and a mode is passed.
    let opened = unsafe { libc::openat(fd, name.as_ptr(), flags | libc::O_CLOEXEC, mode) };
    let opened = check(opened)?;
    // SAFETY: the kernel just returned this descriptor and no other code has its number.
    Ok(unsafe { OwnedFd::from_raw_fd(opened) })
}

/// Renames `from` to `to`, and replaces that, both in `directory`.
///
/// # Errors
/// Those of `renameat(2)`.
pub fn rename(directory: impl AsFd, from: &CStr, to: &CStr) -> io::Result<()> {
    let fd = directory.as_fd().as_raw_fd();
    // SAFETY: both names are NUL-terminated strings that outlive the call.
    check(unsafe { libc::renameat(fd, from.as_ptr(), fd, to.as_ptr()) }).map(drop)
}

/// Removes `name`, which must not be a directory.
///
/// # Errors
/// Those of `unlinkat(2)`.
pub fn remove(directory: impl AsFd, name: &CStr) -> io::Result<()> {
    let fd = directory.as_fd().as_raw_fd();
    // SAFETY: the name is a NUL-terminated string that outlives the call.
    check(unsafe { libc::unlinkat(fd, name.as_ptr(), 0) }).map(drop)
}

/// Changes the user, group, or both of the open file; `O_PATH` is enough.
///
/// # Errors
/// Those of `fchownat(2)`.
pub fn give(file: impl AsFd, user: Option<u32>, group: Option<u32>) -> io::Result<()> {
    // The kernel ignores an id of -1.
    let (user, group) = (user.unwrap_or(u32::MAX), group.unwrap_or(u32::MAX));
    let fd = file.as_fd().as_raw_fd();
    // SAFETY: the empty name is a static NUL-terminated string.
    check(unsafe { libc::fchownat(fd, c"".as_ptr(), user, group, libc::AT_EMPTY_PATH) }).map(drop)
}

/// Runs `bind`, which creates a file for `socket`, so that its permissions are `mode`. Only for a
/// process with one thread: all threads share the umask.
///
/// # Errors
/// Those of `fchmod(2)` and of `bind`.
pub fn bind_with_mode(
    socket: impl AsFd,
    mode: u32,
    bind: impl FnOnce() -> io::Result<()>,
) -> io::Result<()> {
    // The file gets the socket's permissions, reduced by the umask.
    // SAFETY: takes a descriptor that is open and a number.
    check(unsafe { libc::fchmod(socket.as_fd().as_raw_fd(), mode) })?;
    // SAFETY: takes and changes a number only, and cannot fail.
    let mask = unsafe { libc::umask(0) };
    let bound = bind();
    // SAFETY: as above.
    unsafe { libc::umask(mask) };
    bound
}

/// Whether the open file belongs to /proc, where some symbolic links contain no path.
pub fn is_of_proc(file: impl AsFd) -> bool {
    let mut system = std::mem::MaybeUninit::<libc::statfs>::uninit();
    let fd = file.as_fd().as_raw_fd();
    // SAFETY: `system` is writable memory of the right size.
    if unsafe { libc::fstatfs(fd, system.as_mut_ptr()) } != 0 {
        return false;
    }
    // SAFETY: the call succeeded, so the kernel filled the whole structure.
    let system = unsafe { system.assume_init() };
    // The type of both differs between architectures.
    #[allow(clippy::unnecessary_cast)]
    let (found, proc) = (system.f_type as u64, libc::PROC_SUPER_MAGIC as u64);
    found == proc
}

/// A random number that cannot be guessed.
///
/// # Errors
/// Those of `getrandom(2)`.
pub fn random() -> io::Result<u64> {
    let mut bytes = [0_u8; 8];
    // SAFETY: the buffer is writable for the length that is passed.
    let got = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) };
    match usize::try_from(got) {
        Ok(got) if got == bytes.len() => Ok(u64::from_ne_bytes(bytes)),
        _ => Err(io::Error::last_os_error()),
    }
}
