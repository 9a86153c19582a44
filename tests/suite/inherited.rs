//! What the programs that gitd starts inherit beside what is meant for them: none of the descriptors that gitd's own caller
//! left open, and the limit of open files that gitd was started with, not the one that it has raised for itself.

use std::fs;
use std::path::PathBuf;

use crate::support::scratch::config;
use crate::support::{Daemon, Git, Gitd, Scratch};

/// All that gitd starts for a request: its questions, the hook and the service.
const PROGRAMS: [&str; 3] = ["git config", "hook upload-pack", "git upload-pack"];

/// Programs that note what they have inherited.
struct Witnesses {
    scratch: Scratch,
    seen: PathBuf,
}

impl Witnesses {
    fn new() -> Self {
        let scratch = Scratch::new();
        let repository = scratch.bare("repo.git");
        // Makes gitd ask git.
        config(&repository, "[daemon] uploadpack = true\n");
        let seen = scratch.root().join("seen");
        // A shell keeps its own descriptors above nine.
        let note = format!(
            "#!/bin/sh\nopen=\nfor fd in 3 4 5 6 7 8 9; do\n\
             [ ! -e /proc/$$/fd/$fd ] || open=\"$open $fd\"\ndone\n\
             echo \"${{0##*/}} $1: limit $(ulimit -Sn) $(ulimit -Hn), open$open\" >>{}\n",
            seen.display()
        );
        scratch.script("hook", &note);
        let real = Git::program().display();
        scratch.script("fake/git", &format!("{note}exec {real} \"$@\"\n"));
        Self { scratch, seen }
    }

    /// Starts gitd after these lines of shell.
    fn start(&self, lines: &[&str]) -> Daemon {
        let root = self.scratch.root();
        let invocation = Gitd
            .serve(&self.scratch)
            .path_first(&root.join("fake"))
            .option("--access-hook", root.join("hook"));
        lines.iter().fold(invocation, |before, &line| before.shell(line)).start()
    }

    /// Serves one request; what each of [`PROGRAMS`] has noted.
    fn of_one_request(&self, daemon: &Daemon) -> [String; 3] {
        daemon.ask("upload-pack", "/repo.git").assert_served("repo.git");
        let seen = fs::read_to_string(&self.seen).unwrap();
        PROGRAMS.map(|program| {
            let mut notes = seen.lines().filter_map(|line| line.strip_prefix(program));
            notes.next().unwrap_or_else(|| panic!("no {program} in {seen}")).to_owned()
        })
    }
}

/// The lowest are what a careless caller leaves open most often.
#[test]
fn no_descriptor_of_the_caller() {
    let witnesses = Witnesses::new();
    let daemon = witnesses.start(&["exec 3</dev/null 4</dev/null 9</dev/null"]);
    for (program, note) in PROGRAMS.into_iter().zip(witnesses.of_one_request(&daemon)) {
        assert!(note.ends_with(", open"), "{program}{note}");
    }
}

#[test]
fn the_callers_limit_of_open_files() {
    let witnesses = Witnesses::new();
    let daemon = witnesses.start(&["ulimit -Sn 300", "ulimit -Hn 4000"]);
    let limits = fs::read_to_string(format!("/proc/{}/limits", daemon.pid())).unwrap();
    let own = limits.lines().find_map(|line| line.strip_prefix("Max open files")).unwrap();
    let own: Vec<_> = own.split_whitespace().take(2).collect();
    assert_eq!(own, ["4000", "4000"], "gitd raises its own");
    // What gitd asks git is a part of its own work, and may have gitd's own limit.
    for (program, note) in PROGRAMS.into_iter().zip(witnesses.of_one_request(&daemon)).skip(1) {
        assert!(note.starts_with(": limit 300 4000, "), "{program}{note}");
    }
}
