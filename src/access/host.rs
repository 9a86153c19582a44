//! What the client's virtual host stands for: asked of the resolver at most once, and only if the
//! answer is wanted.

use std::cell::OnceCell;
use std::ffi::CString;

use crate::protocol::request::{self, VirtualHost};
use crate::sys::resolve::{Purpose, resolve};

/// The host-parameter of one request, with the resolver's answer once somebody wanted it.
#[derive(Debug)]
pub struct Host<'a> {
    named: Option<&'a VirtualHost>,
    resolved: OnceCell<Canonical>,
}

/// The resolver's answer; both parts are empty when it had none (contract 42).
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Canonical {
    /// The canonical name, cleaned like the client's own: the DNS is no more to be trusted. Its case is
    /// kept: directories and access hooks tell cases apart.
    pub name: Vec<u8>,
    /// The first address, without brackets.
    pub address: Vec<u8>,
}

impl<'a> Host<'a> {
    /// Wraps the host of a request; nothing is resolved yet.
    pub fn new(named: Option<&'a VirtualHost>) -> Self {
        Host { named, resolved: OnceCell::new() }
    }

    /// Whether the request has a host-parameter, be it empty.
    pub fn is_named(&self) -> bool {
        self.named.is_some()
    }

    /// The host in lower case; empty when the client named none.
    pub fn name(&self) -> &'a [u8] {
        self.named.map_or(b"", |named| &named.host)
    }

    /// The port; empty when the client named none.
    pub fn port(&self) -> &'a [u8] {
        self.named.map_or(b"", |named| &named.port)
    }

    /// What the host resolves to. The first call may take as long as the resolver's time-outs.
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
