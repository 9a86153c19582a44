//! Directories and files as descriptors: opened relative to one another, so that no name is
//! resolved twice.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::time::{Duration, SystemTime};

use super::{check, shortage};

/// The fields of `stat(2)` that gitd uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status {
    /// What kind of file it is.
    pub kind: Kind,
    /// The numeric user that owns it.
    pub owner: u32,
    /// Whether its owner may execute it.
    pub owner_executes: bool,
    /// Device and inode: unique while the file is held open.
    pub identity: (u64, u64),
    /// When its inode last changed, which cannot be forged: for a directory also when an entry
    /// changed.
    pub changed: SystemTime,
}

/// The kinds of file that gitd tells apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A directory.
    Directory,
    /// A regular file.
    Regular,
    /// A symbolic link, only returned by calls that do not follow it.
    Symlink,
    /// Anything else: a socket, a pipe, a device.
    Other,
}

/// What a relative path is relative to: `AT_FDCWD` or a directory.
#[derive(Debug, Clone, Copy)]
pub enum Base<'a> {
    /// The process's working directory, which gitd never changes.
    WorkingDirectory,
    /// A directory that is held open.
    Directory(BorrowedFd<'a>),
}

impl Base<'_> {
    fn raw(&self) -> libc::c_int {
        match self {
            Base::WorkingDirectory => libc::AT_FDCWD,
            Base::Directory(fd) => fd.as_raw_fd(),
        }
    }
}

/// Opens `path` with `O_PATH`: no permission on the file itself is needed and nothing can be read.
/// Follows symbolic links. The descriptor is closed on exec.
///
/// # Errors
/// Those of `openat(2)`.
pub fn locate(base: Base<'_>, path: &CStr) -> io::Result<OwnedFd> {
    open(base, path, libc::O_PATH)
}

/// The same, but opens a symbolic link at the end of `path` itself.
///
/// # Errors
/// Those of `openat(2)`.
pub fn locate_itself(base: Base<'_>, path: &CStr) -> io::Result<OwnedFd> {
    open(base, path, libc::O_PATH | libc::O_NOFOLLOW)
}

/// Opens a file that is held with `O_PATH` for reading, whatever its name leads to now.
///
/// # Errors
/// Those of `open(2)`, also when `/proc` is not mounted.
pub fn reopen_to_read(located: impl AsFd) -> io::Result<File> {
    let name = format!("/proc/self/fd/{}", located.as_fd().as_raw_fd());
    open_to_read(Base::WorkingDirectory, &CString::new(name)?)
}

/// Opens `path` for reading, without waiting for the writer of a pipe. Follows symbolic links. The
/// descriptor is closed on exec.
///
/// # Errors
/// Those of `openat(2)`.
pub fn open_to_read(base: Base<'_>, path: &CStr) -> io::Result<File> {
    open(base, path, libc::O_RDONLY | libc::O_NONBLOCK | libc::O_NOCTTY).map(File::from)
}

fn open(base: Base<'_>, path: &CStr, flags: libc::c_int) -> io::Result<OwnedFd> {
    // SAFETY: `path` is a NUL-terminated string that outlives the call; no mode is read because
    // O_CREAT is not among the flags.
    let fd = unsafe { libc::openat(base.raw(), path.as_ptr(), flags | libc::O_CLOEXEC) };
    let fd = check(fd).inspect_err(shortage::note)?;
    // SAFETY: the kernel just returned this descriptor and no other code has its number.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The status of `path`, following symbolic links or not.
///
/// # Errors
/// Those of `fstatat(2)`.
pub fn status(base: Base<'_>, path: &CStr, follow: bool) -> io::Result<Status> {
    stat(base, path, if follow { 0 } else { libc::AT_SYMLINK_NOFOLLOW })
}

/// The status of the open descriptor `fd`.
///
/// # Errors
/// Those of `fstat(2)`.
pub fn status_of(fd: impl AsFd) -> io::Result<Status> {
    stat(Base::Directory(fd.as_fd()), c"", libc::AT_EMPTY_PATH)
}

/// Whether two descriptors refer to the same file.
#[must_use]
pub fn same(one: impl AsFd, other: impl AsFd) -> bool {
    let identity = |fd: BorrowedFd<'_>| status_of(fd).map(|status| status.identity).ok();
    identity(one.as_fd()).is_some_and(|one| Some(one) == identity(other.as_fd()))
}

fn stat(base: Base<'_>, path: &CStr, flags: libc::c_int) -> io::Result<Status> {
    let mut stat = std::mem::MaybeUninit::<libc::stat>::uninit();
    // SAFETY: `path` is NUL-terminated and `stat` is writable memory of the right size.
    check(unsafe { libc::fstatat(base.raw(), path.as_ptr(), stat.as_mut_ptr(), flags) })?;
    // SAFETY: the call succeeded, so the kernel filled the whole structure.
    let stat = unsafe { stat.assume_init() };
    let kind = match stat.st_mode & libc::S_IFMT {
        libc::S_IFDIR => Kind::Directory,
        libc::S_IFREG => Kind::Regular,
        libc::S_IFLNK => Kind::Symlink,
        _ => Kind::Other,
    };
    Ok(Status {
        kind,
        owner: stat.st_uid,
        owner_executes: stat.st_mode & libc::S_IXUSR != 0,
        identity: (stat.st_dev, stat.st_ino),
        changed: time(stat.st_ctime, stat.st_ctime_nsec),
    })
}

/// A time before 1970 counts as 1970.
fn time(seconds: i64, nanoseconds: i64) -> SystemTime {
    let duration = |(seconds, nanoseconds)| Duration::new(seconds, nanoseconds);
    let parts = u64::try_from(seconds).ok().zip(u32::try_from(nanoseconds).ok());
    SystemTime::UNIX_EPOCH
        .checked_add(parts.map(duration).unwrap_or_default())
        .unwrap_or(SystemTime::UNIX_EPOCH)
}

/// What a permission check asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// The name exists and the file can be reached.
    Exists,
    /// The file may be executed, or the directory entered.
    Execute,
}

/// Whether the process's real user has `access` to `path`; follows symbolic links.
///
/// # Errors
/// Those of `faccessat(2)`.
pub fn access(base: Base<'_>, path: &CStr, access: Access) -> io::Result<()> {
    let mode = match access {
        Access::Exists => libc::F_OK,
        Access::Execute => libc::X_OK,
    };
    // SAFETY: `path` is a NUL-terminated string that outlives the call.
    check(unsafe { libc::faccessat(base.raw(), path.as_ptr(), mode, 0) }).map(drop)
}

/// The target of the symbolic link `path`, cut at 4096 bytes. For an empty path the target of
/// `base`, which is a link.
///
/// # Errors
/// Those of `readlinkat(2)`; `EINVAL` when `path` is no symbolic link.
pub fn read_link(base: Base<'_>, path: &CStr) -> io::Result<Vec<u8>> {
    let mut target = vec![0_u8; 4096];
    // SAFETY: `path` is NUL-terminated; the buffer is writable for the length that is passed.
    let length = unsafe {
        libc::readlinkat(base.raw(), path.as_ptr(), target.as_mut_ptr().cast(), target.len())
    };
    let length = usize::try_from(length).map_err(|_| io::Error::last_os_error())?;
    target.truncate(length);
    Ok(target)
}

/// The current path of the open `fd`, with symbolic links resolved, from the kernel.
///
/// # Errors
/// Those of `readlink(2)`, when `/proc` is not mounted.
pub fn real_path(fd: impl AsFd) -> io::Result<Vec<u8>> {
    let link = format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd());
    Ok(std::fs::read_link(link)?.into_os_string().into_vec())
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
        // SAFETY: the path is a static NUL-terminated string.
        let fd = check(unsafe { libc::open(c"/dev/null".as_ptr(), libc::O_RDWR) });
        // If no number is left, none of these is free.
        if fd.as_ref().is_err_and(|error| error.raw_os_error() == Some(libc::EMFILE)) {
            return Ok(());
        }
        let fd = fd?;
        if fd > 2 {
            // SAFETY: this function opened the descriptor and no other code has its number.
            unsafe { libc::close(fd) };
            return Ok(());
        }
    }
}

/// Makes descriptor `onto` a copy of `fd`, open across exec, to redirect a standard stream.
///
/// # Errors
/// Those of `dup2(2)`.
pub fn replace_standard_stream(fd: impl AsFd, onto: libc::c_int) -> io::Result<()> {
    debug_assert!((0..=2).contains(&onto));
    // SAFETY: no OwnedFd holds 0, 1 or 2, so no owner is affected by the change.
    check(unsafe { libc::dup2(fd.as_fd().as_raw_fd(), onto) }).map(drop)
}

/// A pipe: its reading end and its writing end, both close-on-exec.
///
/// # Errors
/// Those of `pipe2(2)`.
pub fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let (reader, writer) = io::pipe()?;
    Ok((reader.into(), writer.into()))
}

/// Sets or clears `O_NONBLOCK` of the open file description behind `fd`, which all duplicates
/// share.
///
/// # Errors
/// Those of `ioctl(2)`.
pub fn set_nonblocking(fd: impl AsFd, nonblocking: bool) -> io::Result<()> {
    let mut on = libc::c_int::from(nonblocking);
    // SAFETY: FIONBIO reads one int through the pointer, which outlives the call.
    check(unsafe { libc::ioctl(fd.as_fd().as_raw_fd(), libc::FIONBIO, &raw mut on) }).map(drop)
}

/// Waits at most `limit` until `fd` is readable or at its end. `false` when the time is over.
///
/// # Errors
/// Those of `poll(2)`.
pub fn wait_readable(fd: impl AsFd, limit: Option<Duration>) -> io::Result<bool> {
    let deadline = limit.map(|limit| std::time::Instant::now() + limit);
    loop {
        let left = deadline.map(|end| end.saturating_duration_since(std::time::Instant::now()));
        // Rounded up, so that the last fraction of a millisecond does not become a busy loop.
        let milliseconds = left.map_or(-1, |left| {
            libc::c_int::try_from(left.as_micros().div_ceil(1000)).unwrap_or(libc::c_int::MAX)
        });
        let mut poll =
            libc::pollfd { fd: fd.as_fd().as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one valid pollfd that outlives the call.
        match check(unsafe { libc::poll(&raw mut poll, 1, milliseconds) }) {
            Ok(0) => return Ok(false),
            Ok(_) => return Ok(true),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Reads once, at most the buffer's length. 0 means the end of input.
///
/// # Errors
/// Those of `read(2)`.
pub fn read(fd: impl AsFd, buffer: &mut [u8]) -> io::Result<usize> {
    let raw = fd.as_fd().as_raw_fd();
    // SAFETY: the buffer is writable for its length.
    let read = unsafe { libc::read(raw, buffer.as_mut_ptr().cast(), buffer.len()) };
    usize::try_from(read).map_err(|_| io::Error::last_os_error())
}
