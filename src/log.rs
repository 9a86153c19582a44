//! Where log lines go, and in which dress: `[pid] text` on standard error, one write a line; the bare
//! text in syslog (contract 18 to 20).

use std::fmt::{self, Debug, Write as _};
use std::io::Write as _;

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

use crate::options::Destination;
use crate::sys::syslog::{self, Severity};

/// Sends every event from now on to `destination`; ordinary ones only if `verbose`. To be called
/// once.
pub fn start(destination: Destination, verbose: bool) {
    let most = if verbose { Level::INFO } else { Level::WARN };
    let installed = match destination {
        Destination::None => Ok(()),
        Destination::Stderr => install(Sink { most, write: to_stderr }),
        Destination::Syslog => {
            syslog::open();
            install(Sink { most, write: to_syslog })
        }
    };
    debug_assert!(installed.is_ok(), "the log was started twice");
}

fn install(sink: Sink) -> Result<(), tracing::subscriber::SetGlobalDefaultError> {
    tracing::subscriber::set_global_default(tracing_subscriber::registry().with(sink))
}

struct Sink {
    most: Level,
    write: fn(&Level, &Line),
}

impl<S: Subscriber> Layer<S> for Sink {
    fn enabled(&self, metadata: &tracing::Metadata<'_>, _: Context<'_, S>) -> bool {
        // The runtime's own events are none of the administrator's business.
        *metadata.level() <= self.most && metadata.target().starts_with("gitd")
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut line =
            Line { pid: u64::from(std::process::id()), fatal: false, text: String::new() };
        event.record(&mut line);
        (self.write)(event.metadata().level(), &line);
    }
}

/// An event's text and the process that it is about.
struct Line {
    pid: u64,
    /// Whether it is one of those that `fatal: ` goes before, but not in syslog (contract 19, 20).
    fatal: bool,
    text: String,
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() == "message" {
            let _: fmt::Result = write!(self.text, "{value:?}");
        }
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        if field.name() == "fatal" {
            self.fatal = value;
        }
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        if field.name() == "pid" {
            self.pid = value;
        }
    }
}

/// One write, so that lines of several processes on one terminal do not mix. What cannot be written
/// is lost: a closed log must not end the server.
fn to_stderr(_: &Level, line: &Line) {
    let fatal = if line.fatal { "fatal: " } else { "" };
    let line = format!("[{}] {fatal}{}\n", line.pid, line.text);
    let _ = std::io::stderr().write_all(line.as_bytes());
}

fn to_syslog(level: &Level, line: &Line) {
    let severity = match *level {
        Level::ERROR => Severity::Error,
        Level::WARN => Severity::Warning,
        _ => Severity::Info,
    };
    syslog::send(severity, &line.text);
}
