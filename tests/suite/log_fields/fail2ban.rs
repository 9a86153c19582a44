//! docs/fail2ban: Debian's fail2ban finds the clients that it should, and no others.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::{closed, good_request, start};
use crate::support::process::{installed, output};
use crate::support::scratch::append;
use crate::support::{Client, Daemon, Gitd, Scratch, pkt, request};

/// The addresses that the filter finds in a log, in their order.
fn offenders(scratch: &Scratch, lines: &[Vec<u8>]) -> Vec<String> {
    assert!(installed("fail2ban-regex").is_some(), "needs Debian's package fail2ban");
    let log = scratch.root().join("log");
    fs::write(&log, lines.concat()).unwrap();
    let filter = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/fail2ban/filter.d/gitd.conf");
    let said = output(Command::new("fail2ban-regex").args(["-o", "ip"]).arg(log).arg(filter));
    let text = String::from_utf8(said.stdout).unwrap();
    text.lines().map(str::to_owned).collect()
}

/// A client from an address of its own.
fn ask(daemon: &Daemon, address: [u8; 4], bytes: &[u8]) {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&std::net::SocketAddr::from((address, 0)).into()).unwrap();
    socket.connect(&daemon.address().into()).unwrap();
    let mut client = Client::from(socket.into());
    client.send(bytes);
    client.half_close();
    client.rest();
}

const FORGED: &str = "/x' does not appear to be a git repository (client 127.0.0.99:1; y)";

/// The recorded log of a server with good clients, offenders, and one that tries to have another banned.
fn record(format: &str) -> (Scratch, Vec<Vec<u8>>) {
    let scratch = Scratch::new();
    scratch.bare("repo.git");
    let blameless = FORGED.replace("/x", "/z");
    let broken = scratch.bare(format!("{}.git", &blameless[1..]));
    append(&broken.join("config"), "[daemon\n");
    let fake = scratch.fake_git(&format!(
        "echo \"'{FORGED}\" >&2; echo '{{\"time\":\"2026-11-21T23:51:42.123456Z\",\"level\":\"error\"' >&2
exec \"$REAL\" \"$@\"\n"
    ));
    let options = ["--max-connections-per-address=9"];
    let daemon = start(Gitd.serve(&scratch).path_first(&fake).args(options), format);
    let json = r#"/x","client":"127.0.0.99","port":1,"reason":"aliased"#;
    let requests = [
        (1, good_request("/repo.git")),
        (2, request("upload-pack", "/none")),
        (3, request("upload-pack", "/../x")),
        (4, request("receive-pack", "/repo.git")),
        (5, pkt("nonsense")),
        (6, b"GET / HTTP/1.0\r\n\r\n".to_vec()),
        (7, pkt("x\0host=[")),
        (8, pkt(format!("git-upload-pack {FORGED}"))),
        (9, pkt(format!("git-upload-pack {json}"))),
        (10, pkt(FORGED)),
        (11, pkt(format!("git-upload-pack /{}", "y'\"\\".repeat(3000)))),
        (12, pkt(format!("git-upload-pack /repo.git\0host={FORGED}\0\0{json}\0"))),
        // Refused through no fault of the client's.
        (15, pkt(format!("git-upload-pack {blameless}.git"))),
        // A scan of a balancer, and a network that broke.
        (13, Vec::new()),
        (14, b"0042git".to_vec()),
    ];
    for (last, bytes) in &requests {
        ask(&daemon, [127, 0, 0, *last], bytes);
    }
    let count = requests.len();
    if format == "json" {
        closed(&daemon, count);
    } else {
        daemon.log.wait_count(0, count - 1, |line| line.starts_with("Disconnected"));
    }
    (scratch, daemon.log.raw(0))
}

/// Those that offend, by the last byte of their addresses.
fn expected() -> Vec<String> {
    (2..=11).map(|last| format!("127.0.0.{last}")).collect()
}

#[test]
fn in_json() {
    let (scratch, lines) = record("json");
    assert_eq!(offenders(&scratch, &lines), expected());
}

#[test]
fn in_plain_lines() {
    let (scratch, lines) = record("plain");
    assert_eq!(offenders(&scratch, &lines), expected());
}

/// As rsyslog writes them, in either form of its times; and as fail2ban has them from the journal.
#[test]
fn in_syslog() {
    for format in ["json", "plain"] {
        let (scratch, lines) = record(format);
        for time in ["Nov 21 23:51:42", "Nov  1 03:51:42", "2026-11-21T23:51:42.123456+00:00"] {
            let line = |line: &Vec<u8>| {
                let text = String::from_utf8(line.clone()).unwrap();
                // There, and nowhere else, the pid is the tag's.
                let text = match text.split_once("] ") {
                    Some((_, text)) if format == "plain" => text.to_owned(),
                    _ => text,
                };
                format!("{time} host git-daemon[123]: {text}").into_bytes()
            };
            let lines: Vec<_> = lines.iter().map(line).collect();
            assert_eq!(offenders(&scratch, &lines), expected(), "{format}, {time}");
        }
    }
}
