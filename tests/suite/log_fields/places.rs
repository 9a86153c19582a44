//! `--log-format=json` wherever the log goes.

use serde_json::Value;

use super::{events, good_request};
use crate::inetd::Inetd;
use crate::log_lines::hostile;
use crate::support::invocation::free_port;
use crate::support::process::wait_until;
use crate::support::syslog::Syslog;
use crate::support::{Client, Gitd, Scratch, pkt, request};

/// The objects in the messages that have arrived until so many connections have ended.
fn until_closed(syslog: &Syslog, count: usize) -> Vec<Value> {
    let mut lines = Vec::new();
    let is_end = |line: &Vec<u8>| String::from_utf8_lossy(line).contains("\"event\":\"closed\"");
    wait_until("the connections have ended", || {
        for message in syslog.so_far() {
            let (tag, text) = message.split_once("]: ").unwrap();
            assert!(tag.contains(" git-daemon["), "{message}");
            assert!(text.len() <= 1023, "{}", text.len());
            lines.push(format!("{text}\n").into_bytes());
        }
        lines.iter().filter(|line| is_end(line)).count() >= count
    });
    events(&lines)
}

/// A message to syslog has at most 1023 bytes, and each is a whole object all the same.
#[test]
fn in_syslog() {
    let scratch = Scratch::new();
    let syslog = Syslog::new(&scratch);
    let invocation = syslog.of(Gitd.serve(&scratch)).arg("--syslog").arg("--log-format=json");
    let daemon = invocation.start();
    let mut requests = hostile();
    requests.push(pkt([b"git-upload-pack /x\0host=".as_slice(), &[b'"'; 60_000], b"\0"].concat()));
    requests.push(pkt([b"git-upload-pack /".as_slice(), &[b'\\'; 60_000]].concat()));
    for bytes in &requests {
        let mut client = daemon.connect();
        client.send(bytes);
        client.rest();
    }
    let events = until_closed(&syslog, requests.len());
    assert!(daemon.log.since(0).is_empty());
    let outcome = |wanted| events.iter().filter(|event| event["outcome"] == wanted).count();
    assert_eq!(outcome("refused") + outcome("malformed"), requests.len());
}

/// In the background the log goes to syslog.
#[test]
fn detached() {
    let scratch = Scratch::new();
    let syslog = Syslog::new(&scratch);
    let port = free_port();
    let pid_file = scratch.root().join("pid");
    let outcome = syslog
        .of(Gitd.serve(&scratch))
        .args(["--detach", "--reuseaddr", "--listen=127.0.0.1", "--verbose", "--log-format=json"])
        .option("--port", port.to_string())
        .option("--pid-file", &pid_file)
        .run();
    assert_eq!(outcome.code(), Some(0), "{:?}", outcome.log());
    let pid = std::fs::read_to_string(pid_file).unwrap().trim_end().parse().unwrap();
    let mut client = Client::connect(([127, 0, 0, 1], port).into());
    client.send(request("upload-pack", "/none"));
    client.rest();
    let events = until_closed(&syslog, 1);
    crate::support::process::signal(pid, rustix::process::Signal::TERM);
    assert_eq!(events.last().unwrap()["reason"], "not-a-repository");
}

/// Under --inetd there is one record too, served or not.
#[test]
fn under_inetd() {
    let scratch = Scratch::new();
    scratch.bare("repo.git");
    for (bytes, outcome) in [
        (good_request("/repo.git"), "served"),
        (request("upload-pack", "/none"), "refused"),
        (pkt("nonsense"), "malformed"),
        (Vec::new(), "no-request"),
    ] {
        let invocation = Gitd.serve(&scratch).arg("--log-format=json");
        let (inetd, mut client) = Inetd::tcp(invocation);
        client.send(&bytes);
        client.half_close();
        client.rest();
        let log = inetd.raw_log();
        let lines: Vec<_> =
            log.split_inclusive('\n').map(|line| line.as_bytes().to_vec()).collect();
        let events = events(&lines);
        let records: Vec<_> = events.iter().filter(|event| event["event"] == "closed").collect();
        assert_eq!(records.len(), 1, "{events:#?}");
        assert_eq!(records[0]["outcome"], outcome, "{events:#?}");
        assert_eq!(records[0]["transport"], "tcp");
        assert_eq!(records[0].get("service_pid").is_some(), outcome == "served");
    }
}

/// The plain log has the record as a line only where nothing else has said it.
#[test]
fn the_line_under_inetd() {
    let scratch = Scratch::new();
    scratch.bare("repo.git");
    for (pathname, lines) in [("/repo.git", 1), ("/none", 0)] {
        let (inetd, mut client) = Inetd::tcp(Gitd.serve(&scratch));
        client.send(good_request(pathname));
        client.half_close();
        client.rest();
        assert_eq!(inetd.raw_log().matches("Disconnected").count(), lines, "{pathname}");
    }
}
