//! Paths to what is no directory: gitfiles of every spelling, and special files; contract 36 to 38.

use crate::ownership::{with_another_inside, write_global};
use crate::support::scratch::{chmod, chown};
use crate::support::{
    GENERIC, Gitd, Implementation, Scratch, Session, Stock, Verdict, compliance, needs_root,
};

compliance! {
    spellings,
    targets,
    beneath_a_file,
    special_files,
    too_large,
    unreadable_places,
    another_inside,
}

const USER: u32 = 31_001;

/// Refused, in silence or not.
fn refused(session: &Session) -> bool {
    match (session.implementation, &session.verdict) {
        (_, Verdict::Served(_)) => false,
        (Stock, Verdict::Silence | Verdict::Refused(_)) => true,
        (Gitd, Verdict::Refused(text)) => {
            assert!(
                text.starts_with(GENERIC) || text.starts_with("no such repository: "),
                "{text}"
            );
            true
        }
        (Gitd, Verdict::Silence) => panic!("{session:?}"),
    }
}

/// Contract 38: the format is strict at its start and lenient at its end.
fn spellings(d: Implementation) {
    let scratch = Scratch::new();
    let repo = scratch.bare("repo.git");
    let repo = repo.display();
    let daemon = d.serve(&scratch).start();
    for (text, served) in [
        (format!("gitdir: {repo}\n"), true),
        (format!("gitdir: {repo}"), true),
        (format!("gitdir: {repo}\r\n"), true),
        (format!("gitdir: {repo}\n\n\r\n"), true),
        (format!("gitdir: {repo}/\n"), true),
        ("gitdir: repo.git\n".to_owned(), true),
        ("gitdir: ./x/../repo.git\n".to_owned(), false),
        ("gitdir: ../srv/repo.git\n".to_owned(), true),
        (format!("gitdir:{repo}\n"), false),
        (format!("gitdir:  {repo}\n"), false),
        (format!("gitdir: {repo} \n"), false),
        (format!("gitdir: {repo}\nmore\n"), false),
        (format!("\ngitdir: {repo}\n"), false),
        (format!("GITDIR: {repo}\n"), false),
        (format!(" gitdir: {repo}\n"), false),
        (format!("gitdir: {repo}\0\n"), true),
        ("gitdir: ~/repo.git\n".to_owned(), false),
        ("gitdir: \n".to_owned(), false),
        ("gitdir:".to_owned(), false),
        ("gitdir: repo".to_owned(), false),
    ] {
        scratch.file("file", &text);
        let session = daemon.ask("upload-pack", "/file");
        assert_eq!(!refused(&session), served, "{text:?}: {session:#?}");
        // Relative ones are relative to the file.
        if text.starts_with(&format!("gitdir: {repo}")) {
            scratch.file("tree/.git", &text);
            let session = daemon.ask("upload-pack", "/tree");
            assert_eq!(!refused(&session), served, "{text:?}: {session:#?}");
        }
    }
}

/// Contract 37, 38: one step and no more.
fn targets(d: Implementation) {
    let scratch = Scratch::new();
    let repo = scratch.bare("repo.git");
    let tree = scratch.non_bare("tree");
    let first = scratch.gitfile("first", &repo);
    let daemon = d.serve(&scratch).start();
    for (target, served) in [
        (first, false),
        (tree.clone(), false),
        (tree.join(".git"), true),
        (scratch.path("repo"), false),
        (scratch.symlink("link", &repo), true),
        (scratch.directory("empty"), false),
        (scratch.root().join("none"), false),
    ] {
        scratch.gitfile("file", &target);
        let session = daemon.ask("upload-pack", "/file");
        assert_eq!(!refused(&session), served, "{}: {session:#?}", target.display());
    }
}

/// Contract 36: a file is no directory.
fn beneath_a_file(d: Implementation) {
    let scratch = Scratch::new();
    scratch.bare("repo.git");
    scratch.gitfile("file", scratch.path("repo.git"));
    scratch.file("text", "text");
    let daemon = d.serve(&scratch).arg("--informative-errors").start();
    for pathname in ["/repo.git/HEAD/x", "/text/x", "/file/x", "/file/.git"] {
        let session = daemon.ask("upload-pack", pathname);
        session.assert_refused(&format!("no such repository: {pathname}"));
    }
    daemon.ask("upload-pack", "/file/").assert_served("repo.git");
    assert!(matches!(
        daemon.ask("upload-pack", "/text/").verdict,
        Verdict::Silence | Verdict::Refused(_)
    ));
}

/// Contract 36: a file that is neither a directory nor regular does not stop the search, and is not read.
fn special_files(d: Implementation) {
    let scratch = Scratch::new();
    scratch.bare("fifo.git");
    let fifo = |name: &str| {
        let status = std::process::Command::new("mkfifo").arg(scratch.path(name)).status();
        assert!(status.unwrap().success());
    };
    fifo("fifo");
    fifo("alone");
    scratch.directory("tree");
    fifo("tree/.git");
    let _socket = std::os::unix::net::UnixListener::bind(scratch.path("socket")).unwrap();
    scratch.symlink("zero", "/dev/zero");
    scratch.symlink("loop", "loop");
    scratch.symlink("dangling", "nowhere");
    let daemon = d.serve(&scratch).arg("--informative-errors").start();
    daemon.ask("upload-pack", "/fifo").assert_served("fifo.git");
    for pathname in ["/alone", "/tree", "/tree/.git", "/socket", "/zero", "/loop", "/dangling"] {
        let session = daemon.ask("upload-pack", pathname);
        session.assert_refused(&format!("no such repository: {pathname}"));
    }
}

/// Contract 38: a gitfile has a path in it and no more.
fn too_large(d: Implementation) {
    let scratch = Scratch::new();
    let repo = scratch.bare("repo.git");
    let daemon = d.serve(&scratch).start();
    for (padding, served) in [(1000, true), ((1 << 20) - 300, true), ((1 << 20) + 1, false)] {
        scratch.file("file", format!("gitdir: {}{}", repo.display(), "\n".repeat(padding)));
        let session = daemon.ask("upload-pack", "/file");
        assert_eq!(!refused(&session), served, "{padding}: {session:#?}");
    }
}

/// Contract 38, 39: what the daemon's user may not read or enter.
fn unreadable_places(d: Implementation) {
    needs_root!();
    let scratch = Scratch::new();
    let make = |name: &str| {
        let repo = scratch.bare(name);
        chown(&repo, USER);
        repo
    };
    chmod(&make("head.git").join("HEAD"), 0);
    chmod(&make("objects.git").join("objects"), 0);
    chmod(&make("refs.git").join("refs"), 0);
    chmod(&make("config.git").join("config"), 0);
    chmod(&make("itself.git"), 0);
    let inner = make("closed/inner.git");
    chmod(inner.parent().unwrap(), 0);
    let gitfile = scratch.gitfile("gitfile", make("good.git"));
    chown(&gitfile, USER);
    chmod(&gitfile, 0);
    make("nosearch.git");
    chmod(&scratch.path("nosearch.git"), 0o600);
    let daemon = d.serve(&scratch).user(USER, USER).start();
    daemon.ask("upload-pack", "/good").assert_served("good.git");
    for name in
        ["head", "objects", "refs", "config", "itself", "closed/inner", "gitfile", "nosearch"]
    {
        let session = daemon.ask("upload-pack", &format!("/{name}"));
        assert!(refused(&session), "{name}: {session:#?}");
    }
}

/// Contract 38, 47: git looks no further than at a gitfile, whatever is inside of what it names.
fn another_inside(d: Implementation) {
    needs_root!();
    let scratch = Scratch::new();
    let around = with_another_inside(&scratch);
    let file = scratch.gitfile("file", &around);
    let daemon = d.invoke(&scratch).base_path().start();
    for (values, safe) in [(vec![], false), (vec![file.display().to_string()], true)] {
        write_global(&scratch, &values);
        let session = daemon.ask("upload-pack", "/file");
        let exported = session.log.iter().any(|line| line.contains("repository not exported"));
        assert_eq!(exported, safe, "{values:?}: {session:#?}");
    }
}
