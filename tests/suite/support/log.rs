//! A daemon's log as it comes: a thread reads its standard error to the end, and tests wait for lines with a deadline.

use std::io::{BufRead, BufReader, Read};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use super::DEADLINE;

#[derive(Clone)]
pub struct Log {
    shared: Arc<(Mutex<State>, Condvar)>,
}

#[derive(Default)]
struct State {
    lines: Vec<Vec<u8>>,
    ended: bool,
}

impl Log {
    pub fn read(stream: impl Read + Send + 'static) -> Self {
        let log = Self { shared: Arc::default() };
        let writer = log.clone();
        std::thread::spawn(move || {
            let mut stream = BufReader::new(stream);
            loop {
                let mut line = Vec::new();
                let end = !matches!(stream.read_until(b'\n', &mut line), Ok(1..));
                let mut state = writer.shared.0.lock().unwrap();
                if end {
                    state.ended = true;
                } else {
                    state.lines.push(line);
                }
                writer.shared.1.notify_all();
                if end {
                    return;
                }
            }
        });
        log
    }

    /// How many lines there are so far.
    pub fn mark(&self) -> usize {
        self.shared.0.lock().unwrap().lines.len()
    }

    /// Every line from `mark` on, as bytes with their line feed.
    pub fn raw(&self, mark: usize) -> Vec<Vec<u8>> {
        self.shared.0.lock().unwrap().lines[mark..].to_vec()
    }

    /// Every line from `mark` on, without the pids in front; and without the lines in which only gitd says where it listens.
    pub fn since(&self, mark: usize) -> Vec<String> {
        texts(&self.raw(mark))
    }

    /// Waits until a line at or after `mark` is as wanted; returns all from `mark` up to it.
    pub fn wait(&self, mark: usize, wanted: impl Fn(&str) -> bool) -> Vec<String> {
        match self.try_wait(mark, wanted) {
            Ok(lines) => lines,
            Err(lines) => panic!("the awaited line has not come; the log has {lines:#?}"),
        }
    }

    /// Whether a line at or after `mark` is as wanted, or becomes so within `limit`.
    pub fn has_within(&self, limit: Duration, mark: usize, wanted: impl Fn(&str) -> bool) -> bool {
        self.wait_until(Instant::now() + limit, mark, wanted).is_ok()
    }

    /// Waits until so many lines at or after `mark` are as wanted.
    pub fn wait_count(&self, mark: usize, count: usize, wanted: impl Fn(&str) -> bool) {
        let seen = std::cell::Cell::new(0);
        super::process::wait_until("the lines have come", || {
            seen.set(self.since(mark).iter().filter(|line| wanted(line)).count());
            seen.get() >= count
        });
    }

    /// The same; if the log ends or the deadline passes before, what there is.
    pub fn try_wait(
        &self,
        mark: usize,
        wanted: impl Fn(&str) -> bool,
    ) -> Result<Vec<String>, Vec<String>> {
        self.wait_until(Instant::now() + DEADLINE, mark, wanted)
    }

    fn wait_until(
        &self,
        deadline: Instant,
        mark: usize,
        wanted: impl Fn(&str) -> bool,
    ) -> Result<Vec<String>, Vec<String>> {
        let mut state = self.shared.0.lock().unwrap();
        loop {
            let lines = texts(&state.lines[mark..]);
            if let Some(found) = lines.iter().position(|line| wanted(line)) {
                return Ok(lines[..=found].to_vec());
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if state.ended || left.is_zero() {
                return Err(lines);
            }
            state = self.shared.1.wait_timeout(state, left).unwrap().0;
        }
    }

    /// Waits until every process that could write to the log has gone; all its lines.
    pub fn wait_end(&self) -> Vec<String> {
        let (Ok(lines) | Err(lines)) = self.try_wait(0, |_| false);
        assert!(self.shared.0.lock().unwrap().ended, "somebody can still write to {lines:#?}");
        lines
    }
}

fn texts(lines: &[Vec<u8>]) -> Vec<String> {
    let lines = lines.iter().map(|line| text(line));
    lines.filter(|line| !line.starts_with("Listening on ")).collect()
}

/// A line without what differs between the implementations. Which process wrote it: `[pid] ` in front; the stock parent
/// also names the child, `[1] [2] Disconnected`. And what gitd says more than stock, for the administrator: ` (client …)`
/// behind a refusal, a summary behind the end of a connection, and the service's name before what a service has written.
fn text(line: &[u8]) -> String {
    let line = String::from_utf8_lossy(line);
    bare(line.strip_suffix('\n').unwrap_or(&line)).to_owned()
}

/// The same for a line of syslog.
pub fn bare(line: &str) -> &str {
    let mut rest = line;
    while let Some((pid, after)) = rest.strip_prefix('[').and_then(|r| r.split_once("] ")) {
        if pid.is_empty() || !pid.bytes().all(|b| b.is_ascii_digit()) {
            break;
        }
        rest = after;
    }
    for service in ["upload-pack: ", "upload-archive: ", "receive-pack: "] {
        rest = rest.strip_prefix(service).unwrap_or(rest);
    }
    for (start, end) in [(" (client ", ")"), (", client ", "")] {
        if let Some(at) = rest.rfind(start)
            && rest.ends_with(end)
            && (!end.is_empty() || rest.starts_with("Disconnected"))
        {
            return &rest[..at];
        }
    }
    rest
}
