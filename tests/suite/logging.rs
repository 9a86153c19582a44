//! The log: contract 18 to 22.

use crate::support::{Gitd, Implementation, Scratch, Stock, compliance, pkt};

compliance! {
    every_line_has_a_pid,
    a_served_request,
    a_refused_request,
    a_malformed_request,
    quiet,
    destinations_on_stderr,
    stderr_of_the_service,
    line_feeds_from_a_client,
    control_characters_in_a_last_word,
}

/// Contract 18: each line is `[pid] text`.
fn every_line_has_a_pid(d: Implementation) {
    let scratch = Scratch::new();
    scratch.bare("repo.git");
    let daemon = d.serve(&scratch).start();
    daemon.ask("upload-pack", "/repo.git").assert_served("repo.git");
    daemon.ask("upload-pack", "/nothing");
    let pid = daemon.pid();
    let lines = daemon.log.raw(0);
    assert_eq!(lines[0], format!("[{pid}] Ready to rumble\n").as_bytes());
    for line in lines {
        let line = String::from_utf8(line).unwrap();
        let (number, _) = line.strip_prefix('[').unwrap().split_once("] ").unwrap();
        number.parse::<u32>().unwrap();
        if d == Stock && line.contains("Disconnected") {
            assert!(line.starts_with(&format!("[{pid}] [")), "{line}");
        }
    }
}

/// Contract 18, 27: what is logged about a good request.
fn a_served_request(d: Implementation) {
    let scratch = Scratch::new();
    scratch.bare("repo.git");
    let daemon = d.serve(&scratch).start();
    daemon.talk(pkt("git-upload-pack /repo\0host=Example.COM:1\0\0version=1\0x\0")).assert_logged(
        &[
            "Extended attribute \"host\": Example.COM:1",
            "Extended attribute \"protocol\": version=1:x",
            "Request upload-pack for '/repo'",
        ],
    );
    daemon.talk(pkt("git-upload-pack /repo")).assert_logged(&["Request upload-pack for '/repo'"]);
}

/// Contract 26, 28, 29: the host is looked at first, then what follows it, then the command; and what made sense so far is
/// logged.
fn a_malformed_request(d: Implementation) {
    let (_scratch, daemon) = d.serve_one();
    let host = |host| format!("Extended attribute \"host\": {host}");
    for (payload, lines) in [
        ("x\0host=h\0version=1\0", vec![host("h"), "fatal: Invalid request".to_owned()]),
        (
            "x\0host=[h]x\0version=1\0",
            vec![host("[h]x"), "fatal: Garbage after end of host part".to_owned()],
        ),
        (
            "x\0host=[h]x\0\0version=1\0",
            vec![host("[h]x"), "fatal: Garbage after end of host part".to_owned()],
        ),
        (
            "x\0\0version=1\0",
            vec![
                "Extended attribute \"protocol\": version=1".to_owned(),
                "Protocol error: 'x'".to_owned(),
            ],
        ),
    ] {
        let lines: Vec<_> = lines.iter().map(String::as_str).collect();
        daemon.talk(pkt(payload)).assert_logged(&lines);
    }
}

/// Contract 22: what is logged about a bad one, in this order.
fn a_refused_request(d: Implementation) {
    let scratch = Scratch::new();
    let daemon = d.serve(&scratch).start();
    daemon.talk(pkt("git-upload-pack /repo\0host=x\0\0version=2\0")).assert_logged(&[
        "Extended attribute \"host\": x",
        "Extended attribute \"protocol\": version=2",
        "Request upload-pack for '/repo'",
        &format!("'{}' does not appear to be a git repository", scratch.path("repo").display()),
    ]);
}

/// Contract 18: without --verbose only what went wrong.
fn quiet(d: Implementation) {
    let scratch = Scratch::new();
    scratch.bare("repo.git");
    let daemon = d.serve(&scratch).quiet().start();
    daemon.ask("upload-pack", "/repo.git").assert_served("repo.git");
    daemon.ask("upload-pack", "/nothing");
    daemon.talk(pkt("nonsense"));
    let last = "Protocol error: 'nonsense'";
    assert_eq!(
        daemon.log.wait(0, |line| line == last),
        [
            &format!(
                "'{}' does not appear to be a git repository",
                scratch.path("nothing").display()
            ),
            last,
        ]
    );
}

/// Contract 20: the last of --syslog and --log-destination counts, and `none` is silent.
fn destinations_on_stderr(d: Implementation) {
    let scratch = Scratch::new();
    let destination = |options: &[&str]| {
        let daemon = d.serve(&scratch).args(options).start();
        daemon.ask("upload-pack", "/nothing");
        daemon.log.since(0)
    };
    assert!(!destination(&["--syslog", "--log-destination=stderr"]).is_empty());
    assert!(!destination(&["--log-destination=none", "--log-destination=stderr"]).is_empty());
    assert!(destination(&["--log-destination=stderr", "--log-destination=none"]).is_empty());
}

/// Contract 21: the service's standard error goes to the log line by line and never to the client.
fn stderr_of_the_service(d: Implementation) {
    let scratch = Scratch::new();
    scratch.bare("repo.git");
    let fake = scratch.fake_git(
        "printf 'one\n\ntwo\rthree\nfour' >&2
exec 2>&-
printf '0008five0000'
cat >/dev/null
",
    );
    let daemon = d.serve(&scratch).path_first(&fake).start();
    let session = daemon.talk(pkt("git-upload-pack /repo.git\0"));
    assert_eq!(session.verdict, crate::support::Verdict::Served(vec!["five".to_owned()]));
    let two = d.differs("B9", "two\rthree", "two\\rthree");
    session.assert_logged(&["Request upload-pack for '/repo.git'", "one", "", two, "four"]);
    let raw = daemon.log.raw(0);
    let said =
        |text: &str| format!("] {}{text}\n", d.differs("B9", "", "upload-pack: ")).into_bytes();
    let pids: Vec<_> = raw
        .iter()
        .filter(|line| line.ends_with(&said("one")) || line.ends_with(&said("four")))
        .collect();
    assert_eq!(pids.len(), 2);
    assert_eq!(pids[0].split(|b| *b == b' ').next(), pids[1].split(|b| *b == b' ').next());
}

/// What is too long for a line of gitd's goes on in the next.
#[test]
fn a_long_line_of_the_service() {
    let scratch = Scratch::new();
    scratch.bare("repo.git");
    let fake = scratch.fake_git("printf '%20000s\nend\n' '' | tr ' ' x >&2\nprintf 0000\n");
    let daemon = Gitd.serve(&scratch).path_first(&fake).start();
    daemon.ask("upload-pack", "/repo.git");
    daemon.log.wait(0, |line| line == "end");
    let log = daemon.log.since(0);
    let pieces: Vec<_> =
        log.iter().filter(|line| line.starts_with("xx")).map(String::len).collect();
    assert_eq!(pieces, [1000; 20]);
}

/// Contract 19, B9: a client cannot break a line in two.
fn line_feeds_from_a_client(d: Implementation) {
    let scratch = Scratch::new();
    let daemon = d.serve(&scratch).start();
    let session = daemon.talk(pkt("git-upload-pack /x\n[1] forged\0host=a\n[1] Disconnected\0"));
    let forged = session.log.iter().filter(|line| *line == "forged" || *line == "forged'").count();
    match d {
        Stock => assert!(session.log.contains(&"Disconnected".to_owned())),
        Gitd => assert_eq!(forged, 0, "{:?}", session.log),
    }
    if d == Gitd {
        assert_eq!(session.log.len(), 5, "{:?}", session.log);
    }
}

/// Contract 19, B9: stock cleans what it dies with, if nothing else.
fn control_characters_in_a_last_word(d: Implementation) {
    let scratch = Scratch::new();
    let daemon = d.serve(&scratch).start();
    let session = daemon.talk(b"\x01\x1b\x7fz");
    let shown = match d {
        Stock => "???z".to_owned(),
        Gitd => b"\x01\x1b\x7fz".escape_ascii().to_string(),
    };
    session.assert_logged(&[&format!("fatal: protocol error: bad line length character: {shown}")]);
}
