//! docs/monitoring: alert rules and a dashboard.

use std::process::Command;

use serde_json::Value;

use super::{Site, document};
use crate::support::process::installed;
use crate::support::skip;

fn promtool(arguments: &[&str]) {
    let output = Command::new("promtool")
        .args(arguments)
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/monitoring"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{said}");
}

#[test]
fn alert_rules() {
    if installed("promtool").is_none() {
        return skip("needs the program promtool (Debian: prometheus)");
    }
    promtool(&["check", "rules", "alerts.yml"]);
    promtool(&["test", "rules", "alerts_test.yml"]);
    // Each alert has a test in which it fires.
    let (rules, tests) =
        (document("monitoring/alerts.yml"), document("monitoring/alerts_test.yml"));
    let names: Vec<_> = rules.lines().filter_map(|line| line.split("alert: ").nth(1)).collect();
    assert!(names.len() >= 6, "{names:?}");
    for name in names {
        assert!(tests.contains(&format!("alertname: {name}\n        exp_alerts:\n")), "{name}");
    }
}

/// Every metric that a rule or a panel asks for is there.
#[test]
fn known_metrics() {
    let site = Site::start();
    let text = site.get("/metrics").body;
    let mut count = 0;
    for file in ["monitoring/alerts.yml", "monitoring/dashboard.json"] {
        let file = document(file);
        let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        for name in file.split(|c| !is_word(c)) {
            if !(name.starts_with("gitd_") || name.starts_with("process_")) {
                continue;
            }
            assert!(
                text.lines().any(|line| {
                    line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']))
                }),
                "there is no {name}"
            );
            count += 1;
        }
    }
    assert!(count > 20, "{count}");
}

#[test]
fn dashboard() {
    let dashboard: Value = serde_json::from_str(&document("monitoring/dashboard.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    assert!(panels.len() >= 8, "{}", panels.len());
    for panel in panels {
        assert!(panel["title"].is_string() && panel["gridPos"]["w"].is_u64(), "{panel}");
        for target in panel["targets"].as_array().unwrap() {
            assert!(target["expr"].as_str().is_some_and(|query| !query.is_empty()), "{panel}");
        }
    }
}
