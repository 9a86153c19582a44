//! --interpolated-path: contract 42.

use std::collections::HashSet;
use std::net::{Ipv4Addr, UdpSocket};
use std::sync::{Arc, Mutex};

use crate::support::{
    GENERIC, Gitd, Implementation, Invocation, Scratch, Session, Verdict, compliance, needs_root,
    pkt,
};

compliance! {
    without_resolving,
    resolved,
    canonical_names_as_they_are,
    canonical_names_are_cleaned,
    unresolvable,
    ipv6,
    only_with_a_host,
    serves,
    base_path_is_not_used,
    aliased_before_interpolation,
    user_path_before_interpolation,
    too_long,
}

/// A server whose names are in our hands; nothing asks a name server.
fn server(d: Implementation, scratch: &Scratch, template: &str) -> Invocation {
    let hosts = "127.0.0.1 localhost\n127.0.0.5 canon.example alias.example\n::5 six.example\n\
                 127.0.0.6 Private.Example alias.private\n127.0.0.7 Public.Example alias.public\n\
                 127.0.0.8 ../Outside climbs\n127.0.0.9 ../a/../b climbs.far\n127.0.0.10 .x..y. dotted\n";
    d.invoke(scratch)
        .arg("--export-all")
        .option("--interpolated-path", template)
        .etc("hosts", hosts)
        .etc("nsswitch.conf", "passwd: files\ngroup: files\nhosts: files\n")
}

fn interpolated(session: &Session) -> String {
    let line = session.log.iter().find_map(|line| line.strip_prefix("Interpolated dir '"));
    let line = line.unwrap_or_else(|| panic!("not interpolated: {session:#?}"));
    line.strip_suffix('\'').unwrap().to_owned()
}

/// Contract 42, 28: what the client said, sanitised.
fn without_resolving(d: Implementation) {
    let scratch = Scratch::new();
    let daemon = server(d, &scratch, "/b/<%H>/<%P>/<%D>/%%/%x/%").start();
    for (host, h, p) in [
        ("example", "example", ""),
        ("EXAMPLE.Com:99", "example.com", "99"),
        ("", "", ""),
        (":", "", ""),
        (":1", "", "1"),
        ("a:b:c", "a:b", "c"),
        ("::1", ":", "1"),
        ("[::1]", "::1", ""),
        ("[::1]:99", "::1", "99"),
        ("[]", "", ""),
        ("../../etc", "etc", ""),
        ("..", "", ""),
        (".", "", ""),
        ("...a", "a", ""),
        ("a/b", "ab", ""),
        ("a/../b", "a.b", ""),
        ("a..b", "a.b", ""),
        ("a.", "a", ""),
        ("a..", "a", ""),
        ("a...b...", "a.b", ""),
        ("a./.b", "a.b", ""),
        ("h:../p/.", "h", "p"),
        ("h:9.9", "h", "9.9"),
        ("a b", "a b", ""),
        ("%H", "%h", ""),
        ("-x", "-x", ""),
    ] {
        let session = daemon.talk(pkt(format!("git-upload-pack /repo\0host={host}\0")));
        let expected = format!("/b/<{h}>/<{p}>/</repo>/%/%x/%");
        assert_eq!(interpolated(&session), expected, "host={host}");
        session.assert_refused(&format!("{GENERIC}: /repo"));
    }
}

/// The resolver is asked at most once, and only if its answer is used.
#[test]
fn the_resolver_is_asked_at_most_once() {
    needs_root!();
    let scratch = Scratch::new();
    scratch.bare("once.example/127.0.0.9/repo.git");
    scratch.bare("never.example/repo.git");
    let hook = "#!/bin/sh\n[ \"$4 $5\" = 'once.example 127.0.0.9' ]\n";
    let hook = format!("--access-hook={}", scratch.script("hook", hook).display());
    let socket =
        (1..255).find_map(|n| UdpSocket::bind((Ipv4Addr::new(127, 0, 78, n), 53)).ok()).unwrap();
    let resolver =
        format!("nameserver {}\noptions timeout:30\n", socket.local_addr().unwrap().ip());
    let asked = Arc::new(Mutex::new(HashSet::new()));
    let questions = Arc::clone(&asked);
    // It ends with the test process.
    std::thread::spawn(move || answer(&socket, &questions));
    for (template, host, hook, lookups) in
        [("%CH/%IP%D", "once.example", Some(&hook), 1), ("%H%D", "never.example", None, 0)]
    {
        let daemon = Gitd
            .invoke(&scratch)
            .arg("--export-all")
            .option("--interpolated-path", scratch.repos().join(template))
            .args(hook)
            .etc("resolv.conf", &resolver)
            .etc("nsswitch.conf", "passwd: files\ngroup: files\nhosts: dns\n")
            .start();
        let session = daemon.talk(pkt(format!("git-upload-pack /repo.git\0host={host}\0")));
        assert!(matches!(session.verdict, Verdict::Served(_)), "{session:#?}");
        let name = host.replace(".example", "");
        let of_host = |(_, question): &&(u16, Vec<u8>)| question[1..].starts_with(name.as_bytes());
        assert_eq!(asked.lock().unwrap().iter().filter(of_host).count(), lookups, "{host}");
    }
}

/// A name server that has 127.0.0.9 for every name. `asked` gets the questions for an IPv4 address, with their numbers:
/// one that is sent again keeps its own.
fn answer(socket: &UdpSocket, asked: &Mutex<HashSet<(u16, Vec<u8>)>>) {
    const HEADER: usize = 12;
    let mut buffer = [0; 512];
    while let Ok((length, client)) = socket.recv_from(&mut buffer) {
        let name = buffer[HEADER..length].iter().position(|&byte| byte == 0).unwrap();
        let question = buffer[HEADER..HEADER + name + 5].to_vec();
        let wants_v4 = question[name + 2] == 1;
        // One question, at most one answer, nothing else: and the name is the one at byte 12.
        let mut answer = buffer[..2].to_vec();
        answer.extend([0x81, 0x80, 0, 1, 0, u8::from(wants_v4), 0, 0, 0, 0]);
        answer.extend(&question);
        if wants_v4 {
            answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4, 127, 0, 0, 9]);
            asked.lock().unwrap().insert((u16::from_be_bytes([buffer[0], buffer[1]]), question));
        }
        let _ = socket.send_to(&answer, client);
    }
}

/// Contract 42: the canonical name and the address.
fn resolved(d: Implementation) {
    let scratch = Scratch::new();
    let daemon = server(d, &scratch, "/%H/%CH/%IP/%P").start();
    for (host, expected) in [
        ("alias.example:7", "/alias.example/canon.example/127.0.0.5/7"),
        ("ALIAS.example", "/alias.example/canon.example/127.0.0.5/"),
        ("127.0.0.5", "/127.0.0.5/127.0.0.5/127.0.0.5/"),
    ] {
        let session = daemon.talk(pkt(format!("git-upload-pack /repo\0host={host}\0")));
        assert_eq!(interpolated(&session), expected);
    }
}

/// Contract 42: the case of a canonical name is the resolver's. On disk `Private.Example` is another directory than
/// `private.example`.
fn canonical_names_as_they_are(d: Implementation) {
    let scratch = Scratch::new();
    scratch.bare("private.example/repo.git");
    scratch.bare("Public.Example/repo.git");
    let template = format!("{}/%CH%D", scratch.repos().display());
    let daemon = server(d, &scratch, &template).start();
    for (host, name) in
        [("alias.private", "Private.Example"), ("PRIVATE.EXAMPLE", "Private.Example")]
    {
        let session = daemon.talk(pkt(format!("git-upload-pack /repo\0host={host}\0")));
        let repos = scratch.repos();
        assert_eq!(interpolated(&session), format!("{}/{name}/repo", repos.display()));
        session.assert_refused(&format!("{GENERIC}: /repo"));
    }
    let session = daemon.talk(pkt("git-upload-pack /repo\0host=alias.public\0"));
    session.assert_served("Public.Example/repo.git");
}

/// Contract 42, 28: a resolver's answer could lead out of the directory that is served.
fn canonical_names_are_cleaned(d: Implementation) {
    let scratch = Scratch::new();
    scratch.bare("Outside/repo.git");
    scratch.bare("inside/.x..y./repo.git");
    let template = format!("{}/inside/%CH%D", scratch.repos().display());
    let daemon = server(d, &scratch, &template).start();
    for (host, name) in [("climbs", "Outside"), ("climbs.far", "a.b"), ("dotted", "x.y")] {
        let session = daemon.talk(pkt(format!("git-upload-pack /repo\0host={host}\0")));
        let inside = scratch.path("inside");
        assert_eq!(interpolated(&session), format!("{}/{name}/repo", inside.display()));
        session.assert_refused(&format!("{GENERIC}: /repo"));
    }
}

/// Contract 42: a name that leads nowhere is nothing.
fn unresolvable(d: Implementation) {
    let scratch = Scratch::new();
    let daemon = server(d, &scratch, "/<%H>/<%CH>/<%IP>").start();
    let session = daemon.talk(pkt("git-upload-pack /repo\0host=nowhere.example\0"));
    assert_eq!(interpolated(&session), "/<nowhere.example>/<>/<>");
}

/// Contract 42: IPv6 addresses are not misread any more.
fn ipv6(d: Implementation) {
    let scratch = Scratch::new();
    let daemon = server(d, &scratch, "/%IP").start();
    for (host, address) in [("six.example", "/::5"), ("[::1]", "/::1")] {
        let session = daemon.talk(pkt(format!("git-upload-pack /repo\0host={host}\0")));
        assert_eq!(interpolated(&session), d.since((2, 55), address, "/0.0.0.0"));
    }
}

/// Contract 42: without a first argument the base path it is.
fn only_with_a_host(d: Implementation) {
    let scratch = Scratch::new();
    scratch.bare("repo.git");
    let daemon = server(d, &scratch, "/nowhere/%D").base_path().start();
    for request in
        ["git-upload-pack /repo", "git-upload-pack /repo\0", "git-upload-pack /repo\0\0version=1\0"]
    {
        daemon.talk(pkt(request)).assert_served("repo.git");
    }
    for request in ["git-upload-pack /repo\0host=\0", "git-upload-pack /repo\0host=x\0"] {
        let session = daemon.talk(pkt(request));
        assert_eq!(interpolated(&session), "/nowhere//repo");
    }
}

/// Contract 42: what all this is for.
fn serves(d: Implementation) {
    let scratch = Scratch::new();
    scratch.bare("one.example/repo.git");
    scratch.bare("two.example/repo.git");
    let template = format!("{}/%H%D", scratch.repos().display());
    let daemon = server(d, &scratch, &template).directory(scratch.repos()).start();
    for name in ["one.example", "two.example"] {
        let session = daemon.talk(pkt(format!("git-upload-pack /repo\0host={name}\0")));
        session.assert_served(&format!("{name}/repo.git"));
        session.assert_logged(&[
            &format!("Extended attribute \"host\": {name}"),
            "Request upload-pack for '/repo'",
            &format!("Interpolated dir '{}/{name}/repo'", scratch.repos().display()),
        ]);
    }
}

/// Contract 42, 41: interpolation takes the base path's place, but for the retry without one.
fn base_path_is_not_used(d: Implementation) {
    let scratch = Scratch::new();
    scratch.bare("repo.git");
    let template = format!("{}%D", scratch.repos().display());
    let daemon =
        server(d, &scratch, &template).arg("--base-path=/").arg("--base-path-relaxed").start();
    daemon.ask("upload-pack", "/repo").assert_served("repo.git");
    let inside = scratch.path("repo").display().to_string();
    let session = daemon.ask("upload-pack", &inside);
    session.assert_served("repo.git");
    assert_eq!(interpolated(&session), format!("{}{inside}", scratch.repos().display()));
}

/// Contract 31, 35: a path is judged before it is put into the template.
fn aliased_before_interpolation(d: Implementation) {
    let scratch = Scratch::new();
    let daemon = server(d, &scratch, "/x%D").start();
    let session = daemon.ask("upload-pack", "/a/../b");
    session.assert_line("'/a/../b': aliased");
    assert!(!session.log.iter().any(|line| line.starts_with("Interpolated")));
}

/// Contract 43: `~` goes its own way.
fn user_path_before_interpolation(d: Implementation) {
    let scratch = Scratch::new();
    let daemon = server(d, &scratch, "/x%D").start();
    let session = daemon.ask("upload-pack", "~x/y");
    session.assert_line("'~x/y': User-path not allowed");
}

/// Contract 42: longer than any path.
fn too_long(d: Implementation) {
    let scratch = Scratch::new();
    let daemon = server(d, &scratch, "/%H%D").arg("--informative-errors").start();
    let pathname = format!("/{}", "x".repeat(5000));
    let session = daemon.talk(pkt(format!("git-upload-pack {pathname}\0host=h\0")));
    session.assert_refused(&format!("no such repository: {pathname}"));
    let start = format!("interpolated path too large: /h{}", &pathname[..200]);
    assert!(session.log.iter().any(|line| line.starts_with(&start)), "{:?}", session.log);
}
