//! From events to lines: which are logged, and in what form (contract 18 to 20). The [`outlet`]
//! writes them.

pub mod event;
pub mod outlet;
pub mod record;

use std::fmt::{self, Debug, Display, Formatter, Write as _};
use std::panic::{self, PanicHookInfo};
use std::sync::{Arc, PoisonError, RwLock};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

use crate::escape::Escaped;
use crate::log::outlet::{Kind, Outlet};
use crate::log::record::Record;
use crate::sys::syslog::Severity;

/// Reads the records of connections, beside the log. It must not wait: the caller serves clients.
pub trait Reader: Debug + Send + Sync {
    /// A connection has ended.
    fn closed(&self, record: &Record);
}

static READERS: RwLock<Vec<Arc<dyn Reader>>> = RwLock::new(Vec::new());

/// From now on `reader` gets each record, wherever the log goes.
pub fn add_reader(reader: Arc<dyn Reader>) {
    READERS.write().unwrap_or_else(PoisonError::into_inner).push(reader);
}

fn tell(record: &Record) {
    for reader in READERS.read().unwrap_or_else(PoisonError::into_inner).iter() {
        reader.closed(record);
    }
}

/// Where log lines go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Destination {
    /// Standard error.
    Stderr,
    /// `syslog(3)`.
    Syslog,
    /// Nowhere.
    None,
}

/// The form of what gitd says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Format {
    /// Lines of text.
    #[default]
    Plain,
    /// JSON.
    Json,
}

impl Destination {
    /// The exit status for errors that the stock daemon calls fatal (contract 7).
    #[must_use]
    pub fn fatal_status(self) -> u8 {
        if self == Destination::Syslog { 1 } else { 128 }
    }
}

/// Sends every event from now on to `destination`, and panics too; ordinary ones only if `verbose`.
/// Must be called once. Returns the outlet, if there is one.
pub fn start(destination: Destination, verbose: bool) -> Option<Arc<Outlet>> {
    let outlet = Outlet::new(match destination {
        Destination::None => return None,
        Destination::Stderr => Kind::of_stderr(),
        Destination::Syslog => Kind::Syslog,
    });
    let most = if verbose { Level::INFO } else { Level::WARN };
    let sink =
        Sink { most, fatal: destination == Destination::Stderr, outlet: Arc::clone(&outlet) };
    let subscriber = tracing_subscriber::registry().with(sink);
    let installed = tracing::subscriber::set_global_default(subscriber);
    debug_assert!(installed.is_ok(), "the log was started twice");
    panic::set_hook(Box::new(|panic| event::internal_error(&Panic(panic))));
    Some(outlet)
}

/// A panic in one line: where, and its message, which may contain a client's bytes.
struct Panic<'a>(&'a PanicHookInfo<'a>);

impl Display for Panic<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if let Some(place) = self.0.location() {
            write!(f, "{}:{}: ", place.file(), place.line())?;
        }
        let message = self.0.payload_as_str().unwrap_or("no message");
        write!(f, "{}", Escaped(message.as_bytes()))
    }
}

struct Sink {
    most: Level,
    /// Whether `fatal: ` goes before fatal errors. Not in syslog.
    fatal: bool,
    outlet: Arc<Outlet>,
}

impl<S: Subscriber> Layer<S> for Sink {
    fn enabled(&self, metadata: &tracing::Metadata<'_>, _: Context<'_, S>) -> bool {
        // The runtime's own events do not concern the administrator.
        *metadata.level() <= self.most && metadata.target().starts_with("gitd")
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut line =
            Line { pid: u64::from(std::process::id()), fatal: false, text: String::new() };
        event.record(&mut line);
        if line.fatal && self.fatal {
            line.text.insert_str(0, "fatal: ");
        }
        self.outlet.send(severity(*event.metadata().level()), line.pid, line.text);
    }
}

/// An event's text and the process that it is about.
struct Line {
    pid: u64,
    /// Whether the stock daemon calls it fatal (contract 19, 20).
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

fn severity(level: Level) -> Severity {
    match level {
        Level::ERROR => Severity::Error,
        Level::WARN => Severity::Warning,
        _ => Severity::Info,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn a_panic_is_one_line() {
        let (sender, lines) = mpsc::channel();
        let previous = panic::take_hook();
        // It stays, for the tests that run at the same time.
        panic::set_hook(Box::new(move |panic| {
            let _ = sender.send(Panic(panic).to_string());
            previous(panic);
        }));
        let line = line!() + 1;
        let panics = std::thread::spawn(|| panic!("on purpose: a\nb\u{1b}"));
        assert!(panics.join().is_err());
        let expected = format!("{}:{line}: on purpose: a\\nb\\u{{1b}}", file!());
        assert!(lines.try_iter().any(|line| line == expected), "{expected}");
    }
}
