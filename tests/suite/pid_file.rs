//! --pid-file and --detach: contract 13 and 14.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use rustix::process::Signal;

use crate::support::process::{alive, descriptor, listening, session, signal, status, wait_until};
use crate::support::{Gitd, Implementation, Scratch, Stock, compliance};

compliance! {
    contents,
    relative_to_the_directory,
    cannot_be_written,
    after_a_failed_bind,
    detached,
    detached_with_its_log,
    detached_and_failing,
}

/// Contract 13: the pid and a line feed, whatever was there before.
fn contents(d: Implementation) {
    let scratch = Scratch::new();
    let file = scratch.root().join("pid");
    fs::write(&file, "a much longer text than any number\n").unwrap();
    let mut daemon = d.serve(&scratch).option("--pid-file", &file).shell("umask 027").start();
    assert_eq!(fs::read_to_string(&file).unwrap(), format!("{}\n", daemon.pid()));
    if d == Stock {
        fs::remove_file(&file).unwrap();
        daemon = d.serve(&scratch).option("--pid-file", &file).shell("umask 027").start();
    }
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o640);
    daemon.signal(Signal::TERM);
    daemon.wait();
    assert_eq!(file.exists(), d.differs("B11", true, false));
}

/// Contract 13: relative to where it was started.
fn relative_to_the_directory(d: Implementation) {
    let scratch = Scratch::new();
    let daemon = d.serve(&scratch).arg("--pid-file=my.pid").cwd(scratch.home()).start();
    let text = fs::read_to_string(scratch.home().join("my.pid")).unwrap();
    assert_eq!(text, format!("{}\n", daemon.pid()));
}

/// Contract 13: words and status.
fn cannot_be_written(d: Implementation) {
    let scratch = Scratch::new();
    let outcome = d.serve(&scratch).arg("--pid-file=/nonexistent/pid").run_as_server();
    assert_eq!(outcome.code(), Some(128));
    assert_eq!(
        outcome.stderr,
        "fatal: could not open '/nonexistent/pid' for writing: No such file or directory\n"
    );
    let outcome = d.serve(&scratch).arg("--pid-file=").run_as_server();
    assert_eq!(outcome.stderr, "fatal: could not open '' for writing: No such file or directory\n");
}

/// Contract 13, B11: no daemon, no file.
fn after_a_failed_bind(d: Implementation) {
    let scratch = Scratch::new();
    let file = scratch.root().join("pid");
    let outcome =
        d.serve(&scratch).listen(&["198.51.100.7"]).option("--pid-file", &file).run_as_server();
    assert_eq!(outcome.code(), Some(128));
    assert_eq!(file.exists(), d.differs("B11", true, false));
}

/// Contract 14: a session of its own, nothing open, the pid in the file.
fn detached(d: Implementation) {
    let scratch = Scratch::new();
    scratch.bare("repo.git");
    let file = scratch.root().join("pid");
    let port = crate::support::invocation::free_port();
    let outcome = d
        .serve(&scratch)
        .option("--pid-file", &file)
        .args(["--detach", "--reuseaddr"])
        .port(port)
        .cwd(scratch.home())
        .shell("umask 027")
        .run_as_server();
    assert_eq!((outcome.code(), outcome.stderr.as_str()), (Some(0), ""));
    match d {
        Stock => wait_until("it listens", || listening(port)),
        Gitd => assert!(listening(port), "B11"),
    }
    let text = fs::read_to_string(&file).unwrap();
    let pid: u32 = text.trim_end().parse().unwrap();
    assert_eq!(session(pid), Some(pid));
    assert_eq!(status(pid, "Umask").unwrap(), "0027");
    for fd in 0..3 {
        assert_eq!(descriptor(pid, fd).unwrap().to_str(), Some("/dev/null"));
    }
    assert_eq!(fs::read_link(format!("/proc/{pid}/cwd")).unwrap(), scratch.home());
    let mut client = crate::support::Client::connect(([127, 0, 0, 1], port).into());
    client.send(crate::support::request("upload-pack", "/repo.git"));
    assert!(!client.packets_to_flush().is_empty());
    drop(client);
    signal(pid, Signal::TERM);
    wait_until("it has gone", || !alive(pid));
    assert_eq!(file.exists(), d.differs("B11", true, false));
}

/// Contract 14: wherever the log goes, nothing that the caller had open is kept.
fn detached_with_its_log(d: Implementation) {
    let scratch = Scratch::new();
    let file = scratch.root().join("pid");
    let port = crate::support::invocation::free_port();
    let outcome = d
        .serve(&scratch)
        .option("--pid-file", &file)
        .args(["--detach", "--reuseaddr", "--log-destination=stderr"])
        .port(port)
        .run_as_server();
    assert_eq!(outcome.code(), Some(0));
    wait_until("it listens", || listening(port));
    let pid: u32 = fs::read_to_string(&file).unwrap().trim_end().parse().unwrap();
    let stderr = descriptor(pid, 2);
    signal(pid, Signal::TERM);
    wait_until("it has gone", || !alive(pid));
    assert_eq!(stderr.unwrap().to_str(), Some("/dev/null"));
}

/// Contract 14, B11: what the caller learns of a port that is taken, and of a pid file that cannot be written.
fn detached_and_failing(d: Implementation) {
    let scratch = Scratch::new();
    let other = d.serve(&scratch).start();
    let outcome = d.serve(&scratch).arg("--detach").port(other.port).run_as_server();
    assert_eq!(outcome.code(), d.differs("B11", Some(0), Some(1)), "{outcome:?}");
    let reason =
        "fatal: could not open '/nonexistent/pid' for writing: No such file or directory\n";
    for (destination, status, told) in
        [("stderr", 128, reason), ("syslog", 1, ""), ("none", 128, "")]
    {
        let outcome = d
            .serve(&scratch)
            .option("--log-destination", destination)
            .args(["--detach", "--pid-file=/nonexistent/pid"])
            .run_as_server();
        let expected = d.differs("B11", (Some(0), ""), (Some(status), told));
        assert_eq!((outcome.code(), outcome.stderr.as_str()), expected, "{destination}");
    }
}
