//! Documents are tested: what they name exists.

use std::collections::HashSet;
use std::path::Path;
use std::process::Command;

/// `docs/contract-tests.md` has every item and every difference, and names no test that is not there.
#[test]
fn contract_tests() {
    let output = Command::new(std::env::current_exe().unwrap()).arg("--list").output().unwrap();
    let list = String::from_utf8(output.stdout).unwrap();
    let tests: HashSet<_> = list.lines().filter_map(|line| line.strip_suffix(": test")).collect();
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/contract-tests.md");
    let page = std::fs::read_to_string(page).unwrap();
    let mut rows = Vec::new();
    for line in page.lines() {
        if let Some((item, _)) = line.strip_prefix("| ").and_then(|line| line.split_once(" |")) {
            rows.push(item);
        }
        let parts: Vec<_> = line.split('`').collect();
        for (i, name) in parts.iter().enumerate().filter(|(i, _)| i % 2 == 1) {
            if !name.contains("::") || name.starts_with('…') {
                continue;
            }
            let alone = parts[i + 1].starts_with('°') || *name == "documents::contract_tests";
            let names = if alone {
                vec![(*name).to_owned()]
            } else {
                vec![format!("{name}::stock"), format!("{name}::gitd")]
            };
            for name in names {
                assert!(tests.contains(name.as_str()), "there is no test {name}");
            }
        }
    }
    let items = (1..=63).map(|n| n.to_string());
    let differences = (1..=18).map(|n| format!("B{n}"));
    let expected: Vec<_> = items.chain(differences).collect();
    assert_eq!(rows[1..], expected);
}
