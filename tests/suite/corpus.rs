//! The corpus of the fuzz targets, tried without a fuzzer.

use std::fs;
use std::path::Path;

use crate::support::random::Random;

#[path = "../fuzz/properties.rs"]
mod properties;

#[test]
fn properties_hold() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus");
    type Property = fn(&[u8]);
    let targets: [(&str, Property); 7] = [
        ("packet", properties::packet),
        ("proxy", properties::proxy),
        ("request", properties::request),
        ("host", properties::host),
        ("template", properties::template),
        ("pointer", properties::pointer),
        ("log", properties::log),
    ];
    for (name, holds) in targets {
        let mut tried = 0;
        for entry in fs::read_dir(corpus.join(name)).unwrap() {
            let path = entry.unwrap().path();
            println!("{}", path.display());
            holds(&fs::read(path).unwrap());
            tried += 1;
        }
        assert!(tried > 0, "{name} has no corpus");
    }
    // No file is in a directory that no target tries.
    assert_eq!(fs::read_dir(corpus).unwrap().count(), targets.len());
}

/// PROXY headers with a few bytes changed, left out, doubled or put in, in many ways.
#[test]
fn mutated_proxy_headers() {
    const ROUNDS: u64 = 30_000;
    const SEED: u64 = 1;
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus/proxy");
    let mut seeds: Vec<_> =
        fs::read_dir(corpus).unwrap().map(|file| file.unwrap().path()).collect();
    seeds.sort();
    let seeds: Vec<Vec<u8>> = seeds.iter().map(|path| fs::read(path).unwrap()).collect();
    for round in 0..ROUNDS {
        let mut random = Random::of(SEED, round);
        let mut bytes = random.pick(&seeds);
        for _ in 0..=random.below(4) {
            let at = random.below(bytes.len());
            let other = random.pick(b"\0\n\r \x11\x20\x21\xff0PT");
            match random.below(5) {
                0 => bytes[at] = other,
                1 => bytes[at] ^= 1 << random.below(8),
                2 if bytes.len() > 1 => drop(bytes.remove(at)),
                3 => bytes.truncate(at + 1),
                _ => bytes.insert(at, other),
            }
        }
        let tried = std::panic::catch_unwind(|| properties::proxy(&bytes));
        assert!(tried.is_ok(), "round {round}, seed {SEED}: {}", bytes.escape_ascii());
    }
}
