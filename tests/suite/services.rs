//! What a service is given: contract 50 and 51.

use std::fs;
use std::path::Path;

use crate::support::process::status;
use crate::support::scratch::config;
use crate::support::{Git, Gitd, Implementation, Scratch, compliance, pkt, request};

/// What the fake git has seen: its arguments, directory, environment and ignored signals.
struct Seen(Vec<String>);

impl Seen {
    fn read(file: &Path) -> Self {
        let text = fs::read_to_string(file).unwrap();
        fs::remove_file(file).unwrap();
        Self(text.lines().map(str::to_owned).collect())
    }

    fn args(&self) -> &str {
        &self.0[0]
    }

    fn directory(&self) -> &str {
        &self.0[1]
    }

    fn ignores(&self, signal: u32) -> bool {
        let mask = self.value("SigIgn:\t").unwrap();
        u64::from_str_radix(mask, 16).unwrap() & (1 << (signal - 1)) != 0
    }

    fn env(&self, name: &str) -> Option<&str> {
        self.value(&format!("{name}="))
    }

    fn value(&self, prefix: &str) -> Option<&str> {
        self.0.iter().find_map(|line| line.strip_prefix(prefix))
    }
}

/// A recorder for PATH and the file it writes.
fn recorder(scratch: &Scratch) -> (std::path::PathBuf, std::path::PathBuf) {
    let seen = scratch.root().join("seen");
    let fake = scratch.fake_git(&format!(
        "{{ echo \"$@\"; pwd; env; grep SigIgn /proc/self/status; }} >{}\nexec \"$REAL\" \"$@\"\n",
        seen.display()
    ));
    (fake, seen)
}

compliance! {
    what_a_service_is_given,
    without_timeout,
    addresses,
    environment_of_the_daemon,
}

/// Contract 50: arguments, directory and environment of each service.
fn what_a_service_is_given(d: Implementation) {
    let scratch = Scratch::new();
    let repo = scratch.bare("repo.git");
    scratch.non_bare("tree");
    scratch.gitfile("file", &repo);
    let (fake, seen) = recorder(&scratch);
    let daemon = d
        .serve(&scratch)
        .path_first(&fake)
        .args(["--timeout=77", "--enable=receive-pack", "--enable=upload-archive"])
        .start();
    for (service, pathname, args, directory) in [
        ("upload-pack", "/repo", "upload-pack --strict --timeout=77 .", repo.clone()),
        ("receive-pack", "/repo", "receive-pack .", repo.clone()),
        ("upload-pack", "/tree", "upload-pack --strict --timeout=77 .", scratch.path("tree/.git")),
        ("upload-pack", "/file", "upload-pack --strict --timeout=77 .", repo.clone()),
    ] {
        let mark = daemon.log.mark();
        let mut client = daemon.connect();
        client.send(request(service, pathname));
        client.packets_to_flush();
        client.send("0000");
        client.half_close();
        client.rest();
        daemon.wait_disconnected(mark);
        let seen = Seen::read(&seen);
        assert_eq!(seen.args(), args);
        assert_eq!(Path::new(seen.directory()), directory);
        assert_eq!(seen.env("GIT_DIR"), Some("."));
        assert_eq!(seen.env("REMOTE_ADDR"), Some("127.0.0.1"));
        assert_eq!(seen.env("REMOTE_PORT"), Some(client.address().port().to_string().as_str()));
        assert_eq!(seen.env("GIT_PROTOCOL"), None);
        assert!(seen.ignores(15), "SIGTERM must be ignored");
    }
    Git::new(&scratch)
        .args(["archive", "--format=tar", "-o", "out.tar", "--remote"])
        .arg(daemon.url("/repo.git"))
        .arg("main")
        .ok();
    assert_eq!(Seen::read(&seen).args(), "upload-archive .");
}

/// Contract 50: no --timeout is a timeout of 0.
fn without_timeout(d: Implementation) {
    let scratch = Scratch::new();
    scratch.bare("repo.git");
    let (fake, seen) = recorder(&scratch);
    let daemon = d.serve(&scratch).path_first(&fake).start();
    daemon.ask("upload-pack", "/repo").assert_served("repo.git");
    assert_eq!(Seen::read(&seen).args(), "upload-pack --strict --timeout=0 .");
}

/// Contract 51: the client's address, IPv6 in brackets.
fn addresses(d: Implementation) {
    let scratch = Scratch::new();
    scratch.bare("repo.git");
    let (fake, seen) = recorder(&scratch);
    let daemon = d.serve(&scratch).path_first(&fake).listen(&["::1"]).start();
    let mark = daemon.log.mark();
    let session = daemon.ask("upload-pack", "/repo");
    session.assert_served("repo.git");
    let seen = Seen::read(&seen);
    assert_eq!(seen.env("REMOTE_ADDR"), Some("[::1]"));
    let port = seen.env("REMOTE_PORT").unwrap();
    assert_eq!(daemon.log.since(mark)[0], format!("Connection from [::1]:{port}"));
}

/// Contract 51, B16: the daemon's own environment does not describe the client.
fn environment_of_the_daemon(d: Implementation) {
    let scratch = Scratch::new();
    scratch.bare("repo.git");
    let (fake, seen) = recorder(&scratch);
    let daemon = d
        .serve(&scratch)
        .path_first(&fake)
        .env("REMOTE_ADDR", "6.6.6.6")
        .env("REMOTE_PORT", "666")
        .env("GIT_DIR", "/nowhere")
        .env("GIT_PROTOCOL", "version=1")
        .env("HARMLESS", "kept")
        .start();
    let session = daemon.talk(pkt("git-upload-pack /repo.git\0host=x\0"));
    session.assert_served("repo.git");
    assert!(session.log[0].starts_with("Connection from CLIENT"));
    let first = Seen::read(&seen);
    assert_eq!(first.env("REMOTE_ADDR"), Some("127.0.0.1"));
    assert_ne!(first.env("REMOTE_PORT"), Some("666"));
    assert_eq!(first.env("GIT_DIR"), Some("."));
    assert_eq!(first.env("HARMLESS"), Some("kept"));
    assert_eq!(first.env("GIT_PROTOCOL"), d.differs("B16", Some("version=1"), None));
    daemon.talk(pkt("git-upload-pack /repo.git\0host=x\0\0version=0\0")).assert_served("repo.git");
    assert_eq!(Seen::read(&seen).env("GIT_PROTOCOL"), Some("version=0"));
}

/// B16: the service manager's variables are for gitd alone; git's variables reach git.
#[test]
fn variables_of_the_server() {
    let scratch = Scratch::new();
    scratch.bare("repo.git");
    let (fake, seen) = recorder(&scratch);
    let scrubbed = ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "WATCHDOG_PID", "WATCHDOG_USEC"];
    let kept = ["GIT_NAMESPACE", "GIT_CEILING_DIRECTORIES", "GIT_SHALLOW_FILE", "HARMLESS"];
    let invocation = Gitd.serve(&scratch).path_first(&fake);
    let invocation = scrubbed.iter().chain(&kept).fold(invocation, |all, name| all.env(name, "7"));
    let daemon = invocation.start();
    daemon.talk(pkt("git-upload-pack /repo.git\0host=x\0"));
    let seen = Seen::read(&seen);
    for name in scrubbed {
        assert_eq!(seen.env(name), None, "{name}");
    }
    for name in kept {
        assert_eq!(seen.env(name), Some("7"), "{name}");
    }
}

/// The signals that gitd's own parent left blocked are not handed on, and the service's end is seen though SIGCHLD was
/// ignored.
#[test]
fn left_behind_by_the_caller() {
    let scratch = Scratch::new();
    scratch.bare("repo.git");
    let seen = scratch.root().join("seen");
    // Within the shell itself: it has a mask of its own while it waits for a child.
    let fake = scratch.fake_git(&format!(
        "while read -r line; do echo \"$line\"; done </proc/self/status >{}\n\
         exec \"$REAL\" \"$@\"\n",
        seen.display()
    ));
    let daemon = Gitd
        .serve(&scratch)
        .path_first(&fake)
        .shell("exec env --ignore-signal=CHLD --block-signal=HUP,CHLD \"$@\"")
        .start();
    let blocked = u64::from_str_radix(&status(daemon.pid(), "SigBlk").unwrap(), 16).unwrap();
    assert_eq!(blocked & 1, 1, "SIGHUP was left blocked");
    let mark = daemon.log.mark();
    daemon.ask("upload-pack", "/repo.git").assert_served("repo.git");
    daemon.log.wait(mark, |line| line == "Disconnected");
    let text = fs::read_to_string(&seen).unwrap();
    let mask = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        u64::from_str_radix(line.trim_start_matches(':').trim(), 16).unwrap()
    };
    assert_eq!(mask("SigBlk"), 0, "{text}");
    let (child, term) = (1 << 16, 1 << 14);
    assert_eq!(mask("SigIgn") & child, 0, "{text}");
    assert_ne!(mask("SigIgn") & term, 0, "{text}");
}

/// A repository's owner does not choose the program: what stands in a relative directory of PATH is passed over, both
/// for the service and for what gitd asks git before.
#[test]
fn no_program_of_the_repository() {
    let scratch = Scratch::new();
    let repository = scratch.bare("repo.git");
    config(&repository, "[daemon] uploadpack = true\n");
    let seen = scratch.root().join("seen");
    let trap = format!("#!/bin/sh\necho \"$@\" >>{}\nexit 1\n", seen.display());
    scratch.script("srv/repo.git/git", &trap);
    let daemon = Gitd.serve(&scratch).path_first(Path::new(".")).start();
    daemon.ask("upload-pack", "/repo.git").assert_served("repo.git");
    assert!(!seen.exists(), "{}", fs::read_to_string(&seen).unwrap());
}
