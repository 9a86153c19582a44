//! --strict-paths: contract 44.

use std::fs;

use crate::ownership::OTHER;
use crate::support::scratch::{chown, config};
use crate::support::{
    GENERIC, Gitd, Implementation, Scratch, Stock, Verdict, compliance, needs_root,
};

compliance! {
    exact_match,
    relaxed_past_a_foreign_directory,
    nothing_there,
    gitfiles,
    formats_around_another,
}

/// Contract 44: no suffixes, no `~`, and the list names each path exactly.
fn exact_match(d: Implementation) {
    let scratch = Scratch::new();
    let bare = scratch.bare("bare.git");
    let tree = scratch.non_bare("tree");
    scratch.bare("dir/unlisted.git");
    let daemon = d
        .serve(&scratch)
        .args(["--strict-paths", "--informative-errors", "--user-path"])
        .directory(&bare)
        .directory(tree.join(".git"))
        .directory(format!("{}/", scratch.path("slash.git").display()))
        .directory(scratch.path("dir"))
        .start();
    scratch.bare("slash.git");
    daemon.ask("upload-pack", "/bare.git").assert_served("bare.git");
    daemon.ask("upload-pack", "/tree/.git").assert_served("tree");
    daemon.ask("upload-pack", "/slash.git/").assert_served("slash.git");
    for (pathname, path, reason) in [
        ("/dir/unlisted.git", "dir/unlisted.git", "not in directory list"),
        ("/slash.git", "slash.git", "not in directory list"),
        ("/bare.git/", "bare.git/", "not in directory list"),
        ("/tree", "tree", "does not appear to be a git repository"),
        ("/dir", "dir", "does not appear to be a git repository"),
    ] {
        let session = daemon.ask("upload-pack", pathname);
        session.assert_refused(&format!("no such repository: {pathname}"));
        let path = scratch.path(path);
        let separator = if reason.starts_with("not") { ":" } else { "" };
        session.assert_line(&format!("'{}'{separator} {reason}", path.display()));
    }
}

/// Contract 44, B15: a path that does not exist.
fn nothing_there(d: Implementation) {
    let scratch = Scratch::new();
    let bare = scratch.bare("bare.git");
    for informative in [false, true] {
        let daemon = d
            .serve(&scratch)
            .args(["--strict-paths", "--user-path"])
            .args(informative.then_some("--informative-errors"))
            .directory(&bare)
            .start();
        let base = scratch.repos().display().to_string();
        for (pathname, path) in [
            ("/bare", format!("{base}/bare")),
            ("/nothing", format!("{base}/nothing")),
            ("~root/x", "~root/x".to_owned()),
        ] {
            let session = daemon.ask("upload-pack", pathname);
            match d {
                Stock => {
                    session.assert_silent();
                    session.assert_line(&format!(
                        "fatal: detected dubious ownership in repository at '{path}'"
                    ));
                }
                Gitd => {
                    let reason = if informative { "no such repository" } else { GENERIC };
                    session.assert_refused(&format!("{reason}: {pathname}"));
                    session
                        .assert_line(&format!("'{path}' does not appear to be a git repository"));
                }
            }
        }
    }
}

/// Contract 41, 44: whose it is comes before what it is, so another user's directory ends the search, also where the base
/// path is relaxed; one of ours that is no repository does not.
fn relaxed_past_a_foreign_directory(d: Implementation) {
    needs_root!();
    let scratch = Scratch::new();
    let repo = scratch.bare("repo.git");
    let pathname = repo.to_str().unwrap();
    let base = scratch.directory("base");
    let first = base.join(&pathname[1..]);
    fs::create_dir_all(&first).unwrap();
    let ask = || {
        let options = ["--strict-paths", "--base-path-relaxed", "--export-all"];
        let daemon = d.invoke(&scratch).args(options).option("--base-path", &base);
        let daemon = daemon.directory(&repo).start();
        daemon.ask("upload-pack", pathname)
    };
    ask().assert_served("repo.git");
    chown(&first, OTHER);
    let session = ask();
    assert!(!matches!(session.verdict, Verdict::Served(_)), "{session:#?}");
}

/// Contract 44: a gitfile is followed, and then the list must name its target.
fn gitfiles(d: Implementation) {
    let scratch = Scratch::new();
    let bare = scratch.bare("bare.git");
    let gitfile = scratch.gitfile("file", &bare);
    let link = scratch.symlink("link", &bare);
    let strict = || d.serve(&scratch).arg("--strict-paths");
    let daemon = strict().directory(&bare).start();
    daemon.ask("upload-pack", "/file").assert_served("bare.git");
    daemon.ask("upload-pack", "/link").assert_refused(&format!("{GENERIC}: /link"));
    let daemon = strict().directory(gitfile).directory(link).start();
    daemon.ask("upload-pack", "/link").assert_served("bare.git");
    let session = daemon.ask("upload-pack", "/file");
    session.assert_refused(&format!("{GENERIC}: /file"));
    session.assert_line(&format!("'{}': not in directory list", bare.display()));
}

/// Contract 44, 49: receive-pack enters what is called `.git` inside, and does not look at the repository around it.
fn formats_around_another(d: Implementation) {
    let scratch = Scratch::new();
    let around = scratch.bare("around.git");
    fs::rename(scratch.bare("inside.git"), around.join(".git")).unwrap();
    let text = fs::read_to_string(around.join("config")).unwrap();
    let options = ["--strict-paths", "--enable=receive-pack"];
    let daemon = d.serve(&scratch).args(options).directory(&around).start();
    for broken in ["[core] repositoryformatversion = 999\n", "[broken\n"] {
        config(&around, broken);
        for service in ["upload-pack", "receive-pack"] {
            daemon.ask(service, "/around.git").assert_died("/around.git", false);
        }
        fs::write(around.join("config"), &text).unwrap();
        daemon.ask("receive-pack", "/around.git").assert_served("inside.git");
    }
}
