//! --user-path: contract 43.

use crate::support::scratch::label_of;
use crate::support::{Gitd, Implementation, Invocation, Scratch, Verdict, compliance};

compliance! {
    not_allowed,
    home_directories,
    below_a_name,
    no_user_of_that_name,
    home_of_the_daemon,
    list,
    before_the_base_path,
    odd_homes,
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
fn no_user_of_that_name(d: Implementation) {
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

/// Contract 43: homes as administrators and programs write them, some of which are repositories. The name in lists and
/// logs is the user's, as requested, and the suffix.
fn odd_homes(d: Implementation) {
    let scratch = Scratch::new();
    scratch.bare("home.git/below.git");
    scratch.bare("home.git");
    scratch.non_bare("tree");
    // Where the server is.
    scratch.bare("../.git");
    let srv = scratch.repos();
    let srv = srv.display();
    let homes = [
        ("plain", format!("{srv}/home")),
        ("slash", format!("{srv}/home.git/")),
        ("slashes", format!("{srv}/home.git///")),
        ("before", format!("//{srv}//home.git")),
        ("tree", format!("{srv}/tree/")),
        ("stem", format!("{srv}/home/")),
        ("root", "/".to_owned()),
        ("empty", String::new()),
        ("relative", "srv/home.git".to_owned()),
        ("dot", ".".to_owned()),
    ];
    let passwd: String = homes
        .iter()
        .map(|(name, home)| format!("{name}:x:31001:31001::{home}:/bin/sh\n"))
        .collect();
    let daemon = d
        .invoke(&scratch)
        .args(["--user-path", "--informative-errors"])
        .etc("passwd", &format!("nobody:x:65534:65534::/:/bin/sh\n{passwd}"))
        .etc("nsswitch.conf", "passwd: files\ngroup: files\nhosts: files\n")
        .start();
    for (pathname, found) in [
        ("~plain", Some("~plain.git")),
        ("~plain/", Some("~plain.git")),
        ("~plain.git", None),
        ("~slash", Some("~slash")),
        ("~slash/", Some("~slash")),
        ("~slash/below", Some("~slash/below.git")),
        ("~slashes", Some("~slashes")),
        ("~before", Some("~before")),
        ("~before/below/", Some("~before/below.git")),
        ("~tree", Some("~tree/.git")),
        ("~tree/", Some("~tree/.git")),
        ("~stem", None),
        ("~stem/", None),
        ("~root", None),
        ("~root/", None),
        ("~empty", Some("~empty.git")),
        ("~empty/", Some("~empty.git")),
        ("~relative", Some("~relative")),
        ("~relative/below", Some("~relative/below.git")),
        ("~dot", Some("~dot/.git")),
        ("~dot/srv/home", Some("~dot/srv/home.git")),
    ] {
        let session = daemon.ask("upload-pack", pathname);
        match found {
            Some(found) => session.assert_line(&format!("'{found}': repository not exported.")),
            None => session.assert_refused(&format!("no such repository: {pathname}")),
        }
    }
    for user in ["~root", "~empty"] {
        let pathname = format!("{user}{srv}/tree");
        let session = daemon.ask("upload-pack", &pathname);
        session.assert_line(&format!("'{pathname}/.git': repository not exported."));
    }
}

/// A name that no user can have is not asked of a database which may be anywhere.
#[test]
fn names_that_are_too_long() {
    let scratch = Scratch::new();
    scratch.bare("home/repo.git");
    let home = scratch.path("home");
    let entry = |name: &str| format!("{name}:x:31001:31001::{}:/bin/sh\n", home.display());
    let (longest, longer) = ("u".repeat(255), "u".repeat(256));
    let daemon = Gitd
        .invoke(&scratch)
        .args(["--user-path", "--export-all"])
        .etc("passwd", &format!("root:x:0:0::/root:/bin/sh\n{}{}", entry(&longest), entry(&longer)))
        .etc("nsswitch.conf", "passwd: files\ngroup: files\nhosts: files\n")
        .start();
    let ask = |name: &str| daemon.ask("upload-pack", &format!("~{name}/repo")).verdict;
    assert!(matches!(ask(&longest), Verdict::Served(_)));
    assert!(matches!(ask(&longer), Verdict::Refused(_)));
    assert!(matches!(ask(&"u".repeat(65_000)), Verdict::Refused(_)));
}
