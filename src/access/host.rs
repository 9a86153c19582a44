//! The client's virtual host: resolved at most once, and only if the result is needed.

use std::cell::OnceCell;
use std::ffi::CString;

use crate::protocol::request::{self, VirtualHost};
use crate::sys::resolve::{Purpose, resolve};

/// The host-parameter of a request, with the resolver's answer once it was needed.
#[derive(Debug)]
pub struct Host<'a> {
    named: Option<&'a VirtualHost>,
    resolved: OnceCell<Canonical>,
}

/// The resolver's answer; both parts are empty without one (contract 42).
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Canonical {
    /// The canonical name, cleaned like the client's own, because the DNS is not trusted either.
    /// Its case is kept: directories and access hooks are case-sensitive.
    pub name: Vec<u8>,
    /// The first address, without brackets.
    pub address: Vec<u8>,
}

impl<'a> Host<'a> {
    /// The host of a request, not resolved yet.
    pub fn new(named: Option<&'a VirtualHost>) -> Self {
        Host { named, resolved: OnceCell::new() }
    }

    /// Whether the request has a host-parameter, even an empty one.
    pub fn is_named(&self) -> bool {
        self.named.is_some()
    }

    /// The host in lower case; empty without a host-parameter.
    pub fn name(&self) -> &'a [u8] {
        self.named.map_or(b"", |named| &named.host)
    }

    /// The port; empty without one.
    pub fn port(&self) -> &'a [u8] {
        self.named.map_or(b"", |named| &named.port)
    }

    /// The resolver's answer. The first call may take as long as the resolver's time-outs.
    pub fn canonical(&self) -> &Canonical {
        self.resolved.get_or_init(|| look_up(self.name()).unwrap_or_default())
    }
}

fn look_up(host: &[u8]) -> Option<Canonical> {
    if host.is_empty() {
        return None;
    }
    let name = CString::new(host).ok()?;
    let resolved = resolve(Some(&name), 0, Purpose::Canonical).ok()?;
    let address = resolved.addresses.first()?.ip().to_string().into_bytes();
    let canonical = resolved.canonical_name.unwrap_or_else(|| host.to_vec());
    Some(Canonical { name: request::clean(&canonical), address })
}
