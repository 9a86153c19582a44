//! The rules that docs/architecture.md sets for src/: the order of the modules, one address for `unsafe`, files of a size
//! that can be read.

use std::fs;
use std::path::{Path, PathBuf};

/// A file of the program without its comments.
struct Source {
    path: PathBuf,
    code: String,
    lines: usize,
}

/// Every file below a directory of the project.
fn sources(directory: &str) -> Vec<Source> {
    let mut found = Vec::new();
    let mut places = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join(directory)];
    while let Some(place) = places.pop() {
        for entry in fs::read_dir(place).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                places.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                let lines = text.lines().count();
                let code = text.lines().map(without_comment).collect::<Vec<_>>().join("\n");
                found.push(Source { path, code, lines });
            }
        }
    }
    assert!(!found.is_empty(), "{directory} is empty");
    found
}

/// Good enough for code that rustfmt has formatted: a comment has its own line, or a blank before it.
fn without_comment(line: &str) -> &str {
    match line.trim_start().starts_with("//") {
        true => "",
        false => line.split(" // ").next().unwrap_or(line),
    }
}

/// The folders of the library, in the order of lib.rs.
fn modules() -> Vec<String> {
    let library = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs");
    let text = fs::read_to_string(library).unwrap();
    let names = text.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';'));
    names.map(str::to_owned).collect()
}

/// The first part of every path that begins with `root::`, also of those in braces.
fn first_parts(code: &str, root: &str) -> Vec<String> {
    let root = format!("{root}::");
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let mut found = Vec::new();
    for (at, _) in code.match_indices(&root) {
        if code[..at].ends_with(is_word) {
            continue;
        }
        let rest = &code[at + root.len()..];
        let Some(group) = rest.strip_prefix('{') else {
            found.push(rest.chars().take_while(|&c| is_word(c)).collect());
            continue;
        };
        let mut depth = 0;
        let mut item = String::new();
        for character in group.chars() {
            match character {
                '}' if depth == 0 => break,
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' if depth == 0 => found.push(std::mem::take(&mut item)),
                _ if depth == 0 => item.push(character),
                _ => {}
            }
        }
        found.push(item);
    }
    let first = |item: &String| {
        item.trim().split("::").next().unwrap().split(' ').next().unwrap().to_owned()
    };
    found.iter().map(first).filter(|item| !item.is_empty()).collect()
}

/// The longest chain of `super::` in the code.
fn steps_up(code: &str) -> usize {
    (1..).take_while(|&steps| code.contains(&"super::".repeat(steps))).count()
}

fn words(code: &str) -> impl Iterator<Item = &str> {
    code.split(|c: char| !c.is_alphanumeric() && c != '_')
}

/// The helpers of this file find what they look for.
#[test]
fn instruments() {
    let code =
        "use crate::{a, b::{c, d::e},\n f as g};\ncrate::h::i(); other_crate::x; use super::y;";
    assert_eq!(first_parts(code, "crate"), ["a", "b", "f", "h"]);
    assert_eq!(without_comment("let x = 1; // unsafe"), "let x = 1;");
    assert_eq!(without_comment("    /// [`crate::z`]"), "");
    assert_eq!(steps_up("use super::super::y; use super::z;"), 2);
    assert_eq!(words("unsafe_code(unsafe{})").filter(|&word| word == "unsafe").count(), 1);
}

/// Few folders, each with one job.
#[test]
fn folders() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let programs = ["lib.rs", "main.rs", "bin"];
    let names = fs::read_dir(&source).unwrap().map(|entry| entry.unwrap().file_name());
    let names: Vec<_> = names.filter(|name| !programs.iter().any(|known| name == known)).collect();
    assert!(names.len() <= 14, "{names:?}");
    for folder in names.iter().map(|name| source.join(name)).filter(|path| path.is_dir()) {
        let text = fs::read_to_string(folder.join("mod.rs")).unwrap();
        assert!(text.starts_with("//! "), "{} says no job", folder.display());
    }
}

#[test]
fn folders_use_only_folders_above() {
    let order = modules();
    let place = |name: &str| order.iter().position(|module| module == name);
    let mut uses = 0;
    for source in sources("src") {
        let path = source.path.strip_prefix(env!("CARGO_MANIFEST_DIR")).unwrap();
        let top = path.components().nth(1).unwrap().as_os_str().to_str().unwrap();
        let module = top.strip_suffix(".rs").unwrap_or(top);
        let allowed: Box<dyn Fn(usize) -> bool> = match module {
            "lib" => continue,
            "main" => Box::new(|used| order[used] == "daemon"),
            "bin" => Box::new(|used| matches!(order[used].as_str(), "sys" | "net")),
            _ => {
                let own = place(module).unwrap_or_else(|| panic!("{module} is not in lib.rs"));
                Box::new(move |used| used <= own)
            }
        };
        // `super` must not lead to the root, past this test. The module of the tests is one step further below.
        let depth = path.components().skip(1).filter(|part| part.as_os_str() != "mod.rs").count();
        let (code, tests) =
            source.code.split_once("#[cfg(test)]\nmod tests {").unwrap_or((&source.code, ""));
        for (code, depth) in [(code, depth), (tests, depth + 1)] {
            assert!(steps_up(code) < depth, "{}: `super` leads to the root", path.display());
        }
        let root = if matches!(module, "main" | "bin") { "gitd" } else { "crate" };
        for used in first_parts(&source.code, root) {
            let index =
                place(&used).unwrap_or_else(|| panic!("{}: what is {used}?", path.display()));
            assert!(allowed(index), "{} uses {used}, which is not above it", path.display());
            uses += 1;
        }
    }
    assert!(uses > 10 * order.len(), "{uses} uses in {} folders", order.len());
}

#[test]
fn unsafe_code_stays_in_sys() {
    let count =
        |source: &Source, wanted| words(&source.code).filter(|&word| word == wanted).count();
    let mut blocks = 0;
    for source in sources("src") {
        let inside = source.path.components().any(|part| part.as_os_str() == "sys");
        if inside {
            blocks += count(&source, "unsafe");
        } else {
            assert_eq!(count(&source, "unsafe"), 0, "{}", source.path.display());
        }
        let permissions = usize::from(source.path.ends_with("src/lib.rs"));
        assert_eq!(count(&source, "unsafe_code"), permissions, "{}", source.path.display());
    }
    assert!(blocks > 0);
}

#[test]
fn files_are_short() {
    for source in sources("src").iter().chain(&sources("tests")) {
        assert!(source.lines <= 400, "{} has {} lines", source.path.display(), source.lines);
    }
}

#[test]
fn nothing_is_left_undone() {
    for source in sources("src") {
        for name in ["todo", "unimplemented", "dbg", "unreachable"] {
            let found = source.code.contains(&format!("{name}!("));
            assert!(!found, "{}: {name}", source.path.display());
        }
    }
}
