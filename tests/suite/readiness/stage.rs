//! How far a session is. Each stage is reached with the bytes of a git client.

use std::io::{self, Read};

use super::line::Line;
use crate::support::{pkt, request};

/// A state of a session, seen from the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// No byte has come.
    Silent,
    /// The request has begun.
    Partial,
    /// The request waits for a permit: in these tests none is free.
    Queued,
    /// The access hook is at work.
    Hook,
    /// It is refused, and gitd waits until it leaves.
    Refused,
    /// The service's greeting waits for its reader.
    Unread,
    /// The service waits for the client's first bytes.
    Greeted,
    /// In the middle of a pack that nobody takes: its window is closed.
    Bulk,
    /// In the middle of an archive that nobody takes.
    Archive,
    /// The service reads a pack that has begun.
    Pushing,
    /// Protocol version 2, and a question is answered.
    AtRest,
}

/// What moves before a session counts as bulk, and some.
const ENOUGH_FOR_BULK: u64 = 400 * 1024;

impl Stage {
    /// All stages of a server with free permits.
    pub const ALL: [Self; 10] = [
        Self::Silent,
        Self::Partial,
        Self::Hook,
        Self::Refused,
        Self::Unread,
        Self::Greeted,
        Self::Bulk,
        Self::Archive,
        Self::Pushing,
        Self::AtRest,
    ];

    /// Whether there is a child of gitd's at this stage.
    pub fn has_child(self) -> bool {
        !matches!(self, Self::Silent | Self::Partial | Self::Queued | Self::Refused)
    }

    /// Whether it costs the service much to get there.
    pub fn is_heavy(self) -> bool {
        matches!(self, Self::Bulk | Self::Archive)
    }

    /// How much room the client has for what it does not read.
    pub fn room(self) -> Option<usize> {
        self.is_heavy().then_some(64 * 1024)
    }

    /// Says what leads there, and hears what must be heard before. The repositories are `/repo.git`,
    /// `/large.git`, and `/slow.git` with a hook that takes its time.
    pub fn reach(self, line: &Line) -> io::Result<()> {
        match self {
            Self::Silent => Ok(()),
            Self::Partial => line.send(&request("upload-pack", "/repo.git")[..20]),
            Self::Queued => line.send(request("upload-pack", "/repo.git")),
            Self::Hook => line.send(request("upload-pack", "/slow.git")),
            Self::Refused => {
                line.send(request("upload-pack", "/nothing.git"))?;
                let mut packet = [0; 8];
                (&line.0).read_exact(&mut packet)?;
                if packet.ends_with(b"ERR ") { Ok(()) } else { Err(io::Error::other("no ERR")) }
            }
            Self::Unread => {
                line.send(request("upload-pack", "/repo.git"))?;
                line.0.peek(&mut [std::mem::MaybeUninit::uninit()]).map(drop)
            }
            Self::Greeted => {
                line.send(request("upload-pack", "/repo.git"))?;
                line.to_flush().map(drop)
            }
            Self::Bulk => bulk(line),
            Self::Archive => archive(line),
            Self::Pushing => pushing(line),
            Self::AtRest => {
                line.send(pkt("git-upload-pack /repo.git\0host=x\0\0version=2\0"))?;
                line.to_flush()?;
                line.send([pkt("command=ls-refs\n"), b"0000".to_vec()].concat())?;
                line.to_flush().map(drop)
            }
        }
    }
}

fn bulk(line: &Line) -> io::Result<()> {
    line.send(request("upload-pack", "/large.git"))?;
    let want = format!("want {} no-progress\n", first_id(line)?);
    line.send([pkt(want), b"0000".to_vec(), pkt("done\n")].concat())?;
    line.packet()?;
    line.skip(ENOUGH_FOR_BULK)
}

fn archive(line: &Line) -> io::Result<()> {
    line.send(pkt("git-upload-archive /large.git\0host=x\0"))?;
    line.send([pkt("argument HEAD\n"), b"0000".to_vec()].concat())?;
    line.to_flush()?;
    line.skip(ENOUGH_FOR_BULK)
}

fn pushing(line: &Line) -> io::Result<()> {
    line.send(request("receive-pack", "/repo.git"))?;
    let update =
        format!("{} {} refs/heads/main\0 report-status\n", first_id(line)?, "1".repeat(40));
    line.send([pkt(update), b"0000".to_vec()].concat())?;
    // A pack of a thousand objects, of which the first has begun.
    line.send(b"PACK\0\0\0\x02\0\0\x03\xe8\x95\x0a\x78\x9c")
}

/// The commit of the first reference in a greeting.
fn first_id(line: &Line) -> io::Result<String> {
    let refs = line.to_flush()?;
    let id = refs.first().and_then(|line| line.get(..40));
    id.map(|id| String::from_utf8_lossy(id).into_owned()).ok_or(io::ErrorKind::InvalidData.into())
}
