//! The git that runs this program: is it still there?
//!
//! It may be killed while this program waits for a name server, for a dead host, or for a server that reads
//! nothing. Then nobody else ends this program. So the work is done by other threads, and the first one waits
//! for git to close the pipe that it reads from.

use std::fs::File;
use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::os::fd::AsFd;
use std::process::ExitCode;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use gitd::sys::wait::{Wait, wait};

/// How long the last bytes from git may take to leave, once git waits for the end of this process.
const FAREWELL: Duration = Duration::from_secs(1);

/// Does `work` on a thread of its own, until it ends or git has gone.
///
/// # Errors
/// When there is no thread or no descriptor left.
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
    // A panic has told its reason.
    Ok(worker.join().unwrap_or(ExitCode::FAILURE))
}

/// Waits until git has gone (`true`), or the work is done. When the server sends no more, git gets the end
/// of its answers.
fn is_gone_before_end_of_work(mut reports: PipeReader) -> io::Result<bool> {
    let stdout = io::stdout();
    let mut waits = [Wait::closed(stdout.as_fd()), Wait::readable(reports.as_fd())];
    while let Err(error) = wait(&mut waits, None) {
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
    let [gone, reported] = waits.map(|wait| wait.is_ready());
    if reported && reports.read(&mut [0])? > 0 {
        rustix::stdio::dup2_stdout(File::options().write(true).open("/dev/null")?)?;
        reports.read_to_end(&mut Vec::new())?;
    }
    Ok(gone && !reported)
}

/// What the work has to say of its progress. The work is done when this is dropped.
#[derive(Debug)]
pub(crate) struct Git {
    sending: Arc<Sending>,
    reporter: PipeWriter,
}

impl Git {
    /// What becomes of the bytes that git sends.
    pub(crate) fn sending(&self) -> Arc<Sending> {
        Arc::clone(&self.sending)
    }

    /// git reads no more: gives the last bytes that it has sent the time to leave.
    pub(crate) fn take_leave(&self) {
        self.sending.wait(FAREWELL);
    }

    /// The server sends no more: git gets the end of its answers, and all that git still sends leaves.
    pub(crate) fn send_the_rest(mut self) {
        // If nobody waits for this report, git has gone, and this process ends.
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
    /// From now on bytes may be under way.
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
        // Nobody panics with the lock.
        let _ = self.changed.wait_timeout_while(under_way, limit, |under_way| *under_way);
    }
}
