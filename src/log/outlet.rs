//! Lines of the log on their way out. Whoever reads them may be slow, stopped or stuck: a pipe that
//! nobody empties, a syslog daemon that was suspended. A write to it waits, and the server must not.
//!
//! So once clients are served, a thread of its own writes the lines, from a queue of bounded size. What
//! does not fit is lost and counted, and as soon as somebody reads again the log says how much it was.
//! Making the descriptor non-blocking would do without a thread, but the flag belongs to all that share
//! the pipe or terminal, and syslog(3) has no such thing.

use std::collections::VecDeque;
use std::io::{self, Write as _};
use std::os::unix::fs::MetadataExt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::sys::syslog::{self, Severity};

/// How many bytes may wait to be written.
const MOST: usize = 1 << 20;

/// How many bytes a line has at most, with all that stands before and behind the text. Readers split
/// what is longer, and take the rest for another line, whose beginning a client could choose: the
/// journal after 48 KiB, others after 16 or 8.
const MOST_OF_LINE: usize = 8192;

/// The same for syslog (contract 20).
const MOST_OF_MESSAGE: usize = 1023;

/// How much of that is the end of a line that is too long: there stands who the client was.
const END: usize = 256;

/// Where lines go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Standard error, `[pid] text`, one write a line (contract 18).
    Stderr,
    /// Standard error that leads to systemd's journal: the same behind the severity, `<3>`, which the
    /// journal takes off again (sd-daemon(3)).
    Journal,
    /// `syslog(3)`, the bare text (contract 20).
    Syslog,
}

impl Kind {
    /// Where standard error leads. systemd says in the environment which file the journal is; a
    /// standard error that was pointed elsewhere since is another one.
    pub fn of_stderr() -> Self {
        let Ok(journal) = std::env::var("JOURNAL_STREAM") else { return Kind::Stderr };
        let stderr = std::fs::metadata("/proc/self/fd/2").ok();
        let stderr = stderr.map(|found| format!("{}:{}", found.dev(), found.ino()));
        if stderr == Some(journal) { Kind::Journal } else { Kind::Stderr }
    }
}

/// The way out.
#[derive(Debug)]
pub struct Outlet {
    kind: Kind,
    queue: Mutex<Queue>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    lines: VecDeque<(Severity, String)>,
    bytes: usize,
    lost: u64,
    /// Whether a thread takes the lines; before that, whoever has one writes it.
    served: bool,
    /// Whether a line is being written.
    busy: bool,
}

impl Outlet {
    /// A way that waits, until [`Outlet::serve`].
    pub fn new(kind: Kind) -> Arc<Self> {
        if kind == Kind::Syslog {
            syslog::open();
        }
        Arc::new(Outlet { kind, queue: Mutex::default(), changed: Condvar::new() })
    }

    /// Sends a line about the process `pid`.
    pub fn send(&self, severity: Severity, pid: u64, text: String) {
        let line = self.dress(pid, text);
        let mut queue = self.lock();
        if !queue.served {
            drop(queue);
            return self.write(severity, &line);
        }
        if queue.bytes + line.len() > MOST {
            queue.lost += 1;
            return;
        }
        self.tell_of_losses(&mut queue);
        queue.push(severity, line);
        drop(queue);
        self.changed.notify_all();
    }

    /// From now on nobody waits who sends a line.
    ///
    /// # Errors
    /// When there is no thread to be had; then all stays as it was.
    pub fn serve(self: &Arc<Self>) -> io::Result<()> {
        let outlet = Arc::clone(self);
        let mut queue = self.lock();
        std::thread::Builder::new().name("gitd-log".to_owned()).spawn(move || outlet.run())?;
        queue.served = true;
        Ok(())
    }

    /// Waits until all is written, but no longer than `limit`.
    pub fn flush(&self, limit: Duration) {
        let pending = |queue: &mut Queue| queue.busy || !queue.lines.is_empty();
        drop(self.changed.wait_timeout_while(self.lock(), limit, pending));
    }

    fn run(&self) {
        let mut queue = self.lock();
        loop {
            let Some((severity, line)) = queue.lines.pop_front() else {
                let idle = self.changed.wait(queue);
                queue = idle.unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            queue.bytes -= line.len();
            queue.busy = true;
            drop(queue);
            self.write(severity, &line);
            queue = self.lock();
            queue.busy = false;
            if queue.lines.is_empty() {
                self.tell_of_losses(&mut queue);
                self.changed.notify_all();
            }
        }
    }

    fn tell_of_losses(&self, queue: &mut Queue) {
        if queue.lost > 0 {
            let text =
                format!("warning: {} lines of the log were lost, as nobody read it", queue.lost);
            queue.lost = 0;
            queue.push(Severity::Warning, self.dress(std::process::id().into(), text));
        }
    }

    fn dress(&self, pid: u64, text: String) -> String {
        match self.kind {
            Kind::Stderr | Kind::Journal => {
                let around = format!("<0>[{pid}] \n").len();
                format!("[{pid}] {}\n", shortened(text, MOST_OF_LINE - around))
            }
            Kind::Syslog => shortened(text, MOST_OF_MESSAGE),
        }
    }

    /// What cannot be written is lost: a closed log must not end the server.
    fn write(&self, severity: Severity, line: &str) {
        match self.kind {
            // One write, so that lines of several processes on one terminal do not mix.
            Kind::Stderr => drop(io::stderr().write_all(line.as_bytes())),
            Kind::Journal => {
                let line = format!("<{}>{line}", severity.number());
                drop(io::stderr().write_all(line.as_bytes()));
            }
            Kind::Syslog => syslog::send(severity, line),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The text without its middle, if it is longer than `most` bytes.
fn shortened(text: String, most: usize) -> String {
    if text.len() <= most {
        return text;
    }
    let end = text.ceil_char_boundary(text.len() - END);
    let beginning = text.floor_char_boundary(most - END - "...".len());
    [&text[..beginning], "...", &text[end..]].concat()
}

impl Queue {
    fn push(&mut self, severity: Severity, line: String) {
        self.bytes += line.len();
        self.lines.push_back((severity, line));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_line_is_longer_than_readers_take() {
        for (kind, most, around) in
            [(Kind::Stderr, 8192, 11), (Kind::Journal, 8192, 11), (Kind::Syslog, 1023, 0)]
        {
            for filler in ["x", "é", "仓"] {
                let outlet = Outlet { kind, queue: Mutex::default(), changed: Condvar::new() };
                let text = format!("{} (client 192.0.2.1:1)", filler.repeat(9000));
                let line = outlet.dress(1234, text);
                assert!(line.len() <= most && line.len() + around + 6 > most, "{}", line.len());
                assert!(line.trim_end().ends_with(" (client 192.0.2.1:1)"));
                assert!(line.contains(&format!("{filler}...{filler}")));
                let fits = "x".repeat(most - around);
                assert_eq!(outlet.dress(1234, fits.clone()).matches('x').count(), fits.len());
            }
        }
    }
}
