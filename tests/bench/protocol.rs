//! A bare git:// client: just enough of protocol v2 (and of v0's push) to ask and to discard the answer.
//!
//! It writes either what belongs together in one write, or in the small pieces in which git itself writes, without
//! TCP_NODELAY: from the second piece on the kernel holds each back until the server has acknowledged the one before.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use crate::Result;
use crate::server::{Server, Side};

/// Longer than any answer takes, so that a server that hangs ends a scene instead of stopping it.
const PATIENCE: Duration = Duration::from_secs(60);
const FLUSH: &[u8] = b"0000";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Writes {
    Whole,
    /// As `git` 2.47 does, seen with strace.
    InPieces,
}

/// Whom a client asks, and for which repository.
#[derive(Clone)]
pub(crate) struct Target {
    address: SocketAddr,
    repository: String,
    /// The floor does not read a request packet.
    sends_request: bool,
    patience: Duration,
    /// The client's own address; without, the kernel's choice.
    from: Option<IpAddr>,
}

impl Target {
    pub(crate) fn new(server: &Server, repository: &str) -> Self {
        Self {
            address: server.address,
            repository: repository.to_owned(),
            sends_request: server.side != Side::Floor,
            patience: PATIENCE,
            from: None,
        }
    }

    /// The same, asked by a client that gives up sooner.
    pub(crate) fn with_patience(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// The same, asked by a client with this address.
    pub(crate) fn asked_from(self, address: IpAddr) -> Self {
        Self { from: Some(address), ..self }
    }

    /// Connects and sends the git-proto-request.
    fn connect(&self, service: &str, extra_parameters: &str, writes: Writes) -> Result<TcpStream> {
        let mut stream = self.reach()?;
        stream.set_read_timeout(Some(self.patience))?;
        stream.set_write_timeout(Some(self.patience))?;
        if self.sends_request {
            let request = format!(
                "git-{service} /{}\0host={}\0{extra_parameters}",
                self.repository, self.address
            );
            let length = format!("{:04x}", request.len() + 4);
            write(&mut stream, &[length.as_bytes(), request.as_bytes()], writes)?;
        }
        Ok(stream)
    }

    fn reach(&self) -> std::io::Result<TcpStream> {
        let Some(from) = self.from else {
            return TcpStream::connect_timeout(&self.address, self.patience);
        };
        let socket = Socket::new(Domain::for_address(self.address), Type::STREAM, None)?;
        socket.bind(&SocketAddr::new(from, 0).into())?;
        socket.connect_timeout(&self.address.into(), self.patience)?;
        Ok(socket.into())
    }
}

/// Lists the references with protocol v2, waits for the server to close, and says how many bytes the list had.
pub(crate) fn ls_remote(target: &Target, writes: Writes) -> Result<usize> {
    list(&mut target.connect("upload-pack", "\0version=2\0", writes)?, writes)
}

/// The same on a connection on which the request has been sent.
pub(crate) fn list(stream: &mut TcpStream, writes: Writes) -> Result<usize> {
    const COMMAND: [&[u8]; 8] = [
        b"0014command=ls-refs\n",
        b"0014agent=git/2.47.3",
        b"0016object-format=sha1",
        b"0001",
        b"0009peel\n",
        b"000csymrefs\n",
        b"000bunborn\n",
        FLUSH,
    ];
    read_to_flush(stream)?;
    write(stream, &COMMAND, writes)?;
    let length = read_to_flush(stream)?;
    stream.write_all(FLUSH)?;
    read_to_end(stream)?;
    Ok(length)
}

/// Clones as far as the wire is concerned: asks for `want` and all behind it, discards the pack, says its length.
pub(crate) fn fetch_pack(target: &Target, want: &str) -> Result<u64> {
    let mut stream = target.connect("upload-pack", "\0version=2\0", Writes::Whole)?;
    read_to_flush(&mut stream)?;
    let want = format!("0032want {want}\n");
    let command: [&[u8]; 8] = [
        b"0011command=fetch",
        b"0016object-format=sha1",
        b"0001",
        b"000fno-progress",
        b"000dofs-delta",
        want.as_bytes(),
        b"0009done\n",
        // The flush that ends the command, and the one that ends the session.
        b"00000000",
    ];
    write(&mut stream, &command, Writes::Whole)?;
    read_to_end(&mut stream)
}

/// Pushes `pack` as the new reference `name` at `tip`, and returns when the server has stored it.
pub(crate) fn push_pack(target: &Target, name: &str, tip: &str, pack: &[u8]) -> Result<()> {
    let mut stream = target.connect("receive-pack", "", Writes::Whole)?;
    read_to_flush(&mut stream)?;
    let update = format!("{:040} {tip} {name}\0report-status object-format=sha1", 0);
    write!(stream, "{:04x}{update}", update.len() + 4)?;
    stream.write_all(FLUSH)?;
    stream.write_all(pack)?;
    let mut report = Vec::new();
    stream.read_to_end(&mut report)?;
    if report.windows(9).any(|window| window == b"unpack ok") {
        Ok(())
    } else {
        Err(format!("push refused: {}", String::from_utf8_lossy(&report)).into())
    }
}

fn write(stream: &mut TcpStream, pieces: &[&[u8]], writes: Writes) -> Result<()> {
    match writes {
        Writes::Whole => stream.write_all(&pieces.concat())?,
        Writes::InPieces => {
            for piece in pieces {
                stream.write_all(piece)?;
            }
        }
    }
    Ok(())
}

/// Reads pkt-lines until a flush packet and says how many bytes they had. The server must have no more to say.
fn read_to_flush(stream: &mut TcpStream) -> Result<usize> {
    let mut received = Vec::with_capacity(4096);
    let mut packet = 0;
    loop {
        while let Some(digits) = received.get(packet..packet + 4) {
            match usize::from_str_radix(std::str::from_utf8(digits)?, 16)? {
                0 => return Ok(received.len()),
                length @ (1..=3) => {
                    return Err(format!("unexpected special packet {length}").into());
                }
                length => packet += length,
            }
        }
        let mut buffer = [0; 16 * 1024];
        match stream.read(&mut buffer)? {
            0 => {
                return Err(format!("closed after {:?}", String::from_utf8_lossy(&received)).into());
            }
            length => received.extend_from_slice(&buffer[..length]),
        }
    }
}

pub(crate) fn read_to_end(stream: &mut TcpStream) -> Result<u64> {
    let mut buffer = vec![0; 256 * 1024];
    let mut total = 0;
    loop {
        match stream.read(&mut buffer)? {
            0 => return Ok(total),
            length => total += length as u64,
        }
    }
}
