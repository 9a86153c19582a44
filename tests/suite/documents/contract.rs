//! docs/contract.md: each item has a test, and each number that the code refers to is an item.

use std::collections::HashSet;
use std::fs;

use super::{code, documents, is_test_name, read, rust_files, tests};

/// The paragraphs of the page that begin with a number: `**12.** …`.
fn items(page: &str) -> Vec<(&str, &str)> {
    let item = |text| str::strip_prefix(text, "**")?.split_once(".** ");
    page.split("\n\n").filter_map(item).collect()
}

/// All items are there, in order, and each names a test.
#[test]
fn each_item_has_a_test() {
    let page = read("docs/contract.md");
    let items = items(&page);
    let numbers = (1..=63).map(|n| n.to_string());
    let expected: Vec<_> = numbers.chain((1..=18).map(|n| format!("B{n}"))).collect();
    let labels: Vec<_> = items.iter().map(|(label, _)| *label).collect();
    assert_eq!(labels, expected);
    for (label, text) in items {
        assert!(code(text).any(is_test_name), "item {label} has no test");
    }
}

/// A test runs on both daemons, as `…::stock` and as `…::gitd`, unless it has its mark.
#[test]
fn each_test_exists() {
    let (tests, page) = (tests(), read("docs/contract.md"));
    let parts: Vec<_> = page.split('`').collect();
    let mut count = 0;
    for pair in parts.windows(2).skip(1).step_by(2).filter(|pair| is_test_name(pair[0])) {
        let name = pair[0];
        let kinds: &[_] = if pair[1].starts_with('°') { &[""] } else { &["::stock", "::gitd"] };
        for kind in kinds {
            assert!(tests.contains(&format!("{name}{kind}")), "there is no test {name}{kind}");
        }
        count += 1;
    }
    assert!(count > 200, "{count}");
}

/// What the code and the documents call `contract 12` or `B3` is an item.
#[test]
fn each_reference_is_an_item() {
    let page = read("docs/contract.md");
    let labels: HashSet<_> = items(&page).into_iter().map(|(label, _)| label.to_owned()).collect();
    let mut files = [rust_files("src"), rust_files("tests"), documents()].concat();
    files.retain(|file| file.extension().is_some_and(|kind| kind == "rs" || kind == "md"));
    let mut count = 0;
    for file in files {
        let text = joined(&fs::read_to_string(&file).unwrap());
        let numbers = text.split("ontract ").skip(1).flat_map(numbers);
        let differences = text.split(|c: char| !c.is_alphanumeric() && c != '_');
        let differences = differences.filter(|word| is_difference(word)).map(str::to_owned);
        for label in numbers.chain(differences) {
            assert!(labels.contains(&label), "{}: {label} is no item", file.display());
            count += 1;
        }
    }
    assert!(count > 400, "{count}");
}

/// A text in one line, without the marks of comments.
fn joined(text: &str) -> String {
    let lines = text.lines().map(|line| line.trim_start().trim_start_matches(['/', '!']).trim());
    lines.collect::<Vec<_>>().join(" ")
}

/// The numbers at the start of a text: `31 (2) and (3), 35 to 37, B1: …`. In parentheses stand the steps of an item.
fn numbers(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for word in text.split(' ') {
        let bare = word.trim_matches(|c: char| c.is_ascii_punctuation());
        let is_number = bare.parse::<u32>().is_ok();
        if is_number && !word.starts_with('(') {
            found.push(bare.to_owned());
        } else if !is_number && !["and", "to"].contains(&bare) && !is_difference(bare) {
            break;
        }
        if !word.starts_with('(') && word.contains([')', '.', ':', ';']) {
            break;
        }
    }
    found
}

fn is_difference(word: &str) -> bool {
    word.strip_prefix('B').is_some_and(|n| n.parse::<u32>().is_ok())
}

#[test]
fn numbers_of_references() {
    for (text, expected) in [
        ("31 (2) and (3), 32: the path", &["31", "32"][..]),
        ("35 to 44).", &["35", "44"]),
        ("37, 45, 52 and 54. 7 more", &["37", "45", "52", "54"]),
        ("51, B16: 3 more", &["51"]),
        ("40, B18). 3", &["40"]),
        ("first.", &[]),
    ] {
        assert_eq!(numbers(text), expected, "{text}");
    }
    assert_eq!(joined("/// (contract\n    //! 45 to 47)"), "(contract 45 to 47)");
}
