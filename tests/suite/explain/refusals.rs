//! Every reason to refuse: the explanation names it, and each fix that it offers makes the server serve.

use std::fs;

use super::site::{Case, exported, plain};
use crate::support::scratch::{chmod, chown, config, install};
use crate::support::{Git, Scratch, needs_root};

const OTHER: u32 = 31_002;
const SERVER: u32 = 31_001;

/// The explanation says `reason` at `step`, as the server does, and each of its `count` fixes helps alone.
#[track_caller]
fn mended(case: Case, step: &str, reason: &str, count: usize) {
    for number in 0..count {
        let mut site = case.build();
        let before = site.explain();
        assert!(!before.served());
        assert_eq!((before.refused_at(), before.refusal("reason")), (step, reason));
        let fixes = before.fixes();
        assert_eq!(fixes.len(), count, "{fixes:#?}");
        assert_eq!(site.ask(), Err(before.refusal("client").to_owned()));
        site.apply(&fixes[number]);
        let after = site.explain();
        assert!(after.served(), "after {}: {}", fixes[number], after.outcome.stdout);
        assert_eq!(site.ask(), Ok(()), "after {}", fixes[number]);
        assert!(site.run("plain").stdout.ends_with("\nserved\n"));
    }
}

/// The usual case: one repository, asked for a clone.
const CASE: Case = Case {
    lay: |s| drop(s.bare("repo.git")),
    serve: exported,
    service: "upload-pack",
    path: "/repo.git",
};

#[test]
fn service_not_offered() {
    let serve = |s: &Scratch| exported(s).arg("--forbid-override=receive-pack");
    let case = Case { serve, service: "receive-pack", ..CASE };
    mended(case, "service", "service-not-offered", 1);
}

#[test]
fn aliased() {
    for path in ["//repo.git", "repo.git", "/x/../repo.git", "git://host/./repo.git"] {
        let case = Case { path, ..CASE };
        if path.contains("://") {
            let explained = case.build().explain();
            assert_eq!(explained.fixes()[0]["text"], "/repo.git");
        } else {
            mended(case, "name", "aliased", 1);
        }
    }
}

#[test]
fn user_path() {
    needs_root!();
    let serve = |s: &Scratch| {
        let home = s.path("alice");
        let passwd =
            format!("root:x:0:0::/root:/bin/sh\nalice:x:31001:31001::{}:\n", home.display());
        exported(s).etc("passwd", &passwd).etc("nsswitch.conf", "passwd: files\ngroup: files\n")
    };
    let lay = |s: &Scratch| drop(s.bare("alice/repo.git"));
    mended(Case { lay, serve, path: "~alice/repo", ..CASE }, "path", "user-path", 1);
    // Nobody of that name: nothing can be done.
    let serve = |s: &Scratch| exported(s).arg("--user-path");
    let explained = Case { serve, path: "~nosuch/repo", ..CASE }.build().explain();
    assert_eq!(
        (explained.refused_at(), explained.refusal("reason")),
        ("repository", "not-a-repository")
    );
    assert_eq!(explained.fixes()[0]["kind"], "advice");
}

fn missing(case: Case) {
    mended(case, "repository", "not-a-repository", 1);
}

#[test]
fn no_repository() {
    missing(Case { path: "/nosuch.git", ..CASE });
    missing(Case { path: "/a/b/it's new", ..CASE });
    missing(Case { lay: |s| drop(s.directory("empty")), path: "/empty", ..CASE });
    missing(Case {
        path: "/nosuch.git",
        serve: |s| exported(s).arg("--base-path-relaxed"),
        ..CASE
    });
    let serve = |s: &Scratch| exported(s).option("--interpolated-path", s.path("%H%D"));
    missing(Case { path: "git://host.example/new.git", serve, ..CASE });
    // A directory with other things in it is left alone.
    let explained = Case { path: "/", ..CASE }.build().explain();
    assert_eq!(explained.fixes()[0]["kind"], "advice");
    let explained = Case { path: "/repo.git/config", ..CASE }.build().explain();
    assert_eq!(explained.fixes()[0]["kind"], "advice");
}

/// A repository that the administrator makes must be the server's own.
#[test]
fn no_repository_for_another_user() {
    needs_root!();
    missing(Case { path: "/new.git", serve: |s| exported(s).user(SERVER, SERVER), ..CASE });
}

#[test]
fn damaged_repository() {
    missing(Case { lay: |s| fs::remove_dir_all(s.bare("repo.git").join("refs")).unwrap(), ..CASE });
    missing(Case {
        lay: |s| fs::remove_dir_all(s.bare("repo.git").join("objects")).unwrap(),
        ..CASE
    });
    missing(Case { lay: |s| fs::remove_file(s.bare("repo.git").join("HEAD")).unwrap(), ..CASE });
    missing(Case { lay: |s| fs::write(s.bare("repo.git").join("HEAD"), "x").unwrap(), ..CASE });
    let lay = |s: &Scratch| fs::remove_file(s.non_bare("tree").join(".git/HEAD")).unwrap();
    missing(Case { lay, path: "/tree", ..CASE });
}

#[test]
fn misspelt_path() {
    // With the base path written twice.
    let mut site = CASE.build();
    site.path = format!("{}/repo.git", site.scratch.repos().display());
    let explained = site.explain();
    assert_eq!(explained.refusal("reason"), "not-a-repository");
    assert_eq!(explained.fixes()[0]["kind"], "path");
    site.apply(&explained.fixes()[0]);
    assert!(site.explain().served());
    // Without a suffix that --strict-paths does not try.
    let serve = |s: &Scratch| exported(s).arg("--strict-paths").directory(s.path("repo.git"));
    missing(Case { serve, path: "/repo", ..CASE });
}

#[test]
fn closed_directories() {
    needs_root!();
    let serve = |s: &Scratch| exported(s).user(SERVER, SERVER);
    let open = |s: &Scratch| {
        let repository = s.bare("private/repo.git");
        chown(&repository, SERVER);
        chmod(&s.path("private"), 0o700);
    };
    missing(Case { lay: open, serve, path: "/private/repo.git", ..CASE });
    let closed = |s: &Scratch| {
        let repository = s.bare("repo.git");
        s.global_config("[safe]\n\tdirectory = *\n");
        chmod(&repository, 0o700);
    };
    missing(Case { lay: closed, serve, ..CASE });
    let unreadable = |s: &Scratch| {
        let repository = s.bare("repo.git");
        s.global_config("[safe]\n\tdirectory = *\n");
        chmod(&repository.join("HEAD"), 0o600);
    };
    missing(Case { lay: unreadable, serve, ..CASE });
}

#[test]
fn foreign_owner() {
    needs_root!();
    let foreign = |case: Case| mended(case, "ownership", "foreign-owner", 2);
    let given = |s: &Scratch| chown(&s.bare("repo.git"), OTHER);
    let case = Case { lay: given, ..CASE };
    foreign(case);
    foreign(Case { lay: |s| chown(&s.bare("it's a.git"), OTHER), path: "/it's a", ..CASE });
    foreign(Case { serve: |s| exported(s).env("GIT_CONFIG_NOSYSTEM", "1"), ..case });
    foreign(Case {
        lay: |s| {
            chown(&s.bare("repo.git"), OTHER);
            s.global_config("[safe]\n\tdirectory = /x\n\tdirectory =\n");
        },
        ..CASE
    });
    foreign(Case {
        lay: |s| {
            let target = s.bare("other.git");
            s.gitfile("tree/.git", &target);
            chown(&s.path("tree"), OTHER);
        },
        path: "/tree",
        ..CASE
    });
    foreign(Case {
        lay: |s| {
            let target = s.bare("other.git");
            chown(&s.symlink("repo.git", &target), OTHER);
        },
        ..CASE
    });
    // As another user than root, who may not change the system's configuration, but the administrator can.
    foreign(Case {
        lay: |s| drop(s.bare("repo.git")),
        serve: |s| exported(s).user(SERVER, SERVER),
        ..CASE
    });
}

#[test]
fn not_listed() {
    let not_listed = |serve| mended(Case { serve, ..CASE }, "list", "not-listed", 1);
    not_listed(|s| exported(s).directory("/srv/other"));
    not_listed(|s| exported(s).directory(format!("{}/", s.repos().display())));
    not_listed(|s| exported(s).arg("--strict-paths").directory(s.repos()));
}

#[test]
fn not_exported() {
    let not_exported = |case| mended(case, "export", "not-exported", 2);
    not_exported(Case { serve: plain, ..CASE });
    let lay = |s: &Scratch| {
        let target = s.bare("it's other.git");
        s.gitfile("tree/.git", &target);
    };
    not_exported(Case { lay, serve: plain, path: "/tree", ..CASE });
}

#[test]
fn service_not_enabled() {
    let off = |case, count| mended(case, "setting", "service-not-enabled", count);
    off(Case { service: "receive-pack", ..CASE }, 2);
    off(Case { service: "upload-archive", ..CASE }, 2);
    const SET: &str = "[daemon]\n\tuploadpack = true\n\tuploadpack = false\n\tuploadpack = 0\n";
    off(Case { lay: |s| config(&s.bare("repo.git"), SET), ..CASE }, 1);
    off(
        Case {
            lay: |s| {
                drop(s.bare("repo.git"));
                s.global_config("[daemon]\n\tuploadpack = no\n");
            },
            ..CASE
        },
        1,
    );
    off(
        Case {
            lay: |s| {
                s.file("../included", "[daemon]\n\tuploadpack = off\n");
                config(&s.bare("repo.git"), "[include]\n\tpath = ../../included\n");
            },
            ..CASE
        },
        1,
    );
    off(Case { serve: |s| exported(s).arg("--git-config=daemon.uploadpack=0"), ..CASE }, 1);
}

#[test]
fn bad_configuration() {
    // An older git does not say where it is configured, and so is always asked.
    let asked = |step| if Git::version() < (2, 41) { "setting" } else { step };
    let bad = |case| mended(case, "setting", "bad-configuration", 1);
    bad(Case { lay: |s| config(&s.bare("repo.git"), "[daemon]\n\tuploadpack = maybe\n"), ..CASE });
    bad(Case { lay: |s| config(&s.bare("repo.git"), "[daemon]\nno=\"\n"), ..CASE });
    let archive = |s: &Scratch| exported(s).arg("--enable=upload-archive");
    let broken = |s: &Scratch| config(&s.bare("repo.git"), "what is this\n");
    let case = Case { lay: broken, serve: archive, service: "upload-archive", ..CASE };
    mended(case, asked("format"), "bad-configuration", 1);
    let newer = |s: &Scratch| {
        config(&s.bare("repo.git"), "[core]\n\trepositoryformatversion = 999\n");
    };
    let explained = Case { lay: newer, ..case }.build().explain();
    assert_eq!(
        (explained.refused_at(), explained.refusal("reason")),
        (asked("format"), "bad-configuration")
    );
    assert_eq!(explained.fixes()[0]["text"], "the repository needs a newer git than this one");
}

#[test]
fn access_hook() {
    let serve = |s: &Scratch| exported(s).option("--access-hook", s.root().join("hook"));
    let lay = |s: &Scratch| {
        s.bare("repo.git");
        chmod(&s.script("hook", "#!/bin/sh\nexit 0\n"), 0o644);
    };
    mended(Case { lay, serve, ..CASE }, "hook", "access-hook", 1);
    let lay = |s: &Scratch| {
        s.bare("it's.git");
        s.script("hook", "#!/bin/sh\necho \"not $1 for $2 from $REMOTE_ADDR\"\nexit 3\n");
    };
    let site = Case { lay, serve, path: "/it's", ..CASE }.build();
    let explained = site.explain();
    assert_eq!((explained.refused_at(), explained.refusal("reason")), ("hook", "access-hook"));
    let fixes = explained.fixes();
    assert_eq!(fixes[0]["kind"], "look");
    let path = site.scratch.path("it's.git");
    let said = format!("not upload-pack for {} from 127.0.0.1", path.display());
    assert_eq!(explained.refusal("client_otherwise"), format!("{said}: /it's"));
    let look = site.output_of(fixes[0]["text"].as_str().unwrap());
    assert_eq!(look, format!("{said}\n3\n"));
    // One that is not there.
    fs::remove_file(site.scratch.root().join("hook")).unwrap();
    let explained = site.explain();
    assert_eq!((explained.refused_at(), explained.refusal("reason")), ("hook", "access-hook"));
    assert_eq!(explained.fixes()[0]["kind"], "advice");
}

#[test]
fn service_failed() {
    // upload-pack finds out itself, once it has the client. An older git is asked before.
    let at = match Git::version() < (2, 41) {
        true => ("setting", "bad-configuration"),
        false => ("git", "service-failed"),
    };
    let lay = |s: &Scratch| config(&s.bare("repo.git"), "what is this\n");
    mended(Case { lay, ..CASE }, at.0, at.1, 1);
    let lay = |s: &Scratch| {
        config(&s.bare("repo.git"), "[core]\n\trepositoryformatversion = 999\n");
    };
    let explained = Case { lay, ..CASE }.build().explain();
    assert_eq!((explained.refused_at(), explained.refusal("reason")), at);
    let text = explained.steps(at.0)[0]["text"].as_str().unwrap();
    assert!(text.contains("Expected git repo version"), "{text}");
}

#[test]
fn no_git() {
    let serve = |s: &Scratch| exported(s).env("PATH", "/nonexistent");
    let site = Case { serve, ..CASE }.build();
    let explained = site.explain();
    assert!(!explained.served());
    assert_eq!(explained.fixes()[0]["kind"], "advice");
    assert_eq!(site.ask(), Err(explained.refusal("client").to_owned()));
    // One that cannot be executed.
    let serve = |s: &Scratch| exported(s).env("PATH", s.root().join("bin"));
    let lay = |s: &Scratch| {
        s.bare("repo.git");
        fs::create_dir(s.root().join("bin")).unwrap();
        install("/bin/true".as_ref(), &s.root().join("bin/git"));
        chmod(&s.root().join("bin/git"), 0o644);
    };
    let site = Case { lay, serve, ..CASE }.build();
    let explained = site.explain();
    assert!(!explained.served());
    assert_eq!(site.ask(), Err(explained.refusal("client").to_owned()));
}

#[test]
fn too_long() {
    let mut site = CASE.build();
    site.path = format!("/{}", "x".repeat(5000));
    let explained = site.explain();
    assert_eq!((explained.refused_at(), explained.refusal("reason")), ("path", "too-long"));
    assert!(!explained.served());
}

#[test]
fn moved() {
    let serve = |s: &Scratch| exported(s).arg("--moved-to=https://new.example%D");
    let explained = Case { serve, ..CASE }.build().explain();
    assert!(!explained.served());
    assert_eq!((explained.refused_at(), explained.refusal("reason")), ("moved", "moved"));
    assert_eq!(explained.refusal("client"), "moved; use https://new.example/repo.git");
    assert_eq!(explained.refusal("client_otherwise"), "");
}

#[test]
fn malformed() {
    let explained = Case { path: "git://[::1/repo.git", ..CASE }.build().explain();
    assert!(!explained.served());
    assert_eq!((explained.refused_at(), explained.refusal("reason")), ("request", "malformed"));
    assert!(explained.document["refusal"]["client"].is_null());
}
