//! What a request packet says: its arguments, its host and its command; contract 26 to 29.

use crate::support::{GENERIC, Implementation, Scratch, compliance, pkt};

const REPO: &str = "Request upload-pack for '/repo.git'";

compliance! {
    first_argument,
    extra_parameters,
    hosts_that_are_none,
    commands_that_are_none,
    blanks_and_quotes,
    a_path_longer_than_any_path,
}

/// Contract 26: what may stand behind the first NUL.
fn first_argument(d: Implementation) {
    let (_scratch, daemon) = d.serve_one();
    for (arguments, host) in [
        ("host=x", Some("x")),
        ("host=x\0", Some("x")),
        ("HOST=x\0", Some("x")),
        ("hOsT=x\0", Some("x")),
        ("host=\0", Some("")),
        ("host=", Some("")),
        ("", None),
        ("\0", None),
        ("host=x\0\0", Some("x")),
        ("host=x\0\0\0", Some("x")),
    ] {
        let session = daemon.talk(pkt(format!("git-upload-pack /repo.git\0{arguments}")));
        session.assert_served("repo.git");
        let host = host.map(|host| format!("Extended attribute \"host\": {host}"));
        let lines: Vec<_> = host.iter().map(String::as_str).chain([REPO]).collect();
        session.assert_logged(&lines);
    }
    for arguments in [
        "x",
        "hos=x\0",
        "version=1\0",
        "host\0",
        "hostname=x\0",
        "user=x\0host=y\0",
        " host=x\0",
        "host=x\0version=1\0",
        "host=x\0y",
        "host=x\0host=y\0",
    ] {
        let session = daemon.talk(pkt(format!("git-upload-pack /repo.git\0{arguments}")));
        session.assert_silent();
        session.assert_line("fatal: Invalid request");
        assert!(!session.log.iter().any(|line| line.starts_with("Request ")), "{:?}", session.log);
    }
}

/// Contract 27: extra parameters reach the service, whatever they are.
fn extra_parameters(d: Implementation) {
    let scratch = Scratch::new();
    scratch.bare("repo.git");
    let seen = scratch.root().join("seen");
    let fake = scratch.fake_git(&format!(
        "printf '%s\n' \"${{GIT_PROTOCOL-unset}}\" >>{}
exec \"$REAL\" \"$@\"
",
        seen.display()
    ));
    let daemon = d.serve(&scratch).path_first(&fake).start();
    let cases = [
        ("", "unset", None),
        ("\0host=x\0", "unset", None),
        ("\0host=x\0\0", "unset", None),
        ("\0host=x\0\0version=1\0", "version=1", Some("version=1")),
        ("\0host=x\0\0version=1", "version=1", Some("version=1")),
        ("\0\0version=1\0", "version=1", Some("version=1")),
        (
            "\0host=x\0\0version=1\0foo=bar\0baz\0",
            "version=1:foo=bar:baz",
            Some("version=1:foo=bar:baz"),
        ),
        ("\0host=x\0\0\0a\0\0\0b\0", "a:b", Some("a:b")),
        ("\0host=x\0\0a:b\0c\0", "a:b:c", Some("a:b:c")),
        ("\0host=x\0\0version=9999\0", "version=9999", Some("version=9999")),
        ("\0host=x\0\0$(false) `x`;'\"\0", "$(false) `x`;'\"", Some("$(false) `x`;'\"")),
    ];
    for (arguments, _, logged) in &cases {
        let session = daemon.talk(pkt(format!("git-upload-pack /repo.git{arguments}")));
        session.assert_served("repo.git");
        let protocol =
            session.log.iter().find_map(|l| l.strip_prefix("Extended attribute \"protocol\": "));
        assert_eq!(protocol, *logged, "{arguments:?}");
    }
    let seen = std::fs::read_to_string(seen).unwrap();
    assert_eq!(seen.lines().collect::<Vec<_>>(), cases.map(|(_, seen, _)| seen));
}

/// Contract 28: a host that is none ends the request.
fn hosts_that_are_none(d: Implementation) {
    let (_scratch, daemon) = d.serve_one();
    for (host, reason) in [
        ("[::1", "fatal: Invalid request ('[' without ']')"),
        ("[", "fatal: Invalid request ('[' without ']')"),
        ("[::1]x", "fatal: Garbage after end of host part"),
        ("[::1] ", "fatal: Garbage after end of host part"),
        ("[]x:1", "fatal: Garbage after end of host part"),
    ] {
        let session = daemon.talk(pkt(format!("git-upload-pack /repo.git\0host={host}\0")));
        session.assert_silent();
        session.assert_line(reason);
    }
    for host in [
        "[::1]",
        "[::1]:9418",
        "[::1]:",
        "[]",
        "[]:1",
        "::1",
        "a:b:c",
        ":",
        "a/b",
        "..",
        "\u{e9}",
        " ",
        "[a]:b:c",
        "x".repeat(3000).as_str(),
    ] {
        let session = daemon.talk(pkt(format!("git-upload-pack /repo.git\0host={host}\0")));
        session.assert_served("repo.git");
        let cut = format!("{}...(3000 bytes)", &host[..host.len().min(1024 - 31)]);
        let shown = if host.len() > 1024 { d.differs("B9", host, &cut) } else { host };
        session.assert_line(&format!("Extended attribute \"host\": {shown}"));
    }
}

/// Contract 29: a request-command is exactly one of three.
fn commands_that_are_none(d: Implementation) {
    let (_scratch, daemon) = d.serve_one();
    for line in [
        "git-upload-pack",
        "git-Upload-pack /repo.git",
        "GIT-upload-pack /repo.git",
        "upload-pack /repo.git",
        "git upload-pack /repo.git",
        "git-upload-pack\t/repo.git",
        "git-upload-pack2 /repo.git",
        "git- /repo.git",
        "git-receive-packs /repo.git",
        "git-upload-archives /repo.git",
        "git-daemon /repo.git",
        " git-upload-pack /repo.git",
        "GET / HTTP/1.1",
        "'git-upload-pack' /repo.git",
        "git-upload-pack/repo.git",
    ] {
        let session = daemon.talk(pkt(line));
        session.assert_silent();
        let shown = d.differs("B9", line.to_owned(), line.replace('\t', "\\t"));
        session.assert_logged(&[&format!("Protocol error: '{shown}'")]);
        let session = daemon.talk(pkt(format!("{line}\0nonsense\0")));
        session.assert_silent();
        session.assert_logged(&["fatal: Invalid request"]);
    }
}

/// Contract 29: all behind the one blank is the path.
fn blanks_and_quotes(d: Implementation) {
    let scratch = Scratch::new();
    scratch.bare("a b.git");
    scratch.bare(" .git");
    let daemon = d.serve(&scratch).arg("--informative-errors").start();
    daemon.talk(pkt("git-upload-pack /a b.git\0host=x\0")).assert_served("a b.git");
    daemon.talk(pkt("git-upload-pack / .git\0host=x\0")).assert_served(" .git");
    for pathname in [" /a b.git", "'/a b.git'", "\"/a b.git\"", "", " ", "a b.git"] {
        let session = daemon.talk(pkt(format!("git-upload-pack {pathname}\0host=x\0")));
        session.assert_refused(&format!("no such repository: {pathname}"));
        session.assert_line(&format!("'{pathname}': aliased"));
    }
}

/// Contract 32, 41: a path of more than a packet's reason.
fn a_path_longer_than_any_path(d: Implementation) {
    let (_scratch, daemon) = d.serve_one();
    let long = format!("/{}", "x".repeat(5000));
    let session = daemon.ask("upload-pack", &long);
    session.assert_refused(&format!("{GENERIC}: {long}"));
}
