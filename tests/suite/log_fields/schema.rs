//! The tables of docs/logging.md, and the code beside them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use serde_json::Value;

/// What every event has.
const COMMON: [&str; 5] = ["time", "level", "event", "pid", "message"];

pub struct Schema {
    /// Field → type.
    types: BTreeMap<String, String>,
    /// Event → level and fields.
    events: BTreeMap<String, (String, Vec<String>)>,
    outcomes: BTreeSet<String>,
    reasons: BTreeSet<String>,
}

fn read(relative: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(relative)).unwrap()
}

/// What stands between backticks.
fn code(text: &str) -> Vec<String> {
    text.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

impl Schema {
    pub fn documented() -> Self {
        let page = read("docs/logging.md");
        let mut schema = Schema {
            types: BTreeMap::new(),
            events: BTreeMap::new(),
            outcomes: BTreeSet::new(),
            reasons: BTreeSet::new(),
        };
        let mut table = "";
        for line in page.lines() {
            let Some(row) = line.strip_prefix('|') else {
                table = "";
                continue;
            };
            let cells: Vec<_> = row.trim_end_matches('|').split('|').map(str::trim).collect();
            if table.is_empty() {
                table = cells[0];
                continue;
            }
            for name in code(cells[0]) {
                match table {
                    "field" => drop(schema.types.insert(name, cells[1].to_owned())),
                    "event" => {
                        let row = (cells[1].to_owned(), code(cells[3]));
                        schema.events.insert(name, row);
                    }
                    "`outcome`" => drop(schema.outcomes.insert(name)),
                    "`reason`" => drop(schema.reasons.insert(name)),
                    _ => {}
                }
            }
        }
        assert!(schema.types.len() > 30 && schema.events.len() > 30, "no tables");
        assert!(schema.outcomes.len() == 10 && schema.reasons.len() > 20, "no words");
        schema
    }

    /// The event has what is documented, and nothing else.
    pub fn check(&self, event: &Value) {
        let object = event.as_object().unwrap();
        let name = event["event"].as_str().unwrap();
        let (level, fields) =
            self.events.get(name).unwrap_or_else(|| panic!("no word of the event {name}"));
        assert_eq!(event["level"], level.as_str(), "{event}");
        for (field, value) in object {
            let known = COMMON.contains(&field.as_str()) || fields.contains(field);
            assert!(known, "{name}: no word of {field}");
            let is_right = match self.types[field].as_str() {
                "string" | "bytes" | "string or bytes" => value.is_string(),
                "number" => value.is_u64(),
                "seconds" => value.as_f64().is_some_and(|seconds| seconds >= 0.0),
                other => panic!("{field}: what is {other}?"),
            };
            assert!(is_right, "{field}: {value}");
        }
        let word = |field: &str, words: &BTreeSet<String>| {
            let word = object.get(field).map(|word| word.as_str().unwrap());
            assert!(word.is_none_or(|word| words.contains(word)), "{field}: no word of {word:?}");
        };
        word("outcome", &self.outcomes);
        word("reason", &self.reasons);
    }
}

/// The text of these files without their line breaks.
fn source(files: &[&str]) -> String {
    let text: String = files.iter().map(|file| read(file)).collect();
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace("( ", "(")
}

/// The literals after each of these beginnings.
fn literals(source: &str, beginnings: &[&str]) -> BTreeSet<String> {
    let after = |beginning: &&str| -> Vec<String> {
        let beginning = format!("{beginning}\"");
        let parts = source.split(beginning.as_str()).skip(1);
        parts.map(|part| part.split('"').next().unwrap().to_owned()).collect()
    };
    beginnings.iter().flat_map(after).collect()
}

#[test]
fn all_events_are_documented() {
    let source = source(&["src/log/event.rs", "src/log/event/server.rs", "src/log/outlet.rs"]);
    let source = source.split("mod tests").next().unwrap();
    let found = literals(
        source,
        &["info(", "warn(", "error(", "error_of(pid, ", "event(Severity::Info, ", "name: "],
    );
    assert_eq!(found, Schema::documented().events.into_keys().collect());
}

#[test]
fn all_fields_are_documented() {
    let source = source(&[
        "src/log/event.rs",
        "src/log/event/server.rs",
        "src/log/outlet.rs",
        "src/log/fields.rs",
    ]);
    let mut found = literals(&source, &["[(", " (", "(("]);
    let is_name = |name: &str| name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    found.retain(|name| !name.is_empty() && is_name(name));
    found.extend(COMMON.map(str::to_owned));
    let schema = Schema::documented();
    assert_eq!(found, schema.types.keys().cloned().collect());
    let used: BTreeSet<_> = schema.events.values().flat_map(|(_, fields)| fields.clone()).collect();
    let unused: Vec<_> =
        schema.types.keys().filter(|name| !used.contains(*name)).map(String::as_str).collect();
    assert!(unused.iter().all(|name| COMMON.contains(name)), "{unused:?}");
}

/// The words of outcomes and reasons are those of the code.
#[test]
fn all_words_are_documented() {
    let schema = Schema::documented();
    let words = |file: &str, function: &str| {
        let text = source(&[file]);
        let body = text.split(&format!("fn {function}(")).nth(1).unwrap();
        let body = body.split(" fn ").next().unwrap();
        literals(body, &["=> ", "Some("])
    };
    assert_eq!(words("src/log/record.rs", "word"), schema.outcomes);
    let mut reasons = words("src/access/denial.rs", "word");
    reasons.extend(words("src/protocol/inbound.rs", "word"));
    reasons.extend(words("src/protocol/request.rs", "word"));
    reasons.extend(["request-timeout", "gone", "timed-out"].map(str::to_owned));
    assert_eq!(reasons, schema.reasons);
}
