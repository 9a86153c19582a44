//! Which program an access hook without a slash is: contract 57 and 59.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;

use crate::hook::seen;
use crate::support::scratch::{chmod, chown};
use crate::support::{
    GENERIC, Git, Gitd, Implementation, Scratch, Verdict, compliance, needs_root,
};

compliance! {
    found_in_path,
    not_found_in_path,
    the_first_in_path_or_none,
    what_only_others_may_execute,
}

/// Contract 57: without one it is a program.
fn found_in_path(d: Implementation) {
    let scratch = Scratch::new();
    scratch.bare("repo.git");
    let hook = scratch.script("bin/my-hook", "#!/bin/sh\necho ran >seen\n");
    let daemon =
        d.serve(&scratch).arg("--access-hook=my-hook").path_first(hook.parent().unwrap()).start();
    daemon.ask("upload-pack", "/repo.git").assert_served("repo.git");
    assert!(seen(&scratch).exists());
}

/// Contract 57, 59: a name without a slash is never that of a file in the repository.
fn not_found_in_path(d: Implementation) {
    let scratch = Scratch::new();
    scratch.bare("repo.git");
    let odd = OsStr::from_bytes(b"my-\xff-hook");
    for name in ["my-hook".as_ref(), odd] {
        let trap = scratch.script("trap", "#!/bin/sh\necho ran >seen\n");
        fs::rename(trap, scratch.path("repo.git").join(name)).unwrap();
        for with_path in [false, true] {
            let mut invocation = d.serve(&scratch).option("--access-hook", name);
            if !with_path {
                invocation = invocation.without_env("PATH");
            }
            let session = invocation.start().ask("upload-pack", "/repo.git");
            session.assert_refused(&format!("{GENERIC}: /repo.git"));
            let line = session.log.iter().find(|line| line.contains("failed to start"));
            assert!(line.is_some(), "{session:#?}");
            assert!(!seen(&scratch).exists(), "{}", name.display());
        }
    }
}

/// What stands in a relative directory of PATH, which is one of the repository's, is neither run nor passed over. PATH
/// has nothing else first, so that it would be found.
#[test]
fn in_a_relative_directory_of_path() {
    let scratch = Scratch::new();
    scratch.bare("repo.git");
    let script = "#!/bin/sh\necho \"$0\" >>seen\n";
    let allowing = scratch.script("bin/my-hook", script);
    let bin = allowing.parent().unwrap().to_str().unwrap().to_owned();
    let git = Git::server_path().into_string().unwrap();
    scratch.script("srv/repo.git/my-hook", script);
    scratch.script("srv/repo.git/below/my-hook", script);
    for relative in ["", ".", "below", "./below"] {
        for (path, served) in [
            (format!("{relative}:{git}"), false),
            (format!("{git}:{relative}"), false),
            (format!("{relative}:{bin}:{git}"), false),
            (format!("{bin}:{relative}:{git}"), true),
            (format!("nowhere:{bin}:{git}"), true),
        ] {
            let daemon =
                Gitd.serve(&scratch).arg("--access-hook=my-hook").env("PATH", &path).start();
            let session = daemon.ask("upload-pack", "/repo.git");
            assert_eq!(matches!(session.verdict, Verdict::Served(_)), served, "{path}");
            let ran = fs::read_to_string(seen(&scratch)).unwrap_or_default();
            assert_eq!(ran, if served { format!("{bin}/my-hook\n") } else { String::new() });
            let _ = fs::remove_file(seen(&scratch));
        }
    }
}

/// Contract 57: if the first hook in PATH cannot be run, a later one is not run instead.
fn the_first_in_path_or_none(d: Implementation) {
    let scratch = Scratch::new();
    scratch.bare("repo.git");
    scratch.script("second/my-hook", "#!/bin/sh\necho second >seen\n");
    let place = scratch.root().join("first/my-hook");
    let (first, second) = (scratch.root().join("first"), scratch.root().join("second"));
    let path = [first.display().to_string(), second.display().to_string()].join(":");
    let path = format!("{path}:{}", Git::server_path().to_str().unwrap());
    let daemon = d.serve(&scratch).arg("--access-hook=my-hook").env("PATH", path).start();
    let ask = |case: &str| {
        let session = daemon.ask("upload-pack", "/repo.git");
        let ran = fs::read_to_string(seen(&scratch)).unwrap_or_default();
        let _ = fs::remove_file(seen(&scratch));
        let served = matches!(session.verdict, Verdict::Served(_));
        assert_eq!(served, ran == "second\n", "{case}: {session:#?}");
        served
    };
    assert!(ask("nothing there"));
    fs::create_dir_all(&place).unwrap();
    assert!(ask("a directory"));
    fs::remove_dir(&place).unwrap();
    for (case, mode, second) in [
        ("#!/nonexistent/interpreter\n", 0o755, false),
        ("#!/bin/sh\nexit 1\n", 0o755, false),
        ("exit 1\n", 0o755, false),
        ("#!/bin/sh\nexit 1\n", 0o644, true),
        ("#!/bin/sh\nexit 1\n", 0o655, true),
    ] {
        scratch.script("first/my-hook", case);
        chmod(&place, mode);
        assert_eq!(ask(case), second, "{case} {mode:o}");
        fs::remove_file(&place).unwrap();
    }
    symlink("/nonexistent", &place).unwrap();
    assert!(ask("a dangling link"));
}

/// Contract 57: nor if it is another user's own.
fn what_only_others_may_execute(d: Implementation) {
    const USER: u32 = 31_001;
    needs_root!();
    let scratch = Scratch::new();
    chown(&scratch.bare("repo.git"), USER);
    scratch.script("second/my-hook", "#!/bin/sh\nexit 0\n");
    let first = scratch.script("first/my-hook", "#!/bin/sh\nexit 1\n");
    chmod(&first, 0o700);
    let git = Git::server_path();
    let root = scratch.root().display();
    let path = format!("{root}/first:{root}/second:{}", git.to_str().unwrap());
    let daemon =
        d.serve(&scratch).user(USER, USER).arg("--access-hook=my-hook").env("PATH", path).start();
    let session = daemon.ask("upload-pack", "/repo.git");
    session.assert_refused(&format!("{GENERIC}: /repo.git"));
    assert!(session.log.iter().any(|line| line.contains("failed to start")), "{session:#?}");
}
