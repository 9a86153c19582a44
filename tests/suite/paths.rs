//! From the client's path to a repository: contract 35 to 40.

use std::fs;

use crate::support::{GENERIC, Git, Gitd, Implementation, Scratch, Stock, compliance, needs_root};

compliance! {
    aliased,
    odd_names,
    suffixes,
    reported_path,
    indirections,
    list_is_about_names,
    paths_to_files,
    words_for_gitfiles,
    what_a_git_directory_is,
    links_that_the_kernel_does_not_follow,
}

/// Contract 35: names with two meanings are refused whatever they would lead to.
fn aliased(d: Implementation) {
    let scratch = Scratch::new();
    scratch.bare("a/repo.git");
    let daemon = d.serve(&scratch).arg("--informative-errors").start();
    for pathname in [
        "a/repo.git",
        "",
        ".",
        "..",
        "./a/repo.git",
        "//a/repo.git",
        "/a//repo.git",
        "/./a/repo.git",
        "/a/./repo.git",
        "/a/../a/repo.git",
        "/..",
        "/.",
        "/../x",
        "/a/repo.git/.",
        "/a/repo.git/..",
        "/a/repo.git//",
        "//",
        "~/x",
        "~.",
        "~./x",
        "\\a",
        "/a/repo.git/./",
        "/a/repo.git/../",
    ] {
        let session = daemon.ask("upload-pack", pathname);
        session.assert_refused(&format!("no such repository: {pathname}"));
        session.assert_line(&format!("'{pathname}': aliased"));
    }
    for pathname in ["/a/repo.git", "/a/repo.git/", "/a/repo", "/a/repo/"] {
        daemon.ask("upload-pack", pathname).assert_served("a/repo.git");
    }
}

/// Contract 35: names that only look odd.
fn odd_names(d: Implementation) {
    let scratch = Scratch::new();
    for name in [
        "...", "....", ".hid", "a..b", "..a", "%2e", "A", "-x", "x~", "a\\b", "*", "$HOME",
        "\u{fc}",
    ] {
        scratch.bare(format!("{name}/r.git"));
    }
    let daemon = d.serve(&scratch).start();
    for name in [
        "...", "....", ".hid", "a..b", "..a", "%2e", "A", "-x", "x~", "a\\b", "*", "$HOME",
        "\u{fc}",
    ] {
        let session = daemon.ask("upload-pack", &format!("/{name}/r.git"));
        session.assert_served(&format!("{name}/r.git"));
    }
    for name in ["/a/r.git", "/%41/r.git", "/A%2Fr.git", "/A/R.git"] {
        let session = daemon.ask("upload-pack", name);
        let at = scratch.path(&name[1..]);
        session.assert_line(&format!("'{}' does not appear to be a git repository", at.display()));
    }
}

/// Contract 36: which of four places is served.
fn suffixes(d: Implementation) {
    let scratch = Scratch::new();
    scratch.non_bare("tree");
    scratch.bare("tree.git");
    scratch.bare("bare");
    scratch.bare("bare.git");
    scratch.directory("empty");
    scratch.bare("empty.git");
    scratch.bare("outer");
    scratch.bare("outer/.git");
    scratch.directory("deep");
    scratch.bare("deep.git/.git");
    scratch.bare("deep.git");
    scratch.bare("tree.git.git");
    let daemon = d.serve(&scratch).arg("--informative-errors").start();
    for (pathname, repository) in [
        ("/tree", "tree"),
        ("/tree/", "tree"),
        ("/tree/.git", "tree"),
        ("/tree/.git/", "tree"),
        ("/tree.git", "tree.git"),
        ("/tree.git.git", "tree.git.git"),
        ("/bare", "bare"),
        ("/bare.git", "bare.git"),
        ("/empty", "empty.git"),
        ("/outer", "outer/.git"),
        ("/deep", "deep.git/.git"),
        ("/deep.git", "deep.git/.git"),
    ] {
        daemon.ask("upload-pack", pathname).assert_served(repository);
    }
    for pathname in ["/tree.git.git.git", "/bar", "/empty.gi", "/"] {
        daemon
            .ask("upload-pack", pathname)
            .assert_refused(&format!("no such repository: {pathname}"));
    }
}

/// Contract 36, 40: the path that is logged and matched has the suffix, and no slash at its end.
fn reported_path(d: Implementation) {
    let scratch = Scratch::new();
    scratch.non_bare("tree");
    scratch.bare("bare.git");
    scratch.symlink("link", "tree");
    let daemon = d.invoke(&scratch).base_path().start();
    for (pathname, reported) in [
        ("/tree", "tree/.git"),
        ("/tree/", "tree/.git"),
        ("/bare", "bare.git"),
        ("/bare/", "bare.git"),
        ("/bare.git/", "bare.git"),
        ("/link", "link/.git"),
    ] {
        let session = daemon.ask("upload-pack", pathname);
        session.assert_line(&format!(
            "'{}': repository not exported.",
            scratch.path(reported).display()
        ));
    }
}

/// Contract 37: gitfiles, working trees and symlinks lead out of the base path.
fn indirections(d: Implementation) {
    let scratch = Scratch::new();
    let outside = scratch.root().join("outside");
    scratch.bare("real.git");
    fs::create_dir(&outside).unwrap();
    fs::rename(scratch.path("real.git"), outside.join("real.git")).unwrap();
    scratch.gitfile("file", outside.join("real.git"));
    scratch.gitfile("sub/.git", outside.join("real.git"));
    scratch.gitfile("suffixed.git", outside.join("real.git"));
    scratch.gitfile("relative", "../outside/real.git");
    scratch.symlink("link", outside.join("real.git"));
    scratch.symlink("link2.git", outside.join("real.git"));
    scratch.symlink("dir", &outside);
    let tree = scratch.non_bare("tree");
    let worktree = scratch.path("wt");
    Git::of_server(&scratch)
        .arg("-C")
        .arg(&tree)
        .args(["worktree", "add", "--detach", "-q"])
        .arg(&worktree)
        .ok();
    let daemon = d.serve(&scratch).start();
    for pathname in [
        "/file",
        "/sub",
        "/sub/.git",
        "/suffixed",
        "/suffixed.git",
        "/relative",
        "/link",
        "/link2",
        "/link2.git",
        "/dir/real",
        "/dir/real.git",
    ] {
        daemon.ask("upload-pack", pathname).assert_served("real.git");
    }
    daemon.ask("upload-pack", "/wt").assert_served("tree");
    daemon.ask("upload-pack", "/wt/.git").assert_served("tree");
}

/// Contract 37, 40: the list names the link and not its target.
fn list_is_about_names(d: Implementation) {
    let scratch = Scratch::new();
    let real = scratch.bare("real.git");
    let link = scratch.symlink("links/link.git", &real);
    let gitfile = scratch.gitfile("files/file.git", &real);
    let daemon = d
        .serve(&scratch)
        .arg("--informative-errors")
        .directory(link.parent().unwrap())
        .directory(gitfile.parent().unwrap())
        .start();
    daemon.ask("upload-pack", "/links/link.git").assert_served("real.git");
    daemon.ask("upload-pack", "/files/file.git").assert_served("real.git");
    let session = daemon.ask("upload-pack", "/real.git");
    session.assert_refused("no such repository: /real.git");
    session.assert_line(&format!("'{}': not in directory list", real.display()));
}

/// Contract 38, B6, B7: a path to a file that is no gitfile.
fn paths_to_files(d: Implementation) {
    let scratch = Scratch::new();
    let repo = scratch.bare("repo.git");
    scratch.file("text", "some text\n");
    scratch.file("nul", "");
    scratch.file("nowhere", "gitdir: \n");
    scratch.gitfile("dangling", "/nonexistent/repo.git");
    scratch.gitfile("to-file", repo.join("HEAD"));
    for informative in [false, true] {
        let daemon = d.serve(&scratch).args(informative.then_some("--informative-errors")).start();
        for (pathname, reason) in [
            ("/repo.git/config", Some("invalid gitfile format")),
            ("/repo.git/HEAD", Some("invalid gitfile format")),
            ("/text", Some("invalid gitfile format")),
            ("/nul", Some("invalid gitfile format")),
            ("/nowhere", None),
            ("/dangling", None),
            ("/to-file", None),
        ] {
            let session = daemon.ask("upload-pack", pathname);
            match d {
                Stock => session.assert_silent(),
                Gitd if informative => {
                    session.assert_refused(&format!("no such repository: {pathname}"))
                }
                Gitd => session.assert_refused(&format!("{}: {pathname}", crate::support::GENERIC)),
            }
            if let (Stock, Some(reason)) = (d, reason) {
                let file = scratch.path(&pathname[1..]);
                session.assert_line(&format!("fatal: {reason}: {}", file.display()));
            }
        }
    }
}

/// Contract 38: the words for a gitfile that leads nowhere.
fn words_for_gitfiles(d: Implementation) {
    let scratch = Scratch::new();
    let nowhere = scratch.file("nowhere", "gitdir: \n");
    let dangling = scratch.gitfile("dangling", "/nonexistent/repo.git");
    let daemon = d.serve(&scratch).start();
    let nowhere = format!("fatal: no path in gitfile: {}", nowhere.display());
    let newer =
        format!("fatal: gitfile does not point to a valid repository: {}", dangling.display());
    let dangling =
        d.since((2, 55), newer, "fatal: not a git repository: /nonexistent/repo.git".to_owned());
    for (pathname, line) in [("/nowhere", nowhere), ("/dangling", dangling)] {
        let session = daemon.ask("upload-pack", pathname);
        match d {
            Stock => session.assert_line(&line),
            Gitd => assert_eq!(session.log.len(), 5, "{:?}", session.log),
        }
    }
}

/// Contract 39: what makes a directory a git directory.
fn what_a_git_directory_is(d: Implementation) {
    let scratch = Scratch::new();
    let make = |name: &str, head: &str| {
        let repo = scratch.bare(name);
        fs::write(repo.join("HEAD"), head).unwrap();
        repo
    };
    let commit = crate::support::scratch::head(&scratch.bare("ref.git"));
    make("hex.git", &format!("{commit}\n"));
    make("unborn.git", "ref: refs/heads/none\n");
    make("blanks.git", "ref:   \t refs/heads/main\n");
    make("noblank.git", "ref:refs/heads/main\n");
    make("noref.git", "ref: main\n");
    make("word.git", "main\n");
    make("nothing.git", "");
    make("short.git", &format!("{}\n", &commit[..39]));
    let link = make("link.git", "");
    fs::remove_file(link.join("HEAD")).unwrap();
    std::os::unix::fs::symlink("refs/heads/main", link.join("HEAD")).unwrap();
    let badlink = make("badlink.git", "");
    fs::remove_file(badlink.join("HEAD")).unwrap();
    std::os::unix::fs::symlink("config", badlink.join("HEAD")).unwrap();
    fs::remove_file(make("headless.git", "").join("HEAD")).unwrap();
    fs::remove_dir_all(make("objectless.git", "ref: refs/heads/main\n").join("objects")).unwrap();
    fs::remove_dir_all(make("refless.git", "ref: refs/heads/main\n").join("refs")).unwrap();
    let daemon = d.serve(&scratch).arg("--informative-errors").start();
    for name in ["ref", "hex", "unborn", "blanks", "noblank", "link"] {
        daemon.ask("upload-pack", &format!("/{name}.git")).assert_served(&format!("{name}.git"));
    }
    for name in
        ["noref", "word", "nothing", "short", "badlink", "headless", "objectless", "refless"]
    {
        let session = daemon.ask("upload-pack", &format!("/{name}.git"));
        session.assert_refused(&format!("no such repository: /{name}.git"));
        let path = scratch.path(format!("{name}.git"));
        session
            .assert_line(&format!("'{}' does not appear to be a git repository", path.display()));
    }
}

/// Contract 38: a link that can be read, on a file system where none is followed, leads nowhere.
fn links_that_the_kernel_does_not_follow(d: Implementation) {
    needs_root!();
    let scratch = Scratch::new();
    let repo = scratch.bare("repo.git");
    let place = scratch.directory("place");
    let there = place.display();
    let daemon = |option| {
        d.serve(&scratch)
            .namespace("--mount")
            .shell(format!("mount -t tmpfs -o {option} none {there}"))
            .shell(format!("ln -s {} {there}/link.git", repo.display()))
            .start()
    };
    daemon("symfollow").ask("upload-pack", "/place/link").assert_served("repo.git");
    let session = daemon("nosymfollow").ask("upload-pack", "/place/link");
    session.assert_refused(&format!("{GENERIC}: /place/link"));
}
