//! A connection behind a load balancer: receives the header that the balancer sends before its
//! client's bytes (PROXY protocol), and takes the client's address from it.

use std::sync::Arc;

use socket2::Socket;
use tokio::io::Interest;

use super::Client;
use crate::limits::pending::PendingClient;
use crate::log::event;
use crate::net::peer::Origin;
use crate::protocol::inbound::Unread;
use crate::protocol::proxy::{Header, Introduction, Progress};
use crate::session::ClientSocket;
use crate::sys::socket;

impl Client {
    /// Learns who the client is. Returns the number of bytes that the header had.
    ///
    /// # Errors
    /// Why there is no header.
    pub(super) async fn introduce(
        &mut self,
        wire: &ClientSocket,
        entry: &mut PendingClient,
    ) -> Result<usize, Unread> {
        let Introduction { length, source } = read_header(wire, entry).await?;
        if let Some(source) = source {
            self.open.origin = Origin::Inet(source);
            self.activity.comes_from(self.open.origin);
        }
        self.tell();
        Ok(length)
    }

    /// Logs the connection, once it is known where it comes from.
    pub(super) fn tell(&mut self) {
        if !std::mem::replace(&mut self.told, true) {
            event::connection(&self.peer());
        }
    }
}

/// Reads the header, and nothing behind it. A header that has arrived whole costs two system calls.
async fn read_header(
    wire: &ClientSocket,
    entry: &mut PendingClient,
) -> Result<Introduction, Unread> {
    let mut header = Header::default();
    loop {
        let take = |client: &Arc<Socket>| {
            let seen = socket::peek(client, header.room())?;
            match header.own(seen) {
                Ok([]) => Ok(Ok(0)),
                Ok(own) => socket::receive(client, own).map(Ok),
                Err(malformed) => Ok(Err(malformed)),
            }
        };
        let taken = tokio::select! {
            taken = wire.perform(Interest::READABLE, take) => taken??,
            () = entry.dismissed() => return Err(Unread::Dismissed),
        };
        let progress = header.advance(taken)?;
        entry.spoke();
        if let Progress::Complete(introduction) = progress {
            return Ok(introduction);
        }
    }
}
