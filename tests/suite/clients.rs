//! Stock git clients do their work: list, clone and fetch, by every protocol version.

use std::fs;
use std::path::Path;

use crate::support::scratch::{FILE, config, head};
use crate::support::{Git, Implementation, Scratch, compliance};

compliance! {
    list,
    clone,
    clone_of_a_tree,
    clone_over_ipv6,
    sha256,
    reftable,
    shallow,
    partial,
    bundle_uri,
    packfile_uris,
    fetch,
}

pub const VERSIONS: [u32; 3] = [0, 1, 2];

pub fn clone_into(scratch: &Scratch, version: u32, name: &str) -> Git {
    let _ = fs::remove_dir_all(scratch.root().join(name));
    Git::new(scratch).protocol(version).args(["clone", "--quiet"])
}

pub fn assert_clone(scratch: &Scratch, name: &str) {
    let clone = scratch.root().join(name);
    assert_eq!(fs::read_to_string(clone.join(FILE.0)).unwrap(), FILE.1);
    Git::new(scratch).cwd(clone).args(["fsck", "--strict"]).ok();
}

fn list(d: Implementation) {
    let scratch = Scratch::new();
    let commit = head(&scratch.bare("repo.git"));
    let daemon = d.serve(&scratch).start();
    for version in VERSIONS {
        let refs =
            Git::new(&scratch).protocol(version).arg("ls-remote").arg(daemon.url("/repo.git")).ok();
        assert_eq!(
            refs,
            format!("{commit}\tHEAD\n{commit}\trefs/heads/is-repo\n{commit}\trefs/heads/main")
        );
    }
}

fn clone(d: Implementation) {
    let (scratch, daemon) = d.serve_one();
    for version in VERSIONS {
        clone_into(&scratch, version, "copy").arg(daemon.url("/repo.git")).arg("copy").ok();
        assert_clone(&scratch, "copy");
    }
}

fn clone_of_a_tree(d: Implementation) {
    let scratch = Scratch::new();
    scratch.non_bare("tree");
    let daemon = d.serve(&scratch).start();
    for version in VERSIONS {
        for pathname in ["/tree", "/tree/.git"] {
            clone_into(&scratch, version, "copy").arg(daemon.url(pathname)).arg("copy").ok();
            assert_clone(&scratch, "copy");
        }
    }
}

fn clone_over_ipv6(d: Implementation) {
    let scratch = Scratch::new();
    scratch.bare("repo.git");
    let daemon = d.serve(&scratch).listen(&["::1"]).start();
    for version in VERSIONS {
        clone_into(&scratch, version, "copy").arg(daemon.url("/repo.git")).arg("copy").ok();
        assert_clone(&scratch, "copy");
    }
}

fn sha256(d: Implementation) {
    let scratch = Scratch::new();
    scratch.sha256("repo.git");
    let daemon = d.serve(&scratch).start();
    for version in VERSIONS {
        clone_into(&scratch, version, "copy").arg(daemon.url("/repo.git")).arg("copy").ok();
        assert_clone(&scratch, "copy");
    }
}

fn reftable(d: Implementation) {
    // Git has it since 2.45; an older one refuses such a repository like any unknown extension.
    if Git::version() < (2, 45) {
        return;
    }
    let scratch = Scratch::new();
    scratch.reftable("repo.git");
    let daemon = d.serve(&scratch).start();
    for version in VERSIONS {
        clone_into(&scratch, version, "copy").arg(daemon.url("/repo.git")).arg("copy").ok();
        assert_clone(&scratch, "copy");
    }
}

/// A second commit on main, and a tag.
fn grow(scratch: &Scratch, repository: &Path) {
    let tree = format!("{}^{{tree}}", head(repository));
    let git = || Git::of_server(scratch).arg("--git-dir").arg(repository);
    let commit = git().args(["commit-tree", "-p", "main", "-m", "second", &tree]).ok();
    git().args(["update-ref", "refs/heads/main", &commit]).ok();
    git().args(["tag", "-f", "v1", &commit]).ok();
}

fn count(scratch: &Scratch, clone: &str) -> String {
    Git::new(scratch).cwd(scratch.root().join(clone)).args(["rev-list", "--count", "HEAD"]).ok()
}

fn shallow(d: Implementation) {
    let scratch = Scratch::new();
    grow(&scratch, &scratch.bare("repo.git"));
    let daemon = d.serve(&scratch).start();
    for version in VERSIONS {
        clone_into(&scratch, version, "copy")
            .args(["--depth=1"])
            .arg(daemon.url("/repo.git"))
            .arg("copy")
            .ok();
        assert_eq!(count(&scratch, "copy"), "1");
        Git::new(&scratch)
            .protocol(version)
            .cwd(scratch.root().join("copy"))
            .args(["fetch", "-q", "--unshallow"])
            .ok();
        assert_eq!(count(&scratch, "copy"), "2");
    }
}

fn partial(d: Implementation) {
    let scratch = Scratch::new();
    config(
        &scratch.bare("repo.git"),
        "[uploadpack] allowFilter = true\n allowAnySHA1InWant = true\n",
    );
    let daemon = d.serve(&scratch).start();
    for version in VERSIONS {
        clone_into(&scratch, version, "copy")
            .args(["--filter=blob:none", "--no-checkout"])
            .arg(daemon.url("/repo.git"))
            .arg("copy")
            .ok();
        let copy = scratch.root().join("copy");
        let missing = Git::new(&scratch)
            .cwd(&copy)
            .args(["rev-list", "--objects", "--missing=print", "HEAD"])
            .ok();
        assert!(missing.lines().any(|line| line.starts_with('?')), "{missing}");
        // The checkout fetches what it needs by a session of its own.
        Git::new(&scratch).protocol(version).cwd(&copy).args(["checkout", "-q", "main"]).ok();
        assert_eq!(fs::read_to_string(copy.join(FILE.0)).unwrap(), FILE.1);
    }
}

fn bundle_uri(d: Implementation) {
    let scratch = Scratch::new();
    let repo = scratch.bare("repo.git");
    let bundle = scratch.root().join("all.bundle");
    Git::of_server(&scratch)
        .arg("--git-dir")
        .arg(&repo)
        .args(["bundle", "create", "-q"])
        .arg(&bundle)
        .args(["main"])
        .ok();
    config(
        &repo,
        &format!(
            "[uploadpack] advertiseBundleURIs = true\n[bundle] version = 1\n mode = all\n[bundle \"all\"] uri = file://{}\n",
            bundle.display()
        ),
    );
    let daemon = d.serve(&scratch).start();
    let trace = scratch.root().join("trace");
    clone_into(&scratch, 2, "copy")
        .args(["-c", "transfer.bundleURI=true"])
        .arg(daemon.url("/repo.git"))
        .arg("copy")
        .env("GIT_TRACE_PACKET", &trace)
        .ok();
    assert_clone(&scratch, "copy");
    let trace = fs::read_to_string(trace).unwrap();
    let line = format!("bundle.all.uri=file://{}", bundle.display());
    // Offered, and asked for, since 2.40.
    let offered = Git::version() >= (2, 40) && Git::client_version() >= (2, 40);
    assert_eq!(trace.contains(&line), offered, "{trace}");
}

fn packfile_uris(d: Implementation) {
    let scratch = Scratch::new();
    let repo = scratch.bare("repo.git");
    let blob = Git::of_server(&scratch)
        .arg("--git-dir")
        .arg(&repo)
        .args(["rev-parse", &format!("main:{}", FILE.0)])
        .ok();
    config(
        &repo,
        &format!("[uploadpack] blobPackfileUri = {blob} {blob} https://cdn.example/pack.pack\n"),
    );
    let daemon = d.serve(&scratch).start();
    let trace = scratch.root().join("trace");
    // A client that does not take URIs gets everything in-line; one that does is told of them.
    clone_into(&scratch, 2, "copy")
        .arg(daemon.url("/repo.git"))
        .arg("copy")
        .env("GIT_TRACE_PACKET", &trace)
        .ok();
    assert_clone(&scratch, "copy");
    assert!(fs::read_to_string(trace).unwrap().contains("packfile-uris"));
}

fn fetch(d: Implementation) {
    let scratch = Scratch::new();
    let repo = scratch.bare("repo.git");
    let daemon = d.serve(&scratch).start();
    for version in VERSIONS {
        clone_into(&scratch, version, "copy").arg(daemon.url("/repo.git")).arg("copy").ok();
        let fetch = || {
            Git::new(&scratch)
                .protocol(version)
                .cwd(scratch.root().join("copy"))
                .args(["fetch", "-q"])
                .ok();
            Git::new(&scratch)
                .cwd(scratch.root().join("copy"))
                .args(["rev-parse", "origin/main"])
                .ok()
        };
        assert_eq!(fetch(), head(&repo));
        grow(&scratch, &repo);
        assert_eq!(fetch(), head(&repo));
    }
}
