//! The corpus of the fuzz targets, tried without a fuzzer.

use std::fs;
use std::path::Path;

#[path = "../fuzz/properties.rs"]
mod properties;

#[test]
fn properties_hold() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus");
    type Property = fn(&[u8]);
    let targets: [(&str, Property); 6] = [
        ("packet", properties::packet),
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
