//! Writes the lines of the log. Their reader may be slow, stopped or stuck, such as a suspended
//! syslog daemon or the process at the other end of a full pipe. Then a write blocks, and the
//! server must not.
//!
//! So once clients are served, a separate thread writes the lines, from a queue of bounded size.
//! Lines that do not fit are dropped and counted, and the count is logged as soon as writing works
//! again. A non-blocking descriptor is no alternative: the flag is shared by all processes that
//! share the pipe or terminal, and syslog(3) has no such mode.

use std::collections::VecDeque;
use std::io::{self, Write as _};
use std::os::unix::fs::MetadataExt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::log::fields::{Event, Value};
use crate::log::journal::{self, Journal};
use crate::log::{Format, json};
use crate::sys::syslog::{self, Severity};

/// The most bytes that may wait to be written.
const MOST: usize = 1 << 20;

/// The most bytes in a line, including what stands before and behind the text. Readers split longer
/// lines and take the rest for a separate line, whose beginning a client could choose: the journal
/// after 48 KiB, others after 16 or 8.
const MOST_OF_LINE: usize = 8192;

/// The same for syslog (contract 20).
const MOST_OF_MESSAGE: usize = 1023;

/// How many bytes to keep of the end of a line that is too long, because the client's address is
/// there.
const END: usize = 256;

/// Where lines go.
#[derive(Debug)]
pub enum Kind {
    /// Standard error, `[pid] text`, one write a line (contract 18).
    Stderr,
    /// Standard error that is systemd's journal: as above after the severity, `<3>`, which the
    /// journal removes (sd-daemon(3)).
    JournalStderr,
    /// `syslog(3)`, the bare text (contract 20).
    Syslog,
    /// systemd's journal, in entries with fields.
    Journal(Journal),
}

impl Kind {
    /// What standard error is. systemd's environment variable identifies the journal's file;
    /// standard error may have been redirected to another one since.
    pub fn of_stderr() -> Self {
        let Ok(journal) = std::env::var("JOURNAL_STREAM") else { return Kind::Stderr };
        let stderr = std::fs::metadata("/proc/self/fd/2").ok();
        let stderr = stderr.map(|found| format!("{}:{}", found.dev(), found.ino()));
        if stderr == Some(journal) { Kind::JournalStderr } else { Kind::Stderr }
    }
}

/// The queue of lines and the thread that writes them.
#[derive(Debug)]
pub struct Outlet {
    kind: Kind,
    format: Format,
    queue: Mutex<Queue>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    lines: VecDeque<(Severity, String)>,
    bytes: usize,
    lost: u64,
    /// Whether a thread writes the lines; before that the sender writes them.
    served: bool,
    /// Whether a line is being written.
    busy: bool,
}

impl Outlet {
    /// An outlet that blocks until [`Outlet::serve`].
    pub fn new(kind: Kind, format: Format) -> Arc<Self> {
        if matches!(kind, Kind::Syslog) {
            syslog::open();
        }
        Arc::new(Outlet { kind, format, queue: Mutex::default(), changed: Condvar::new() })
    }

    /// Sends the line of an event, if it has one.
    pub fn send(&self, event: &Event<'_>) {
        let Some(line) = self.format_line(event) else { return };
        let severity = event.severity;
        let mut queue = self.lock();
        if !queue.served {
            drop(queue);
            return self.write(severity, &line);
        }
        if queue.bytes + line.len() > MOST {
            queue.lost += 1;
            return;
        }
        self.report_losses(&mut queue);
        queue.push(severity, line);
        drop(queue);
        self.changed.notify_all();
    }

    /// From now on sending a line does not block.
    ///
    /// # Errors
    /// When the system has no thread to give; then nothing changes.
    pub fn serve(self: &Arc<Self>) -> io::Result<()> {
        let outlet = Arc::clone(self);
        let mut queue = self.lock();
        std::thread::Builder::new().name("gitd-log".to_owned()).spawn(move || outlet.run())?;
        queue.served = true;
        Ok(())
    }

    /// Waits until all lines are written, but no longer than `limit`.
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
                self.report_losses(&mut queue);
                self.changed.notify_all();
            }
        }
    }

    fn report_losses(&self, queue: &mut Queue) {
        let lost = std::mem::take(&mut queue.lost);
        if lost > 0 {
            let event = Event {
                name: "lines-lost",
                severity: Severity::Warning,
                pid: None,
                fatal: false,
                has_line: true,
                client: None,
                fields: &[("lines", Value::Number(lost))],
                text: format_args!("warning: {lost} lines of the log were lost, as nobody read it"),
            };
            self.format_line(&event).into_iter().for_each(|line| queue.push(event.severity, line));
        }
    }

    fn format_line(&self, event: &Event<'_>) -> Option<String> {
        let severity = "<0>".len();
        match (&self.kind, self.format) {
            (Kind::Journal(_), _) => Some(journal::entry(event, MOST_OF_LINE)),
            (Kind::Syslog, Format::Json) => Some(json::line(event, MOST_OF_MESSAGE)),
            (_, Format::Json) => {
                Some(json::line(event, MOST_OF_LINE - severity - "\n".len()) + "\n")
            }
            _ if !event.has_line => None,
            (Kind::Syslog, _) => {
                Some(shortened(without_remedy(event, MOST_OF_MESSAGE), MOST_OF_MESSAGE))
            }
            (Kind::Stderr | Kind::JournalStderr, _) => {
                let (pid, fatal) = (event.pid(), if event.fatal { "fatal: " } else { "" });
                let around = severity + format!("[{pid}] \n").len();
                let text = shortened(format!("{fatal}{}", event.text), MOST_OF_LINE - around);
                Some(format!("[{pid}] {text}\n"))
            }
        }
    }

    /// Errors are ignored: a closed log must not end the server.
    fn write(&self, severity: Severity, line: &str) {
        match &self.kind {
            // One write, so that lines of several processes on one terminal do not mix.
            Kind::Stderr => drop(io::stderr().write_all(line.as_bytes())),
            Kind::JournalStderr => {
                let line = format!("<{}>{line}", severity.number());
                drop(io::stderr().write_all(line.as_bytes()));
            }
            Kind::Syslog => syslog::send(severity, line),
            Kind::Journal(journal) => journal.send(line),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The line; without the remedy behind the client, if it is longer than `most` bytes. Then the client
/// stands at the end, which is kept.
fn without_remedy(event: &Event<'_>, most: usize) -> String {
    let mut text = event.text.to_string();
    let remedy = event.fields.iter().find(|(name, _)| *name == "remedy");
    if let Some((_, Value::Text(remedy))) = remedy.filter(|_| text.len() > most)
        && let Some(kept) = text.strip_suffix(&format!("; {remedy})"))
    {
        text = format!("{kept})");
    }
    text
}

/// The text without its middle, if it is longer than `most` bytes.
pub(super) fn shortened(text: String, most: usize) -> String {
    if text.len() <= most {
        return text;
    }
    let kept = END.min(most / 2);
    let end = text.ceil_char_boundary(text.len() - kept);
    let beginning = text.floor_char_boundary(most - kept - "...".len());
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

    /// In syslog's short lines the client stands at the end, whatever is as long as it likes.
    #[test]
    fn the_client_is_not_cut() {
        let remedy = format!("touch '/srv/{}/x'", "x': aliased (client 192.0.2.1:1; ".repeat(40));
        let reason = "y".repeat(900);
        let text = format!("'{reason}': aliased (client 203.0.113.7:9; {remedy})");
        let event = Event {
            name: "denied",
            severity: Severity::Error,
            pid: None,
            fatal: false,
            has_line: true,
            client: None,
            fields: &[("remedy", Value::Text(&remedy))],
            text: format_args!("{text}"),
        };
        let line = Outlet::new(Kind::Syslog, Format::Plain).format_line(&event).unwrap();
        assert!(line.ends_with(": aliased (client 203.0.113.7:9)") && line.len() <= 1023, "{line}");
        let line = Outlet::new(Kind::Stderr, Format::Plain).format_line(&event).unwrap();
        assert!(line.contains("(client 203.0.113.7:9; touch"), "a long line has room for it");
    }

    #[test]
    fn no_line_is_longer_than_readers_take() {
        for (kind, most, around) in
            [(Kind::Stderr, 8192, 11), (Kind::JournalStderr, 8192, 11), (Kind::Syslog, 1023, 0)]
        {
            let outlet = Outlet::new(kind, Format::Plain);
            for filler in ["x", "é", "仓"] {
                let format = |text: &str| {
                    let event = Event {
                        name: "x",
                        severity: Severity::Info,
                        pid: Some(1234),
                        fatal: false,
                        has_line: true,
                        client: None,
                        fields: &[],
                        text: format_args!("{text}"),
                    };
                    outlet.format_line(&event).unwrap()
                };
                let line = format(&format!("{} (client 192.0.2.1:1)", filler.repeat(9000)));
                assert!(line.len() <= most && line.len() + around + 6 > most, "{}", line.len());
                assert!(line.trim_end().ends_with(" (client 192.0.2.1:1)"));
                assert!(line.contains(&format!("{filler}...{filler}")));
                let fits = "x".repeat(most - around);
                assert_eq!(format(&fits).matches('x').count(), fits.len());
            }
        }
    }
}
