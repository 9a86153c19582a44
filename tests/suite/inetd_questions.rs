//! What git is asked for the one client of --inetd: nothing that can do without an answer, and all that cannot;
//! contract 45, 47 and 52.

use std::fs;

use crate::inetd::Inetd;
use crate::support::scratch::{chown, config, export, install};
use crate::support::{
    GENERIC, Git, Gitd, Implementation, Invocation, Packet, Scratch, compliance, needs_root,
    request,
};

compliance! {
    configuration_of_the_server,
    configuration_that_is_included,
    owner,
}

fn exported() -> Scratch {
    let scratch = Scratch::new();
    export(&scratch.bare("repo.git"));
    scratch
}

/// Whether upload-pack is offered; the client wants nothing then.
fn serves(invocation: Invocation) -> bool {
    let (mut inetd, mut client) = Inetd::tcp(invocation);
    client.send(request("upload-pack", "/repo.git"));
    let first = client.packet();
    client.try_send("0000");
    client.rest();
    drop(client);
    if first == Packet::Data(format!("ERR {GENERIC}: /repo.git").into_bytes()) {
        assert_eq!(inetd.code(), Some(255));
        return false;
    }
    assert_eq!(inetd.code(), Some(0), "{first:?}");
    true
}

/// Contract 52: wherever outside the repository `daemon.uploadpack` stands, it is found.
fn configuration_of_the_server(d: Implementation) {
    const OFF: &str = "[daemon] uploadpack = false\n";
    let scratch = exported();
    let invoke = || d.invoke(&scratch).base_path();
    assert!(serves(invoke()));
    let home = scratch.home();
    fs::create_dir_all(home.join(".config/git")).unwrap();
    fs::create_dir_all(scratch.root().join("xdg/git")).unwrap();
    let elsewhere = scratch.root().join("elsewhere");
    fs::write(&elsewhere, OFF).unwrap();
    for file in ["system", ".gitconfig", ".config/git/config"] {
        fs::write(home.join(file), OFF).unwrap();
        assert!(!serves(invoke()), "{file}");
        fs::remove_file(home.join(file)).unwrap();
    }
    assert!(serves(invoke()));
    let key = [("daemon.uploadpack", "false")];
    assert!(!serves(invoke().command_config(&key)));
    if Git::version() >= (2, 32) {
        assert!(!serves(invoke().env("GIT_CONFIG_GLOBAL", &elsewhere)));
        assert!(!serves(invoke().env("GIT_CONFIG_SYSTEM", &elsewhere)));
    }
    fs::write(scratch.root().join("xdg/git/config"), OFF).unwrap();
    assert!(!serves(invoke().env("XDG_CONFIG_HOME", scratch.root().join("xdg"))));
    // A relative name is another file in each repository.
    fs::create_dir(scratch.path("repo.git/git")).unwrap();
    fs::write(scratch.path("repo.git/git/config"), OFF).unwrap();
    assert!(!serves(invoke().env("XDG_CONFIG_HOME", ".")));
}

/// Contract 52: the same behind an include.
fn configuration_that_is_included(d: Implementation) {
    let scratch = exported();
    fs::write(scratch.home().join("more"), "[daemon] uploadpack = false\n").unwrap();
    scratch.global_config("[include] path = more\n");
    assert!(!serves(d.invoke(&scratch).base_path()));
}

/// Contract 45, 47: the repository's owner, and `safe.directory`.
fn owner(d: Implementation) {
    needs_root!();
    let scratch = exported();
    let repository = scratch.path("repo.git");
    chown(&repository, 31_002);
    // git's own upload-pack before 2.48 refuses as well, so that it must not be asked.
    let git = scratch.trusting_git("");
    let invoke = || d.invoke(&scratch).base_path().path_first(&git);
    let (mut inetd, mut client) = Inetd::tcp(invoke());
    client.send(request("upload-pack", "/repo.git"));
    let (answer, _) = client.rest();
    let refused = format!("ERR {GENERIC}: /repo.git");
    let expected = d.differs("B6", "", &refused);
    assert!(String::from_utf8(answer).unwrap().ends_with(expected));
    assert_ne!(inetd.code(), Some(0));
    scratch.global_config(&format!("[safe] directory = {}\n", repository.display()));
    assert!(serves(invoke()));
}

/// A `git` that writes down its arguments. It is a script, so gitd cannot know where it is configured.
fn witness(scratch: &Scratch, invocation: Invocation) -> Invocation {
    let asked = scratch.root().join("asked");
    let real = Git::program().display();
    let text = format!("#!/bin/sh\necho \"$*\" >>{}\nexec {real} \"$@\"\n", asked.display());
    let script = scratch.script("witness/git", &text);
    invocation.path_first(script.parent().unwrap())
}

fn asked(scratch: &Scratch) -> Vec<String> {
    let asked = fs::read_to_string(scratch.root().join("asked")).unwrap_or_default();
    asked.lines().map(str::to_owned).collect()
}

/// What is refused for another reason costs no process.
#[test]
fn nothing_for_a_refusal() {
    let scratch = exported();
    scratch.bare("hidden.git");
    config(&scratch.bare("other.git"), "[daemon] uploadpack = false\n");
    for (service, pathname) in [
        ("upload-pack", "/nothing"),
        ("upload-pack", "/hidden.git"),
        ("upload-pack", "/other.git"),
        ("upload-pack", "repo.git"),
    ] {
        let invocation = witness(&scratch, Gitd.invoke(&scratch).base_path());
        let (mut inetd, mut client) = Inetd::tcp(invocation);
        client.send(request(service, pathname));
        assert_eq!(client.packet(), Packet::Data(format!("ERR {GENERIC}: {pathname}").into()));
        client.rest();
        drop(client);
        assert_eq!(inetd.code(), Some(255));
        assert_eq!(asked(&scratch), [""; 0], "{pathname}");
    }
}

/// If gitd cannot know where git is configured, it asks git for the setting, and nothing else.
#[test]
fn one_question_for_an_unknown_git() {
    let scratch = exported();
    assert!(serves(witness(&scratch, Gitd.invoke(&scratch).base_path())));
    let [question, service] = &asked(&scratch)[..] else { panic!("{:?}", asked(&scratch)) };
    assert_eq!(question, "config --type=bool --get daemon.uploadpack");
    assert!(service.starts_with("upload-pack "), "{service}");
    // Where the repository cannot change it, there is no question.
    fs::remove_file(scratch.root().join("asked")).unwrap();
    let invocation = Gitd.invoke(&scratch).base_path().arg("--forbid-override=upload-pack");
    assert!(serves(witness(&scratch, invocation)));
    assert_eq!(asked(&scratch).len(), 1);
}

/// A script in the place of git may lead to one that is configured anywhere.
#[test]
fn a_script_in_the_place_of_git() {
    needs_root!();
    let scratch = exported();
    let elsewhere = scratch.root().join("elsewhere");
    fs::write(&elsewhere, "[daemon] uploadpack = false\n").unwrap();
    let real = scratch.root().join("real");
    install(Git::program(), &real);
    let (elsewhere, real) = (elsewhere.display(), real.display());
    let text = format!("#!/bin/sh\nGIT_CONFIG_SYSTEM={elsewhere} exec {real} \"$@\"\n");
    let script = scratch.script("script", &text);
    let place = fs::canonicalize(Git::program()).unwrap();
    let path = format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", place.parent().unwrap().display());
    let invoke = || Gitd.invoke(&scratch).base_path().env("PATH", &path).namespace("--mount");
    assert!(serves(invoke()));
    let mount = format!("mount --bind {} {}", script.display(), place.display());
    assert!(!serves(invoke().shell(mount)));
}
