//! The error message to a client that is refused.

use std::io;
use std::net::Shutdown;
use std::sync::Arc;
use std::time::Duration;

use socket2::Socket;
use tokio::io::Interest;
use tokio::time::timeout;

use crate::session::{register, register_with_retry};
use crate::sys::socket;

/// How long a refused client may take to read the error message.
pub const PATIENCE: Duration = Duration::from_secs(2);

/// How many bytes a refused client may have sent ahead.
pub const MAX_SENT_AHEAD: usize = 1 << 20;

/// Sends the packet, shuts down writing, and then reads what the client has sent ahead. Closing
/// with unread bytes resets the connection, and the reset can overtake the packet (B8).
pub async fn say(client: &Arc<Socket>, packet: &[u8]) {
    // An error means that the client has left, and then the message is lost.
    let _ = timeout(PATIENCE, send_and_drain(client, packet)).await;
}

async fn send_and_drain(client: &Arc<Socket>, mut packet: &[u8]) -> io::Result<()> {
    let wire = register_with_retry(|| register(client)).await;
    while !packet.is_empty() {
        let sent = wire.perform(Interest::WRITABLE, |client| socket::send(client, packet)).await?;
        packet = &packet[sent..];
    }
    client.shutdown(Shutdown::Write)?;
    let mut buffer = vec![0; 4096];
    let mut left = MAX_SENT_AHEAD;
    while left > 0 {
        let receive = |client: &Arc<Socket>| socket::receive(client, &mut buffer);
        match wire.perform(Interest::READABLE, receive).await? {
            0 => break,
            read => left = left.saturating_sub(read),
        }
    }
    Ok(())
}
