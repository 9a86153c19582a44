//! What readers make of gitd's lines: syslog, which cuts them, and systemd's journal, which splits them.

use std::process::Command;

use crate::log_lines::hostile;
use crate::support::process::{status, wait_until};
use crate::support::syslog::Syslog;
use crate::support::{Gitd, Scratch, needs_root, pkt, request, skip};

/// Contract 20: a message to syslog is one datagram with at most 1023 bytes of text. Of one that is too long the middle is
/// left out, so that the end tells which client it was.
#[test]
fn a_long_line_in_syslog() {
    let scratch = Scratch::new();
    scratch.bare("repo.git");
    let syslog = Syslog::new(&scratch);
    let fake = scratch.fake_git("printf '%03000d\\n' 0 >&2\nprintf 0000\n");
    let daemon = syslog.of(Gitd.serve(&scratch).path_first(&fake)).arg("--syslog").start();
    let mut clients = Vec::new();
    for bytes in hostile().into_iter().chain([request("upload-pack", "/repo.git")]) {
        let mut client = daemon.connect();
        client.send(bytes);
        clients.push(client.address().to_string());
        client.rest();
    }
    let mut messages = Vec::new();
    wait_until("all connections have ended", || {
        messages.extend(syslog.so_far());
        messages
            .iter()
            .filter(|text| text.contains(": Disconnected") || text.contains("] Disconnected"))
            .count()
            >= clients.len()
    });
    let mut whole = 0;
    for message in &messages {
        let (tag, text) = message.split_once("]: ").unwrap();
        assert!(tag.contains(" git-daemon["), "{message}");
        assert!(
            text.len() <= 1023 && !text.trim_end().chars().any(char::is_control),
            "{message:?}"
        );
        whole += text.strip_prefix("upload-pack: ").map_or(0, |text| text.matches('0').count());
    }
    // Two requests have been served, and three pieces are whole messages.
    assert_eq!(whole, 2 * 3000, "{messages:#?}");
    let refused = messages.iter().find(|text| text.contains(": aliased")).unwrap();
    assert!(
        refused.trim_end().ends_with(')') && clients.iter().any(|c| refused.contains(c)),
        "{refused}"
    );
}

/// systemd's journal splits a line after 48 KiB and takes `<2>` at the beginning of the rest for a priority: a client could
/// write entries of its own.
#[test]
fn a_client_makes_no_journal_entry() {
    needs_root!();
    const JOURNALD: &str = "/usr/lib/systemd/systemd-journald";
    if !std::path::Path::new(JOURNALD).exists() {
        return skip("needs systemd-journald");
    }
    let scratch = Scratch::new();
    scratch.bare("repo.git");
    let fake = scratch.fake_git(
        "i=0; while [ $i -lt 20000 ]; do printf '<2>'; i=$((i+1)); done >&2\nprintf 0000\n",
    );
    let daemon = Gitd
        .serve(&scratch)
        .path_first(&fake)
        .quiet()
        .arg("--verbose")
        .namespace("--mount")
        .shell("mount -t tmpfs run /run; mount -t tmpfs log /var/log; mkdir -p /run/log/journal /run/systemd/journal")
        .shell("mkdir -p /run/systemd/journald.conf.d")
        // What the machine's kernel says is none of this one's business.
        .shell("printf '[Journal]\\nReadKMsg=no\\nAudit=no\\n' >/run/systemd/journald.conf.d/test.conf")
        .shell(format!("{JOURNALD} >/dev/null 2>&1 &"))
        .shell("until [ -S /run/systemd/journal/stdout ]; do sleep 0.02; done")
        .shell("server='JOURNAL_STREAM=$(stat -L -c %d:%i /proc/self/fd/2) exec \"$@\"'")
        .shell("set -- systemd-cat -t gitd --level-prefix=1 sh -c \"$server\" sh \"$@\"")
        .start();
    for shift in 0..3 {
        let text = "<2>".repeat(21_000);
        let path = format!("/{}{text}", "x".repeat(shift));
        for bytes in [
            pkt(format!("git-upload-pack {path}")),
            pkt(format!("git-upload-pack /x\0host={path}\0")),
            request("upload-pack", "/repo.git"),
        ] {
            let mut client = daemon.connect();
            client.send(bytes);
            client.rest();
        }
    }
    let mut client = daemon.connect();
    client.send(request("upload-pack", "/the-last"));
    client.rest();
    let mut entries = String::new();
    wait_until("the journal has all", || {
        let output = Command::new("nsenter")
            .arg(format!("--mount=/proc/{}/ns/mnt", daemon.pid()))
            .args([
                "journalctl",
                "--directory=/run/log/journal",
                "-q",
                "-t",
                "gitd",
                "-o",
                "json",
                "-a",
            ])
            .args(["--output-fields=PRIORITY,MESSAGE,_LINE_BREAK"])
            .output()
            .unwrap();
        entries = String::from_utf8(output.stdout).unwrap();
        entries.contains("'/the-last'")
    });
    assert!(entries.lines().count() > 20, "{entries}");
    for entry in entries.lines() {
        assert!(!entry.contains("\"PRIORITY\":\"2\""), "{entry}");
        assert!(!entry.contains("\"_LINE_BREAK\""), "{entry}");
        // gitd's own have been understood and taken off.
        assert!(entry.contains("\"MESSAGE\":\"["), "{entry}");
    }
    assert!(entries.contains("\"PRIORITY\":\"6\"") && entries.contains("\"PRIORITY\":\"3\""));
    assert!(status(daemon.pid(), "Name").is_some());
}
