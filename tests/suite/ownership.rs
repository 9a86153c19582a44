//! Whose repositories are served: contract 45 to 48. All need root, to give files away.

use std::fs;
use std::path::{Path, PathBuf};

use crate::support::scratch::{chown, config};
use crate::support::{
    Daemon, GENERIC, Git, Gitd, Implementation, Scratch, Session, Stock, Verdict, compliance,
    needs_root,
};

/// Two users that need no entry in the user database.
const SERVER: u32 = 31_001;
pub const OTHER: u32 = 31_002;

compliance! {
    refusal,
    every_service_refuses,
    before_the_list,
    what_counts,
    gitfiles,
    symlinks,
    daemon_of_a_user,
    root_and_sudo,
    safe_directory_values,
    safe_directory_of_a_tree,
    safe_directory_scopes,
    safe_directory_in_a_broken_configuration,
    safe_bare_repository,
    itself_inside,
    another_inside,
}

/// Contract 46: the words in the log, and what the client gets.
fn refusal(d: Implementation) {
    needs_root!();
    let scratch = Scratch::new();
    let plain = scratch.bare("repo.git");
    let quoted = scratch.bare("it's a.git");
    chown(&plain, OTHER);
    chown(&quoted, OTHER);
    for informative in [false, true] {
        let daemon = d.serve(&scratch).args(informative.then_some("--informative-errors")).start();
        for (pathname, path, shell) in [
            ("/repo", &plain, plain.display().to_string()),
            (
                "/it's a",
                &quoted,
                format!("'{}'", quoted.display().to_string().replace('\'', "'\\''")),
            ),
        ] {
            let mark = daemon.log.mark();
            let session = daemon.ask("upload-pack", pathname);
            session.assert_died(pathname, informative);
            match d {
                Stock => assert_eq!(
                    session.log[3..7],
                    [
                        &format!(
                            "fatal: detected dubious ownership in repository at '{}'",
                            path.display()
                        ),
                        "To add an exception for this directory, call:",
                        "",
                        &format!("\tgit config --global --add safe.directory {shell}"),
                    ]
                ),
                // One line, with the cause and the remedy.
                Gitd => {
                    assert_eq!(session.log.len(), 5, "{:?}", session.log);
                    // The end of the connection before may be logged after the mark.
                    let lines = daemon.log.raw(mark).into_iter();
                    let mut lines = lines.map(|line| String::from_utf8(line).unwrap());
                    let line = lines.find(|line| line.contains("dubious ownership")).unwrap();
                    assert!(line.contains("safe.directory"), "{line}");
                    assert!(line.contains(path.to_str().unwrap()), "{line}");
                }
            }
        }
    }
}

/// Contract 45, 48: the daemon asks before any service does.
fn every_service_refuses(d: Implementation) {
    needs_root!();
    let scratch = Scratch::new();
    let repo = scratch.bare("repo.git");
    config(&repo, "[daemon] receivepack = true\n uploadarch = true\n");
    chown(&repo, OTHER);
    let daemon = d.serve(&scratch).start();
    for service in ["upload-pack", "receive-pack", "upload-archive"] {
        let session = daemon.ask(service, "/repo.git");
        assert!(is_dubious(&session), "{service}: {session:?}");
        session.assert_died("/repo.git", false);
    }
}

/// Contract 31, 46: the owner is asked for before the list, so both are told of the owner.
fn before_the_list(d: Implementation) {
    needs_root!();
    let scratch = Scratch::new();
    chown(&scratch.bare("repo.git"), OTHER);
    let daemon = d.serve(&scratch).directory(scratch.root().join("elsewhere")).start();
    assert!(is_dubious(&daemon.ask("upload-pack", "/repo")));
}

/// Contract 45: for `D/.git` that directory counts, and neither the tree nor what is inside.
fn what_counts(d: Implementation) {
    needs_root!();
    let scratch = Scratch::new();
    let tree = scratch.non_bare("tree");
    chown(&tree, OTHER);
    owner(&tree.join(".git"), 0);
    let inner = scratch.non_bare("inner");
    chown(&inner.join(".git"), OTHER);
    owner(&inner, 0);
    let daemon = d.serve(&scratch).start();
    daemon.ask("upload-pack", "/tree").assert_served("tree");
    daemon.ask("upload-pack", "/tree/.git").assert_served("tree");
    assert!(is_dubious(&daemon.ask("upload-pack", "/inner")));
}

/// Contract 45: a gitfile and its target both count.
fn gitfiles(d: Implementation) {
    needs_root!();
    let scratch = Scratch::new();
    let ours = scratch.bare("ours.git");
    let theirs = scratch.bare("theirs.git");
    chown(&theirs, OTHER);
    for (name, target, gitfile_owner, served) in [
        ("a", &ours, 0, true),
        ("b", &ours, OTHER, false),
        ("c", &theirs, 0, false),
        ("d", &theirs, OTHER, false),
    ] {
        owner(&scratch.gitfile(name, target), gitfile_owner);
        // The daemon checks: the services of later gits do not.
        let daemon = d.serve(&scratch).path_first(&scratch.trusting_git("")).start();
        let session = daemon.ask("upload-pack", &format!("/{name}"));
        if served {
            session.assert_served("ours.git");
        } else {
            assert!(is_dubious(&session), "{name}: {session:?}");
        }
    }
}

/// Contract 45, 48: a symlink's own owner counts, its target's does not; services of older gits ask again.
fn symlinks(d: Implementation) {
    needs_root!();
    let scratch = Scratch::new();
    let ours = scratch.bare("ours.git");
    let theirs = scratch.bare("theirs.git");
    config(&theirs, "[daemon] receivepack = true\n");
    chown(&theirs, OTHER);
    let foreign_link = scratch.symlink("foreign", &ours);
    owner(&foreign_link, OTHER);
    scratch.symlink("link", &theirs);
    let daemon = d.serve(&scratch).start();
    assert!(is_dubious(&daemon.ask("upload-pack", "/foreign")));
    let session = daemon.ask("upload-pack", "/link");
    if Git::version() >= (2, 48) {
        session.assert_served("theirs.git");
    } else {
        session.assert_died("/link", false);
        session.assert_line("fatal: detected dubious ownership in repository at '.'");
    }
    let session = daemon.ask("receive-pack", "/link");
    session.assert_died("/link", false);
}

/// Contract 45: "ours" means the daemon's user, and a root-owned repository is not.
fn daemon_of_a_user(d: Implementation) {
    needs_root!();
    let scratch = Scratch::new();
    let own = scratch.bare("own.git");
    chown(&own, SERVER);
    let other = scratch.bare("other.git");
    chown(&other, OTHER);
    scratch.bare("root.git");
    let daemon = d.serve(&scratch).user(SERVER, SERVER).start();
    daemon.ask("upload-pack", "/own").assert_served("own.git");
    assert!(is_dubious(&daemon.ask("upload-pack", "/other")));
    assert!(is_dubious(&daemon.ask("upload-pack", "/root")));
}

/// Contract 45: under sudo root serves what the caller owns.
fn root_and_sudo(d: Implementation) {
    needs_root!();
    let scratch = Scratch::new();
    let caller = scratch.bare("caller.git");
    chown(&caller, SERVER);
    let other = scratch.bare("other.git");
    chown(&other, OTHER);
    scratch.bare("root.git");
    let served = |sudo_uid: &str, pathname: &str| {
        let daemon = d.serve(&scratch).env("SUDO_UID", sudo_uid).start();
        !is_dubious(&daemon.ask("upload-pack", pathname))
    };
    let sudo_uid = SERVER.to_string();
    assert!(served(&sudo_uid, "/caller"));
    assert!(served(&(u64::from(SERVER) + (1 << 32)).to_string(), "/caller"));
    assert!(served(&sudo_uid, "/root"));
    assert!(!served(&sudo_uid, "/other"));
    for nonsense in ["", "x", "0", "99999999999999999999"] {
        assert!(!served(nonsense, "/caller"), "{nonsense}");
    }
    // Only root uses it.
    let daemon = d.serve(&scratch).user(OTHER, OTHER).env("SUDO_UID", &sudo_uid).start();
    assert!(is_dubious(&daemon.ask("upload-pack", "/caller")));
    assert!(!is_dubious(&daemon.ask("upload-pack", "/other")));
}

/// Contract 47: which values of safe.directory name a repository.
fn safe_directory_values(d: Implementation) {
    needs_root!();
    let scratch = Scratch::new();
    let repo = scratch.bare("deep/repo.git");
    chown(&repo, OTHER);
    owner(&scratch.symlink("link.git", &repo), OTHER);
    let in_home = scratch.home().join("h.git");
    fs::rename(scratch.bare("h.git"), &in_home).unwrap();
    chown(&in_home, OTHER);
    scratch.symlink("home", scratch.home());
    let daemon = d.serve(&scratch).start();
    let path = repo.display();
    let parent = repo.parent().unwrap().display();
    let base = scratch.repos();
    let base = base.display();
    for (values, pathname, served) in [
        (vec![], "/deep/repo", false),
        (vec![format!("{path}")], "/deep/repo", true),
        (vec![format!("{path}")], "/link", true),
        (vec![format!("{path}/")], "/deep/repo", true),
        (vec![format!("{parent}/*")], "/deep/repo", true),
        (vec![format!("{base}/*")], "/deep/repo", true),
        (vec![format!("{base}/")], "/deep/repo", false),
        (vec![format!("{base}")], "/deep/repo", false),
        (vec![format!("{parent}/repo*")], "/deep/repo", false),
        (vec![format!("{parent}/re*")], "/deep/repo", false),
        (vec!["*".to_owned()], "/deep/repo", true),
        (vec![".".to_owned()], "/deep/repo", false),
        (vec!["srv/deep/repo.git".to_owned()], "/deep/repo", false),
        (vec!["repo.git".to_owned()], "/deep/repo", false),
        (vec!["./repo.git".to_owned()], "/deep/repo", false),
        (vec![format!("{path}"), String::new()], "/deep/repo", false),
        (vec![String::new(), format!("{path}")], "/deep/repo", true),
        (vec!["*".to_owned(), String::new()], "/deep/repo", false),
        (vec![format!("{parent}/../deep/repo.git")], "/deep/repo", true),
        (vec![format!("{base}/link.git")], "/deep/repo", true),
        (vec!["~/h.git".to_owned()], "/home/h", true),
    ] {
        write_global(&scratch, &values);
        let session = daemon.ask("upload-pack", pathname);
        let served = served && safe_for_services(&values);
        assert_eq!(!is_dubious(&session), served, "{values:?}: {session:#?}");
        if d == Stock && Git::version() >= (2, 46) && values[..] == ["srv/deep/repo.git"] {
            session.assert_line("warning: safe.directory 'srv/deep/repo.git' not absolute");
        }
    }
}

/// Contract 47: for a repository with a tree the name is that of its git directory.
fn safe_directory_of_a_tree(d: Implementation) {
    needs_root!();
    let scratch = Scratch::new();
    let tree = scratch.non_bare("tree");
    chown(&tree, OTHER);
    let daemon = d.serve(&scratch).start();
    for (value, served) in
        [(tree.clone(), false), (tree.join(".git"), true), (tree.join("*"), true)]
    {
        let values = [value.display().to_string()];
        write_global(&scratch, &values);
        let session = daemon.ask("upload-pack", "/tree");
        let served = served && safe_for_services(&values);
        assert_eq!(!is_dubious(&session), served, "{}: {session:#?}", value.display());
    }
}

/// Contract 47: the configurations in which `safe.directory` counts.
fn safe_directory_scopes(d: Implementation) {
    needs_root!();
    let scratch = Scratch::new();
    let repo = scratch.bare("repo.git");
    config(&repo, "[safe] directory = *\n");
    chown(&repo, OTHER);
    let served = |daemon: Daemon| !is_dubious(&daemon.ask("upload-pack", "/repo"));
    assert!(!served(d.serve(&scratch).start()));
    assert!(served(d.serve(&scratch).command_config(&[("safe.directory", "*")]).start()));
    let system = scratch.home().join("system");
    fs::write(&system, "[safe] directory = *\n").unwrap();
    assert!(served(d.serve(&scratch).start()));
    // A later scope takes an earlier one's word back.
    scratch.global_config("[safe] directory =\n");
    assert!(!served(d.serve(&scratch).start()));
    fs::remove_file(system).unwrap();
    let included = scratch.root().join("included");
    fs::write(&included, "[safe] directory = *\n").unwrap();
    write_global(&scratch, &[]);
    scratch.global_config(&format!("[include] path = {}\n", included.display()));
    assert!(served(d.serve(&scratch).start()));
}

/// Contract 46, 47: what git complains of is the configuration, be it beside a value that it only warns about.
fn safe_directory_in_a_broken_configuration(d: Implementation) {
    needs_root!();
    let scratch = Scratch::new();
    chown(&scratch.bare("repo.git"), OTHER);
    write_global(&scratch, &["**".to_owned(), "*".to_owned()]);
    scratch.global_config("[includeIf \"onbranch:**\"]\n\tpath = ~nosuch/included\n");
    let session = d.serve(&scratch).start().ask("upload-pack", "/repo");
    assert!(!matches!(session.verdict, Verdict::Served(_)), "{session:#?}");
    let told = |words: &str| session.log.iter().any(|line| line.contains(words));
    assert!(told("could not expand include path '~nosuch/included'"), "{session:#?}");
    assert!(!told("dubious ownership"), "{session:#?}");
}

/// Contract 47: a protection for people in strange directories is none for a daemon.
fn safe_bare_repository(d: Implementation) {
    let scratch = Scratch::new();
    scratch.bare("repo.git");
    scratch.global_config("[safe] bareRepository = explicit\n");
    let daemon = d.serve(&scratch).start();
    daemon.ask("upload-pack", "/repo").assert_served("repo.git");
}

/// Contract 47: a bare repository with a link to itself, for programs that want a `.git`.
fn itself_inside(d: Implementation) {
    needs_root!();
    let scratch = Scratch::new();
    let repo = scratch.bare("repo.git");
    scratch.symlink("repo.git/.git", &repo);
    chown(&repo, OTHER);
    let daemon = d.serve(&scratch).start();
    for (values, served) in [(vec![], false), (vec!["*".to_owned()], true)] {
        write_global(&scratch, &values);
        let session = daemon.ask("upload-pack", "/repo");
        assert_eq!(!is_dubious(&session), served, "{values:?}: {session:#?}");
    }
}

/// Contract 44, 47: a repository of whose name git cannot be asked, as it finds the one inside.
fn another_inside(d: Implementation) {
    needs_root!();
    let scratch = Scratch::new();
    let around = with_another_inside(&scratch);
    let daemon = d.serve(&scratch).args(["--strict-paths"]).directory(&around).start();
    for (values, served) in [(vec![], false), (vec!["*".to_owned()], d == Stock)] {
        write_global(&scratch, &values);
        let session = daemon.ask("upload-pack", "/around.git");
        assert_eq!(!is_dubious(&session), served, "{values:?}: {session:#?}");
    }
}

/// Another user's repository that has a second one inside.
pub fn with_another_inside(scratch: &Scratch) -> PathBuf {
    let around = scratch.bare("around.git");
    fs::rename(scratch.bare("inside.git"), around.join(".git")).unwrap();
    chown(&around, OTHER);
    around
}

pub fn write_global(scratch: &Scratch, values: &[String]) {
    let lines = values.iter().map(|v| format!("\tdirectory = \"{v}\"\n"));
    let text = format!("[safe]\n{}", lines.collect::<String>());
    fs::write(scratch.home().join(".gitconfig"), text).unwrap();
}

/// Before 2.46 the services ask again, for `.`, which only `*` makes safe.
fn safe_for_services(values: &[String]) -> bool {
    Git::version() >= (2, 46) || values.iter().any(|value| value == "*")
}

/// Refused for its owner, by the daemon or by the service.
pub fn is_dubious(session: &Session) -> bool {
    let refused = match (session.implementation, &session.verdict) {
        (_, Verdict::Served(_)) => false,
        (Stock, verdict) => {
            assert_eq!(*verdict, Verdict::Silence);
            true
        }
        (Gitd, Verdict::Refused(text)) => text.starts_with(GENERIC),
        // The service has asked as well.
        (Gitd, Verdict::Silence) => true,
    };
    let told = session.log.iter().any(|line| line.contains("dubious ownership"));
    assert_eq!(refused, told, "{session:#?}");
    refused
}

/// Gives one file away and not what is in it.
fn owner(path: &Path, uid: u32) {
    std::os::unix::fs::lchown(path, Some(uid), Some(uid)).unwrap();
}
