//! --user-path: contract 43.

use crate::support::scratch::label_of;
use crate::support::{Implementation, Invocation, Scratch, compliance};

compliance! {
    not_allowed,
    home_directories,
    below_a_name,
    nobody_of_that_name,
    home_of_the_daemon,
    list,
    before_the_base_path,
}

/// A server on which alice has a home with repositories in it.
fn server(d: Implementation, scratch: &Scratch) -> Invocation {
    scratch.bare("alice/repo.git");
    scratch.bare("alice/pub/repo.git");
    scratch.non_bare("alice/tree");
    let home = scratch.path("alice");
    let passwd = format!(
        "root:x:0:0::/root:/bin/sh\nalice:x:31001:31001::{}:/bin/sh\nnohome:x:31003:31003::/nonexistent:/bin/sh\n",
        home.display()
    );
    d.invoke(scratch)
        .args(["--export-all", "--informative-errors"])
        .etc("passwd", &passwd)
        .etc("nsswitch.conf", "passwd: files\ngroup: files\nhosts: files\n")
}

/// Contract 43: closed unless opened.
fn not_allowed(d: Implementation) {
    let scratch = Scratch::new();
    let daemon = server(d, &scratch).base_path().start();
    for pathname in ["~alice/repo", "~alice", "~x"] {
        let session = daemon.ask("upload-pack", pathname);
        session.assert_refused(&format!("no such repository: {pathname}"));
        session.assert_line(&format!("'{pathname}': User-path not allowed"));
    }
}

/// Contract 43: the home itself.
fn home_directories(d: Implementation) {
    for option in ["--user-path", "--user-path="] {
        let scratch = Scratch::new();
        let daemon = server(d, &scratch).arg(option).start();
        for (pathname, repository) in [
            ("~alice/repo", "alice/repo.git"),
            ("~alice/repo.git", "alice/repo.git"),
            ("~alice/pub/repo", "alice/pub/repo.git"),
            ("~alice/tree", "alice/tree"),
        ] {
            let session = daemon.ask("upload-pack", pathname);
            session.assert_served(repository);
            session.assert_logged(&[
                "Extended attribute \"host\": localhost",
                &format!("Request upload-pack for '{pathname}'"),
            ]);
        }
        let session = daemon.ask("upload-pack", "~alice");
        session.assert_refused("no such repository: ~alice");
        session.assert_line("'~alice' does not appear to be a git repository");
    }
}

/// Contract 43, 18: a directory below the home, and the line that says so.
fn below_a_name(d: Implementation) {
    let scratch = Scratch::new();
    let daemon = server(d, &scratch).arg("--user-path=pub").start();
    let session = daemon.ask("upload-pack", "~alice/repo");
    session.assert_served("alice/pub/repo.git");
    session.assert_logged(&[
        "Extended attribute \"host\": localhost",
        "Request upload-pack for '~alice/repo'",
        "userpath <pub>, request <~alice/repo>, namlen 6, restlen 5, slash </repo>",
    ]);
    let session = daemon.ask("upload-pack", "~alice");
    session.assert_refused("no such repository: ~alice");
    session.assert_line("'~alice/pub' does not appear to be a git repository");
    daemon.ask("upload-pack", "~alice/tree").assert_refused("no such repository: ~alice/tree");
    assert_eq!(label_of("alice/tree"), "refs/heads/is-alice-tree");
}

/// Contract 43: no such user, or one without a home.
fn nobody_of_that_name(d: Implementation) {
    let scratch = Scratch::new();
    let daemon = server(d, &scratch).arg("--user-path").start();
    for pathname in ["~nosuch/repo", "~nohome/repo", "~alic/repo", "~alicex/repo", "~"] {
        let session = daemon.ask("upload-pack", pathname);
        session.assert_refused(&format!("no such repository: {pathname}"));
        session.assert_line(&format!("'{pathname}' does not appear to be a git repository"));
    }
}

/// Contract 43: the daemon's own home.
fn home_of_the_daemon(d: Implementation) {
    let scratch = Scratch::new();
    let invocation = server(d, &scratch).arg("--user-path").env("HOME", scratch.path("alice/tree"));
    let daemon = invocation.start();
    let session = daemon.ask("upload-pack", "~");
    session.assert_served("alice/tree");
}

/// Contract 43, 40: the list has the name as the client writes it.
fn list(d: Implementation) {
    for (option, entry, pathname, served) in [
        ("--user-path", "~alice", "~alice/repo", true),
        ("--user-path", "~alice/pub", "~alice/pub/repo", true),
        ("--user-path", "~alice/pub", "~alice/repo", false),
        ("--user-path=pub", "~alice/pub", "~alice/repo", true),
        ("--user-path=pub", "~alice", "~alice/repo", true),
        ("--user-path=pub", "~alice/repo.git", "~alice/repo", false),
        ("--user-path", "REAL", "~alice/repo", false),
    ] {
        let scratch = Scratch::new();
        let entry = entry.replace("REAL", scratch.path("alice").to_str().unwrap());
        let daemon = server(d, &scratch).arg(option).directory(entry).start();
        let session = daemon.ask("upload-pack", pathname);
        let refused = session.log.iter().any(|line| line.ends_with(": not in directory list"));
        assert_eq!(refused, !served, "{option} {pathname}: {session:#?}");
    }
}

/// Contract 43: neither base path nor template is put in front of a home.
fn before_the_base_path(d: Implementation) {
    let scratch = Scratch::new();
    let daemon = server(d, &scratch)
        .args(["--user-path", "--base-path=/proc", "--interpolated-path=/nowhere%D"])
        .start();
    daemon.ask("upload-pack", "~alice/repo").assert_served("alice/repo.git");
}
