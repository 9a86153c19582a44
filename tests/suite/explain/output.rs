//! How an explanation is asked for, and what it looks like.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;
use std::process::Command;

use crate::explain::site::{exported, plain};
use crate::support::invocation::free_port;
use crate::support::process::{
    installed, listening, output, wait_for, wait_until, write_to_reader,
};
use crate::support::scratch::chown;
use crate::support::{Invocation, Outcome, Scratch, needs_root, skip};

fn scratch() -> Scratch {
    let scratch = Scratch::new();
    scratch.bare("repo.git");
    scratch
}

fn explain(invocation: Invocation) -> Outcome {
    invocation.arg("--explain=/repo.git").run()
}

/// What stands in a unit file may stand here.
#[test]
fn options_of_a_server() {
    let scratch = scratch();
    let place = |name: &str| scratch.root().join(name);
    let port = free_port();
    let all = exported(&scratch)
        .args(["--verbose", "--syslog", "--detach", "--reuseaddr", "--mptcp=require"])
        .args(["--listen=127.0.0.1".to_owned(), format!("--port={port}")])
        .arg(format!("--listen=unix:{}", place("socket").display()))
        .args(["--require-all-listeners", "--socket-mode=600", "--max-connections=1"])
        .option("--pid-file", place("pid"))
        .option("--port-file", place("port"));
    let outcome = explain(all);
    assert_eq!((outcome.code(), outcome.stderr.as_str()), (Some(0), ""));
    assert!(outcome.stdout.ends_with("\nserved\n"), "{}", outcome.stdout);
    assert!(!listening(port));
    for name in ["socket", "pid", "port"] {
        assert!(!place(name).exists(), "{name}");
    }
    let outcome = explain(exported(&scratch).args(["--inetd", "--log-destination=none"]));
    assert_eq!((outcome.code(), outcome.stderr.as_str()), (Some(0), ""));
}

/// With these no server starts, and nothing is explained.
#[test]
fn wrong_options() {
    let scratch = scratch();
    let fatal = |options: &[&str], text: &str| {
        let outcome = plain(&scratch).args(options).run();
        let said = (outcome.code(), outcome.stdout.as_str(), outcome.stderr.as_str());
        assert_eq!(said, (Some(128), "", format!("fatal: {text}\n").as_str()), "{options:?}");
    };
    fatal(&["--explain=https://h/a"], "--explain takes a git:// URL or a path");
    fatal(&["--explain=git://h"], "--explain: the URL has no path");
    fatal(
        &["--explain=/a", "--remote-addr=h"],
        "invalid remote-addr 'h', expecting an IP address, with or without a port",
    );
    // Also where the log goes elsewhere.
    fatal(
        &["--explain=/a", "--syslog", "--inetd", "--detach"],
        "--detach, --user and --group are incompatible with --inetd",
    );
    fatal(&["--explain=/a", "--user=nosuchuser"], "user not found - nosuchuser");
    fatal(&["--remote-addr=::1"], "--remote-addr works only with --explain");
    fatal(&["--explain-service=upload-pack"], "--explain-service works only with --explain");
    fatal(
        &["--explain=/a", "--log-format=xml"],
        "unknown log format 'xml', expecting plain, json or journal",
    );
}

/// As the server's user, or not at all.
#[test]
fn the_servers_user() {
    needs_root!();
    let scratch = scratch();
    let server = || exported(&scratch).arg("--user=nobody");
    let outcome = explain(server());
    assert!(outcome.stdout.contains("gitd runs as nobody"), "{}", outcome.stdout);
    assert!(outcome.stdout.contains("(foreign-owner)"), "{}", outcome.stdout);
    chown(&scratch.path("repo.git"), 65534);
    assert_eq!(explain(server()).code(), Some(0));
    // Whoever is that user already need not become it.
    assert_eq!(explain(server().user(65534, 65534)).code(), Some(0));
    let outcome = explain(server().user(31_001, 31_001));
    let reason =
        "fatal: --explain must become the user nobody as the daemon does: run it as root\n";
    assert_eq!((outcome.code(), outcome.stderr.as_str()), (Some(128), reason));
}

/// The client's address is that of the hook and of the service.
#[test]
fn the_clients_address() {
    let scratch = scratch();
    let hook = scratch.script("hook", "#!/bin/sh\necho \"$REMOTE_ADDR $REMOTE_PORT\"; exit 1\n");
    for (address, told) in [
        ("192.0.2.7", "192.0.2.7 49152"),
        ("192.0.2.7:4711", "192.0.2.7 4711"),
        ("2001:db8::7", "[2001:db8::7] 49152"),
    ] {
        let server = exported(&scratch).option("--access-hook", &hook);
        let outcome = explain(server.arg(format!("--remote-addr={address}")));
        let said = format!("says '{told}'");
        assert!(outcome.stdout.contains(&said), "{}", outcome.stdout);
    }
}

/// Neither a line of the explanation nor a command can be forged, and a command runs as it is shown.
#[test]
fn hostile_paths() {
    let scratch = Scratch::new();
    let name = b"a'b\n\x1b[31m\xff\xe2\x80\xae;touch x".to_vec();
    let repository = scratch.bare(OsString::from_vec(name.clone()));
    let target = OsString::from_vec([b"--explain=/", name.as_slice()].concat());
    let outcome = plain(&scratch).arg(&target).run();
    assert_eq!(outcome.code(), Some(1));
    for bad in ['\x1b', '\u{202e}', '\u{fffd}'] {
        assert!(!outcome.stdout.contains(bad), "{}", outcome.stdout);
    }
    assert!(
        outcome.stdout.contains("a'b\\n\\u{1b}[31m\\xff\\u{202e};touch x"),
        "{}",
        outcome.stdout
    );
    let command = outcome.stdout.lines().find(|line| line.starts_with("    touch ")).unwrap();
    assert!(Command::new("bash").args(["-c", command]).status().unwrap().success());
    assert!(repository.join("git-daemon-export-ok").exists());
    let outcome = plain(&scratch).arg(&target).arg("--log-format=json").run();
    assert_eq!(outcome.code(), Some(0));
    assert!(serde_json::from_str::<serde_json::Value>(&outcome.stdout).is_ok());
    assert!(!outcome.stdout.contains('\x1b'));
}

/// A step is named before it ends, or nobody would know what hangs.
#[test]
fn a_step_that_hangs() {
    let scratch = scratch();
    let (pipe, said) = (scratch.root().join("pipe"), scratch.root().join("said"));
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let hook = format!("#!/bin/sh\nread line <{}\n", pipe.display());
    let server = exported(&scratch).option("--access-hook", scratch.script("hook", &hook));
    let mut explain = server.arg("--explain=/repo.git").command(&[]);
    let mut explain = explain.stdout(fs::File::create(&said).unwrap()).spawn().unwrap();
    wait_until("the hook is named", || {
        fs::read_to_string(&said).unwrap().ends_with("\nhook       ")
    });
    write_to_reader(&pipe, "go on\n");
    assert!(wait_for(&mut explain).success());
    assert!(fs::read_to_string(&said).unwrap().ends_with("\nserved\n"));
}

/// Colours are for terminals alone, and for those that want them.
#[test]
fn colours() {
    let scratch = scratch();
    assert!(!explain(exported(&scratch)).stdout.contains('\x1b'));
    if installed("script").is_none() {
        return skip("needs the program script");
    }
    let on_terminal = |server: Invocation| {
        let inner = server.arg("--explain=/repo.git").command(&[]);
        let words = [inner.get_program()].into_iter().chain(inner.get_args());
        let line: Vec<_> = words.map(|word| word.to_str().unwrap()).collect();
        let mut script = Command::new("script");
        script.args(["-qec", &line.join(" "), "/dev/null"]).env_clear();
        script.envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
        String::from_utf8(output(&mut script).stdout).unwrap()
    };
    assert!(on_terminal(exported(&scratch)).contains("\x1b[32mserved\x1b[m"));
    for (name, value) in [("NO_COLOR", "1"), ("TERM", "dumb")] {
        let said = on_terminal(exported(&scratch).env(name, value));
        assert!(said.contains("served") && !said.contains('\x1b'), "{name}: {said}");
    }
    assert!(on_terminal(exported(&scratch).env("NO_COLOR", "")).contains('\x1b'));
}

/// The manual page names every step and every reason, and no others.
#[test]
fn words_of_the_document() {
    let read =
        |file: &str| fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap();
    let page = read("docs/gitd.8");
    let part = |from: &str, to: &str| {
        let (_, rest) = page.split_once(from).unwrap();
        let words = rest.split_once(to).unwrap().0.replace(".Cm", "").replace("\nand\n", "\n");
        words
            .split([' ', ',', '.', '\n'])
            .filter(|word| !word.is_empty())
            .map(str::to_owned)
            .collect()
    };
    let steps: BTreeSet<String> = part("The steps are\n", "The verdict is");
    let reasons: BTreeSet<String> = part("is one of\n", ".Va log\n");
    let source = read("src/access/denial.rs");
    let word = source.split_once("fn word").unwrap().1.split_once("\n    }\n").unwrap().0;
    let mut known: BTreeSet<_> = word.split('"').skip(1).step_by(2).map(str::to_owned).collect();
    // Of a server that serves others too.
    for word in ["busy", "hanging", "internal-error"] {
        assert!(known.remove(word), "{word}");
    }
    known.insert("malformed".to_owned());
    assert_eq!(reasons, known);
    let mut known = BTreeSet::new();
    for file in
        ["src/daemon/explain.rs", "src/daemon/explain/trace.rs", "src/daemon/explain/report.rs"]
    {
        let text: String = read(file).split_whitespace().collect();
        for begin in ["begin(\"", "Some(\"", "unwrap_or(\""] {
            known.extend(
                text.split(begin).skip(1).map(|rest| rest.split('"').next().unwrap().to_owned()),
            );
        }
    }
    assert_eq!(steps, known);
}
