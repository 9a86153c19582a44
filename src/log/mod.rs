//! The log, and other readers of what happens. Each [event] is read by the log, which writes it in
//! one of several formats (contract 18 to 20); each [record] of a connection by all
//! [readers](Reader). The [`outlet`] writes the lines.

pub mod event;
pub mod fields;
pub mod journal;
mod json;
pub mod outlet;
pub mod record;

use std::fmt::{self, Debug, Display, Formatter};
use std::io;
use std::panic::{self, PanicHookInfo};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use crate::escape::Escaped;
use crate::log::fields::Event;
use crate::log::journal::Journal;
use crate::log::outlet::{Kind, Outlet};
use crate::log::record::Record;
use crate::sys::syslog::Severity;

/// Where log lines go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Destination {
    /// Standard error.
    Stderr,
    /// `syslog(3)`.
    Syslog,
    /// systemd's journal, in entries with fields.
    Journal,
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
    /// Entries of systemd's journal.
    Journal,
}

impl Destination {
    /// Whether the system keeps the log, so that errors at the start are for it too.
    #[must_use]
    pub fn is_system(self) -> bool {
        matches!(self, Destination::Syslog | Destination::Journal)
    }

    /// The exit status for errors that the stock daemon calls fatal (contract 7).
    #[must_use]
    pub fn fatal_status(self) -> u8 {
        if self.is_system() { 1 } else { 128 }
    }
}

/// The log of this process.
struct Log {
    /// The least severe events that it takes.
    least: Severity,
    outlet: Arc<Outlet>,
}

static LOG: OnceLock<Log> = OnceLock::new();

/// Sends every event from now on to `destination`, and panics too; ordinary ones only if `verbose`.
/// Must be called once. Returns the outlet, if there is one.
///
/// # Errors
/// When there is no journal.
pub fn start(
    destination: Destination,
    format: Format,
    verbose: bool,
) -> io::Result<Option<Arc<Outlet>>> {
    let kind = match destination {
        Destination::None => return Ok(None),
        Destination::Stderr => Kind::of_stderr(),
        Destination::Syslog => Kind::Syslog,
        Destination::Journal => Kind::Journal(Journal::connect()?),
    };
    let outlet = Outlet::new(kind, format);
    let least = if verbose { Severity::Info } else { Severity::Warning };
    let started = LOG.set(Log { least, outlet: Arc::clone(&outlet) });
    debug_assert!(started.is_ok(), "the log was started twice");
    panic::set_hook(Box::new(|panic| event::internal_error(&Panic(panic))));
    Ok(Some(outlet))
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

/// Whether the log takes events of this severity.
fn reads(severity: Severity) -> bool {
    LOG.get().is_some_and(|log| severity.number() <= log.least.number())
}

fn read(event: &Event<'_>) {
    if let Some(log) = LOG.get()
        && reads(event.severity)
    {
        log.outlet.send(event);
    }
}

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
