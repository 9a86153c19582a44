//! The command line: contract 1 to 8. What was parsed without an error shows by the error that comes after parsing:
//! `--strict-paths` without directories.

use crate::support::{Git, Gitd, Implementation, Outcome, Scratch, Stock, compliance};

const PARSED: &str = "fatal: option --strict-paths requires '<directory>' arguments\n";
const USAGE: &str = "usage: git daemon [--verbose] [--syslog] [--export-all]";

compliance! {
    usage_errors,
    spellings,
    help,
    behind_the_wrapper,
    left_to_right,
    end_of_the_options,
    unknown_names,
    after_parsing,
    after_parsing_to_syslog,
}

pub fn run(d: Implementation, args: &[&str]) -> Outcome {
    d.invoke(&Scratch::new()).args(args).run()
}

#[track_caller]
pub fn assert_usage(d: Implementation, args: &[&str]) {
    let outcome = run(d, args);
    assert_eq!(outcome.code(), Some(129), "{args:?}: {outcome:?}");
    let first = outcome.stderr.lines().next().unwrap_or_default();
    match d {
        Stock => assert_eq!(first, USAGE, "{args:?}"),
        Gitd => assert!(outcome.stderr.contains("usage: "), "{args:?}: {outcome:?}"),
    }
    assert_eq!(outcome.stdout, "");
}

#[track_caller]
pub fn assert_fatal(d: Implementation, args: &[&str], text: &str) {
    let outcome = run(d, args);
    assert_eq!(outcome.stderr, format!("fatal: {text}\n"), "{args:?}");
    assert_eq!(outcome.code(), Some(128), "{args:?}");
}

/// Nothing was wrong with these.
#[track_caller]
pub fn assert_parsed(d: Implementation, args: &[&str]) {
    let outcome = run(d, &[args, &["--strict-paths"]].concat());
    assert_eq!(outcome.stderr, PARSED, "{args:?}");
    assert_eq!(outcome.code(), Some(128), "{args:?}");
}

/// Contract 1: only the exact spellings.
fn usage_errors(d: Implementation) {
    for arg in [
        "--bogus",
        "--verb",
        "--export-al",
        "--base-pat=/",
        "--Verbose",
        "--port",
        "--listen",
        "--base-path",
        "--timeout",
        "--user",
        "--group",
        "--pid-file",
        "--enable",
        "--access-hook",
        "--max-connections",
        "--interpolated-path",
        "--log-destination",
        "--no-verbose",
        "--no-detach",
        "--no-export-all",
        "--verbose=1",
        "--export-all=",
        "--detach=1",
        "--reuseaddr=yes",
        "--inetd=",
        "--informative-errors=1",
        "-v",
        "-",
        "-p9000",
        "---",
        "--=",
        "--port =1",
        "-verbose",
    ] {
        assert_usage(d, &[arg]);
    }
    assert_usage(d, &["--port", "9000"]);
}

/// Contract 1: every option that there is.
fn spellings(d: Implementation) {
    for arg in [
        "--verbose",
        "--export-all",
        "--reuseaddr",
        "--base-path-relaxed",
        "--informative-errors",
        "--no-informative-errors",
        "--user-path",
        "--user-path=",
        "--user-path=x",
        "--listen=127.0.0.1",
        "--listen=",
        "--port=1",
        "--timeout=1",
        "--init-timeout=1",
        "--max-connections=1",
        "--base-path=/",
        "--interpolated-path=/",
        "--interpolated-path=",
        "--pid-file=x",
        "--pid-file=",
        "--enable=upload-pack",
        "--enable=upload-archive",
        "--enable=receive-pack",
        "--disable=upload-pack",
        "--allow-override=upload-archive",
        "--forbid-override=receive-pack",
        "--access-hook=x",
        "--access-hook=",
        "--log-destination=stderr",
        "--log-destination=none",
        "--user=root",
    ] {
        assert_parsed(d, &[arg]);
    }
}

/// Contract 1, B17: asking for help.
fn help(d: Implementation) {
    for arg in ["-h", "--help", "--version"] {
        match d {
            Stock => assert_usage(d, &[arg]),
            Gitd => {
                let outcome = run(d, &[arg]);
                assert_eq!(outcome.code(), Some(0), "{outcome:?}");
                assert_eq!(outcome.stderr, "");
                let word =
                    if arg == "--version" { env!("CARGO_PKG_VERSION") } else { "--base-path" };
                assert!(outcome.stdout.contains(word), "{outcome:?}");
            }
        }
    }
}

/// Contract 1, B17: the wrapper adds nothing to the answer.
fn behind_the_wrapper(d: Implementation) {
    let scratch = Scratch::new();
    let exec_path = d.exec_path(&scratch);
    let git = |arg: &str| {
        Git::of_server(&scratch).env("GIT_EXEC_PATH", &exec_path).args(["daemon", arg]).output()
    };
    for arg in ["--bogus", "-h"] {
        let output = git(arg);
        let code = if arg == "-h" { d.differs("B17", 129, 0) } else { 129 };
        assert_eq!(output.status.code(), Some(code));
    }
}

/// Contract 2: the first error wins, and of two single options the last.
fn left_to_right(d: Implementation) {
    assert_fatal(d, &["--log-destination=foo", "--bogus"], "unknown log destination 'foo'");
    assert_usage(d, &["--bogus", "--log-destination=foo"]);
    assert_fatal(d, &["--enable=foo", "--port="], "No such service foo");
    assert_usage(d, &["--port=", "--enable=foo"]);
    assert_fatal(
        d,
        &["--base-path=/", "--base-path=/nonexistent/x"],
        "base-path '/nonexistent/x' does not exist or is not a directory",
    );
    assert_parsed(d, &["--base-path=/nonexistent/x", "--base-path=/"]);
    assert_fatal(d, &["--user=nosuch", "--user=nosuch2"], "user not found - nosuch2");
}

/// Contract 3: what ends the options.
fn end_of_the_options(d: Implementation) {
    for args in [&["--strict-paths", "--base-path=/nonexistent/x", "--"][..], &["--strict-paths"]] {
        assert_eq!(run(d, args).stderr, PARSED, "{args:?}");
    }
    // With directories the next error is the base path's: so these were taken for directories.
    for directories in [
        &["/"][..],
        &["/", "--bogus"],
        &["", "--bogus"],
        &["--", "--bogus"],
        &["--", "--port=x"],
        &["x", "--", "-h"],
    ] {
        let args = [&["--base-path=/nonexistent/x", "--strict-paths"], directories].concat();
        assert_fatal(d, &args, "base-path '/nonexistent/x' does not exist or is not a directory");
    }
}

/// Contract 6: from the parser, so on stderr whatever the log's destination.
fn unknown_names(d: Implementation) {
    for name in ["foo", "", "Stderr", "SYSLOG", "stderr "] {
        assert_fatal(
            d,
            &[&format!("--log-destination={name}")],
            &format!("unknown log destination '{name}'"),
        );
        assert_fatal(
            d,
            &["--syslog", &format!("--log-destination={name}")],
            &format!("unknown log destination '{name}'"),
        );
    }
    for option in ["--enable", "--disable", "--allow-override", "--forbid-override"] {
        for name in [
            "foo",
            "",
            "git-upload-pack",
            "uploadpack",
            "Upload-Pack",
            "upload-archive ",
            "receive",
        ] {
            assert_fatal(d, &[&format!("{option}={name}")], &format!("No such service {name}"));
            assert_fatal(
                d,
                &["--syslog", &format!("{option}={name}")],
                &format!("No such service {name}"),
            );
        }
    }
}

/// Contract 7: what does not go together, in this order.
fn after_parsing(d: Implementation) {
    let privileges = "--detach, --user and --group are incompatible with --inetd";
    let listen = "--listen= and --port= are incompatible with --inetd";
    let file = Scratch::new();
    let base = file.file("file", "").display().to_string();
    for (args, text) in [
        (&["--inetd", "--detach", "--log-destination=stderr"][..], privileges),
        (&["--inetd", "--user=root", "--log-destination=stderr", "--listen=x"], privileges),
        (&["--inetd", "--group=root", "--log-destination=stderr"], privileges),
        (&["--inetd", "--listen=x", "--log-destination=stderr"], listen),
        (&["--inetd", "--port=1", "--log-destination=stderr", "--strict-paths"], listen),
        (
            &["--inetd", "--log-destination=stderr", "--port=0", "--strict-paths"],
            "option --strict-paths requires '<directory>' arguments",
        ),
        (&["--group=nosuch", "--strict-paths"], "--group supplied without --user"),
        (&["--user=nosuch", "--strict-paths"], "user not found - nosuch"),
        (&["--user=0"], "user not found - 0"),
        (&["--user="], "user not found - "),
        (&["--user=root", "--group=nosuch", "--strict-paths"], "group not found - nosuch"),
        (&["--user=nosuch", "--group=nosuch2"], "user not found - nosuch"),
        (&["--user=root", "--group=0"], "group not found - 0"),
        (
            &["--strict-paths", "--base-path=/nonexistent/x"],
            "option --strict-paths requires '<directory>' arguments",
        ),
        (
            &["--base-path=/nonexistent/x"],
            "base-path '/nonexistent/x' does not exist or is not a directory",
        ),
        (&["--base-path="], "base-path '' does not exist or is not a directory"),
        (
            &["--base-path=", "--log-destination=none"],
            "base-path '' does not exist or is not a directory",
        ),
    ] {
        assert_fatal(d, args, text);
    }
    assert_fatal(
        d,
        &[&format!("--base-path={base}")],
        &format!("base-path '{base}' does not exist or is not a directory"),
    );
}

/// Contract 7: with syslog nothing is on stderr, and the status is 1.
fn after_parsing_to_syslog(d: Implementation) {
    for args in [
        &["--syslog", "--strict-paths"][..],
        &["--log-destination=syslog", "--strict-paths"],
        &["--detach", "--strict-paths"],
        &["--inetd", "--strict-paths"],
        &["--inetd", "--user=root"],
        &["--inetd", "--port=1"],
        &["--syslog", "--base-path=/nonexistent/x"],
        &["--syslog", "--user=nosuch"],
    ] {
        let outcome = run(d, args);
        assert_eq!((outcome.code(), outcome.stderr.as_str()), (Some(1), ""), "{args:?}");
    }
}
