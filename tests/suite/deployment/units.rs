//! `docs/systemd/`: what systemd itself says of the units, without booting; the rest is in `trial.sh`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::package::succeed;
use crate::support::process::installed;
use crate::support::skip;

fn units() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/systemd")
}

#[test]
fn exposure() {
    if installed("systemd-analyze").is_none() {
        return skip("needs systemd-analyze");
    }
    for unit in ["gitd.service", "gitd-inetd@.service"] {
        let mut analyze = Command::new("systemd-analyze");
        analyze.args(["security", "--offline=yes", "--threshold=15", "--no-pager"]);
        let said = succeed(analyze.arg(units().join(unit)));
        let last = said.lines().last().unwrap();
        assert!(last.contains("Overall exposure level"), "{said}");
    }
}

/// Every setting stands below a comment, with no blank line between, or begins a section.
#[test]
fn every_setting_has_its_reason() {
    let mut count = 0;
    for entry in fs::read_dir(units()).unwrap() {
        let file = entry.unwrap().path();
        let text = fs::read_to_string(&file).unwrap();
        let mut reason = false;
        for line in text.lines() {
            match line {
                "" => reason = false,
                _ if line.starts_with("# ") => reason = true,
                // A section explains itself, and so does what it begins with: names, pages, dependencies.
                _ if line.starts_with('[') => reason = true,
                _ => {
                    assert!(reason, "{}: {line} has no reason", file.display());
                    count += 1;
                }
            }
        }
    }
    assert!(count > 60, "{count}");
}

/// What confines the service for one client is what confines the service for all.
#[test]
fn both_services_are_confined_alike() {
    let confinement = |unit: &str| {
        let text = fs::read_to_string(units().join(unit)).unwrap();
        let text = text
            .split_once("User=gitd")
            .unwrap()
            .1
            .replace("\n\n[Install]\nWantedBy=multi-user.target", "");
        let settings = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
        settings
            .filter(|line| *line != "RuntimeDirectory=gitd")
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    assert_eq!(confinement("gitd.service"), confinement("gitd-inetd@.service"));
}
