//! Repository formats and broken configuration: contract 49.

use std::fs;

use crate::support::scratch::config;
use crate::support::{Git, Implementation, Scratch, Stock, compliance, pkt};

compliance! {
    formats_that_are_refused,
    formats_that_are_served,
    every_hash_and_ref_storage,
}

/// Contract 49, 33, B6: what this git does not understand.
fn formats_that_are_refused(d: Implementation) {
    let scratch = Scratch::new();
    let repo = scratch.bare("repo.git");
    let core = "[core]\n\tbare = true\n";
    for informative in [false, true] {
        let daemon = d.serve(&scratch).args(informative.then_some("--informative-errors")).start();
        for (text, lines) in [
            (
                "\trepositoryformatversion = 999\n",
                &["fatal: Expected git repo version <= 1, found 999"][..],
            ),
            (
                "\trepositoryformatversion = 2\n",
                &["fatal: Expected git repo version <= 1, found 2"],
            ),
            (
                "\trepositoryformatversion = 1\n[extensions]\n\tbogus = true\n",
                &["fatal: unknown repository extension found:", "\tbogus"],
            ),
            (
                "\trepositoryformatversion = 1\n[extensions]\n\tbogus = true\n\tother = x\n",
                &["fatal: unknown repository extensions found:", "\tbogus", "\tother"],
            ),
            (
                "\trepositoryformatversion = x\n",
                &[
                    "fatal: bad numeric config value 'x' for 'core.repositoryformatversion' in file ./config: invalid unit",
                ],
            ),
            ("[broken\n", &["fatal: bad config line 3 in file ./config"]),
            ("\n\n\tkey value\n", &["fatal: bad config line 5 in file ./config"]),
            (
                "[include]\n\tpath = config\n",
                &["fatal: exceeded maximum include depth (10) while including"],
            ),
        ] {
            fs::write(repo.join("config"), format!("{core}{text}")).unwrap();
            let session = daemon.ask("upload-pack", "/repo.git");
            session.assert_died("/repo.git", informative);
            if d == Stock {
                for line in lines {
                    session.assert_line(line);
                }
            } else {
                assert!(session.log.len() > 4, "{:?}", session.log);
            }
        }
    }
}

/// Contract 49: what looks odd and is not.
fn formats_that_are_served(d: Implementation) {
    let scratch = Scratch::new();
    let repo = scratch.bare("repo.git");
    let daemon = d.serve(&scratch).start();
    for text in [
        "",
        "[core]\n\trepositoryformatversion = 0\n[extensions]\n\tbogus = true\n",
        "[core]\n\trepositoryformatversion = 1\n",
        "[core]\n\trepositoryformatversion = 1\n[extensions]\n\tnoop = true\n",
        "[core]\n\tbare = false\n",
        "[core]\n\tworktree = /nonexistent\n",
        "[include]\n\tpath = missing\n",
        "; nothing\n",
    ] {
        fs::write(repo.join("config"), text).unwrap();
        daemon.ask("upload-pack", "/repo.git").assert_served("repo.git");
    }
    fs::remove_file(repo.join("config")).unwrap();
    daemon.ask("upload-pack", "/repo.git").assert_served("repo.git");
    config(&repo, "");
}

/// Contract 49: SHA-256 and reftable, by every protocol.
fn every_hash_and_ref_storage(d: Implementation) {
    let scratch = Scratch::new();
    scratch.bare("sha1");
    scratch.sha256("sha256");
    if Git::version() >= (2, 45) {
        scratch.reftable("reftable");
    }
    let daemon = d.serve(&scratch).start();
    for name in ["sha1", "sha256", "reftable"] {
        if !scratch.path(name).exists() {
            continue;
        }
        for version in ["", "version=1", "version=2"] {
            let session =
                daemon.talk(pkt(format!("git-upload-pack /{name}\0host=x\0\0{version}\0")));
            match &session.verdict {
                crate::support::Verdict::Served(lines) => {
                    let shown = if version.is_empty() { "refs/heads/main" } else { version };
                    let found = lines.iter().any(|l| l.contains(&shown.replace('=', " ")));
                    assert!(found, "{name} {version}: {lines:?}");
                }
                other => panic!("{name} {version}: {other:?} {:?}", session.log),
            }
        }
    }
}
