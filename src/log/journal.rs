//! An event as an entry of systemd's journal, with fields of its own, in the journal's native
//! protocol: a datagram of lines `FIELD=value`. No value has a line feed, so nothing needs the
//! protocol's other form, and no entry is longer than a datagram.

use std::fmt::Write as _;
use std::io;
use std::os::unix::net::UnixDatagram;

use crate::escape::Reversible;
use crate::log::fields::{Event, Value, client};
use crate::log::json::ROOMS;
use crate::log::outlet::shortened;

/// Where the journal takes entries (systemd.journal-fields(7)).
const SOCKET: &str = "/run/systemd/journal/socket";

/// A connection to the journal.
#[derive(Debug)]
pub struct Journal(UnixDatagram);

impl Journal {
    /// Connects to the journal.
    ///
    /// # Errors
    /// When there is none.
    pub fn connect() -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        socket.connect(SOCKET)?;
        Ok(Journal(socket))
    }

    /// Sends an entry. If the journal was started anew, connects to that.
    pub(super) fn send(&self, entry: &str) {
        if self.0.send(entry.as_bytes()).is_err() && self.0.connect(SOCKET).is_ok() {
            // What fails now is lost, as always in a log.
            let _ = self.0.send(entry.as_bytes());
        }
    }
}

/// The entry, in at most `most` bytes.
pub(super) fn entry(event: &Event<'_>, most: usize) -> String {
    let mut entry = String::new();
    for room in ROOMS {
        entry = with_room(event, room);
        if entry.len() <= most {
            break;
        }
    }
    entry
}

fn with_room(event: &Event<'_>, room: usize) -> String {
    let mut entry = format!(
        "MESSAGE={}\nPRIORITY={}\nSYSLOG_IDENTIFIER=gitd\nGITD_EVENT={}\nGITD_PID={}\n",
        shortened(event.text.to_string(), 3 * room),
        event.severity.number(),
        event.name,
        event.pid(),
    );
    let client = event.client.map(client);
    for (name, value) in client.iter().flatten().chain(event.fields) {
        let value = match value {
            Value::Nothing => continue,
            Value::Word(word) => (*word).to_owned(),
            Value::Text(text) => shortened(text.to_string(), room),
            Value::Bytes(bytes) => Reversible { bytes, most: room }.to_string(),
            Value::Number(number) => number.to_string(),
            Value::Seconds(time) => format!("{:.6}", time.as_secs_f64()),
        };
        // Writing to a string does not fail.
        let _ = writeln!(entry, "GITD_{}={value}", name.to_ascii_uppercase());
    }
    entry
}
