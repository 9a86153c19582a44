//! What the bench says while it runs, on stderr, so that stdout has the tables alone.

use std::sync::OnceLock;
use std::time::Instant;

static START: OnceLock<Instant> = OnceLock::new();

pub(crate) fn start() {
    let _ = START.set(Instant::now());
}

pub(crate) fn seconds() -> f64 {
    START.get().map_or(0.0, |start| start.elapsed().as_secs_f64())
}

pub(crate) fn say(line: &str) {
    eprintln!("[{:5.1} s] {line}", seconds());
}
