//! --access-hook: contract 56 to 59.

use std::fs;
use std::path::PathBuf;

use crate::support::process::write_to_reader;
use crate::support::scratch::{chmod, config, export};
use crate::support::{Daemon, GENERIC, Gitd, Implementation, Scratch, compliance, pkt};

compliance! {
    arguments,
    canonical_name_as_it_is,
    surroundings,
    only_after_all_other_checks,
    shell_code,
    every_service,
    not_about_a_format_that_git_refuses,
    without_an_interpreter,
    refusal,
    text_of_a_refusal,
    output_is_ignored_on_success,
    output_is_awaited,
    killed,
    cannot_start,
    slow,
}

/// `/repo.git` behind a hook of these lines of shell.
fn server(d: Implementation, hook: &str, informative: bool) -> (Scratch, Daemon) {
    let scratch = Scratch::new();
    scratch.bare("repo.git");
    let hook = scratch.script("hook", &format!("#!/bin/sh\n{hook}\n"));
    let daemon = d
        .serve(&scratch)
        .option("--access-hook", hook)
        .args(informative.then_some("--informative-errors"))
        .start();
    (scratch, daemon)
}

/// Where a hook writes what it has seen, by a relative path: it runs in the git directory.
pub fn seen(scratch: &Scratch) -> PathBuf {
    scratch.path("repo.git/seen")
}

/// Contract 56: service, path, host, canonical host, address, port.
fn arguments(d: Implementation) {
    let scratch = Scratch::new();
    let repo = scratch.bare("repo.git");
    let hook = scratch.script("hook", "#!/bin/sh\nprintf '<%s>\\n' \"$@\" >seen\n");
    let daemon = d
        .serve(&scratch)
        .option("--access-hook", hook)
        .arg("--enable=receive-pack")
        .etc("hosts", "127.0.0.5 canon.example alias.example\n::5 six.example\n")
        .etc("nsswitch.conf", "hosts: files\n")
        .start();
    for (service, host, rest) in [
        (
            "upload-pack",
            Some("Alias.example:77"),
            ["alias.example", "canon.example", "127.0.0.5", "77"],
        ),
        ("receive-pack", Some("127.0.0.5"), ["127.0.0.5", "127.0.0.5", "127.0.0.5", ""]),
        ("upload-pack", Some("nowhere.example"), ["nowhere.example", "", "", ""]),
        ("upload-pack", Some(""), ["", "", "", ""]),
        ("upload-pack", None, ["", "", "", ""]),
        (
            "upload-pack",
            Some("six.example"),
            ["six.example", "six.example", d.since((2, 55), "::5", "0.0.0.0"), ""],
        ),
    ] {
        let host = host.map(|host| format!("\0host={host}\0")).unwrap_or_default();
        daemon.talk(pkt(format!("git-{service} /repo/{host}"))).assert_served("repo.git");
        let expected = [&[service, repo.to_str().unwrap()][..], &rest].concat();
        let expected: String = expected.iter().map(|arg| format!("<{arg}>\n")).collect();
        assert_eq!(fs::read_to_string(seen(&scratch)).unwrap(), expected, "{host:?}");
    }
}

/// Contract 42, 56: a hook that knows a name as the resolver spells it.
fn canonical_name_as_it_is(d: Implementation) {
    let scratch = Scratch::new();
    scratch.bare("repo.git");
    let hook =
        scratch.script("hook", "#!/bin/sh\necho \"$4\" >seen\n[ \"$4\" != Private.Example ]\n");
    let daemon = d
        .serve(&scratch)
        .option("--access-hook", hook)
        .etc("hosts", "127.0.0.5 Private.Example alias.example\n127.0.0.6 ../Up./x/ up.example\n")
        .etc("nsswitch.conf", "hosts: files\n")
        .start();
    let ask = |host| daemon.talk(pkt(format!("git-upload-pack /repo\0host={host}\0")));
    for host in ["alias.example", "private.example"] {
        ask(host).assert_refused(&format!("{GENERIC}: /repo"));
        assert_eq!(fs::read_to_string(seen(&scratch)).unwrap(), "Private.Example\n", "{host}");
    }
    ask("up.example").assert_served("repo.git");
    assert_eq!(fs::read_to_string(seen(&scratch)).unwrap(), "Up.x\n");
}

/// Contract 56: directory, environment, descriptors and signals.
fn surroundings(d: Implementation) {
    let (scratch, daemon) = server(
        d,
        "{ pwd; echo \"$GIT_DIR ${REMOTE_ADDR} ${GIT_PROTOCOL-none}\"; readlink /proc/self/fd/0 /proc/$$/fd/2; \
         grep SigIgn /proc/self/status; } >seen; echo \"$REMOTE_PORT\" >port",
        false,
    );
    let mark = daemon.log.mark();
    let session = daemon.talk(pkt("git-upload-pack /repo.git\0host=x\0\0version=2\0"));
    assert!(matches!(session.verdict, crate::support::Verdict::Served(_)));
    let text = fs::read_to_string(seen(&scratch)).unwrap();
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(
        lines[..4],
        [scratch.path("repo.git").to_str().unwrap(), ". 127.0.0.1 none", "/dev/null", "/dev/null"]
    );
    let ignored = u64::from_str_radix(lines[4].strip_prefix("SigIgn:\t").unwrap(), 16).unwrap();
    assert_eq!(ignored & (1 << 14), 0, "SIGTERM is not ignored");
    let port = fs::read_to_string(scratch.path("repo.git/port")).unwrap();
    assert_eq!(daemon.log.since(mark)[0], format!("Connection from 127.0.0.1:{}", port.trim_end()));
}

/// Contract 56: the hook is not asked about requests that are refused anyway.
fn only_after_all_other_checks(d: Implementation) {
    let scratch = Scratch::new();
    scratch.bare("closed.git");
    export(&scratch.bare("open.git"));
    let ran = scratch.root().join("ran");
    let hook = scratch.script("hook", &format!("#!/bin/sh\ntouch {}\nexit 1\n", ran.display()));
    let daemon = d.invoke(&scratch).base_path().option("--access-hook", hook).start();
    for (service, pathname) in [
        ("upload-pack", "/closed"),
        ("upload-pack", "/none"),
        ("receive-pack", "/open"),
        ("upload-pack", "/a/../b"),
    ] {
        daemon.ask(service, pathname);
    }
    assert!(!ran.exists());
    daemon.ask("upload-pack", "/open").assert_refused(&format!("{GENERIC}: /open"));
    assert!(ran.exists());
}

/// Contract 57: with a character of the shell's in it the value is code, which the arguments follow.
fn shell_code(d: Implementation) {
    for (hook, expected, served) in [
        ("printf %s\\\\n >seen", &["upload-pack", "PATH", "localhost"][..], true),
        ("echo \"$1\" >seen; false", &["upload-pack"], false),
        ("echo ${1}x>seen #", &["upload-packx"], true),
        ("echo>seen;test -d . ||", &[""], true),
    ] {
        let scratch = Scratch::new();
        let repo = scratch.bare("repo.git");
        let daemon = d.serve(&scratch).option("--access-hook", hook).start();
        let session = daemon.ask("upload-pack", "/repo.git");
        let text = fs::read_to_string(seen(&scratch)).unwrap();
        let lines: Vec<_> = text.lines().take(expected.len()).collect();
        let expected: Vec<_> =
            expected.iter().map(|line| line.replace("PATH", repo.to_str().unwrap())).collect();
        assert_eq!(lines, expected, "{hook}");
        if served {
            session.assert_served("repo.git");
        } else {
            session.assert_refused(&format!("{GENERIC}: /repo.git"));
        }
    }
}

/// Contract 56: each service is asked about, by its name.
fn every_service(d: Implementation) {
    let (scratch, daemon) = {
        let scratch = Scratch::new();
        scratch.bare("repo.git");
        let hook = scratch.script("hook", "#!/bin/sh\necho \"$1\" >seen\nexit 1\n");
        let enable = ["--enable=receive-pack", "--enable=upload-archive"];
        let daemon = d.serve(&scratch).option("--access-hook", hook).args(enable).start();
        (scratch, daemon)
    };
    for service in ["upload-pack", "receive-pack", "upload-archive"] {
        let session = daemon.ask(service, "/repo.git");
        session.assert_refused(&format!("{GENERIC}: /repo.git"));
        assert_eq!(fs::read_to_string(seen(&scratch)).unwrap(), format!("{service}\n"));
        fs::remove_file(seen(&scratch)).unwrap();
    }
}

/// Contract 49, 56: the hook is not asked about a repository that cannot be served.
fn not_about_a_format_that_git_refuses(d: Implementation) {
    let scratch = Scratch::new();
    config(&scratch.bare("new.git"), "[core] repositoryformatversion = 999\n");
    config(&scratch.bare("broken.git"), "[broken\n");
    scratch.bare("repo.git");
    let ran = scratch.root().join("ran");
    let hook = scratch.script("hook", &format!("#!/bin/sh\necho \"$2\" >>{}\n", ran.display()));
    let enable = ["--enable=receive-pack", "--enable=upload-archive"];
    let daemon = d.serve(&scratch).option("--access-hook", hook).args(enable).start();
    for pathname in ["/new.git", "/broken.git"] {
        for service in ["upload-pack", "receive-pack", "upload-archive"] {
            daemon.ask(service, pathname).assert_died(pathname, false);
            assert!(!ran.exists(), "{service} {pathname}: {}", fs::read_to_string(&ran).unwrap());
        }
    }
    daemon.ask("upload-pack", "/repo.git").assert_served("repo.git");
    assert!(ran.exists());
}

/// Contract 57: as execvp does it.
fn without_an_interpreter(d: Implementation) {
    let scratch = Scratch::new();
    scratch.bare("repo.git");
    let hook = scratch.script("hook", "echo ran >seen\n");
    let daemon = d.serve(&scratch).option("--access-hook", hook).start();
    daemon.ask("upload-pack", "/repo.git").assert_served("repo.git");
    assert!(seen(&scratch).exists());
}

/// Contract 58: any failure refuses, and the client gets the text only with --informative-errors.
fn refusal(d: Implementation) {
    let (_scratch, daemon) = server(d, "echo go away; exit 1", false);
    let session = daemon.ask("upload-pack", "/repo.git");
    session.assert_refused(&format!("{GENERIC}: /repo.git"));
    let (_scratch, daemon) = server(d, "echo go away; exit 1", true);
    daemon.ask("upload-pack", "/repo.git").assert_refused("go away: /repo.git");
    let (_scratch, daemon) = server(d, "exit 255", true);
    daemon.ask("upload-pack", "/repo.git").assert_refused("service rejected: /repo.git");
}

/// Contract 58: which part of the output it is.
fn text_of_a_refusal(d: Implementation) {
    for (script, text) in [
        ("printf 'one'", "one"),
        ("printf 'one\\ntwo\\n'", "one"),
        ("printf '  one two  \\n'", "one two  "),
        ("printf '\\n\\n \\n\\tone\\ntwo'", "one"),
        ("printf 'one\\r\\ntwo'", "one\r"),
        ("printf ''", "service rejected"),
        ("printf '\\n\\n'", "service rejected"),
        ("printf '  '", "service rejected"),
        ("printf %s%s%s 1 '%s' 3", "1%s3"),
        ("printf 'only on stderr' >&2", "service rejected"),
        // More than a packet holds, which does not count.
        ("printf '%70000s' ''; echo one", "one"),
    ] {
        let (_scratch, daemon) = server(d, &format!("{script}\nexit 1"), true);
        let session = daemon.ask("upload-pack", "/repo.git");
        session.assert_refused(&format!("{text}: /repo.git"));
    }
    let (_scratch, daemon) = server(d, "printf '%20000s' '' | tr ' ' x\nexit 1", true);
    daemon
        .ask("upload-pack", "/repo.git")
        .assert_refused(&format!("{}: /repo.git", "x".repeat(20_000)));
    if d == Gitd {
        // What does not fit into a packet, with "ERR ".
        let (_scratch, daemon) = server(d, "printf '%70000s' '' | tr ' ' x\nexit 1", true);
        daemon.ask("upload-pack", "/repo.git").assert_refused(&"x".repeat(65_512));
    }
}

/// Contract 58: the output of a hook that allows is ignored.
fn output_is_ignored_on_success(d: Implementation) {
    let (_scratch, daemon) = server(d, "printf 'hello\\n0000'; echo there >&2", true);
    let session = daemon.ask("upload-pack", "/repo.git");
    session.assert_served("repo.git");
    session.assert_logged(&[
        "Extended attribute \"host\": localhost",
        "Request upload-pack for '/repo.git'",
    ]);
}

/// Contract 58: all of the output is awaited, also that of a child in the background.
fn output_is_awaited(d: Implementation) {
    let scratch = Scratch::new();
    scratch.bare("repo.git");
    let fifo = scratch.root().join("fifo");
    let hook = scratch.script(
        "hook",
        &format!("#!/bin/sh\n(read line <{0}; echo $line) &\nexit 1\n", fifo.display()),
    );
    assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let daemon =
        d.serve(&scratch).option("--access-hook", hook).arg("--informative-errors").start();
    let mut client = daemon.connect();
    client.send(crate::support::request("upload-pack", "/repo.git"));
    // Open once the background child reads: by then the hook itself may have ended.
    write_to_reader(&fifo, "late\n");
    assert_eq!(client.packet(), crate::support::Packet::Data(b"ERR late: /repo.git".to_vec()));
}

/// Contract 59: a hook that was killed has not agreed.
fn killed(d: Implementation) {
    let (scratch, daemon) = server(d, "kill -9 $$", true);
    let session = daemon.ask("upload-pack", "/repo.git");
    session.assert_refused("service rejected: /repo.git");
    let hook = scratch.root().join("hook");
    session.assert_line(&format!("error: {} died of signal 9", hook.display()));
}

/// Contract 59: a hook that cannot be started refuses too.
fn cannot_start(d: Implementation) {
    let scratch = Scratch::new();
    scratch.bare("repo.git");
    let missing = scratch.root().join("missing");
    let plain = scratch.script("plain", "#!/bin/sh\n");
    chmod(&plain, 0o644);
    let orphan = scratch.script("orphan", "#!/nonexistent/interpreter\n");
    for hook in [missing, plain, orphan, "no-such-command".into()] {
        let daemon =
            d.serve(&scratch).option("--access-hook", &hook).arg("--informative-errors").start();
        let session = daemon.ask("upload-pack", "/repo.git");
        session.assert_refused("service rejected: /repo.git");
        // What follows, in this line or another, is the reason.
        let start = format!("daemon access hook '{}' failed to start", hook.display());
        assert!(session.log.iter().any(|line| line.starts_with(&start)), "{:#?}", session.log);
    }
}

/// Contract 56, 60: a hook takes the time it takes, and others are served meanwhile.
fn slow(d: Implementation) {
    let scratch = Scratch::new();
    scratch.bare("slow.git");
    scratch.bare("repo.git");
    let fifo = scratch.root().join("fifo");
    assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let hook = scratch.script(
        "hook",
        &format!("#!/bin/sh\ncase $2 in *slow*) read x <{};; esac\n", fifo.display()),
    );
    let daemon = d.serve(&scratch).option("--access-hook", hook).arg("--init-timeout=1").start();
    let mut client = daemon.connect();
    client.send(crate::support::request("upload-pack", "/slow.git"));
    // When a silent client has been sent away, the time is over.
    assert_eq!(daemon.connect().rest().0, b"");
    daemon.ask("upload-pack", "/repo.git").assert_served("repo.git");
    write_to_reader(&fifo, "go\n");
    assert!(!client.packets_to_flush().is_empty());
}
