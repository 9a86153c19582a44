//! `--proxy-protocol`: the client's address from a load balancer's header, as bytes and as HAProxy writes it, and several
//! gitd behind HAProxy.

mod balancer;
mod haproxy;
mod header;
mod manifests;
mod refusals;

use crate::support::{Daemon, Gitd, Scratch, request};

/// The listed peers of most tests: all clients of this suite connect from there.
const LOOPBACK: &str = "--proxy-protocol=127.0.0.0/8,::1";

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// A header of version 2.
fn version_2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(body.len()).unwrap().to_be_bytes();
    [SIGNATURE, &[command, family], &length, body].concat()
}

/// A header of version 2 with an IPv4 client, and fields behind the addresses.
fn inet(client: [u8; 4], port: u16, fields: &[u8]) -> Vec<u8> {
    let [high, low] = port.to_be_bytes();
    version_2(0x21, 0x11, &[&client, &[10, 0, 0, 1, high, low, 0x24, 0xca][..], fields].concat())
}

/// A header, and the request that git sends, in one piece.
fn with_request(header: impl AsRef<[u8]>, pathname: &str) -> Vec<u8> {
    [header.as_ref(), &request("upload-pack", pathname)].concat()
}

/// A server of `/repo.git` that requires the header from loopback.
fn server(options: &[&str]) -> (Scratch, Daemon) {
    let scratch = Scratch::new();
    scratch.bare("repo.git");
    let daemon = Gitd.serve(&scratch).arg(LOOPBACK).args(options).start();
    (scratch, daemon)
}

/// The log's lines from `mark` on, whole.
fn lines(daemon: &Daemon, mark: usize) -> Vec<String> {
    let lines = daemon.log.raw(mark);
    lines.iter().map(|line| String::from_utf8_lossy(line).trim_end().to_owned()).collect()
}
