//! Stock git clients push, fetch archives and submodules, and read refusals.

use std::fs;

use crate::clients::{VERSIONS, assert_clone, clone_into};
use crate::support::scratch::{FILE, config, head};
use crate::support::{Daemon, Git, Implementation, Scratch, compliance};

compliance! {
    push,
    push_sha256,
    push_is_refused,
    archive,
    refusals_in_the_clients_words,
    submodules,
    many_refs,
    many_at_once,
}

/// A clone with one more commit.
fn commit_in_clone(scratch: &Scratch, daemon: &Daemon, version: u32) -> (Git, String) {
    clone_into(scratch, version, "copy").arg(daemon.url("/repo.git")).arg("copy").ok();
    let copy = scratch.root().join("copy");
    Git::new(scratch).cwd(&copy).args(["commit", "-q", "--allow-empty", "-m", "more"]).ok();
    let commit = Git::new(scratch).cwd(&copy).args(["rev-parse", "HEAD"]).ok();
    (Git::new(scratch).protocol(version).cwd(copy).args(["push", "-q", "origin", "main"]), commit)
}

fn push(d: Implementation) {
    let scratch = Scratch::new();
    let repo = scratch.bare("repo.git");
    let daemon = d.serve(&scratch).arg("--enable=receive-pack").start();
    for version in VERSIONS {
        let (push, commit) = commit_in_clone(&scratch, &daemon, version);
        push.ok();
        assert_eq!(head(&repo), commit);
    }
}

fn push_sha256(d: Implementation) {
    let scratch = Scratch::new();
    let repo = scratch.sha256("repo.git");
    config(&repo, "[daemon] receivepack = true\n");
    let daemon = d.serve(&scratch).start();
    let (push, commit) = commit_in_clone(&scratch, &daemon, 2);
    push.ok();
    assert_eq!(head(&repo), commit);
}

fn push_is_refused(d: Implementation) {
    let (scratch, daemon) = d.serve_one();
    let (push, _) = commit_in_clone(&scratch, &daemon, 2);
    let stderr = push.fails();
    assert!(stderr.contains("access denied or repository not exported: /repo.git"), "{stderr}");
}

fn archive(d: Implementation) {
    let scratch = Scratch::new();
    scratch.bare("repo.git");
    let daemon = d.serve(&scratch).arg("--enable=upload-archive").start();
    let output = Git::new(&scratch)
        .args(["archive", "--format=tar"])
        .arg(format!("--remote={}", daemon.url("/repo.git")))
        .arg("main")
        .output();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let tar = String::from_utf8_lossy(&output.stdout);
    assert!(tar.contains(FILE.0) && tar.contains(FILE.1));
}

fn refusals_in_the_clients_words(d: Implementation) {
    let scratch = Scratch::new();
    let daemon = d.serve(&scratch).arg("--informative-errors").start();
    for version in VERSIONS {
        let stderr =
            Git::new(&scratch).protocol(version).arg("ls-remote").arg(daemon.url("/none")).fails();
        assert!(stderr.contains("fatal: remote error: no such repository: /none"), "{stderr}");
    }
    let daemon = d.serve(&scratch).start();
    let stderr = Git::new(&scratch).arg("ls-remote").arg(daemon.url("/none")).fails();
    assert!(
        stderr.contains("fatal: remote error: access denied or repository not exported: /none"),
        "{stderr}"
    );
}

fn submodules(d: Implementation) {
    let scratch = Scratch::new();
    scratch.bare("sub.git");
    let tree = scratch.non_bare("super");
    let daemon = d.serve(&scratch).start();
    Git::new(&scratch).cwd(&tree).args(["reset", "-q", "--hard"]).ok();
    Git::new(&scratch)
        .cwd(&tree)
        .args(["submodule", "--quiet", "add", &daemon.url("/sub.git"), "sub"])
        .ok();
    Git::new(&scratch).cwd(&tree).args(["commit", "-q", "-m", "with a submodule"]).ok();
    clone_into(&scratch, 2, "copy")
        .arg("--recurse-submodules")
        .arg(daemon.url("/super"))
        .arg("copy")
        .ok();
    assert_clone(&scratch, "copy/sub");
}

/// More than one segment and more than one packet's worth of refs.
fn many_refs(d: Implementation) {
    let scratch = Scratch::new();
    let repo = scratch.bare("repo.git");
    let commit = head(&repo);
    let mut packed = String::from("# pack-refs with: peeled fully-peeled sorted \n");
    for n in 0..5000 {
        packed += &format!("{commit} refs/tags/t{n:04}\n");
    }
    fs::write(repo.join("packed-refs"), packed).unwrap();
    let daemon = d.serve(&scratch).start();
    for version in VERSIONS {
        let refs = Git::new(&scratch)
            .protocol(version)
            .args(["ls-remote", "--tags"])
            .arg(daemon.url("/repo.git"))
            .ok();
        assert_eq!(refs.lines().count(), 5000);
    }
}

/// Clients beside one another, each by the protocol that it likes.
fn many_at_once(d: Implementation) {
    let (scratch, daemon) = d.serve_one();
    std::thread::scope(|scope| {
        for n in 0..12 {
            let (scratch, daemon) = (&scratch, &daemon);
            scope.spawn(move || {
                let name = format!("copy{n}");
                clone_into(scratch, n % 3, &name).arg(daemon.url("/repo.git")).arg(&name).ok();
                assert_clone(scratch, &name);
            });
        }
    });
}
