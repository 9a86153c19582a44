//! Copies bytes both ways between git's two pipes and the socket, until the server ends or git has
//! gone.
//!
//! Uses read and write, not splice. For a clone of 300 MB, splice takes twice the CPU time, because
//! it needs two calls for each small piece that a pipe holds.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use gitd::net::watch;
use gitd::sys::wait::wait;
use rustix::event::{PollFd, PollFlags};
use socket2::Socket;

use crate::failure::Lost;
use crate::git::Git;
use crate::talk::Talk;

/// The size of two of git's sideband packets.
const BUFFER: usize = 128 * 1024;

/// How often to check a connection without data.
const LOOK: Duration = Duration::from_secs(10);

/// How long a server may be silent before it counts as waiting for git. A working git service
/// writes something every five seconds; after an outage the kernels may need two minutes to try
/// again.
const SILENCE: Duration = Duration::from_secs(120);

/// How long the server's kernel may acknowledge nothing. A kernel with a full receive buffer still
/// answers probes, at least every two minutes.
pub(crate) const UNANSWERED: Duration = Duration::from_secs(300);

/// The connection, and the packets that have crossed it.
struct Link {
    socket: Socket,
    talk: Mutex<Talk>,
}

/// Copies bytes until both sides have ended, or the connection is lost.
pub(crate) fn relay(socket: Socket, git: Git) -> Result<(), Lost> {
    socket.set_read_timeout(Some(LOOK)).map_err(Lost::Connection)?;
    let link = Arc::new(Link { socket, talk: Mutex::default() });
    let upstream = Arc::clone(&link);
    let sending = git.sending();
    sending.begin();
    thread::Builder::new()
        .spawn(move || {
            // An error here also ends the other direction, after the data that has arrived.
            let _ = upload(&upstream);
            sending.end();
        })
        .map_err(Lost::Connection)?;
    match download(&link)? {
        End::OfGit => git.take_leave(),
        // The server may have closed only its side, while git still sends its pack.
        End::OfAnswers => git.send_the_rest(),
    }
    Ok(())
}

/// Why the direction from the server to git ended.
enum End {
    OfAnswers,
    OfGit,
}

/// From git to the server.
fn upload(link: &Link) -> io::Result<()> {
    // A duplicate, because std's stdin reads ahead.
    let mut stdin = File::from(io::stdin().as_fd().try_clone_to_owned()?);
    let mut buffer = vec![0; BUFFER];
    loop {
        match stdin.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => {
                link.talk().ask(&buffer[..count]);
                link.send(&buffer[..count])?;
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => break,
        }
    }
    link.talk().finish();
    link.close_if_harmless(false);
    Ok(())
}

/// From the server to git.
fn download(link: &Link) -> Result<End, Lost> {
    let stdout = io::stdout().as_fd().try_clone_to_owned();
    let mut stdout = File::from(stdout.map_err(Lost::Git)?);
    let mut buffer = vec![0; BUFFER];
    let mut heard = Instant::now();
    loop {
        let count = match (&link.socket).read(&mut buffer) {
            Ok(0) => return Ok(End::OfAnswers),
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                link.check()?;
                link.close_if_harmless(heard.elapsed() >= SILENCE);
                continue;
            }
            // git has its answer. If it wants more, it reports the error itself.
            Err(_) if link.talk().is_answered() => return Ok(End::OfAnswers),
            Err(error) => return Err(Lost::Connection(error)),
        };
        // A stock server's next small piece waits for this ACK, which the kernel would delay by 40
        // ms. It must be set each time: our own next write turns delayed ACKs on again. MPTCP has
        // no such option.
        let _ = link.socket.set_tcp_quickack(true);
        link.talk().answer(&buffer[..count]);
        match stdout.write_all(&buffer[..count]) {
            Ok(()) => {}
            // git has all that it wants, or has reported an error already.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(End::OfGit),
            Err(error) => return Err(Lost::Git(error)),
        }
        link.close_if_harmless(false);
        // Does not count the time that git took to read.
        heard = Instant::now();
    }
}

impl Link {
    fn talk(&self) -> MutexGuard<'_, Talk> {
        self.talk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Shuts down writing when git has ended its bytes and the server does not suffer from it.
    fn close_if_harmless(&self, silence: bool) {
        if self.talk().closes(silence) {
            // An error means that the connection is lost, which the reader sees too.
            let _ = self.socket.shutdown(Shutdown::Write);
        }
    }

    /// Sends all of `bytes`, while the server's kernel acknowledges.
    fn send(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.socket.send_with_flags(bytes, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) {
                Ok(count) => bytes = &bytes[count..],
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    wait(&mut [PollFd::new(&self.socket, PollFlags::OUT)], Some(LOOK))?;
                    if self.check().is_err() {
                        // The other direction reports the error.
                        return self.socket.shutdown(Shutdown::Both);
                    }
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Fails when the server's kernel has acknowledged nothing for too long.
    fn check(&self) -> Result<(), Lost> {
        match watch::unanswered(&self.socket) {
            Some(time) if time >= UNANSWERED => Err(Lost::Unanswered),
            _ => Ok(()),
        }
    }
}
