//! What runs now, as JSON or as a table for a terminal; by session, or by address.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::fmt::Write as _;

use serde::Serialize;

use crate::server::status::observer::Sample;
use crate::server::status::row::{Row, State};

/// The most lines of a list; the others are counted.
const MOST: usize = 1000;

/// What comes first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Sort {
    /// What is there longest.
    #[default]
    Elapsed,
    /// What has moved the most bytes.
    Bytes,
    /// What has used the most processor time.
    Cpu,
}

impl Sort {
    /// An order by its name.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "elapsed" => Some(Sort::Elapsed),
            "bytes" => Some(Sort::Bytes),
            "cpu" => Some(Sort::Cpu),
            _ => None,
        }
    }
}

/// What a line is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// One connection.
    Session,
    /// All connections of an address.
    Address,
}

/// The answer.
#[derive(Debug, Serialize)]
pub struct List<'a> {
    version: &'static str,
    #[serde(flatten)]
    server: &'a Sample,
    /// How many lines there would be without a limit.
    total: usize,
    #[serde(flatten)]
    lines: Lines<'a>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
enum Lines<'a> {
    Sessions(Vec<&'a Row>),
    Addresses(Vec<Talker>),
}

/// All connections of one address.
#[derive(Debug, Clone, Default, Serialize)]
struct Talker {
    address: String,
    connections: usize,
    queued: usize,
    /// Of the oldest.
    elapsed_seconds: f64,
    sent_bytes: u64,
    received_bytes: u64,
    sent_per_second: u64,
    received_per_second: u64,
    cpu_seconds: f64,
    memory_bytes: u64,
}

impl<'a> List<'a> {
    /// The list of a sample's connections.
    pub fn new(sample: &'a Sample, sort: Sort, by: By) -> Self {
        let (total, lines) = match by {
            By::Session => {
                let mut rows: Vec<&Row> = sample.rows.iter().collect();
                let key = |row: &&Row| weigh(sort, row.elapsed_seconds, bytes(row), cpu(row));
                rows.sort_by(|a, b| descending(key(a), key(b)));
                (cut(&mut rows), Lines::Sessions(rows))
            }
            By::Address => {
                let mut talkers = talkers(&sample.rows);
                let key = |talker: &Talker| {
                    let bytes = talker.sent_bytes + talker.received_bytes;
                    weigh(sort, talker.elapsed_seconds, bytes, talker.cpu_seconds)
                };
                talkers.sort_by(|a, b| {
                    descending(key(a), key(b)).then_with(|| a.address.cmp(&b.address))
                });
                (cut(&mut talkers), Lines::Addresses(talkers))
            }
        };
        List { version: env!("CARGO_PKG_VERSION"), server: sample, total, lines }
    }

    /// The list for a terminal.
    pub fn table(&self) -> String {
        let Sample { phase, running, idle, queued, pending, .. } = self.server;
        let mut text = format!(
            "gitd {}, {phase}: {running} running, {idle} idle, {queued} queued, {pending} pending; \
             {} requests/s, {}/s out, {}/s in\n\n",
            self.version,
            self.server.requests_per_second,
            size(self.server.sent_per_second),
            size(self.server.received_per_second),
        );
        let (head, lines): (&[&str], Vec<Vec<String>>) = match &self.lines {
            Lines::Sessions(rows) => (&SESSION, rows.iter().map(|row| session(row)).collect()),
            Lines::Addresses(talkers) => (&ADDRESS, talkers.iter().map(address).collect()),
        };
        align(&mut text, head, &lines);
        if self.total > lines.len() {
            // Writing to a string does not fail.
            let _ = writeln!(text, "and {} more", self.total - lines.len());
        }
        text
    }
}

fn cut<T>(lines: &mut Vec<T>) -> usize {
    let total = lines.len();
    lines.truncate(MOST);
    total
}

fn weigh(sort: Sort, elapsed: f64, bytes: u64, cpu: f64) -> f64 {
    match sort {
        Sort::Elapsed => elapsed,
        Sort::Bytes => bytes as f64,
        Sort::Cpu => cpu,
    }
}

fn descending(a: f64, b: f64) -> Ordering {
    b.total_cmp(&a)
}

fn bytes(row: &Row) -> u64 {
    row.sent_bytes.unwrap_or(0) + row.received_bytes.unwrap_or(0)
}

fn cpu(row: &Row) -> f64 {
    row.cpu_seconds.unwrap_or(0.0)
}

fn talkers(rows: &[Row]) -> Vec<Talker> {
    let mut talkers: HashMap<&str, Talker> = HashMap::new();
    for row in rows {
        let talker = talkers
            .entry(&row.address)
            .or_insert_with(|| Talker { address: row.address.clone(), ..Talker::default() });
        talker.connections += 1;
        talker.queued += usize::from(row.state == State::Queued);
        talker.elapsed_seconds = talker.elapsed_seconds.max(row.elapsed_seconds);
        talker.sent_bytes += row.sent_bytes.unwrap_or(0);
        talker.received_bytes += row.received_bytes.unwrap_or(0);
        talker.sent_per_second += row.sent_per_second.unwrap_or(0);
        talker.received_per_second += row.received_per_second.unwrap_or(0);
        talker.cpu_seconds += cpu(row);
        talker.memory_bytes += row.memory_bytes.unwrap_or(0);
    }
    talkers.into_values().collect()
}

const SESSION: [&str; 12] = [
    "CLIENT",
    "SERVICE",
    "STATE",
    "ELAPSED",
    "OUT",
    "IN",
    "OUT/s",
    "RTT",
    "TRANSPORT",
    "CPU",
    "MEMORY",
    "REPOSITORY",
];

fn session(row: &Row) -> Vec<String> {
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    let transport = match (row.transport, row.paths) {
        (Some(transport), Some(paths)) => Some(format!("{transport}:{paths}")),
        (transport, _) => transport.map(str::to_owned),
    };
    vec![
        row.client.clone(),
        or_dash(row.service.map(str::to_owned)),
        row.state.words().to_owned(),
        format!("{:.1} s", row.elapsed_seconds),
        or_dash(row.sent_bytes.map(size)),
        or_dash(row.received_bytes.map(size)),
        or_dash(row.sent_per_second.map(size)),
        or_dash(row.rtt_seconds.map(|seconds| format!("{:.1} ms", seconds * 1000.0))),
        or_dash(transport),
        or_dash(row.cpu_seconds.map(|seconds| format!("{seconds:.1} s"))),
        or_dash(row.memory_bytes.map(size)),
        or_dash(row.repository.clone()),
    ]
}

const ADDRESS: [&str; 9] =
    ["ADDRESS", "CONNECTIONS", "QUEUED", "ELAPSED", "OUT", "IN", "OUT/s", "CPU", "MEMORY"];

fn address(talker: &Talker) -> Vec<String> {
    vec![
        talker.address.clone(),
        talker.connections.to_string(),
        talker.queued.to_string(),
        format!("{:.1} s", talker.elapsed_seconds),
        size(talker.sent_bytes),
        size(talker.received_bytes),
        size(talker.sent_per_second),
        format!("{:.1} s", talker.cpu_seconds),
        size(talker.memory_bytes),
    ]
}

/// Bytes as a person reads them.
fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let mut amount = bytes as f64;
    let mut unit = "B";
    for larger in UNITS {
        if amount < 1024.0 {
            break;
        }
        amount /= 1024.0;
        unit = larger;
    }
    if unit == "B" { format!("{bytes} B") } else { format!("{amount:.1} {unit}") }
}

/// Writes columns as wide as their widest words. The last one may be as long as it is.
fn align(text: &mut String, head: &[&str], lines: &[Vec<String>]) {
    let head: Vec<String> = head.iter().map(|&word| word.to_owned()).collect();
    let lines = || std::iter::once(&head).chain(lines);
    let width = |column: usize| {
        let widths = lines().filter_map(|line| line.get(column)).map(|word| word.chars().count());
        widths.max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    for line in lines() {
        for (column, word) in line.iter().enumerate() {
            if column + 1 == line.len() {
                text.push_str(word);
            } else {
                let _ = write!(text, "{word:<width$}  ", width = widths[column]);
            }
        }
        text.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1_572_864, "1.5 MiB"),
            (u64::MAX, "16.0 EiB"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }

    #[test]
    fn columns() {
        let mut text = String::new();
        let line = |words: [&str; 3]| words.map(str::to_owned).to_vec();
        align(&mut text, &["A", "BBB", "C"], &[line(["äöü", "b", "c"]), line(["a", "bbbb", ""])]);
        assert_eq!(text, "A    BBB   C\näöü  b     c\na    bbbb  \n");
    }
}
