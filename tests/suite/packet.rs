//! The request packet: contract 23 to 30.

use crate::support::{
    Client, End, GENERIC, Implementation, Packet, Scratch, Verdict, compliance, pkt, request,
};

compliance! {
    lengths_that_are_none,
    special_packets_before_the_request,
    length_in_either_case,
    end_at_each_byte,
    a_byte_at_a_time,
    next_bytes_in_the_same_segment,
    half_close_after_the_request,
    the_largest_packet,
    line_feeds_and_nuls,
    two_line_feeds,
    not_utf8,
}

/// Contract 24: what a length may be.
fn lengths_that_are_none(d: Implementation) {
    let (_scratch, daemon) = d.serve_one();
    for (bytes, reason) in [
        ("0000", "Protocol error: ''"),
        ("0001", "Protocol error: ''"),
        ("0002", "Protocol error: ''"),
        ("0004", "Protocol error: ''"),
        ("0003", "fatal: protocol error: bad line length 3"),
        ("fff4", "fatal: protocol error: bad line length 65520"),
        ("FFFF", "fatal: protocol error: bad line length 65531"),
        ("zzzz", "fatal: protocol error: bad line length character: zzzz"),
        ("00g0", "fatal: protocol error: bad line length character: 00g0"),
        ("+028", "fatal: protocol error: bad line length character: +028"),
        ("-028", "fatal: protocol error: bad line length character: -028"),
        ("0x28", "fatal: protocol error: bad line length character: 0x28"),
        (" 028", "fatal: protocol error: bad line length character:  028"),
        ("028 ", "fatal: protocol error: bad line length character: 028 "),
        ("GET ", "fatal: protocol error: bad line length character: GET "),
    ] {
        let session = daemon.talk(bytes);
        session.assert_silent();
        session.assert_logged(&[reason]);
    }
}

/// Contract 24: a flush, delimiter or response-end packet where the request should be, with more behind it.
fn special_packets_before_the_request(d: Implementation) {
    let (_scratch, daemon) = d.serve_one();
    for special in ["0000", "0001", "0002", "0004"] {
        let mut bytes = special.as_bytes().to_vec();
        bytes.extend(request("upload-pack", "/repo.git"));
        let session = daemon.talk(bytes);
        session.assert_silent();
        session.assert_logged(&["Protocol error: ''"]);
    }
}

/// Contract 24: four hex digits of either case.
fn length_in_either_case(d: Implementation) {
    let (_scratch, daemon) = d.serve_one();
    let packet = pkt("git-upload-pack /repo.git\0host=abcdefghij\0");
    assert_eq!(&packet[..4], b"002e");
    for length in [b"002e", b"002E"] {
        let session = daemon.talk([&length[..], &packet[4..]].concat());
        session.assert_served("repo.git");
    }
}

/// Contract 24: the client goes away at each byte of a request.
fn end_at_each_byte(d: Implementation) {
    let (_scratch, daemon) = d.serve_one();
    let whole = request("upload-pack", "/repo.git");
    for length in 1..whole.len() {
        let mark = daemon.log.mark();
        let mut client = daemon.connect();
        client.send(&whole[..length]);
        client.half_close();
        assert_eq!(client.rest(), (vec![], End::Closed), "after {length} bytes");
        let log = daemon.wait_disconnected(mark);
        assert_eq!(
            log[1..],
            ["fatal: the remote end hung up unexpectedly", "Disconnected (with error)",],
            "after {length} bytes"
        );
    }
}

/// Contract 23: however slowly a request comes, it is one.
fn a_byte_at_a_time(d: Implementation) {
    let (_scratch, daemon) = d.serve_one();
    let mut client = daemon.connect();
    client.send_bytewise(request("upload-pack", "/repo.git"));
    assert_repo(&mut client);
}

/// Contract 23: what follows the request in the same segment belongs to the service.
fn next_bytes_in_the_same_segment(d: Implementation) {
    let (_scratch, daemon) = d.serve_one();
    let mut bytes = request("upload-pack", "/repo.git");
    bytes.extend(b"0000");
    let mut client = daemon.connect();
    client.send(bytes);
    assert_repo(&mut client);
    assert_eq!(client.rest(), (vec![], End::Closed));

    let mut bytes = pkt("git-upload-pack /repo.git\0host=localhost\0\0version=2\0");
    bytes.extend(pkt("command=ls-refs\n"));
    bytes.extend(b"00010000");
    bytes.extend(b"0000");
    let mut client = daemon.connect();
    client.send(bytes);
    assert_eq!(client.packets_to_flush()[0], b"version 2\n");
    let refs = client.packets_to_flush();
    assert!(refs.iter().any(|r| r.ends_with(b" refs/heads/is-repo\n")), "{refs:?}");
    assert_eq!(client.rest(), (vec![], End::Closed));
}

/// Contract 30: a client that has said all it wants to say may close its half.
fn half_close_after_the_request(d: Implementation) {
    let (_scratch, daemon) = d.serve_one();
    let mut client = daemon.connect();
    client.send(request("upload-pack", "/repo.git"));
    client.half_close();
    assert_repo(&mut client);
    assert_eq!(client.rest(), (vec![], End::Closed));
}

/// Contract 24: the largest packet is taken, and a byte more is not.
fn the_largest_packet(d: Implementation) {
    let (_scratch, daemon) = d.serve_one();
    let mut payload = b"git-upload-pack /repo.git\0host=localhost\0\0version=1\0filler=".to_vec();
    payload.resize(65518, b'x');
    payload.push(0);
    let packet = pkt(&payload);
    assert_eq!(&packet[..4], b"fff3");
    let session = daemon.talk(&packet);
    session.assert_served("repo.git");
    let Verdict::Served(lines) = &session.verdict else { unreachable!() };
    assert_eq!(lines[0], "version 1\n");

    payload.push(b'x');
    let session = daemon.talk(pkt(&payload));
    session.assert_silent();
    session.assert_logged(&["fatal: protocol error: bad line length 65520"]);
}

/// Contract 25: the line ends at the first NUL, and one line feed before it is no part of it.
fn line_feeds_and_nuls(d: Implementation) {
    let (_scratch, daemon) = d.serve_one();
    for served in [
        "git-upload-pack /repo.git",
        "git-upload-pack /repo.git\n",
        "git-upload-pack /repo.git\0",
        "git-upload-pack /repo.git\n\0",
        "git-upload-pack /repo.git\0\0",
        "git-upload-pack /repo.git\n\0host=x",
    ] {
        let session = daemon.talk(pkt(served));
        session.assert_served("repo.git");
        session.assert_line("Request upload-pack for '/repo.git'");
    }
    daemon
        .talk(pkt("\0host=x\0"))
        .assert_logged(&["Extended attribute \"host\": x", "Protocol error: ''"]);
    daemon.talk(pkt("\n")).assert_logged(&["Protocol error: ''"]);
    daemon.talk(pkt("\0")).assert_logged(&["Protocol error: ''"]);
}

/// Contract 25: of two line feeds the second is part of the path.
fn two_line_feeds(d: Implementation) {
    let (_scratch, daemon) = d.serve_one();
    let session = daemon.talk(pkt("git-upload-pack /repo.git\n\n"));
    session.assert_refused(&format!("{GENERIC}: /repo.git\n"));
}

/// Contract 29, 32: a path that is not UTF-8 is a path.
fn not_utf8(d: Implementation) {
    use std::os::unix::ffi::OsStrExt;
    let scratch = Scratch::new();
    scratch.bare(std::ffi::OsStr::from_bytes(b"caf\xe9.git"));
    let daemon = d.serve(&scratch).start();
    daemon.talk(pkt(b"git-upload-pack /caf\xe9\0host=x\0")).assert_served("caf-.git");
    let mut client = daemon.connect();
    client.send(pkt(b"git-upload-pack /no\xff\xfe\0host=x\0"));
    let Packet::Data(text) = client.packet() else { panic!("no answer") };
    assert_eq!(text, [b"ERR ", GENERIC.as_bytes(), b": /no\xff\xfe"].concat());
}

/// The advertisement of the fixture, and a clean end.
#[track_caller]
fn assert_repo(client: &mut Client) {
    let refs = client.packets_to_flush();
    assert!(refs.iter().any(|r| r.ends_with(b" refs/heads/is-repo\n")), "{refs:?}");
}
