//! Going to the background: `--detach`.

use std::fs;
use std::io::{self, Read, Write};

use rustix::process::setsid;
use rustix::stdio::{dup2_stderr, dup2_stdin, dup2_stdout};

use crate::sys::child::End;
use crate::sys::family::{self, Side};

/// The byte that the child writes to its parent once it serves.
const LISTENING: u8 = b'+';

/// The process that waits until this one serves; none if this one stays in the foreground.
#[derive(Debug)]
pub struct Caller(Option<io::PipeWriter>);

/// Goes to the background if `wanted`; standard error stays the caller's. The child gets the caller
/// and goes on. The parent returns how to end: with success when the child serves, or with the
/// child's status if it ends before (B11). Must be called while the process has one thread.
pub fn detach(wanted: bool) -> io::Result<Result<Caller, End>> {
    if !wanted {
        return Ok(Ok(Caller(None)));
    }
    let (mut reader, writer) = io::pipe()?;
    match family::fork()? {
        Side::Parent(child) => {
            drop(writer);
            let mut answer = Vec::new();
            let listening = reader.read_to_end(&mut answer).is_ok() && answer == [LISTENING];
            let end = if listening { Ok(End::Exited(0)) } else { family::wait(child) };
            Ok(Err(end.unwrap_or(End::Exited(1))))
        }
        Side::Child => {
            setsid()?;
            let null = null()?;
            dup2_stdin(&null)?;
            dup2_stdout(&null)?;
            Ok(Ok(Caller(Some(writer))))
        }
    }
}

impl Caller {
    /// From here on the caller reads no errors.
    pub fn release_stderr(&self) -> io::Result<()> {
        if self.0.is_some() { silence_stderr() } else { Ok(()) }
    }

    /// This process serves, so the caller may end.
    pub fn tell(self) {
        if let Some(mut caller) = self.0 {
            // The caller may have been killed; gitd serves without it.
            let _ = caller.write_all(&[LISTENING]);
        }
    }
}

/// Opens standard error on `/dev/null`.
pub fn silence_stderr() -> io::Result<()> {
    Ok(dup2_stderr(null()?)?)
}

fn null() -> io::Result<fs::File> {
    fs::File::options().read(true).write(true).open("/dev/null")
}
