//! The directory list and the base path: contract 40 and 41.

use crate::support::{Implementation, Scratch, compliance};

compliance! {
    directory_list,
    odd_list_entries,
    base_path,
    base_path_relaxed,
    not_past_a_broken_gitfile,
    too_long,
}

/// Contract 40: a prefix in whole names.
fn directory_list(d: Implementation) {
    let scratch = Scratch::new();
    scratch.bare("git/a.git");
    scratch.bare("git/deep/b.git");
    scratch.bare("git-private/c.git");
    scratch.bare("one.git");
    let daemon = d
        .serve(&scratch)
        .arg("--informative-errors")
        .directory(scratch.path("git"))
        .directory(scratch.path("one.git"))
        .start();
    daemon.ask("upload-pack", "/git/a").assert_served("git/a.git");
    daemon.ask("upload-pack", "/git/deep/b").assert_served("git/deep/b.git");
    daemon.ask("upload-pack", "/one").assert_served("one.git");
    daemon.ask("upload-pack", "/one.git").assert_served("one.git");
    let session = daemon.ask("upload-pack", "/git-private/c");
    session.assert_refused("no such repository: /git-private/c");
    session.assert_line(&format!(
        "'{}': not in directory list",
        scratch.path("git-private/c.git").display()
    ));
}

/// Contract 40, B18: entries that match nothing, and one that matches all.
fn odd_list_entries(d: Implementation) {
    let scratch = Scratch::new();
    let repo = scratch.bare("git/a.git");
    let listed = |entry: String| {
        let daemon = d.serve(&scratch).arg("--").directory(entry).start();
        !daemon
            .ask("upload-pack", "/git/a")
            .log
            .iter()
            .any(|line| line.ends_with(": not in directory list"))
    };
    let git = scratch.path("git").display().to_string();
    assert!(listed(git.clone()));
    assert!(listed(repo.display().to_string()));
    assert!(listed(String::new()));
    assert!(!listed(format!("{git}/")));
    assert!(!listed("/".to_owned()));
    assert!(!listed("srv/git".to_owned()));
    assert!(!listed(".".to_owned()));
    assert!(!listed(git.replace("/git", "/./git")));
    assert!(!listed(format!("{git}/a")));
}

/// Contract 41: the base path is put in front, letter by letter.
fn base_path(d: Implementation) {
    let scratch = Scratch::new();
    scratch.bare("git/a.git");
    let closed = |base: String, list: Option<String>| {
        let mut invocation = d.invoke(&scratch).option("--base-path", base);
        if let Some(list) = list {
            invocation = invocation.directory(list);
        }
        let daemon = invocation.start();
        daemon.ask("upload-pack", "/git/a").log[3].clone()
    };
    let root = scratch.repos().display().to_string();
    let not_exported = |path: String| format!("'{path}': repository not exported.");
    assert_eq!(closed(root.clone(), None), not_exported(format!("{root}/git/a.git")));
    assert_eq!(closed(format!("{root}/"), None), not_exported(format!("{root}//git/a.git")));
    assert_eq!(closed("srv".to_owned(), None), not_exported("srv/git/a.git".to_owned()));
    let relative = |entry: &str| closed("srv".to_owned(), Some(entry.to_owned()));
    assert_eq!(relative("srv"), not_exported("srv/git/a.git".to_owned()));
    for entry in ["", "./srv", "sr", root.as_str()] {
        assert_eq!(relative(entry), "'srv/git/a.git': not in directory list", "{entry}");
    }
    assert_eq!(
        closed(format!("{root}/"), Some(root.clone())),
        not_exported(format!("{root}//git/a.git"))
    );
    assert_eq!(
        closed(format!("{root}/"), Some(format!("{root}/git"))),
        format!("'{root}//git/a.git': not in directory list")
    );
    assert_eq!(
        closed(format!("{root}/"), Some(format!("{root}//git"))),
        not_exported(format!("{root}//git/a.git"))
    );
}

/// Contract 41: the retry without a base path.
fn base_path_relaxed(d: Implementation) {
    let scratch = Scratch::new();
    let inside = scratch.bare("a.git");
    let inside = inside.to_str().unwrap();
    let strict = d.invoke(&scratch).base_path().start();
    strict.ask("upload-pack", inside).assert_line(&format!(
        "'{}{inside}' does not appear to be a git repository",
        scratch.repos().display()
    ));
    let relaxed = d.invoke(&scratch).base_path().arg("--base-path-relaxed").start();
    relaxed
        .ask("upload-pack", inside)
        .assert_line(&format!("'{inside}': repository not exported."));
    relaxed.ask("upload-pack", "/a").assert_line(&format!("'{inside}': repository not exported."));
    relaxed
        .ask("upload-pack", "/none")
        .assert_line("'/none' does not appear to be a git repository");
}

/// Contract 41: longer than any path.
fn too_long(d: Implementation) {
    let scratch = Scratch::new();
    let daemon = d.serve(&scratch).arg("--informative-errors").start();
    let base = scratch.repos().display().to_string();
    for length in [300, 4095, 4096, 5000, 20_000] {
        let pathname = format!("/{}", "x".repeat(length - base.len() - 1));
        let session = daemon.ask("upload-pack", &pathname);
        session.assert_refused(&format!("no such repository: {pathname}"));
        let expected = if length < 4096 {
            format!("'{base}{pathname}' does not appear to be a git repository")
        } else {
            format!("base-path too large: {base}{pathname}")
        };
        // The contract does not say where such a long line is cut.
        let logged = &session.log[3];
        assert_eq!(logged[..250], expected[..250]);
    }
}

/// Contract 38, 41: what is there and broken ends the search; nothing is looked for elsewhere.
fn not_past_a_broken_gitfile(d: Implementation) {
    let scratch = Scratch::new();
    let repo = scratch.bare("repo.git");
    let base = scratch.directory("base");
    let below = |path: &std::path::Path| format!("base{}", path.display());
    let daemon = d
        .invoke(&scratch)
        .arg("--export-all")
        .option("--base-path", &base)
        .arg("--base-path-relaxed")
        .start();
    let pathname = repo.to_str().unwrap();
    daemon.ask("upload-pack", pathname).assert_served("repo.git");
    for text in ["", "no gitfile", "gitdir: /nowhere\n"] {
        scratch.file(below(&repo), text);
        daemon.ask("upload-pack", pathname).assert_died(pathname, false);
    }
    std::fs::remove_file(scratch.path(below(&repo))).unwrap();
    daemon.ask("upload-pack", pathname).assert_served("repo.git");
}
