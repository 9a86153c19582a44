//! An event as one JSON object (docs/logging.md).

use std::time::SystemTime;

use serde::{Serialize, Serializer, ser::SerializeMap};

use crate::escape::Reversible;
use crate::log::fields::{Event, Value, client};
use crate::log::outlet::shortened;

/// How many bytes of a field to show: the most that lets the line fit.
pub(super) const ROOMS: [usize; 6] = [1024, 512, 256, 128, 64, 40];

/// The object, in at most `most` bytes, which are enough for all fields cut to the last of
/// [`ROOMS`].
pub(super) fn line(event: &Event<'_>, most: usize) -> String {
    let time = humantime::format_rfc3339_micros(SystemTime::now()).to_string();
    let mut line = String::new();
    for room in ROOMS {
        // Nothing here fails: all keys are text.
        line = serde_json::to_string(&Object { event, time: &time, room }).unwrap_or_default();
        if line.len() <= most {
            break;
        }
    }
    line
}

/// An event whose fields have so much room each, and its text three times as much.
struct Object<'a> {
    event: &'a Event<'a>,
    time: &'a str,
    room: usize,
}

impl Serialize for Object<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Object { event, time, room } = self;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("time", time)?;
        map.serialize_entry("level", event.severity.word())?;
        map.serialize_entry("event", event.name)?;
        map.serialize_entry("pid", &event.pid())?;
        map.serialize_entry("message", &shortened(event.text.to_string(), 3 * room))?;
        let client = event.client.map(client);
        for (name, value) in client.iter().flatten().chain(event.fields) {
            if !matches!(value, Value::Nothing) {
                map.serialize_entry(name, &Shown { value, room: *room })?;
            }
        }
        map.end()
    }
}

/// A value with so much room.
struct Shown<'a> {
    value: &'a Value<'a>,
    room: usize,
}

impl Serialize for Shown<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.value {
            Value::Nothing => serializer.serialize_none(),
            Value::Word(word) => serializer.serialize_str(word),
            Value::Text(text) => serializer.serialize_str(&shortened(text.to_string(), self.room)),
            Value::Bytes(bytes) => serializer.collect_str(&Reversible { bytes, most: self.room }),
            Value::Number(number) => serializer.serialize_u64(*number),
            Value::Seconds(time) => serializer.serialize_f64(time.as_micros() as f64 / 1e6),
        }
    }
}
