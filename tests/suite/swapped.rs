//! Whose repository it is, while its owner puts another in its place: contract 47. What is held is what is asked about.

use std::fs;

use crate::ownership::{OTHER, is_dubious, write_global};
use crate::support::scratch::chown;
use crate::support::{Gitd, Scratch, needs_root};

/// Contract 47: the name that `safe.directory` has is taken for that of another repository's, while git is asked about the
/// first.
#[test]
fn moved_while_git_is_asked() {
    needs_root!();
    for (kind, path) in [("bare", "moving.git"), ("tree", "moving/.git"), ("gitfile", "moving")] {
        let scratch = Scratch::new();
        let good = scratch.bare("good.git");
        scratch.gitfile("good-file", &good);
        let theirs = match kind {
            "tree" => scratch.non_bare("moving"),
            _ => scratch.bare("moving.git"),
        };
        if kind == "gitfile" {
            fs::rename(&theirs, scratch.path("theirs.git")).unwrap();
            scratch.gitfile("moving", scratch.path("theirs.git"));
            chown(&scratch.path("theirs.git"), OTHER);
        }
        let name = scratch.path(path);
        chown(&name, OTHER);
        chown(&good, OTHER);
        let safe = if kind == "gitfile" { scratch.path("good-file") } else { good.clone() };
        write_global(&scratch, &[safe.display().to_string()]);
        let (asked, aside) = (scratch.root().join("asked"), scratch.root().join("aside"));
        let git = scratch.trusting_git(&format!(
            "echo >{}; mv {} {}; ln -s {} {1}",
            asked.display(),
            name.display(),
            aside.display(),
            safe.display(),
        ));
        let daemon = Gitd.serve(&scratch).path_first(&git).start();
        let session = daemon.ask("upload-pack", "/moving");
        assert!(asked.exists() && aside.exists(), "{kind}: git was not asked");
        assert!(is_dubious(&session), "{kind}: {session:#?}");
        // What is there now is safe.
        fs::remove_file(&asked).unwrap();
        let git = scratch.trusting_git("");
        let daemon = Gitd.serve(&scratch).path_first(&git).start();
        let session = daemon.ask("upload-pack", "/moving");
        assert!(!is_dubious(&session), "{kind}: {session:#?}");
    }
}

/// Contract 47: nor for that of one which the owner has put inside meanwhile, where git looks first.
#[test]
fn another_put_inside_while_git_is_asked() {
    needs_root!();
    let scratch = Scratch::new();
    let theirs = scratch.bare("theirs.git");
    let good = scratch.bare("good.git");
    chown(&theirs, OTHER);
    chown(&good, OTHER);
    write_global(&scratch, &[good.display().to_string()]);
    let inside = theirs.join(".git");
    let git = scratch.trusting_git(&format!("ln -s {} {}", good.display(), inside.display()));
    let daemon = Gitd.serve(&scratch).path_first(&git).start();
    let session = daemon.ask("upload-pack", "/theirs");
    assert!(inside.is_symlink(), "git was not asked");
    assert!(is_dubious(&session), "{session:#?}");
}

/// Contract 47: where something was changed a moment ago, one answer of git's is not enough.
#[test]
fn asked_again_where_something_has_changed() {
    needs_root!();
    let scratch = Scratch::new();
    let theirs = scratch.bare("theirs.git");
    chown(&theirs, OTHER);
    write_global(&scratch, &["*".to_owned()]);
    let asked = scratch.root().join("asked");
    // It is safe when git is first asked, and not from the second time on.
    let configuration = scratch.home().join(".gitconfig");
    let git = scratch.trusting_git(&format!(
        "[ ! -e {0} ] || printf '[safe]\\n\\tdirectory = /elsewhere\\n' >{1}; echo >>{0}",
        asked.display(),
        configuration.display(),
    ));
    let daemon = Gitd.serve(&scratch).path_first(&git).start();
    let session = daemon.ask("upload-pack", "/theirs");
    assert_eq!(fs::read_to_string(asked).unwrap(), "\n\n", "asked twice");
    assert!(is_dubious(&session), "{session:#?}");
}
