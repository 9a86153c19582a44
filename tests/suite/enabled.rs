//! Which services are enabled, and which repositories exported: contract 52 to 54.

use std::fs;
use std::path::Path;

use crate::support::scratch::{config, export};
use crate::support::{GENERIC, Git, Gitd, Implementation, Scratch, Stock, Verdict, compliance};

compliance! {
    booleans,
    bad_boolean,
    names_of_the_keys,
    scopes,
    places_of_configuration,
    a_variable_of_git_config_alone,
    spellings_of_configuration,
    chains_of_includes,
    overrides,
    defaults,
    export_ok,
    end_of_a_service,
}

/// Contract 52: git booleans, from every scope.
fn booleans(d: Implementation) {
    let scratch = Scratch::new();
    let repo = scratch.bare("repo.git");
    let original = fs::read_to_string(repo.join("config")).unwrap();
    let daemon = d.serve(&scratch).arg("--informative-errors").start();
    for (text, enabled) in [
        ("[daemon] receivepack = true", true),
        ("[daemon] receivepack = yes", true),
        ("[daemon] receivepack = on", true),
        ("[daemon] receivepack = TRUE", true),
        ("[daemon] receivepack = 1", true),
        ("[daemon] receivepack = 2", true),
        ("[daemon] receivepack = -1", true),
        ("[daemon] receivepack = 1k", true),
        ("[daemon] receivepack", true),
        ("[DAEMON] ReceivePack = true", true),
        ("[daemon]\n\treceivepack = false\n\treceivepack = true", true),
        ("[daemon] receivepack = false", false),
        ("[daemon] receivepack = no", false),
        ("[daemon] receivepack = off", false),
        ("[daemon] receivepack = 0", false),
        ("[daemon] receivepack =", false),
        ("[daemon] receivepack = \"\"", false),
        ("[daemon]\n\treceivepack = true\n\treceivepack = false", false),
        ("", false),
        ("[daemon] receive-pack = true", false),
        ("[daemon \"x\"] receivepack = true", false),
        ("[receive] pack = true", false),
        ("[core] receivepack = true", false),
    ] {
        fs::write(repo.join("config"), format!("{original}{text}\n")).unwrap();
        let session = daemon.ask("receive-pack", "/repo.git");
        if enabled {
            session.assert_served("repo.git");
        } else {
            session.assert_refused("service not enabled: /repo.git");
            session.assert_line(&format!(
                "'receive-pack': service not enabled for '{}'",
                repo.display()
            ));
        }
    }
}

/// Contract 52, B6: a value that is no boolean.
fn bad_boolean(d: Implementation) {
    let scratch = Scratch::new();
    config(&scratch.bare("repo.git"), "[daemon] receivepack = maybe\n");
    for informative in [false, true] {
        let daemon = d.serve(&scratch).args(informative.then_some("--informative-errors")).start();
        let session = daemon.ask("receive-pack", "/repo.git");
        session.assert_died("/repo.git", informative);
        if d == Stock {
            session.assert_line("fatal: bad boolean config value 'maybe' for 'daemon.receivepack'");
        }
        daemon.ask("upload-pack", "/repo.git").assert_served("repo.git");
    }
    let daemon =
        d.serve(&scratch).args(["--enable=receive-pack", "--forbid-override=receive-pack"]).start();
    daemon.ask("receive-pack", "/repo.git").assert_served("repo.git");
}

/// Contract 52: the three names.
fn names_of_the_keys(d: Implementation) {
    let scratch = Scratch::new();
    config(&scratch.bare("good.git"), "[daemon] uploadpack = false\n uploadarch = true\n");
    config(
        &scratch.bare("bad.git"),
        "[daemon] upload-pack = false\n upload-archive = true\n uploadarchive = true\n",
    );
    let daemon = d.serve(&scratch).start();
    daemon.ask("upload-pack", "/good").assert_refused(&format!("{GENERIC}: /good"));
    archive(&scratch, &daemon.url("/good")).ok();
    daemon.ask("upload-pack", "/bad").assert_served("bad.git");
    // Not by `git archive`, which writes its arguments at once: git daemon resets the connection over them, and the client
    // may not come to read the refusal.
    daemon.ask("upload-archive", "/bad").assert_refused(&format!("{GENERIC}: /bad"));
}

/// Contract 52: system, global, command and included configuration count, the repository's last.
fn scopes(d: Implementation) {
    let text = "[daemon] receivepack = true\n";
    let enabled = |prepare: &dyn Fn(&Scratch, &Path), pairs: &[(&str, &str)]| {
        let scratch = Scratch::new();
        let repo = scratch.bare("repo.git");
        prepare(&scratch, &repo);
        let daemon = d.serve(&scratch).command_config(pairs).start();
        let session = daemon.ask("receive-pack", "/repo.git");
        matches!(session.verdict, Verdict::Served(_))
    };
    assert!(!enabled(&|_, _| (), &[]));
    assert!(enabled(&|scratch, _| fs::write(scratch.home().join("system"), text).unwrap(), &[]));
    assert!(enabled(&|scratch, _| scratch.global_config(text), &[]));
    assert!(enabled(
        &|scratch, _| {
            fs::create_dir_all(scratch.home().join(".config/git")).unwrap();
            fs::write(scratch.home().join(".config/git/config"), text).unwrap();
        },
        &[]
    ));
    assert!(enabled(&|_, _| (), &[("daemon.receivepack", "true")]));
    assert!(enabled(&|_, repo| config(repo, text), &[]));
    assert!(enabled(
        &|scratch, repo| {
            fs::write(scratch.root().join("included"), text).unwrap();
            config(repo, &format!("[include] path = {}/included\n", scratch.root().display()));
        },
        &[]
    ));
    assert!(enabled(
        &|scratch, repo| {
            fs::write(repo.join("included"), text).unwrap();
            scratch.global_config(&format!(
                "[includeIf \"gitdir:{}/\"] path = {}/included\n",
                scratch.repos().display(),
                repo.display()
            ));
        },
        &[]
    ));
    // A narrower scope overrides a wider one, and the command's stands above all.
    assert!(!enabled(
        &|scratch, repo| {
            scratch.global_config(text);
            config(repo, "[daemon] receivepack = false\n");
        },
        &[]
    ));
    assert!(!enabled(&|_, repo| config(repo, text), &[("daemon.receivepack", "false")]));
}

/// Contract 52: where git looks for configuration is for the environment to say.
fn places_of_configuration(d: Implementation) {
    let text = "[daemon] receivepack = true\n";
    for (variables, file, enabled) in [
        (&[("GIT_CONFIG_GLOBAL", "ROOT/elsewhere")][..], "elsewhere", true),
        (&[("GIT_CONFIG_GLOBAL", "ROOT/elsewhere")], "home/.gitconfig", false),
        (&[("GIT_CONFIG_GLOBAL", "ROOT/elsewhere")], "home/.config/git/config", false),
        (&[("GIT_CONFIG_GLOBAL", "")], "home/.gitconfig", false),
        (&[("GIT_CONFIG_SYSTEM", "ROOT/elsewhere")], "elsewhere", true),
        (
            &[("GIT_CONFIG_SYSTEM", "ROOT/elsewhere"), ("GIT_CONFIG_NOSYSTEM", "1")],
            "elsewhere",
            false,
        ),
        (&[("GIT_CONFIG_NOSYSTEM", "0")], "home/system", true),
        (&[("XDG_CONFIG_HOME", "ROOT/xdg")], "xdg/git/config", true),
        (&[("XDG_CONFIG_HOME", "ROOT/xdg")], "home/.config/git/config", false),
        (&[("XDG_CONFIG_HOME", "")], "home/.config/git/config", true),
        (&[("HOME", "ROOT/other")], "other/.gitconfig", true),
        (&[("HOME", "ROOT/other")], "home/.gitconfig", false),
        (&[("HOME", "ROOT/two\n/lines")], "two\n/lines/.gitconfig", true),
        (&[("GIT_CONFIG_PARAMETERS", "'daemon.receivepack'='true'")], "none", true),
        (&[("GIT_CONFIG_PARAMETERS", "'daemon.receivepack=true'")], "none", true),
        (&[("GIT_CONFIG_COUNT", "0")], "none", false),
        (&[("GIT_CONFIG", "ROOT/elsewhere")], "elsewhere", false),
    ] {
        let scratch = Scratch::new();
        scratch.bare("repo.git");
        let file = scratch.root().join(file);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, text).unwrap();
        let mut invocation = d.serve(&scratch);
        for (name, value) in variables {
            invocation =
                invocation.env(name, value.replace("ROOT", scratch.root().to_str().unwrap()));
        }
        let session = invocation.start().ask("receive-pack", "/repo.git");
        let served = matches!(session.verdict, Verdict::Served(_));
        assert_eq!(served, enabled, "{variables:?} {}: {session:#?}", file.display());
    }
}

/// A script that stands in git's place and adds settings: below `git daemon` that is started by it they count, so they
/// count for gitd, which starts its services by it.
#[test]
fn settings_of_a_script_in_the_place_of_git() {
    let real = Git::program();
    for set in ["-c daemon.uploadpack=false", ""] {
        for variables in
            ["", "GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=daemon.uploadpack GIT_CONFIG_VALUE_0=false"]
        {
            let scratch = Scratch::new();
            scratch.bare("repo.git");
            let bin = scratch.directory("bin");
            let text = format!("#!/bin/sh\n{variables} exec {} {set} \"$@\"\n", real.display());
            fs::rename(scratch.script("git", &text), bin.join("git")).unwrap();
            let path = format!("{}:/usr/bin:/bin", bin.display());
            let session =
                Gitd.serve(&scratch).env("PATH", path).start().ask("upload-pack", "/repo.git");
            let served = matches!(session.verdict, Verdict::Served(_));
            assert_eq!(served, set.is_empty() && variables.is_empty(), "{set} {variables}");
        }
    }
}

/// Contract 52: `GIT_CONFIG` means something to `git config`, and nothing to a daemon.
fn a_variable_of_git_config_alone(d: Implementation) {
    let scratch = Scratch::new();
    let repo = scratch.bare("repo.git");
    config(&repo, "[daemon]\n uploadpack = false\n uploadarch = true\n");
    let other = scratch.root().join("other");
    fs::write(&other, "[daemon] receivepack = true\n").unwrap();
    let daemon = d.serve(&scratch).env("GIT_CONFIG", &other).start();
    for service in ["upload-pack", "receive-pack"] {
        daemon.ask(service, "/repo.git").assert_refused(&format!("{GENERIC}: /repo.git"));
    }
    archive(&scratch, &daemon.url("/repo.git")).ok();
}

/// Contract 52: as git reads it, not as it looks.
fn spellings_of_configuration(d: Implementation) {
    let scratch = Scratch::new();
    let repo = scratch.bare("repo.git");
    let original = fs::read_to_string(repo.join("config")).unwrap();
    let daemon = d.serve(&scratch).start();
    for (text, enabled) in [
        ("\u{feff}[daemon]receivepack=true", false),
        ("[daemon]receivepack=true", true),
        ("[daemon]\r\n\treceivepack = true\r\n", true),
        ("[daemon] # comment\n receivepack = true # comment\n", true),
        ("[daemon]\n receivepack = \"true\"\n", true),
        ("[daemon]\n receivepack = tr\\\nue\n", true),
        ("[DaEmOn]\n rEcEiVePaCk = TrUe\n", true),
        ("[daemon]\n;receivepack = true\n", false),
        ("[daemon \"\"]\n receivepack = true\n", false),
        ("[daemon.x]\n receivepack = true\n", false),
        ("[ daemon]\n receivepack = true\n", false),
    ] {
        fs::write(repo.join("config"), format!("{original}{text}")).unwrap();
        let session = daemon.ask("receive-pack", "/repo.git");
        let served = matches!(session.verdict, Verdict::Served(_));
        assert_eq!(served, enabled, "{text:?}: {session:#?}");
    }
    fs::write(repo.join("config"), format!("\u{feff}{original}[daemon]\nreceivepack\n")).unwrap();
    daemon.ask("receive-pack", "/repo.git").assert_served("repo.git");
}

/// Contract 52: a setting may be at the end of a chain, behind conditions and links.
fn chains_of_includes(d: Implementation) {
    let scratch = Scratch::new();
    let repo = scratch.bare("repo.git");
    let root = scratch.root();
    let write = |name: &str, text: &str| fs::write(root.join(name), text).unwrap();
    write("last", "[daemon] receivepack = true\n");
    write("middle", "[include] path = last\n");
    std::os::unix::fs::symlink("middle", root.join("link")).unwrap();
    let original = fs::read_to_string(repo.join("config")).unwrap();
    let daemon = d.serve(&scratch).start();
    let root = root.display();
    for (text, enabled) in [
        (format!("[include] path = {root}/middle\n"), true),
        (format!("[include] path = {root}/link\n"), true),
        ("[include] path = ../../middle\n".to_owned(), true),
        (format!("[INCLUDE]\n PATH = {root}/middle\n"), true),
        (format!("[includeIf \"onbranch:main\"] path = {root}/last\n"), true),
        (format!("[includeIf \"onbranch:other\"] path = {root}/last\n"), false),
        (format!("[includeIf \"gitdir:**/repo.git\"] path = {root}/last\n"), true),
        (format!("[includeIf \"gitdir:/nowhere/\"] path = {root}/last\n"), false),
        ("[include] path = ~/../last\n".to_owned(), true),
        ("[include] path = nothing\n".to_owned(), false),
    ] {
        fs::write(repo.join("config"), format!("{original}{text}")).unwrap();
        let session = daemon.ask("receive-pack", "/repo.git");
        let served = matches!(session.verdict, Verdict::Served(_));
        assert_eq!(served, enabled, "{text:?}: {session:#?}");
    }
    // The repository's own file may be a link as well.
    fs::write(scratch.root().join("moved"), format!("{original}[daemon] receivepack = true\n"))
        .unwrap();
    fs::remove_file(repo.join("config")).unwrap();
    std::os::unix::fs::symlink(scratch.root().join("moved"), repo.join("config")).unwrap();
    daemon.ask("receive-pack", "/repo.git").assert_served("repo.git");
}

/// Contract 52: what the command line and the repository may say against each other.
fn overrides(d: Implementation) {
    let scratch = Scratch::new();
    scratch.bare("silent.git");
    config(&scratch.bare("yes.git"), "[daemon] receivepack = true\n");
    config(&scratch.bare("no.git"), "[daemon] receivepack = false\n");
    for (options, silent, yes, no) in [
        (&[][..], false, true, false),
        (&["--enable=receive-pack"], true, true, false),
        (&["--disable=receive-pack"], false, true, false),
        (&["--forbid-override=receive-pack"], false, false, false),
        (&["--enable=receive-pack", "--forbid-override=receive-pack"], true, true, true),
        (&["--forbid-override=receive-pack", "--allow-override=receive-pack"], false, true, false),
        (&["--enable=receive-pack", "--disable=receive-pack"], false, true, false),
        (&["--disable=receive-pack", "--enable=receive-pack"], true, true, false),
    ] {
        let daemon = d.serve(&scratch).args(options).start();
        for (name, served) in [("silent.git", silent), ("yes.git", yes), ("no.git", no)] {
            let session = daemon.ask("receive-pack", &format!("/{name}"));
            if served {
                session.assert_served(name);
            } else {
                session.assert_refused(&format!("{GENERIC}: /{name}"));
            }
        }
    }
}

/// Contract 53: reading is on, writing and archives are off.
fn defaults(d: Implementation) {
    let scratch = Scratch::new();
    scratch.bare("repo.git");
    let daemon = d.serve(&scratch).start();
    daemon.ask("upload-pack", "/repo").assert_served("repo.git");
    daemon.ask("receive-pack", "/repo").assert_refused(&format!("{GENERIC}: /repo"));
    daemon.ask("upload-archive", "/repo").assert_refused(&format!("{GENERIC}: /repo"));
    let daemon = d.serve(&scratch).arg("--disable=upload-pack").start();
    daemon.ask("upload-pack", "/repo").assert_refused(&format!("{GENERIC}: /repo"));
}

/// Contract 54: what counts as exported.
fn export_ok(d: Implementation) {
    let scratch = Scratch::new();
    let make = |name: &str| scratch.bare(name);
    export(&make("file.git"));
    fs::create_dir(make("directory.git").join("git-daemon-export-ok")).unwrap();
    let mode0 = make("mode0.git");
    export(&mode0);
    crate::support::scratch::chmod(&mode0.join("git-daemon-export-ok"), 0);
    let link = make("link.git");
    std::os::unix::fs::symlink("HEAD", link.join("git-daemon-export-ok")).unwrap();
    let dangling = make("dangling.git");
    std::os::unix::fs::symlink("nothing", dangling.join("git-daemon-export-ok")).unwrap();
    make("none.git");
    let tree = scratch.non_bare("outside");
    export(&tree);
    let tree = scratch.non_bare("inside");
    export(&tree.join(".git"));
    scratch.gitfile("pointer", scratch.path("file.git"));
    let daemon = d.invoke(&scratch).base_path().arg("--informative-errors").start();
    for name in ["file", "directory", "mode0", "link", "pointer", "inside"] {
        let session = daemon.ask("upload-pack", &format!("/{name}"));
        session.assert_served(if name == "pointer" { "file" } else { name });
    }
    for name in ["dangling", "none", "outside"] {
        let session = daemon.ask("upload-pack", &format!("/{name}"));
        session.assert_refused(&format!("repository not exported: /{name}"));
    }
}

/// Contract 18, 55: how the end of a service is told.
fn end_of_a_service(d: Implementation) {
    for (script, served, expected) in [
        ("exit 0", true, &["Disconnected"][..]),
        ("exit 3", true, &["Disconnected (with error)"]),
        ("kill -9 $$", true, &["error: upload-pack died of signal 9", "Disconnected (with error)"]),
    ] {
        let scratch = Scratch::new();
        scratch.bare("repo.git");
        let fake = scratch.fake_git(&format!("printf 0000\ncat >/dev/null\n{script}\n"));
        let daemon = d.serve(&scratch).path_first(&fake).start();
        let session = daemon.ask("upload-pack", "/repo.git");
        assert_eq!(matches!(session.verdict, Verdict::Served(_)), served);
        assert_eq!(&session.log[3..], expected);
    }
}

fn archive(scratch: &Scratch, url: &str) -> Git {
    Git::new(scratch)
        .args(["archive", "--format=tar", "-o", "out.tar"])
        .arg(format!("--remote={url}"))
        .arg("main")
}
