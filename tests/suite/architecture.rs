//! The order of the house: a module uses only modules above it in `src/lib.rs`, and what is unsafe stays in one room.

use std::fs;
use std::path::{Path, PathBuf};

fn sources() -> Vec<PathBuf> {
    fn walk(directory: &Path, files: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(directory).unwrap().map(Result::unwrap) {
            let path = entry.path();
            if path.is_dir() {
                walk(&path, files);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    let mut files = Vec::new();
    walk(&root(), &mut files);
    assert!(files.len() > 50, "{files:?}");
    files
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// The file's text without comments and unit tests, and its path below `src`.
fn code(file: &Path) -> (String, String) {
    let text = fs::read_to_string(file).unwrap();
    let text = text.split("#[cfg(test)]").next().unwrap();
    let lines = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    let code = lines.collect::<Vec<_>>().join("\n");
    (code, file.strip_prefix(root()).unwrap().display().to_string())
}

/// Every name that follows `crate::`, also in braces.
fn used(code: &str) -> Vec<&str> {
    let word = |text: &'_ str| text.find(|c: char| !c.is_alphanumeric() && c != '_');
    let mut names = Vec::new();
    for rest in code.split("crate::").skip(1) {
        match rest.strip_prefix('{') {
            Some(list) => {
                let list = list.split("};").next().unwrap();
                names.extend(list.split(',').map(|name| name.trim().split("::").next().unwrap()));
            }
            None => names.push(&rest[..word(rest).unwrap_or(rest.len())]),
        }
    }
    names
}

#[test]
fn modules_use_only_those_above() {
    let (library, _) = code(&root().join("lib.rs"));
    let order: Vec<&str> = library
        .lines()
        .filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';'))
        .collect();
    let place = |module: &str| order.iter().position(|other| *other == module);
    let mut seen = 0;
    for file in sources() {
        let (code, name) = code(&file);
        let own = name.split(['/', '.']).next().unwrap();
        let Some(own_place) = place(own) else { continue };
        for module in used(&code) {
            if let Some(place) = place(module) {
                seen += 1;
                assert!(place <= own_place, "{name} uses {module}, which stands below it");
            }
        }
    }
    assert!(seen > 150, "only {seen} uses were found");
}

#[test]
fn unsafe_code_stays_in_sys() {
    let mut blocks = 0;
    for file in sources() {
        let (code, name) = code(&file);
        if name.starts_with("sys/") {
            blocks += code.matches("unsafe {").count();
        } else {
            assert!(!code.contains("unsafe {") && !code.contains("unsafe fn"), "{name}");
            let allowed = code.matches("allow(unsafe_code)").count();
            assert_eq!(allowed, usize::from(name == "lib.rs"), "{name}");
        }
    }
    assert!(blocks > 30, "only {blocks} blocks were found");
}

#[test]
fn files_are_rooms() {
    for file in sources() {
        let lines = fs::read_to_string(&file).unwrap().lines().count();
        assert!(lines <= 400, "{} has {lines} lines", file.display());
    }
}
