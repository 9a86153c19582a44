//! A connection over any of the three transports, as a client has it.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use socket2::{Domain, Protocol, SockAddr, Socket, Type};

/// How the bytes travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    Tcp,
    Multipath,
    Unix,
}

impl Transport {
    pub const ALL: [Self; 3] = [Self::Tcp, Self::Multipath, Self::Unix];

    pub fn socket(self) -> io::Result<Socket> {
        match self {
            Self::Tcp => Socket::new(Domain::IPV4, Type::STREAM, None),
            Self::Multipath => Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::MPTCP)),
            Self::Unix => Socket::new(Domain::UNIX, Type::STREAM, None),
        }
    }
}

/// Where a daemon is to be found.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    pub address: SocketAddr,
    pub unix: &'a Path,
}

/// A client's end of a connection.
#[derive(Debug)]
pub struct Line(pub Socket);

impl Line {
    /// Connects from `from`, one of loopback's addresses, with room for so many bytes that are not read.
    pub fn dial(
        to: Place<'_>,
        transport: Transport,
        from: [u8; 4],
        room: Option<usize>,
        patience: Duration,
    ) -> io::Result<Self> {
        let socket = transport.socket()?;
        if let Some(room) = room {
            socket.set_recv_buffer_size(room)?;
        }
        if transport == Transport::Unix {
            socket.connect(&SockAddr::unix(to.unix)?)?;
        } else {
            socket.bind(&SocketAddr::from((from, 0)).into())?;
            socket.connect_timeout(&to.address.into(), patience)?;
        }
        Self::new(socket, patience)
    }

    pub fn new(socket: Socket, patience: Duration) -> io::Result<Self> {
        socket.set_read_timeout(Some(patience))?;
        socket.set_write_timeout(Some(patience))?;
        Ok(Self(socket))
    }

    pub fn send(&self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        (&self.0).write_all(bytes.as_ref())
    }

    /// All packets up to the next flush; an `ERR` packet is an error.
    pub fn to_flush(&self) -> io::Result<Vec<Vec<u8>>> {
        let mut packets = Vec::new();
        while let Some(packet) = self.packet()? {
            packets.push(packet);
        }
        Ok(packets)
    }

    /// The next packet; `None` for a flush.
    pub fn packet(&self) -> io::Result<Option<Vec<u8>>> {
        let mut length = [0; 4];
        (&self.0).read_exact(&mut length)?;
        let length = std::str::from_utf8(&length).ok();
        let length = length.and_then(|digits| usize::from_str_radix(digits, 16).ok());
        match length {
            Some(0) => Ok(None),
            Some(length @ 4..) => {
                let mut payload = vec![0; length - 4];
                (&self.0).read_exact(&mut payload)?;
                if payload.starts_with(b"ERR ") {
                    return Err(io::Error::other(String::from_utf8_lossy(&payload).into_owned()));
                }
                Ok(Some(payload))
            }
            _ => Err(io::Error::other("no packet")),
        }
    }

    /// Takes so many bytes and forgets them.
    pub fn skip(&self, bytes: u64) -> io::Result<()> {
        let taken = io::copy(&mut (&self.0).take(bytes), &mut io::sink())?;
        if taken < bytes { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
    }
}
