//! The last log line of a connection: client, request, duration, bytes.

use std::fmt::{self, Display, Formatter};
use std::time::Duration;

use crate::escape::Escaped;
use crate::net::watch::Counters;
use crate::protocol::service::Service;

/// A connection that has ended.
#[derive(Debug, Clone)]
pub struct Summary {
    /// The client.
    pub peer: String,
    /// The request, if there was one.
    pub request: Option<(Service, Vec<u8>)>,
    /// From accept to the end.
    pub duration: Duration,
    /// The counters while git had the connection.
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
