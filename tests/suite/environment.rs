//! What git's variables in the server's own environment do to clients: contract 51, B16. Some narrow what is
//! served, so none may be lost; none may lead gitd's own questions astray.

use crate::support::scratch::{chown, config};
use crate::support::{
    Git, Gitd, Implementation, Invocation, Scratch, Session, Stock, Verdict, needs_root, pkt,
};

/// `$ROOT` is the scratch directory. The last says which difference the pair may show.
const VARIABLES: [(&str, &str, Option<&str>); 42] = [
    ("GIT_NAMESPACE", "pub", None),
    ("GIT_NAMESPACE", "", None),
    ("GIT_NAMESPACE", "nothing", None),
    ("GIT_NAMESPACE", "a/../b", None),
    ("GIT_CEILING_DIRECTORIES", "$ROOT", None),
    ("GIT_DIR", "/nowhere", None),
    ("GIT_DIR", "$ROOT/srv/other.git", None),
    ("GIT_COMMON_DIR", "", None),
    ("GIT_COMMON_DIR", "/nowhere", None),
    ("GIT_COMMON_DIR", "$ROOT/home", None),
    ("GIT_COMMON_DIR", "$ROOT/srv/other.git", None),
    ("GIT_COMMON_DIR", "$ROOT/srv/closed.git", None),
    ("GIT_COMMON_DIR", "$ROOT/srv/new.git", None),
    ("GIT_COMMON_DIR", "other.git", None),
    ("GIT_OBJECT_DIRECTORY", "", None),
    ("GIT_OBJECT_DIRECTORY", "/nowhere", None),
    ("GIT_OBJECT_DIRECTORY", "$ROOT/home", None),
    ("GIT_OBJECT_DIRECTORY", "$ROOT/srv/other.git/objects", None),
    ("GIT_OBJECT_DIRECTORY", "objects", None),
    ("GIT_OBJECT_DIRECTORY", ".", Some("B16")),
    ("GIT_ALTERNATE_OBJECT_DIRECTORIES", "$ROOT/srv/other.git/objects", None),
    ("GIT_QUARANTINE_PATH", "/nowhere", None),
    ("GIT_WORK_TREE", "/nowhere", None),
    ("GIT_WORK_TREE", "$ROOT", None),
    ("GIT_INDEX_FILE", "/nowhere", None),
    ("GIT_PREFIX", "srv/", None),
    ("GIT_SHALLOW_FILE", "/nowhere", None),
    ("GIT_SHALLOW_FILE", "", None),
    ("GIT_GRAFT_FILE", "/nowhere", None),
    ("GIT_REPLACE_REF_BASE", "refs/heads/", None),
    ("GIT_NO_REPLACE_OBJECTS", "1", None),
    ("GIT_IMPLICIT_WORK_TREE", "0", None),
    ("GIT_INTERNAL_SUPER_PREFIX", "x/", None),
    ("GIT_CONFIG", "$ROOT/srv/closed.git/config", None),
    ("GIT_CONFIG_GLOBAL", "$ROOT/srv/closed.git/config", None),
    ("GIT_CONFIG_SYSTEM", "$ROOT/srv/closed.git/config", None),
    ("GIT_CONFIG_PARAMETERS", "'daemon.uploadpack'='false'", None),
    ("GIT_CONFIG_PARAMETERS", "'uploadpack.hideRefs'='refs/heads'", None),
    ("GIT_CONFIG_COUNT", "x", None),
    ("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1", None),
    ("GIT_TEST_ASSUME_DIFFERENT_OWNER", "no", None),
    ("GIT_TEST_ASSUME_DIFFERENT_OWNER", "maybe", None),
];

/// A repository with a namespace, and others that variables can lead to.
fn scene() -> Scratch {
    let scratch = Scratch::new();
    let repo = scratch.bare("repo.git");
    let head = std::fs::read(repo.join("refs/heads/main")).unwrap();
    scratch.file("repo.git/refs/namespaces/pub/refs/heads/shown", head);
    scratch.bare("other.git");
    config(&scratch.path("other.git"), "[daemon] receivepack = true\n");
    config(&scratch.bare("closed.git"), "[daemon] uploadpack = false\n");
    config(&scratch.bare("new.git"), "[core] repositoryformatversion = 999\n");
    scratch
}

/// What a client of `/repo.git` sees: the refs, or nothing.
fn seen(session: &Session) -> Option<Vec<String>> {
    let Verdict::Served(lines) = &session.verdict else { return None };
    let names = lines.iter().map(|line| {
        let line = line.split(['\0', '\n']).next().unwrap();
        line.split_once(' ').map_or(line, |(_, name)| name).to_owned()
    });
    Some(names.collect())
}

fn ask(d: Implementation, invocation: Invocation, service: &str) -> Option<Vec<String>> {
    let Some(daemon) = invocation.try_start() else {
        assert_eq!(d, Stock);
        return None;
    };
    let mut all = seen(&daemon.talk(pkt(format!("git-{service} /repo.git\0host=x\0"))));
    if let Some(names) = &mut all {
        names.sort();
    }
    all
}

/// The same is seen of gitd as of stock, for each variable.
fn compare(scratch: &Scratch, prepare: impl Fn(Invocation) -> Invocation) {
    let root = scratch.root().to_str().unwrap();
    let mut refused = 0;
    for (name, value, difference) in VARIABLES {
        for service in ["upload-pack", "receive-pack"] {
            let ask = |d: Implementation| {
                let invocation = d.serve(scratch).env(name, value.replace("$ROOT", root));
                ask(d, prepare(invocation), service)
            };
            let (stock, gitd) = (ask(Stock), ask(Gitd));
            refused += usize::from(gitd.is_none());
            match difference {
                None => assert_eq!(gitd, stock, "{service} {name}={value}"),
                // Whatever it is about, it never widens.
                Some("B16") => assert_eq!(gitd, None, "{service} {name}={value}, {stock:?}"),
                Some(other) => panic!("{other}"),
            }
        }
    }
    assert!(refused > VARIABLES.len() / 4, "{refused}");
}

#[test]
fn as_with_stock() {
    let scratch = scene();
    compare(&scratch, |invocation| invocation);
}

/// With a service that only the configuration enables, which gitd asks git about.
#[test]
fn as_with_stock_by_configuration() {
    let scratch = scene();
    config(&scratch.path("repo.git"), "[daemon] receivepack = true\n");
    compare(&scratch, |invocation| invocation);
}

/// With another user's repository, of which gitd asks git whether it is safe.
#[test]
fn as_with_stock_of_another_user() {
    needs_root!();
    let scratch = scene();
    let repo = scratch.path("repo.git");
    chown(&repo, 31_002);
    let values: &[&str] =
        if Git::version() >= (2, 46) { &[""] } else { &["", "\tdirectory = *\n"] };
    for more in values {
        let home = scratch.home().join(".gitconfig");
        let text = format!("[safe]\n\tdirectory = {}\n{more}", repo.display());
        std::fs::write(home, text).unwrap();
        compare(&scratch, |invocation| invocation.arg("--enable=receive-pack"));
    }
}

/// The namespace is all that is shown, in both versions of the protocol, and not what stands beside it.
#[test]
fn a_namespace_hides_the_rest() {
    let scratch = scene();
    for d in [Stock, Gitd] {
        let daemon = d.serve(&scratch).env("GIT_NAMESPACE", "pub").start();
        let shown = seen(&daemon.ask("upload-pack", "/repo.git")).unwrap();
        assert_eq!(shown, ["refs/heads/shown"], "{d:?}");
        for version in ["0", "2"] {
            let remote = Git::new(&scratch)
                .args(["-c", &format!("protocol.version={version}"), "ls-remote"])
                .arg(daemon.url("/repo.git"));
            let refs = remote.ok();
            let names: Vec<_> = refs.lines().filter_map(|line| line.split('\t').nth(1)).collect();
            assert_eq!(names, ["refs/heads/shown"], "{d:?} {version}");
        }
    }
}
