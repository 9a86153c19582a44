//! Linked working trees: a git directory of their own, and the rest in the common one; contract 37, 45, 52 and 54.

use std::fs;
use std::path::PathBuf;

use crate::support::scratch::{config, export};
use crate::support::{GENERIC, Git, Implementation, Scratch, Verdict, compliance, needs_root};

compliance! {
    exported_on_its_own,
    common_directory_that_is_missing,
    configuration_of_the_common_directory,
    configuration_of_its_own,
    foreign_owner,
    format_of_the_common_directory,
}

/// `/tree` and a working tree `/wt` of it; returns both git directories.
fn worktree(scratch: &Scratch) -> (PathBuf, PathBuf) {
    let tree = scratch.non_bare("tree");
    let place = scratch.path("wt");
    Git::of_server(scratch)
        .arg("-C")
        .arg(&tree)
        .args(["worktree", "add", "--detach", "-q"])
        .arg(&place)
        .ok();
    (tree.join(".git"), tree.join(".git/worktrees/wt"))
}

/// Contract 54: what is exported is the git directory that was asked for.
fn exported_on_its_own(d: Implementation) {
    let scratch = Scratch::new();
    let (common, own) = worktree(&scratch);
    let daemon = d.invoke(&scratch).base_path().arg("--informative-errors").start();
    export(&common);
    daemon.ask("upload-pack", "/tree").assert_served("tree");
    daemon.ask("upload-pack", "/wt").assert_refused("repository not exported: /wt");
    export(&own);
    daemon.ask("upload-pack", "/wt").assert_served("tree");
}

/// Contract 37, 39: without the common directory it is no git directory, and the search goes on; where more than the last
/// part of its path is missing, git looks no further.
fn common_directory_that_is_missing(d: Implementation) {
    let scratch = Scratch::new();
    let around = scratch.bare("around.git");
    fs::rename(scratch.bare("inside.git"), around.join(".git")).unwrap();
    let commondir = around.join(".git/commondir");
    let daemon = d.serve(&scratch).start();
    fs::write(&commondir, "none\n").unwrap();
    daemon.ask("upload-pack", "/around.git").assert_served("around.git");
    fs::write(&commondir, "none/at/all\n").unwrap();
    let session = daemon.ask("upload-pack", "/around.git");
    assert!(!matches!(session.verdict, Verdict::Served(_)), "{session:#?}");
}

/// Contract 52: `daemon.<service>` stands in the common directory's config.
fn configuration_of_the_common_directory(d: Implementation) {
    let scratch = Scratch::new();
    let (common, _) = worktree(&scratch);
    config(&common, "[daemon] uploadpack = false\n receivepack = true\n");
    let daemon = d.serve(&scratch).start();
    for pathname in ["/tree", "/wt"] {
        daemon.ask("upload-pack", pathname).assert_refused(&format!("{GENERIC}: {pathname}"));
        daemon.ask("receive-pack", pathname).assert_served("tree");
    }
}

/// Contract 52: or, where the repository has asked for it, in config.worktree.
fn configuration_of_its_own(d: Implementation) {
    for extension in [false, true] {
        let scratch = Scratch::new();
        let (common, own) = worktree(&scratch);
        if extension {
            config(&common, "[extensions] worktreeConfig = true\n");
        }
        fs::write(own.join("config.worktree"), "[daemon] uploadpack = false\n").unwrap();
        let daemon = d.serve(&scratch).start();
        daemon.ask("upload-pack", "/tree").assert_served("tree");
        let session = daemon.ask("upload-pack", "/wt");
        if extension {
            session.assert_refused(&format!("{GENERIC}: /wt"));
        } else {
            session.assert_served("tree");
        }
    }
}

/// Contract 45: the gitfile and the git directory behind it count, the common one does not.
fn foreign_owner(d: Implementation) {
    needs_root!();
    for (name, served) in [("common", true), ("own", false), ("file", false)] {
        let scratch = Scratch::new();
        let (common, own) = worktree(&scratch);
        let chosen = match name {
            "common" => common,
            "own" => own,
            _ => scratch.path("wt/.git"),
        };
        std::os::unix::fs::lchown(&chosen, Some(31_002), Some(31_002)).unwrap();
        let daemon = d.serve(&scratch).start();
        let session = daemon.ask("upload-pack", "/wt");
        if served {
            session.assert_served("tree");
        } else {
            session.assert_died("/wt", false);
        }
    }
}

/// Contract 49: the format is the common directory's.
fn format_of_the_common_directory(d: Implementation) {
    let scratch = Scratch::new();
    let (common, _) = worktree(&scratch);
    config(&common, "[core] repositoryformatversion = 999\n");
    let daemon = d.serve(&scratch).start();
    daemon.ask("upload-pack", "/wt").assert_died("/wt", false);
}
