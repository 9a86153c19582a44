//! Watches the git process that runs this program.
//!
//! git may be killed while this program waits for a name server, for a dead host, or for a server
//! that reads nothing. No other process ends this program then. So other threads do the work, and
//! the first one waits for git to close the pipe that it reads from.

use std::fs::File;
use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::process::ExitCode;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use gitd::sys::wait::wait;
use rustix::event::{PollFd, PollFlags};

/// How long git's last bytes may take to be sent, once git waits for the end of this process.
const FAREWELL: Duration = Duration::from_secs(1);

/// Runs `work` on a separate thread, until it ends or git has gone.
///
/// # Errors
/// When the system has no thread or descriptor to give.
pub(crate) fn while_it_runs(
    work: impl FnOnce(Git) -> ExitCode + Send + 'static,
) -> io::Result<ExitCode> {
    let (reports, reporter) = io::pipe()?;
    let sending = Arc::new(Sending::default());
    let git = Git { sending: Arc::clone(&sending), reporter };
    let worker = thread::Builder::new().spawn(move || work(git))?;
    if is_gone_before_end_of_work(reports)? {
        sending.wait(FAREWELL);
        return Ok(ExitCode::SUCCESS);
    }
    // A panic has printed its message.
    Ok(worker.join().unwrap_or(ExitCode::FAILURE))
}

/// Waits until git has gone (`true`) or the work is done. When the server sends no more, ends git's
/// input.
fn is_gone_before_end_of_work(mut reports: PipeReader) -> io::Result<bool> {
    let stdout = io::stdout();
    let mut waits =
        [PollFd::new(&stdout, PollFlags::empty()), PollFd::new(&reports, PollFlags::IN)];
    while let Err(error) = wait(&mut waits, None) {
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
    let [gone, reported] = waits.map(|wait| !wait.revents().is_empty());
    if reported && reports.read(&mut [0])? > 0 {
        rustix::stdio::dup2_stdout(File::options().write(true).open("/dev/null")?)?;
        reports.read_to_end(&mut Vec::new())?;
    }
    Ok(gone && !reported)
}

/// How the work reports its progress. Dropping it means that the work is done.
#[derive(Debug)]
pub(crate) struct Git {
    sending: Arc<Sending>,
    reporter: PipeWriter,
}

impl Git {
    /// Whether git's bytes are still being sent.
    pub(crate) fn sending(&self) -> Arc<Sending> {
        Arc::clone(&self.sending)
    }

    /// git reads no more: gives its last bytes the time to be sent.
    pub(crate) fn take_leave(&self) {
        self.sending.wait(FAREWELL);
    }

    /// The server sends no more: ends git's input, and waits until all that git still sends is
    /// sent.
    pub(crate) fn send_the_rest(mut self) {
        // If this fails, git has gone and this process ends.
        let _ = self.reporter.write_all(b"0");
        self.sending.wait(Duration::MAX);
    }
}

/// Whether bytes from git are on their way to the socket.
#[derive(Debug, Default)]
pub(crate) struct Sending {
    under_way: Mutex<bool>,
    changed: Condvar,
}

impl Sending {
    /// From now on there may be bytes to send.
    pub(crate) fn begin(&self) {
        *self.under_way.lock().unwrap_or_else(PoisonError::into_inner) = true;
    }

    /// No more bytes come.
    pub(crate) fn end(&self) {
        *self.under_way.lock().unwrap_or_else(PoisonError::into_inner) = false;
        self.changed.notify_all();
    }

    fn wait(&self, limit: Duration) {
        let under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        // No thread panics while it holds the lock.
        let _ = self.changed.wait_timeout_while(under_way, limit, |under_way| *under_way);
    }
}
