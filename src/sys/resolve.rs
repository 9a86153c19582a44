//! `getaddrinfo(3)`, with two results that the standard library omits: the canonical name and the
//! error's text.

use std::ffi::{CStr, CString};
use std::io;
use std::net::SocketAddr;
use std::ptr::null_mut;

use socket2::{SockAddr, SockAddrStorage};

use super::shortage::{Found, Shortage, found};

/// The result of resolving a name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resolved {
    /// The canonical name, if it was asked for and the resolver has one.
    pub canonical_name: Option<Vec<u8>>,
    /// The addresses for stream sockets, in the resolver's order.
    pub addresses: Vec<SocketAddr>,
}

/// Why a name could not be resolved; `Display` is the C library's text.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ResolveError(String);

impl From<Shortage> for ResolveError {
    fn from(shortage: Shortage) -> Self {
        ResolveError(super::errno_text(&shortage.into()))
    }
}

/// What to resolve for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Addresses to listen on; without a host, every address.
    Listen,
    /// Addresses of a host, and its canonical name.
    Canonical,
}

/// Resolves `host` for TCP over IPv4 and IPv6. May take as long as the resolver's own time-outs:
/// half a minute and more.
///
/// # Errors
/// The resolver's error in the words of `gai_strerror(3)`; for `EAI_SYSTEM` that of `errno`.
pub fn resolve(host: Option<&CStr>, port: u16, purpose: Purpose) -> Found<Resolved, ResolveError> {
    let service = CString::new(port.to_string()).unwrap_or_default();
    let hints = libc::addrinfo {
        ai_flags: match purpose {
            Purpose::Listen => libc::AI_PASSIVE,
            Purpose::Canonical => libc::AI_CANONNAME,
        },
        ai_family: libc::AF_UNSPEC,
        ai_socktype: libc::SOCK_STREAM,
        ai_protocol: libc::IPPROTO_TCP,
        ai_addrlen: 0,
        ai_addr: null_mut(),
        ai_canonname: null_mut(),
        ai_next: null_mut(),
    };
    let mut list = null_mut();
    // SAFETY: strings are NUL-terminated, `hints` and `list` live across the call.
    let status = unsafe {
        libc::getaddrinfo(
            host.map_or(std::ptr::null(), CStr::as_ptr),
            service.as_ptr(),
            &raw const hints,
            &raw mut list,
        )
    };
    match status {
        0 => Ok(Ok(collect(&List(list)))),
        libc::EAI_MEMORY => Err(Shortage::MEMORY),
        libc::EAI_SYSTEM => {
            let failed: io::Result<Resolved> = Err(io::Error::last_os_error());
            Ok(found(failed)?.map_err(|error| ResolveError(super::errno_text(&error))))
        }
        _ => Ok(Err(ResolveError(verdict(status)))),
    }
}

fn verdict(status: libc::c_int) -> String {
    // SAFETY: takes a number and touches no memory of ours.
    let text = unsafe { libc::gai_strerror(status) };
    // SAFETY: gai_strerror returns a static NUL-terminated string for any number.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}

/// A list that getaddrinfo made; freed once, when dropped.
struct List(*mut libc::addrinfo);

impl Drop for List {
    fn drop(&mut self) {
        // SAFETY: the pointer came from a successful getaddrinfo and is freed only here.
        unsafe { libc::freeaddrinfo(self.0) };
    }
}

fn collect(list: &List) -> Resolved {
    let mut resolved = Resolved::default();
    let mut next = list.0;
    // SAFETY: every link is null or an entry of the list, which `list` keeps alive.
    while let Some(entry) = unsafe { next.as_ref() } {
        if resolved.canonical_name.is_none() && !entry.ai_canonname.is_null() {
            // SAFETY: not null, so a NUL-terminated string that lives as long as the list.
            let name = unsafe { CStr::from_ptr(entry.ai_canonname) };
            resolved.canonical_name = Some(name.to_bytes().to_vec());
        }
        resolved.addresses.extend(socket_address(entry));
        next = entry.ai_next;
    }
    resolved
}

fn socket_address(entry: &libc::addrinfo) -> Option<SocketAddr> {
    let mut storage = SockAddrStorage::zeroed();
    let length = entry.ai_addrlen.min(storage.size_of());
    // SAFETY: the source is readable for ai_addrlen bytes, the destination writable for its size,
    // `length` is at most both, and the two do not overlap.
    unsafe {
        std::ptr::copy_nonoverlapping(
            entry.ai_addr.cast::<u8>(),
            (&raw mut storage).cast::<u8>(),
            length as usize,
        );
    }
    // SAFETY: the storage holds an address of the length that getaddrinfo said.
    unsafe { SockAddr::new(storage, length) }.as_socket()
}
