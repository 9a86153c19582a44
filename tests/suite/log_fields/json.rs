//! `--log-format=json`.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use rustix::process::Signal;
use serde_json::Value;

use super::{closed, events, good_request, restored, start};
use crate::log_lines::hostile;
use crate::support::process::wait_until;
use crate::support::{Client, Daemon, Gitd, Scratch, pkt, request};

/// Sends this and waits for the end; returns the client's port.
fn ask(daemon: &Daemon, bytes: impl AsRef<[u8]>) -> u64 {
    let mut client = daemon.connect();
    client.send(bytes);
    let port = client.address().port();
    client.half_close();
    client.rest();
    port.into()
}

/// However a connection ends, there is one record of it.
#[test]
fn one_record_of_each_connection() {
    let scratch = Scratch::new();
    scratch.bare("repo.git");
    scratch.directory("empty.git");
    let fake = scratch.fake_git(
        "case $(basename $PWD) in
silent.git) exit 3 ;;
killed.git) printf 0005x; head -c 1 >/dev/null; kill -9 $$ ;;
esac
exec \"$REAL\" \"$@\"\n",
    );
    scratch.bare("silent.git");
    scratch.bare("killed.git");
    let invocation = Gitd.serve(&scratch).path_first(&fake);
    let daemon = start(invocation.args(["--init-timeout=1", "--user-path"]), "json");
    let expected = [
        (ask(&daemon, good_request("/repo.git")), "served", None),
        (ask(&daemon, request("upload-pack", "/none")), "refused", Some("not-a-repository")),
        (ask(&daemon, request("upload-pack", "/a/../b")), "refused", Some("aliased")),
        (
            ask(&daemon, request("receive-pack", "/repo.git")),
            "refused",
            Some("service-not-enabled"),
        ),
        (ask(&daemon, request("upload-pack", "/silent.git")), "failed", Some("service-failed")),
        (ask(&daemon, pkt("nonsense")), "malformed", Some("unknown-command")),
        (ask(&daemon, pkt("x\0y")), "malformed", Some("invalid-parameters")),
        (ask(&daemon, pkt("x\0host=[")), "malformed", Some("invalid-host")),
        (ask(&daemon, "GET / HTTP/1.0\r\n\r\n"), "malformed", Some("invalid-length")),
        (ask(&daemon, "0042git"), "malformed", Some("hung-up")),
        (ask(&daemon, ""), "no-request", None),
        (killed(&daemon), "failed", None),
        (silent(&daemon), "timed-out", None),
    ];
    let records = closed(&daemon, expected.len());
    for (port, outcome, reason) in expected {
        let record = records.iter().find(|record| record["port"] == port).unwrap();
        assert_eq!(record["outcome"], outcome, "{record}");
        assert_eq!(record.get("reason").and_then(Value::as_str), reason, "{record}");
        assert_eq!(record["client"], "127.0.0.1");
        assert_eq!(record["transport"], "tcp");
        let ran = matches!(outcome, "served" | "failed");
        for field in ["service_pid", "cpu_user", "cpu_system", "memory", "bytes_in", "bytes_out"] {
            assert_eq!(record.get(field).is_some(), ran, "{field}: {record}");
        }
        let found = ran || reason == Some("service-not-enabled");
        assert_eq!(record.get("found").is_some(), found, "{record}");
    }
}

fn killed(daemon: &Daemon) -> u64 {
    let mut client = daemon.connect();
    client.send(request("upload-pack", "/killed.git"));
    client.packet();
    client.send("x");
    client.rest();
    client.address().port().into()
}

fn silent(daemon: &Daemon) -> u64 {
    let mut client = daemon.connect();
    client.rest();
    client.address().port().into()
}

/// The numbers of a session are right.
#[test]
fn what_a_session_was() {
    let scratch = Scratch::new();
    scratch.bare("v/repo.git");
    // It takes a moment, works for another, and holds some memory.
    let fake = scratch.fake_git(
        "sleep 0.3; printf 0009hello
i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done
head -c 3 >/dev/null; sleep 0.2; exit 7\n",
    );
    let daemon = start(Gitd.serve(&scratch).path_first(&fake), "json");
    let mut client = daemon.connect();
    let asked = pkt("git-upload-pack /v/repo\0host=V.example:9\0\0version=2\0");
    client.send(&asked);
    client.packet();
    client.send("end");
    client.rest();
    let record = &closed(&daemon, 1)[0];
    let number = |field: &str| record[field].as_f64().unwrap_or_else(|| panic!("{record}"));
    assert_eq!(record["service"], "upload-pack");
    assert_eq!(record["repository"], "/v/repo");
    assert_eq!(record["found"], scratch.path("v/repo.git").to_str().unwrap());
    assert_eq!(record["host"], "v.example");
    assert_eq!(record["version"], 2);
    assert_eq!(record["exit_status"], 7);
    assert_eq!(record["outcome"], "failed");
    assert_eq!(record["bytes_out"], 9);
    assert_eq!(record["bytes_in"], asked.len() + 3);
    let (requested, first, end) = (number("requested"), number("first_byte"), number("duration"));
    assert!(requested < 0.3 && 0.3 <= first, "{record}");
    assert!(first + 0.2 <= end, "{record}");
    assert!(number("queued") < 0.3);
    assert!(number("cpu_user") + number("cpu_system") > 0.0, "{record}");
    assert!((100_000.0..1e9).contains(&number("memory")), "{record}");
}

/// What waits for a place has waited that long.
#[test]
fn how_long_a_request_was_queued() {
    let scratch = Scratch::new();
    scratch.bare("repo.git");
    let daemon = start(Gitd.serve(&scratch).arg("--max-connections=1"), "json");
    // In the version before 2 nothing is given back before the answer.
    let mut first = daemon.connect();
    first.send(request("upload-pack", "/repo.git"));
    first.packets_to_flush();
    let mut second = daemon.connect();
    second.send(request("upload-pack", "/repo.git"));
    let asked = |count| {
        wait_until("it has asked", || {
            let events = events(&daemon.log.raw(0));
            events.iter().filter(|event| event["event"] == "request").count() == count
        });
    };
    asked(2);
    std::thread::sleep(std::time::Duration::from_millis(100));
    first.send("0000");
    first.rest();
    second.packets_to_flush();
    second.send("0000");
    second.rest();
    let records = closed(&daemon, 2);
    let queued = |client: &Client| {
        let port = u64::from(client.address().port());
        let record = records.iter().find(|record| record["port"] == port).unwrap();
        record["queued"].as_f64().unwrap()
    };
    assert!(queued(&first) < 0.1 && queued(&second) >= 0.1, "{records:#?}");
}

/// Any byte that a client can send is text in the log, and can be had back from it.
#[test]
fn hostile_bytes_can_be_restored() {
    let (_scratch, daemon) = {
        let scratch = Scratch::new();
        let daemon = start(Gitd.serve(&scratch), "json");
        (scratch, daemon)
    };
    let mut path = b"/".to_vec();
    path.extend(1..=255);
    path.extend("\\n\\\\\\x41\u{202e}\u{9b}\u{feff}仓\"\\u{7f}".as_bytes());
    ask(
        &daemon,
        pkt([b"git-upload-pack ", path.as_slice(), b"\0host=", &[b'\\'; 600], b"\0"].concat()),
    );
    let record = &closed(&daemon, 1)[0];
    assert_eq!(restored(record["repository"].as_str().unwrap()), path);
    let shown = record["repository"].as_str().unwrap();
    assert!(!shown.chars().any(|c| c.is_control() || c == '\u{202e}' || c == '\u{feff}'));
    let host = record["host"].as_str().unwrap();
    let (begun, length) = host.split_once("\\...(").unwrap();
    assert_eq!(length, "600 bytes)");
    assert!(host.len() <= 1024 && begun.len() > 900 && restored(begun).iter().all(|&b| b == b'\\'));
}

/// The longest of everything fits into a line, and no field is longer than a field may be.
#[test]
fn lines_are_bounded() {
    let scratch = Scratch::new();
    scratch.bare("repo.git");
    let hook = "--access-hook=printf '%065000d\\n' 0; exit 1; :";
    let invocation = Gitd.serve(&scratch).args([hook, "--user-path=pub", "--informative-errors"]);
    let daemon = start(invocation, "json");
    let quotes = [b'"'; 60_000];
    let mut count = 0;
    for bytes in hostile().into_iter().chain([
        pkt([b"git-upload-pack /".as_slice(), &quotes].concat()),
        pkt([b"git-upload-pack /x\0host=".as_slice(), &quotes, b"\0"].concat()),
        pkt([b"git-upload-pack /".as_slice(), &[b'\\'; 60_000]].concat()),
    ]) {
        ask(&daemon, bytes);
        count += 1;
    }
    closed(&daemon, count);
    for event in events(&daemon.log.raw(0)) {
        for (name, value) in event.as_object().unwrap() {
            let most = if name == "message" { 3 * 1024 } else { 1024 };
            assert!(value.as_str().is_none_or(|text| text.len() <= most), "{name}: {value}");
        }
    }
}

/// A record of each family of addresses: without brackets, and for a local client its user.
#[test]
fn addresses_and_transports() {
    let scratch = Scratch::new();
    scratch.bare("repo.git");
    let path = scratch.root().join("socket");
    let listen = format!("--listen=unix:{}", path.display());
    let invocation = Gitd.serve(&scratch).listen(&["::1"]).arg(listen);
    let daemon = start(invocation, "json");
    ask(&daemon, good_request("/repo.git"));
    let mut client = UnixStream::connect(&path).unwrap();
    client.write_all(&good_request("/repo.git")).unwrap();
    client.read_to_end(&mut Vec::new()).unwrap();
    let records = closed(&daemon, 2);
    assert_eq!((&records[0]["client"], &records[0]["transport"]), (&"::1".into(), &"tcp".into()));
    let local = &records[1];
    let user = rustix::process::geteuid().as_raw();
    assert_eq!((&local["user"], &local["transport"]), (&user.into(), &"unix".into()));
    assert_eq!(local["outcome"], "served");
    for field in ["client", "port", "bytes_out", "bytes_in", "first_byte"] {
        assert!(local.get(field).is_none(), "{local}");
    }
}

/// The ends that gitd makes.
#[test]
fn ends_by_gitd() {
    let scratch = Scratch::new();
    scratch.bare("repo.git");
    let options = ["--max-pending=1", "--shutdown-timeout=1"];
    let mut daemon = start(Gitd.serve(&scratch).args(options), "json");
    let mut dismissed = daemon.connect();
    let connections =
        |events: &[Value]| events.iter().filter(|event| event["event"] == "connection").count();
    wait_until("it is there", || connections(&events(&daemon.log.raw(0))) == 1);
    let mut waits = daemon.connect();
    dismissed.rest();
    waits.send(request("upload-pack", "/repo.git"));
    waits.packets_to_flush();
    daemon.signal(Signal::TERM);
    daemon.wait();
    daemon.log.wait_end();
    let records = closed(&daemon, 2);
    assert_eq!(records[0]["outcome"], "dismissed");
    assert_eq!(records[0]["port"], dismissed.address().port());
    assert_eq!(records[1]["outcome"], "stopped");
    assert_eq!(records[1]["port"], waits.address().port());
}

/// Without --verbose, what went wrong and nothing else.
#[test]
fn quiet() {
    let scratch = Scratch::new();
    scratch.bare("repo.git");
    let daemon = Gitd.serve(&scratch).quiet().arg("--log-format=json").start();
    ask(&daemon, good_request("/repo.git"));
    ask(&daemon, request("upload-pack", "/none"));
    let mut found = Vec::new();
    wait_until("the refusal is logged", || {
        found = events(&daemon.log.raw(0));
        !found.is_empty()
    });
    let names: Vec<_> = found.iter().map(|event| event["event"].as_str().unwrap()).collect();
    assert_eq!(names, ["denied"]);
}
