//! A client that speaks in bytes: pieces, half-closes, packets, and how the connection ended.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use socket2::SockRef;

use super::DEADLINE;

/// A pkt-line around a payload.
pub fn pkt(payload: impl AsRef<[u8]>) -> Vec<u8> {
    let payload = payload.as_ref();
    let mut packet = format!("{:04x}", payload.len() + 4).into_bytes();
    packet.extend_from_slice(payload);
    packet
}

/// A request as git itself sends it.
pub fn request(service: &str, pathname: &str) -> Vec<u8> {
    pkt(format!("git-{service} {pathname}\0host=localhost\0"))
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Packet {
    Data(Vec<u8>),
    Flush,
    Delimiter,
    ResponseEnd,
    End(End),
}

/// How the other side stopped talking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Closed,
    Reset,
}

pub struct Client {
    stream: TcpStream,
    local: SocketAddr,
}

impl Client {
    pub fn connect(address: SocketAddr) -> Self {
        Self::from(TcpStream::connect_timeout(&address, DEADLINE).unwrap())
    }

    pub fn from(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.set_write_timeout(Some(DEADLINE)).unwrap();
        stream.set_nodelay(true).unwrap();
        let local = stream.local_addr().unwrap();
        Self { stream, local }
    }

    /// Begins a session of protocol v0, which runs until it is told to end.
    pub fn busy(mut self) -> Self {
        self.send(request("upload-pack", "/repo.git"));
        self.packets_to_flush();
        self
    }

    /// Tells the session to end, and waits until it has.
    pub fn finish(mut self) {
        self.send("0000");
        self.rest();
    }

    /// Closes so that the other side finds the connection reset.
    pub fn reset(self) {
        SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).unwrap();
    }

    /// This end, as the daemon's log names it.
    pub fn address(&self) -> SocketAddr {
        self.local
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).unwrap();
    }

    /// Sends although the other side may have closed already.
    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = self.sends(bytes);
    }

    /// Whether the other side still takes it.
    pub fn sends(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.stream.write_all(bytes.as_ref()).is_ok()
    }

    /// Each byte in a segment of its own.
    pub fn send_bytewise(&mut self, bytes: impl AsRef<[u8]>) {
        for byte in bytes.as_ref() {
            self.send([*byte]);
        }
    }

    pub fn half_close(&mut self) {
        // The other side may be gone already, which is for the reader to find out.
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        loop {
            match self.stream.read(buffer) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                other => return other,
            }
        }
    }

    pub fn packet(&mut self) -> Packet {
        let mut length = [0; 4];
        if let Err(end) = self.fill(&mut length) {
            return Packet::End(end);
        }
        let length = std::str::from_utf8(&length).expect("a length");
        match usize::from_str_radix(length, 16).expect("a length") {
            0 => Packet::Flush,
            1 => Packet::Delimiter,
            2 => Packet::ResponseEnd,
            length => {
                let mut payload = vec![0; length - 4];
                match self.fill(&mut payload) {
                    Ok(()) => Packet::Data(payload),
                    Err(end) => Packet::End(end),
                }
            }
        }
    }

    /// Everything up to the next flush packet; the daemon must not stop before.
    pub fn packets_to_flush(&mut self) -> Vec<Vec<u8>> {
        let mut packets = Vec::new();
        loop {
            match self.packet() {
                Packet::Data(payload) => packets.push(payload),
                Packet::Flush => return packets,
                other => panic!("{other:?} after {} packets", packets.len()),
            }
        }
    }

    /// Everything that still comes, and how it ended.
    pub fn rest(&mut self) -> (Vec<u8>, End) {
        let mut bytes = Vec::new();
        let mut buffer = vec![0; 65536];
        loop {
            match self.read(&mut buffer) {
                Ok(0) => return (bytes, End::Closed),
                Ok(n) => bytes.extend_from_slice(&buffer[..n]),
                Err(error) => return (bytes, ended(&error)),
            }
        }
    }

    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    fn fill(&mut self, buffer: &mut [u8]) -> Result<(), End> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.read(&mut buffer[filled..]) {
                Ok(0) => return Err(End::Closed),
                Ok(n) => filled += n,
                Err(error) => return Err(ended(&error)),
            }
        }
        Ok(())
    }
}

fn ended(error: &std::io::Error) -> End {
    assert!(
        error.kind() == ErrorKind::ConnectionReset,
        "the daemon neither answered nor closed: {error}"
    );
    End::Reset
}
