//! The log that goes to syslog: contract 7 and 20.

use std::process::Stdio;

use crate::support::invocation::free_port;
use crate::support::process::{descriptor, wait_for};
use crate::support::syslog::{Message, Syslog};
use crate::support::{DEADLINE, Implementation, Scratch, compliance, pkt, request};

compliance! {
    messages,
    severities,
    long_lines,
    standard_error_is_closed,
    start_up_errors,
    inetd_by_default,
    inetd_without_a_request,
    detached_by_default,
}

const DAEMON: u8 = 3;
const ERROR: u8 = 3;
const INFO: u8 = 6;

fn disconnected(message: &Message) -> bool {
    message.text.contains("Disconnected")
}

/// Contract 20: tag, facility, and the words without a pid.
fn messages(d: Implementation) {
    for option in ["--syslog", "--log-destination=syslog"] {
        let scratch = Scratch::new();
        let syslog = Syslog::new(&scratch);
        let daemon = syslog.of(d.serve(&scratch)).arg(option).start();
        let ready = syslog.next();
        assert_eq!(
            ready,
            Message {
                facility: DAEMON,
                severity: INFO,
                tag: format!("git-daemon[{}]", daemon.pid()),
                text: "Ready to rumble".to_owned(),
            }
        );
        let mut client = daemon.connect();
        client.send(request("upload-pack", "/nothing"));
        let address = client.address();
        client.rest();
        drop(client);
        let messages = syslog.wait(disconnected);
        let texts: Vec<_> = messages.iter().map(|m| m.text.as_str()).collect();
        assert_eq!(
            texts[..4],
            [
                &format!("Connection from {address}"),
                "Extended attribute \"host\": localhost",
                "Request upload-pack for '/nothing'",
                &format!(
                    "'{}/nothing' does not appear to be a git repository",
                    scratch.repos().display()
                ),
            ]
        );
        for message in messages {
            assert!(message.tag.starts_with("git-daemon["), "{message:?}");
            assert_eq!(message.facility, DAEMON);
        }
        assert!(daemon.log.since(0).is_empty());
    }
}

/// Contract 20: 6 for what --verbose adds, 3 for the rest.
fn severities(d: Implementation) {
    let scratch = Scratch::new();
    scratch.bare("repo.git");
    let fake = scratch.fake_git("echo complaint >&2\nprintf 0000\n");
    let syslog = Syslog::new(&scratch);
    let daemon = syslog.of(d.serve(&scratch)).arg("--syslog").path_first(&fake).start();
    let mut severities = Vec::new();
    for bytes in [
        request("upload-pack", "/repo.git"),
        request("upload-pack", "/nothing"),
        pkt("nonsense"),
        b"zzzz".to_vec(),
    ] {
        let mut client = daemon.connect();
        client.send(bytes);
        client.rest();
        drop(client);
        severities.extend(syslog.wait(disconnected));
    }
    for (start, severity) in [
        ("Ready", INFO),
        ("Connection", INFO),
        ("Request", INFO),
        ("Extended", INFO),
        ("complaint", ERROR),
        ("'/tmp", ERROR),
        ("Protocol error: 'nonsense'", ERROR),
        ("protocol error: bad line length character: zzzz", ERROR),
    ] {
        let message = severities.iter().find(|message| message.text.starts_with(start));
        assert_eq!(message.map(|m| m.severity), Some(severity), "{start}: {severities:#?}");
    }
}

/// Contract 20: a line is cut.
fn long_lines(d: Implementation) {
    let scratch = Scratch::new();
    let syslog = Syslog::new(&scratch);
    let daemon = syslog.of(d.serve(&scratch)).arg("--syslog").start();
    let mut client = daemon.connect();
    client.send(pkt(format!("git-upload-pack /nothing\0host={}\0", "x".repeat(3000))));
    client.rest();
    let messages = syslog.wait(|message| message.text.starts_with("Extended attribute"));
    assert_eq!(messages.last().unwrap().text.len(), 1023);
}

/// Contract 20: with syslog and none alike.
fn standard_error_is_closed(d: Implementation) {
    for destination in ["syslog", "none"] {
        let scratch = Scratch::new();
        scratch.bare("repo.git");
        let syslog = Syslog::new(&scratch);
        let daemon = syslog.of(d.serve(&scratch)).option("--log-destination", destination).start();
        assert_eq!(descriptor(daemon.pid(), 2).unwrap().to_str(), Some("/dev/null"));
        daemon.ask("upload-pack", "/repo.git").assert_served("repo.git");
        assert!(daemon.log.since(0).is_empty());
    }
}

/// Contract 7: what cannot be is told to syslog alone.
fn start_up_errors(d: Implementation) {
    // Another server may use git's own port.
    let port = format!("--port={}", free_port());
    for (args, text) in [
        (
            &["--syslog", "--strict-paths"][..],
            "option --strict-paths requires '<directory>' arguments",
        ),
        (
            &["--syslog", "--base-path=/nonexistent/x"],
            "base-path '/nonexistent/x' does not exist or is not a directory",
        ),
        (&["--inetd", "--user=x"], "--detach, --user and --group are incompatible with --inetd"),
        (
            &["--syslog", "--pid-file=/nonexistent/x", "--listen=127.0.0.1", "--reuseaddr", &port],
            "could not open '/nonexistent/x' for writing: No such file or directory",
        ),
        (
            &["--syslog", "--listen=198.51.100.7", "--port=4711"],
            "unable to allocate any listen sockets on port 4711",
        ),
    ] {
        let scratch = Scratch::new();
        let syslog = Syslog::new(&scratch);
        let outcome = syslog.of(d.invoke(&scratch)).args(args).run();
        assert_eq!((outcome.code(), outcome.stderr.as_str()), (Some(1), ""), "{args:?}");
        let message = syslog.wait(|message| message.text == text).pop().unwrap();
        assert_eq!((message.facility, message.severity), (DAEMON, ERROR));
    }
}

/// Contract 20: --inetd has no other place for its log.
fn inetd_by_default(d: Implementation) {
    let scratch = Scratch::new();
    let syslog = Syslog::new(&scratch);
    let mut command = syslog.of(d.serve(&scratch)).arg("--inetd").command(&[]);
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    let stdin: std::os::fd::OwnedFd = theirs.try_clone().unwrap().into();
    let stdout: std::os::fd::OwnedFd = theirs.into();
    let mut child = command.stdin(stdin).stdout(stdout).stderr(Stdio::piped()).spawn().unwrap();
    drop(command);
    std::io::Write::write_all(&mut &ours, &pkt("git-upload-pack /nothing\0")).unwrap();
    let message = syslog.next();
    assert_eq!(
        message.text,
        format!("'{}/nothing' does not appear to be a git repository", scratch.repos().display())
    );
    assert_eq!(message.tag, format!("git-daemon[{}]", child.id()));
    ours.set_read_timeout(Some(DEADLINE)).unwrap();
    let answer = std::io::read_to_string(&ours).unwrap();
    assert!(answer.ends_with(": /nothing"), "{answer}");
    drop(ours);
    assert_eq!(wait_for(&mut child).code(), Some(255));
}

/// Contract 20, 55: the status of what is no request tells where the log is, too.
fn inetd_without_a_request(d: Implementation) {
    let scratch = Scratch::new();
    let syslog = Syslog::new(&scratch);
    for (sent, status) in [(b"zzzz".to_vec(), 1), (b"00".to_vec(), 1), (pkt("nonsense"), 255)] {
        let mut command = syslog.of(d.serve(&scratch)).arg("--inetd").command(&[]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), &sent).unwrap();
        assert_eq!(wait_for(&mut child).code(), Some(status), "{sent:?}");
    }
}

/// Contract 14, 20: nor has a daemon without a terminal.
fn detached_by_default(d: Implementation) {
    let scratch = Scratch::new();
    let file = scratch.root().join("pid");
    let syslog = Syslog::new(&scratch);
    let outcome =
        syslog.of(d.serve(&scratch)).arg("--detach").option("--pid-file", &file).run_as_server();
    assert_eq!(outcome.code(), Some(0));
    let message = syslog.next();
    assert_eq!(message.text, "Ready to rumble");
    let pid = std::fs::read_to_string(&file).unwrap();
    let pid: u32 = pid.trim_end().parse().unwrap();
    assert_eq!(message.tag, format!("git-daemon[{pid}]"));
    crate::support::process::signal(pid, rustix::process::Signal::TERM);
    crate::support::process::wait_until("it has gone", || !crate::support::process::alive(pid));
}
