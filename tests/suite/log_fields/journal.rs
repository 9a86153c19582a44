//! `--log-format=journal`.

use std::process::Command;

use serde_json::Value;

use super::{good_request, restored, start};
use crate::log_lines::hostile;
use crate::support::process::wait_until;
use crate::support::{Gitd, Invocation, Scratch, needs_root, pkt, skip};

const JOURNALD: &str = "/usr/lib/systemd/systemd-journald";

/// In a mount namespace with a journal of its own.
fn with_journal(invocation: Invocation) -> Invocation {
    invocation
        .namespace("--mount")
        .shell("mount -t tmpfs run /run; mount -t tmpfs log /var/log")
        .shell("mkdir -p /run/log/journal /run/systemd/journal /run/systemd/journald.conf.d")
        .shell("printf '[Journal]\\nReadKMsg=no\\nAudit=no\\n' >/run/systemd/journald.conf.d/test.conf")
        .shell(format!("{JOURNALD} >/dev/null 2>&1 &"))
        .shell("until [ -S /run/systemd/journal/socket ]; do sleep 0.02; done")
}

/// The journal has the fields that JSON has, and a client can neither add one nor end an entry.
#[test]
fn fields_in_the_journal() {
    needs_root!();
    if !std::path::Path::new(JOURNALD).exists() {
        return skip("needs systemd-journald");
    }
    let scratch = Scratch::new();
    scratch.bare("repo.git");
    let daemon = start(with_journal(Gitd.serve(&scratch)), "journal");
    let mut clients = 0;
    let path = b"/a\nGITD_CLIENT=192.0.2.66\n\nMESSAGE=forged\\\xff";
    for bytes in hostile()
        .into_iter()
        .chain([pkt([b"git-upload-pack ".as_slice(), path].concat()), good_request("/repo.git")])
    {
        let mut client = daemon.connect();
        client.send(bytes);
        client.half_close();
        client.rest();
        clients += 1;
    }
    let mut entries: Vec<Value> = Vec::new();
    wait_until("the journal has all", || {
        let output = Command::new("nsenter")
            .arg(format!("--mount=/proc/{}/ns/mnt", daemon.pid()))
            .args(["journalctl", "--directory=/run/log/journal", "-q", "-a", "-o", "json"])
            .args(["-t", "gitd", "GITD_EVENT=closed"])
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        entries = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        entries.len() >= clients
    });
    assert_eq!(entries.len(), clients);
    for entry in &entries {
        assert_eq!(entry["GITD_CLIENT"], "127.0.0.1");
        assert_eq!(entry["PRIORITY"], "6");
        assert_eq!(entry["_PID"], daemon.pid().to_string());
        assert!(entry["MESSAGE"].as_str().unwrap().contains("Disconnected"));
        assert!(entry["GITD_DURATION"].as_str().unwrap().parse::<f64>().is_ok());
    }
    let shown = entries.iter().filter_map(|entry| entry["GITD_REPOSITORY"].as_str());
    let mut whole = shown.filter(|shown| !shown.contains("\\...("));
    assert!(whole.any(|shown| restored(shown) == path));
    let served = entries.iter().find(|entry| entry["GITD_OUTCOME"] == "served").unwrap();
    assert_eq!(served["GITD_REPOSITORY"], "/repo.git");
    assert_eq!(served["GITD_EXIT_STATUS"], "0");
    assert_eq!(served["GITD_TRANSPORT"], "tcp");
    assert!(daemon.log.raw(0).is_empty());
}

/// Without a journal nothing is logged elsewhere in secret: gitd does not start.
#[test]
fn no_journal() {
    let scratch = Scratch::new();
    let invocation = Gitd.serve(&scratch).namespace("--mount").shell("mount -t tmpfs run /run");
    let outcome = invocation.arg("--log-format=journal").run_as_server();
    assert_eq!(outcome.code(), Some(128));
    assert_eq!(outcome.log(), ["fatal: cannot log to the journal: No such file or directory"]);
}
