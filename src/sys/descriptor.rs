//! Directories and files as descriptors: opened relative to one another, so that no name is
//! resolved twice. [`CWD`] stands for the working directory, which gitd never changes. A shortage is
//! returned apart from other errors ([`Found`]).

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, IntoRawFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::time::{Duration, SystemTime};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::shortage::{Found, Shortage, found};

/// The fields of `stat(2)` that gitd uses.
#[derive(Debug, Clone, Copy)]
pub struct Status {
    /// What kind of file it is.
    pub kind: FileType,
    /// Its permissions.
    mode: Mode,
    /// The numeric user that owns it.
    pub owner: u32,
    /// How many names it has.
    pub links: u64,
    /// Device and inode: unique while the file is held open.
    pub identity: (u64, u64),
    /// When its inode last changed, which cannot be forged: for a directory also when an entry
    /// changed.
    pub changed: SystemTime,
}

impl Status {
    /// Whether its owner may execute it.
    #[must_use]
    pub fn owner_executes(&self) -> bool {
        self.mode.contains(Mode::XUSR)
    }

    /// Whether a user other than the owner may write it; for a directory, create and remove
    /// entries.
    #[must_use]
    pub fn others_write(&self) -> bool {
        self.mode.intersects(Mode::WGRP | Mode::WOTH)
    }

    /// Whether only the owner of an entry of this directory may remove it.
    #[must_use]
    pub fn is_sticky(&self) -> bool {
        self.mode.contains(Mode::SVTX)
    }
}

impl From<Stat> for Status {
    // The widths of some fields differ between architectures.
    #[allow(clippy::useless_conversion)]
    fn from(stat: Stat) -> Self {
        Status {
            kind: FileType::from_raw_mode(stat.st_mode),
            mode: Mode::from_raw_mode(stat.st_mode),
            owner: stat.st_uid,
            links: stat.st_nlink.into(),
            identity: (stat.st_dev, stat.st_ino),
            changed: time(stat.st_ctime, stat.st_ctime_nsec),
        }
    }
}

/// A time before 1970 counts as 1970.
fn time(seconds: i64, nanoseconds: impl TryInto<u32>) -> SystemTime {
    let duration = |(seconds, nanoseconds)| Duration::new(seconds, nanoseconds);
    let parts = u64::try_from(seconds).ok().zip(nanoseconds.try_into().ok());
    SystemTime::UNIX_EPOCH
        .checked_add(parts.map(duration).unwrap_or_default())
        .unwrap_or(SystemTime::UNIX_EPOCH)
}

/// Opens `path` with `O_PATH`: no permission on the file itself is needed and nothing can be read.
/// Follows symbolic links. The descriptor is closed on exec.
///
/// # Errors
/// Those of `openat(2)`.
pub fn locate(base: impl AsFd, path: &CStr) -> Found<OwnedFd> {
    open(base, path, OFlags::PATH)
}

/// The same, but opens a symbolic link at the end of `path` itself.
///
/// # Errors
/// Those of `openat(2)`.
pub fn locate_itself(base: impl AsFd, path: &CStr) -> Found<OwnedFd> {
    open(base, path, OFlags::PATH | OFlags::NOFOLLOW)
}

/// Opens a file that is held with `O_PATH` for reading, whatever its name leads to now.
///
/// # Errors
/// Those of `open(2)`, also when `/proc` is not mounted.
pub fn reopen_to_read(located: impl AsFd) -> Found<File> {
    let name = format!("/proc/self/fd/{}", located.as_fd().as_raw_fd());
    match CString::new(name) {
        Ok(name) => open_to_read(CWD, &name),
        Err(error) => Ok(Err(error.into())),
    }
}

/// Opens `path` for reading, without waiting for the writer of a pipe. Follows symbolic links. The
/// descriptor is closed on exec.
///
/// # Errors
/// Those of `openat(2)`.
pub fn open_to_read(base: impl AsFd, path: &CStr) -> Found<File> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
    Ok(open(base, path, flags)?.map(File::from))
}

fn open(base: impl AsFd, path: &CStr, flags: OFlags) -> Found<OwnedFd> {
    found(rustix::fs::openat(base, path, flags | OFlags::CLOEXEC, Mode::empty()))
}

/// The status of `path`, following symbolic links.
///
/// # Errors
/// Those of `fstatat(2)`.
pub fn status(base: impl AsFd, path: &CStr) -> Found<Status> {
    found(rustix::fs::statat(base, path, AtFlags::empty()).map(Status::from))
}

/// The status of `path`; of a symbolic link the link's own.
///
/// # Errors
/// Those of `fstatat(2)`.
pub fn status_itself(base: impl AsFd, path: &CStr) -> Found<Status> {
    found(rustix::fs::statat(base, path, AtFlags::SYMLINK_NOFOLLOW).map(Status::from))
}

/// The status of the open descriptor `fd`; `O_PATH` is enough.
///
/// # Errors
/// Those of `fstat(2)`.
pub fn status_of(fd: impl AsFd) -> Found<Status> {
    found(rustix::fs::fstat(fd).map(Status::from))
}

/// Whether two descriptors refer to the same file.
///
/// # Errors
/// A shortage.
pub fn same(one: impl AsFd, other: impl AsFd) -> Result<bool, Shortage> {
    Ok(match (status_of(one)?, status_of(other)?) {
        (Ok(one), Ok(other)) => one.identity == other.identity,
        _ => false,
    })
}

/// Whether the process's real user has `access` to `path`; follows symbolic links.
///
/// # Errors
/// Those of `faccessat(2)`.
pub fn access(base: impl AsFd, path: &CStr, access: rustix::fs::Access) -> Found<()> {
    found(rustix::fs::accessat(base, path, access, AtFlags::empty()))
}

/// The target of the symbolic link `path`, cut at 4096 bytes. For an empty path the target of
/// `base`, which is a link.
///
/// # Errors
/// Those of `readlinkat(2)`; `EINVAL` when `path` is no symbolic link.
pub fn read_link(base: impl AsFd, path: &CStr) -> Found<Vec<u8>> {
    let mut target = vec![0_u8; 4096];
    let length = rustix::fs::readlinkat_raw(base, path, target.as_mut_slice());
    found(length.map(|length| {
        target.truncate(length);
        target
    }))
}

/// The current path of the open `fd`, with symbolic links resolved, from the kernel.
///
/// # Errors
/// Those of `readlink(2)`, when `/proc` is not mounted.
pub fn real_path(fd: impl AsFd) -> Found<Vec<u8>> {
    let link = format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd());
    found(std::fs::read_link(link).map(|path| path.into_os_string().into_vec()))
}

/// Marks every descriptor above standard error close-on-exec, so that descriptors that the parent
/// left open do not get into git. Kernels before 5.11 lack the flag; then nothing happens.
pub fn close_inherited_on_exec() {
    const CLOSE_RANGE_CLOEXEC: libc::c_uint = 4;
    // SAFETY: the call changes flags of this process's descriptors only and touches no memory.
    unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, CLOSE_RANGE_CLOEXEC) };
}

/// Opens `/dev/null` on each of the descriptors 0, 1 and 2 that is closed, so that no socket can
/// become a standard stream.
///
/// # Errors
/// When `/dev/null` cannot be opened.
pub fn fill_standard_streams() -> io::Result<()> {
    loop {
        let null = match rustix::fs::openat(CWD, c"/dev/null", OFlags::RDWR, Mode::empty()) {
            // If no number is left, none of these is free.
            Err(Errno::MFILE) => return Ok(()),
            null => null?,
        };
        if null.as_raw_fd() > 2 {
            return Ok(());
        }
        // A standard stream has no owner.
        let _ = null.into_raw_fd();
    }
}
