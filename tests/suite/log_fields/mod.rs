//! The log for programs: docs/logging.md.

mod fail2ban;
mod journal;
mod json;
mod places;
mod schema;

use serde_json::Value;

use crate::support::process::wait_until;
use crate::support::{Daemon, Invocation, request};
use schema::Schema;

/// A server with such a log on standard error.
fn start(invocation: Invocation, format: &str) -> Daemon {
    // Not by the first line, which is in another form.
    let invocation = invocation.quiet().arg("--verbose");
    invocation.arg(format!("--log-format={format}")).start()
}

/// A request that ends in order: it wants nothing.
fn good_request(pathname: &str) -> Vec<u8> {
    [request("upload-pack", pathname), b"0000".to_vec()].concat()
}

/// The events of a log, each of which is as documented.
fn events(lines: &[Vec<u8>]) -> Vec<Value> {
    let schema = Schema::documented();
    let parse = |line: &Vec<u8>| {
        let text = std::str::from_utf8(line).unwrap();
        assert!(text.ends_with('\n') && text.matches('\n').count() == 1 && text.len() <= 8192);
        let event: Value = serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}"));
        schema.check(&event);
        event
    };
    lines.iter().map(parse).collect()
}

/// The records of the connections, once there are so many.
fn closed(daemon: &Daemon, count: usize) -> Vec<Value> {
    let mut found = Vec::new();
    wait_until("the connections have ended", || {
        found = events(&daemon.log.raw(0));
        found.retain(|event| event["event"] == "closed");
        found.len() >= count
    });
    assert_eq!(found.len(), count);
    found
}

/// The bytes that a field stands for.
fn restored(shown: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = shown;
    while let Some((plain, escape)) = rest.split_once('\\') {
        bytes.extend(plain.as_bytes());
        let (byte, after) = escape.split_at(1);
        rest = after;
        match byte {
            "\\" => bytes.push(b'\\'),
            "n" => bytes.push(b'\n'),
            "r" => bytes.push(b'\r'),
            "t" => bytes.push(b'\t'),
            "x" => {
                let (digits, after) = after.split_at(2);
                bytes.push(u8::from_str_radix(digits, 16).unwrap());
                rest = after;
            }
            "u" => {
                let (digits, after) = after.strip_prefix('{').unwrap().split_once('}').unwrap();
                let character = char::from_u32(u32::from_str_radix(digits, 16).unwrap()).unwrap();
                bytes.extend(character.encode_utf8(&mut [0; 4]).as_bytes());
                rest = after;
            }
            _ => panic!("no escape: {shown}"),
        }
    }
    bytes.extend(rest.as_bytes());
    bytes
}
