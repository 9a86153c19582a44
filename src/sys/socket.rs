//! Socket calls that socket2 lacks: a read that does not depend on `O_NONBLOCK`, and a few options
//! and counters of TCP.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use rustix::net::{RecvFlags, SendFlags};
use socket2::{Protocol, SockRef};

use super::check;

/// Reads what has arrived, without blocking and without setting `O_NONBLOCK`, which the child will
/// share. 0 means that the peer has finished sending.
///
/// # Errors
/// Those of `recv(2)`; `WouldBlock` when nothing has arrived.
pub fn receive(socket: impl AsFd, buffer: &mut [u8]) -> io::Result<usize> {
    let (received, _) = rustix::net::recv(socket, buffer, RecvFlags::DONTWAIT)?;
    Ok(received)
}

/// The same, but what was read stays there for the next read.
///
/// # Errors
/// Those of [`receive`].
pub fn peek(socket: impl AsFd, buffer: &mut [u8]) -> io::Result<usize> {
    let (received, _) = rustix::net::recv(socket, buffer, RecvFlags::DONTWAIT | RecvFlags::PEEK)?;
    Ok(received)
}

/// Sends as much as fits now, without SIGPIPE.
///
/// # Errors
/// Those of `send(2)`; `WouldBlock` when nothing fits now.
pub fn send(socket: impl AsFd, bytes: &[u8]) -> io::Result<usize> {
    Ok(rustix::net::send(socket, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL)?)
}

/// Sets an option whose value is one int.
///
/// # Errors
/// Those of `setsockopt(2)`; `ENOPROTOOPT` when this kernel or protocol has no such option.
pub fn set_option(
    socket: impl AsFd,
    level: libc::c_int,
    option: libc::c_int,
    value: libc::c_int,
) -> io::Result<()> {
    let size = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the value is an int that outlives the call, and its size is passed.
    check(unsafe {
        let fd = socket.as_fd().as_raw_fd();
        libc::setsockopt(fd, level, option, (&raw const value).cast(), size)
    })
    .map(drop)
}

/// Reads an option as the kernel writes it, at most `N` bytes. Returns the number of bytes too,
/// because older kernels have shorter structures.
///
/// # Errors
/// Those of `getsockopt(2)`.
pub fn option<const N: usize>(
    socket: impl AsFd,
    level: libc::c_int,
    option: libc::c_int,
) -> io::Result<([u8; N], usize)> {
    let mut value = [0_u8; N];
    let mut length = N as libc::socklen_t;
    // SAFETY: the buffer is writable for `length` bytes, and the kernel updates the length.
    check(unsafe {
        let fd = socket.as_fd().as_raw_fd();
        libc::getsockopt(fd, level, option, value.as_mut_ptr().cast(), &raw mut length)
    })?;
    Ok((value, length as usize))
}

/// Bytes that were written to the socket and that the peer has not acknowledged (`SIOCOUTQ`).
///
/// # Errors
/// Those of `ioctl(2)`; `EINVAL` if it is no connected stream.
pub fn unacknowledged(socket: impl AsFd) -> io::Result<u64> {
    // The number of SIOCOUTQ is TIOCOUTQ's.
    count(socket, libc::TIOCOUTQ)
}

/// Bytes that have arrived and were not read (`SIOCINQ`).
///
/// # Errors
/// Those of `ioctl(2)`; `EINVAL` on a listening socket.
pub fn unread(socket: impl AsFd) -> io::Result<u64> {
    // The number of SIOCINQ is FIONREAD's.
    count(socket, libc::FIONREAD)
}

/// Bytes that were written to the socket and not sent yet (`SIOCOUTQNSD`).
///
/// # Errors
/// Those of `ioctl(2)`; `EINVAL` if it is no connected stream.
pub fn unsent(socket: impl AsFd) -> io::Result<u64> {
    const SIOCOUTQNSD: libc::Ioctl = 0x894b;
    count(socket, SIOCOUTQNSD)
}

fn count(socket: impl AsFd, request: libc::Ioctl) -> io::Result<u64> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: each request of the callers above writes one int through the pointer.
    check(unsafe { libc::ioctl(socket.as_fd().as_raw_fd(), request, &raw mut bytes) })?;
    Ok(u64::try_from(bytes).unwrap_or(0))
}

/// Whether the socket uses Multipath TCP. An accepted one does if the client asked for it; a client
/// that asked for TCP gets a TCP socket from the same listener.
pub fn is_mptcp(socket: impl AsFd) -> bool {
    SockRef::from(&socket).protocol().is_ok_and(|protocol| protocol == Some(Protocol::MPTCP))
}

/// The user at the other end of a Unix socket, at the time of its connect.
pub fn peer_user(socket: impl AsFd) -> Option<u32> {
    // struct ucred: pid, uid, gid; 32 bits each. For other sockets the user is -1. rustix cannot
    // represent pid 0, which stands for a process of another pid namespace.
    let (credentials, length) = option::<12>(socket, libc::SOL_SOCKET, libc::SO_PEERCRED).ok()?;
    let user = u32::from_ne_bytes(credentials[..length].get(4..8)?.try_into().ok()?);
    (user != u32::MAX).then_some(user)
}

/// The process at the other end of a Unix socket, at the time of its connect, by its number here.
pub fn peer_process(socket: impl AsFd) -> Option<u32> {
    let (credentials, length) = option::<12>(socket, libc::SOL_SOCKET, libc::SO_PEERCRED).ok()?;
    let process = u32::from_ne_bytes(credentials[..length].get(..4)?.try_into().ok()?);
    // 0 for other sockets, and for processes that have no number here.
    (process != 0).then_some(process)
}
