//! What the last log line of a connection tells: who, what, how long, how much.

use std::fmt::{self, Display, Formatter};
use std::time::Duration;

use crate::escape::Escaped;
use crate::net::watch::Counters;
use crate::protocol::service::Service;

/// A connection, looked back upon.
#[derive(Debug, Clone)]
pub struct Summary {
    /// The client.
    pub peer: String,
    /// What it asked for, if it did.
    pub request: Option<(Service, Vec<u8>)>,
    /// From accept to the end.
    pub duration: Duration,
    /// What crossed the connection while git had it.
    pub counters: Option<Counters>,
}

impl Display for Summary {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "client {}", self.peer)?;
        if let Some((service, pathname)) = &self.request {
            write!(f, ", {} '{}'", service.name(), Escaped(pathname))?;
        }
        write!(f, ", {:.3} s", self.duration.as_secs_f64())?;
        if let Some(counters) = self.counters {
            let Counters { sent, received, transport, .. } = counters;
            write!(f, ", {sent} bytes out, {received} bytes in, {transport}")?;
        }
        Ok(())
    }
}
