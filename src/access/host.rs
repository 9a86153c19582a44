//! The client's virtual host: resolved at most once, and only if the result is needed.

use std::cell::OnceCell;
use std::ffi::CString;

use crate::protocol::request::{self, VirtualHost};
use crate::sys::resolve::{Purpose, resolve};
use crate::sys::shortage::Shortage;

/// The host-parameter of a request, with the resolver's answer once it was needed.
#[derive(Debug)]
pub struct Host<'a> {
    named: Option<&'a VirtualHost>,
    resolved: OnceCell<Result<Canonical, Shortage>>,
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
    ///
    /// # Errors
    /// A shortage.
    pub fn canonical(&self) -> Result<&Canonical, Shortage> {
        let resolved = self.resolved.get_or_init(|| look_up(self.name()));
        resolved.as_ref().map_err(|shortage| *shortage)
    }
}

fn look_up(host: &[u8]) -> Result<Canonical, Shortage> {
    let named = CString::new(host).ok().filter(|host| !host.is_empty());
    let Some(name) = named else { return Ok(Canonical::default()) };
    let resolved = resolve(Some(&name), 0, Purpose::Canonical)?.unwrap_or_default();
    let Some(address) = resolved.addresses.first() else { return Ok(Canonical::default()) };
    let address = address.ip().to_string().into_bytes();
    let canonical = resolved.canonical_name.unwrap_or_else(|| host.to_vec());
    Ok(Canonical { name: request::clean(&canonical), address })
}
