//! Documents are tested: what they name exists, and what exists is named.

mod contract;
mod transcripts;

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::support::invocation::run;
use crate::support::skip;

/// Each difference has its paragraph in `docs/differences.md`, in order, with a reason and a test.
#[test]
fn differences() {
    let page = read("docs/differences.md");
    let paragraphs: Vec<_> = page.split("\n\n").filter(|text| text.starts_with("**B")).collect();
    assert_eq!(paragraphs.len(), 18);
    for (n, paragraph) in (1..).zip(paragraphs) {
        assert!(paragraph.starts_with(&format!("**B{n}: ")), "{paragraph}");
        assert!(paragraph.contains("*Why:*"), "no reason: {paragraph}");
        assert!(code(paragraph).any(is_test_name), "no test: {paragraph}");
    }
}

/// What a document calls a test is one.
#[test]
fn named_tests_exist() {
    let tests = tests();
    let mut count = 0;
    for document in documents() {
        let text = fs::read_to_string(&document).unwrap();
        for name in code(&text).filter(|name| is_test_name(name)) {
            let found = tests.contains(name) || tests.contains(&format!("{name}::gitd"));
            assert!(found, "{}: there is no test {name}", document.display());
            count += 1;
        }
    }
    assert!(count > 100, "{count}");
}

/// Each attack and each fault of `docs/security.md` has what both daemons do, and a test.
#[test]
fn attacks_and_faults() {
    let page = read("docs/security.md");
    let section = page.split("\n## ").find(|text| text.starts_with("Attacks and faults")).unwrap();
    let rows = section.lines().filter(|line| line.starts_with("| ") && !line.contains("tested by"));
    let mut count = 0;
    for row in rows {
        let cells: Vec<_> = row.trim_matches('|').split(" | ").map(str::trim).collect();
        assert!(cells.len() == 4 && cells.iter().all(|cell| !cell.is_empty()), "{row}");
        assert!(code(cells[3]).any(is_test_name), "no test: {row}");
        count += 1;
    }
    assert!(count > 25, "{count}");
}

/// Every option of the parser stands in the manual page, in README and in a test.
#[test]
fn options() {
    let (page, readme) = (read("docs/gitd.8"), read("README.md"));
    let (synopsis, rest) = page.split_once(".Sh DESCRIPTION").unwrap();
    let heads: String = rest.lines().filter(|line| line.starts_with(".It ")).collect();
    let (synopsis, heads) = (flags(synopsis), flags(&heads));
    let mut tests = rust_files("tests/suite");
    tests.retain(|file| !file.ends_with("documents.rs"));
    let mut tests: String = tests.iter().map(|file| fs::read_to_string(file).unwrap()).collect();
    tests.push_str(&read("src/config/options/tests.rs"));
    tests.push_str(&read("src/config/tests.rs"));
    let options = options_of_help();
    for (name, _) in &options {
        assert!(synopsis.contains(name.as_str()), "--{name} is not in the synopsis");
        assert!(heads.contains(name.as_str()), "--{name} is not in the manual page");
        assert!(readme.contains(&format!("`--{name}")), "--{name} is not in README");
        assert!(tests.contains(&format!("--{name}")), "--{name} is in no test");
    }
    let known: HashSet<_> = options.iter().map(|(name, _)| name.as_str()).collect();
    // The parser makes its usage of all that it takes; the text of --help could leave one out.
    let mut gitd = Command::new(env!("CARGO_BIN_EXE_gitd"));
    let usage = run(gitd.arg("--bogus").stdin(Stdio::null())).stderr;
    let taken: HashSet<_> = usage.split(" [--").skip(1).map(long_name).collect();
    assert!(taken.len() > 40, "{taken:?}");
    assert_eq!(known, taken);
    assert!(heads.is_subset(&known), "{:?} are no options", heads.difference(&known));
}

/// The manual page tells the defaults that `--help` tells.
#[test]
fn defaults() {
    let page = read("docs/gitd.8").replace('\n', " ");
    let items: Vec<_> = page.split(".It ").skip(1).collect();
    let mut count = 0;
    for (name, help) in options_of_help() {
        let Some((_, default)) = help.rsplit_once("(default") else { continue };
        let default = default.trim_start_matches(':').trim_end_matches(')');
        let value = default.trim().split([',', ';']).next().unwrap();
        // Of options that are told of together the last has the text.
        let at = items.iter().position(|item| flags(item).contains(name.as_str())).unwrap();
        let text = items[at..].iter().find(|item| item.contains(". ")).unwrap();
        assert!(text.contains("efault") && text.contains(value), "--{name}: {default} in {text}");
        count += 1;
    }
    assert!(count >= 10, "{count}");
}

/// The client's manual page and its `--help` tell the same.
#[test]
fn gitd_connect() {
    let page = read("docs/gitd-connect.1");
    let help = Command::new(env!("CARGO_BIN_EXE_gitd-connect")).arg("--help").output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    for word in [
        "git config --global core.gitProxy gitd-connect",
        "GIT_PROXY_COMMAND=gitd-connect git fetch",
        "GIT_ENABLE_MPTCP",
        "-help",
        "-version",
        "/etc/services",
    ] {
        assert!(help.contains(word), "--help has no {word}");
        assert!(page.contains(word), "the manual page has no {word}");
    }
}

/// Whether the pages that they refer to are installed is the machine's affair.
#[test]
fn manual_pages_are_well_formed() {
    if Command::new("mandoc").arg("-V").output().is_err() {
        return skip("needs the program mandoc");
    }
    for page in ["docs/gitd.8", "docs/gitd-connect.1"] {
        let mut mandoc = Command::new("mandoc");
        mandoc.args(["-T", "lint", "-W", "style"]).arg(path(page));
        let outcome = run(mandoc.stdin(Stdio::null()));
        let elsewhere = |line: &&str| line.contains("STYLE: referenced manual not found");
        let findings: Vec<_> = outcome.stdout.lines().filter(|line| !elsewhere(line)).collect();
        assert!(findings.is_empty(), "{findings:#?}");
        // 1 is for style; a page that cannot be read is no finding.
        assert!(matches!(outcome.code(), Some(0 | 1)), "{outcome:?}");
    }
}

/// What an administrator can do about delayed acknowledgements stands in the manual as in the guide.
#[test]
fn cures_for_delayed_acknowledgements() {
    for page in ["docs/gitd.8", "docs/mptcp.md", "docs/scaling.md"] {
        for cure in ["sysctl net.ipv4.tcp_pingpong_thresh=255", "quickack 1", "gitd-connect"] {
            assert!(read(page).contains(cure), "{page} has no {cure}");
        }
    }
}

/// README's commands are those that CI runs, on a fresh clone.
#[test]
fn commands_of_the_readme() {
    let (readme, script) = (read("README.md"), read(".ci/run"));
    let commands: Vec<_> = readme
        .lines()
        .filter(|line| line.starts_with("cargo ") || line.starts_with("git clone git://localhost"))
        .collect();
    assert_eq!(commands.len(), 3, "{commands:?}");
    for command in commands {
        assert!(script.contains(command), ".ci/run does not run {command}");
    }
}

/// Links between documents lead somewhere.
#[test]
fn links() {
    let mut count = 0;
    for document in documents() {
        let text = fs::read_to_string(&document).unwrap();
        for link in text.split("](").skip(1).map(|rest| rest.split(')').next().unwrap()) {
            let target = link.split('#').next().unwrap();
            if target.is_empty() || target.contains("://") {
                continue;
            }
            let place = document.parent().unwrap().join(target);
            assert!(place.exists(), "{}: {link} leads nowhere", document.display());
            count += 1;
        }
    }
    assert!(count > 10, "{count}");
}

/// Nothing in the documents belongs to one machine.
#[test]
fn no_places_of_this_machine() {
    let mut places = vec![env!("CARGO_MANIFEST_DIR").to_owned()];
    places.extend(std::env::var("HOME").ok().filter(|home| home.len() > 1));
    let pages = ["docs/gitd.8", "docs/gitd-connect.1", ".ci/run"].map(path);
    for document in documents().into_iter().chain(pages) {
        let text = fs::read_to_string(&document).unwrap();
        for place in &places {
            assert!(!text.contains(place.as_str()), "{}: {place}", document.display());
        }
    }
}

/// The changelog's latest entry is about this version.
#[test]
fn changelog() {
    let page = read("docs/CHANGELOG.md");
    let latest = page.lines().find_map(|line| line.strip_prefix("## [")).unwrap();
    assert_eq!(latest.split(']').next(), Some(env!("CARGO_PKG_VERSION")));
}

/// The table of folders has those of the crate, in their order, and each folder's files.
#[test]
fn folders() {
    let modules = |file: &str| -> Vec<String> {
        let text = read(file);
        let names = text.lines().filter_map(|line| {
            let line = line.strip_prefix("pub ").unwrap_or(line);
            line.strip_prefix("mod ")?.strip_suffix(';')
        });
        names.filter(|&name| name != "tests").map(str::to_owned).collect()
    };
    let page = read("docs/architecture.md");
    let rows: Vec<_> = page.lines().filter_map(|line| line.strip_prefix("| `")).collect();
    let folders = modules("src/lib.rs");
    assert_eq!(rows.iter().map(|row| row.split('`').next().unwrap()).collect::<Vec<_>>(), folders);
    for (folder, row) in folders.iter().zip(rows) {
        let file = format!("src/{folder}/mod.rs");
        if !path(&file).exists() {
            continue;
        }
        for module in modules(&file).iter().filter(|&module| !PARTS.contains(&module.as_str())) {
            assert!(row.contains(&format!("`{module}`")), "{folder}: no word of {module}");
        }
    }
}

/// Parts of the folder's own job.
const PARTS: [&str; 2] = ["daemon", "files"];

fn path(relative: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(relative)
}

fn read(relative: &str) -> String {
    fs::read_to_string(path(relative)).unwrap()
}

/// README and every page of `docs/`.
fn documents() -> Vec<PathBuf> {
    let pages = fs::read_dir(path("docs")).unwrap().map(|entry| entry.unwrap().path());
    let is_markdown = |page: &PathBuf| page.extension().is_some_and(|name| name == "md");
    pages.filter(is_markdown).chain([path("README.md")]).collect()
}

fn rust_files(directory: impl AsRef<Path>) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(directory)).unwrap() {
        let place = entry.unwrap().path();
        if place.is_dir() {
            files.extend(rust_files(place));
        } else {
            files.push(place);
        }
    }
    files
}

/// The names of this suite's tests.
fn tests() -> HashSet<String> {
    let output = Command::new(std::env::current_exe().unwrap()).arg("--list").output().unwrap();
    let list = String::from_utf8(output.stdout).unwrap();
    list.lines().filter_map(|line| line.strip_suffix(": test")).map(str::to_owned).collect()
}

/// What stands between backticks.
fn code(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// `module::test`, as the documents write it.
fn is_test_name(code: &str) -> bool {
    let part = |part: &str| {
        !part.is_empty()
            && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
    };
    code.contains("::") && !code.starts_with("std::") && code.split("::").all(part)
}

/// The long options of `gitd --help`, each with its text.
fn options_of_help() -> Vec<(String, String)> {
    let output = Command::new(env!("CARGO_BIN_EXE_gitd")).arg("--help").output().unwrap();
    let help = String::from_utf8(output.stdout).unwrap();
    let mut options: Vec<(String, String)> = Vec::new();
    for line in help.lines() {
        let text = line.trim_start().trim_start_matches("-h, ");
        match (text.strip_prefix("--"), options.last_mut()) {
            (Some(name), _) => options.push((long_name(name).to_owned(), text.to_owned())),
            // A long option has its text on the next line.
            (None, Some((_, last))) if line.starts_with("   ") => last.push_str(text),
            _ => {}
        }
    }
    options
}

/// The long options in a piece of a manual page: `Fl -name`.
fn flags(page: &str) -> HashSet<&str> {
    page.split("Fl -").skip(1).map(long_name).filter(|name| !name.is_empty()).collect()
}

fn long_name(text: &str) -> &str {
    text.split(|c: char| !c.is_ascii_lowercase() && c != '-').next().unwrap()
}
