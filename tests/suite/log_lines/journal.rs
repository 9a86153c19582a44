//! A real journald, in a mount namespace of its own.

use std::process::Command;

use crate::support::process::{status, wait_until};
use crate::support::{Gitd, Scratch, needs_root, pkt, request, skip};

/// systemd's journal splits a line after 48 KiB and takes `<2>` at the beginning of the rest for a priority: a client could
/// write entries of its own.
#[test]
fn no_entry_of_a_clients_in_the_journal() {
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
