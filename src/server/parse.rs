//! Parses the request packet and logs what it contains.

use crate::log::event;
use crate::net::peer::Peer;
use crate::protocol::request::{Fields, Malformed, Request};

/// Parses a request and logs its fields; of a malformed one, those that could be read.
///
/// # Errors
/// What is wrong with the request.
pub fn parse_request(payload: &[u8], peer: &Peer) -> Result<Request, Malformed> {
    let fields = Fields::split(payload);
    if let Some(host) = fields.host {
        event::host_parameter(host, peer);
    }
    let parameters = fields.parameters()?;
    if let Some(extra) = &parameters.extra_parameters {
        event::protocol_parameter(extra, peer);
    }
    let request = Request::from_parts(fields.line, parameters)?;
    event::request(&request, peer);
    Ok(request)
}
