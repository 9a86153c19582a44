//! The order of the checks and what each refusal says: contract 22, 31 to 34.

use crate::support::scratch::{config, export};
use crate::support::{Client, End, GENERIC, Implementation, Packet, Scratch, compliance, request};

const HOST: &str = "Extended attribute \"host\": localhost";

compliance! {
    disabled_service_comes_first,
    path_then_export_then_service,
    list_before_export,
    service_before_hook,
    generic_errors,
    the_error_packet,
    refused_with_bytes_ahead,
    no_git_in_path,
}

/// Contract 31 (1): a service that nothing can enable is refused before the path is looked at.
fn disabled_service_comes_first(d: Implementation) {
    let scratch = Scratch::new();
    config(&scratch.bare("repo.git"), "[daemon] receivepack = true\n");
    let daemon =
        d.serve(&scratch).args(["--informative-errors", "--forbid-override=receive-pack"]).start();
    for pathname in ["/repo.git", "/nothing", "/a/../b", "no", "~x"] {
        let session = daemon.ask("receive-pack", pathname);
        session.assert_refused(&format!("service not enabled: {pathname}"));
        session.assert_logged(&[
            HOST,
            &format!("Request receive-pack for '{pathname}'"),
            "'receive-pack': service not enabled.",
        ]);
    }
}

/// Contract 31 (2) and (3), 32: the path before the export, the export before the service.
fn path_then_export_then_service(d: Implementation) {
    let scratch = Scratch::new();
    scratch.bare("repo.git");
    export(&scratch.bare("open.git"));
    let base = scratch.repos();
    let daemon = d.invoke(&scratch).base_path().arg("--informative-errors").start();
    let path = |name: &str| base.join(name).display().to_string();

    for (service, pathname, reason, line) in [
        (
            "receive-pack",
            "/nothing",
            "no such repository",
            format!("'{}' does not appear to be a git repository", path("nothing")),
        ),
        (
            "receive-pack",
            "/repo.git",
            "repository not exported",
            format!("'{}': repository not exported.", path("repo.git")),
        ),
        (
            "upload-pack",
            "/repo",
            "repository not exported",
            format!("'{}': repository not exported.", path("repo.git")),
        ),
        (
            "receive-pack",
            "/open.git",
            "service not enabled",
            format!("'receive-pack': service not enabled for '{}'", path("open.git")),
        ),
        (
            "upload-archive",
            "/open",
            "service not enabled",
            format!("'upload-archive': service not enabled for '{}'", path("open.git")),
        ),
    ] {
        let session = daemon.ask(service, pathname);
        session.assert_refused(&format!("{reason}: {pathname}"));
        session.assert_logged(&[HOST, &format!("Request {service} for '{pathname}'"), &line]);
    }
    daemon.ask("upload-pack", "/open").assert_served("open.git");
}

/// Contract 31 (2): the list comes last of what is asked about a path, and before the export.
fn list_before_export(d: Implementation) {
    let scratch = Scratch::new();
    let repo = scratch.bare("repo.git");
    let daemon = d
        .invoke(&scratch)
        .base_path()
        .arg("--informative-errors")
        .directory(scratch.root().join("elsewhere"))
        .start();
    let session = daemon.ask("upload-pack", "/repo");
    session.assert_refused("no such repository: /repo");
    session.assert_line(&format!("'{}': not in directory list", repo.display()));
    let session = daemon.ask("upload-pack", "/nothing");
    session.assert_line(&format!(
        "'{}' does not appear to be a git repository",
        scratch.path("nothing").display()
    ));
}

/// Contract 31 (4) and (5): the hook is asked last.
fn service_before_hook(d: Implementation) {
    let scratch = Scratch::new();
    export(&scratch.bare("open.git"));
    scratch.bare("closed.git");
    let ran = scratch.root().join("ran");
    let hook = scratch.script("hook", &format!("#!/bin/sh\necho $1 >>{}\n", ran.display()));
    let daemon = d.invoke(&scratch).base_path().option("--access-hook", hook).start();
    daemon.ask("upload-pack", "/closed").assert_refused(&format!("{GENERIC}: /closed"));
    daemon.ask("receive-pack", "/open").assert_refused(&format!("{GENERIC}: /open"));
    assert!(!ran.exists());
    daemon.ask("upload-pack", "/open").assert_served("open.git");
    assert_eq!(std::fs::read_to_string(ran).unwrap(), "upload-pack\n");
}

/// Contract 32: without --informative-errors every reason reads the same, and the last of the two options counts.
fn generic_errors(d: Implementation) {
    let scratch = Scratch::new();
    export(&scratch.bare("open.git"));
    scratch.bare("closed.git");
    for options in [
        &[][..],
        &["--no-informative-errors"],
        &["--informative-errors", "--no-informative-errors"],
    ] {
        let daemon = d.invoke(&scratch).base_path().args(options).start();
        for (service, pathname) in [
            ("receive-pack", "/open"),
            ("upload-pack", "/closed"),
            ("upload-pack", "/nothing"),
            ("upload-pack", "/a/../b"),
            ("upload-pack", "~x/y"),
        ] {
            daemon.ask(service, pathname).assert_refused(&format!("{GENERIC}: {pathname}"));
        }
    }
    let daemon = d
        .invoke(&scratch)
        .base_path()
        .args(["--no-informative-errors", "--informative-errors"])
        .start();
    daemon.ask("upload-pack", "/closed").assert_refused("repository not exported: /closed");
}

/// Contract 32: one packet without a line feed, no flush, then the end.
fn the_error_packet(d: Implementation) {
    let scratch = Scratch::new();
    let daemon = d.serve(&scratch).start();
    let mut client = daemon.connect();
    client.send(request("upload-pack", "/nothing"));
    let text = format!("ERR {GENERIC}: /nothing");
    assert_eq!(client.rest(), (format!("{:04x}{text}", text.len() + 4).into_bytes(), End::Closed));
}

/// Contract 34, B8: a client that has sent more than its request.
fn refused_with_bytes_ahead(d: Implementation) {
    let scratch = Scratch::new();
    let daemon = d.serve(&scratch).start();
    let mut bytes = request("upload-pack", "/nothing");
    bytes.extend(vec![b'x'; 20_000]);
    let mut client = daemon.connect();
    client.try_send(&bytes);
    client.half_close();
    let expected = d.differs("B8", None, Some(End::Closed));
    if let Some(end) = expected {
        assert_eq!(text_of(client.packet()), format!("ERR {GENERIC}: /nothing"));
        assert_eq!(client.rest(), (vec![], end));
    } else {
        assert_eq!(reset_or_text(&mut client), End::Reset);
    }
}

/// Contract 33: no git to run.
fn no_git_in_path(d: Implementation) {
    let scratch = Scratch::new();
    scratch.bare("repo.git");
    let empty = scratch.directory("empty");
    let daemon = d.serve(&scratch).env("PATH", &empty).start();
    let session = daemon.ask("upload-pack", "/repo.git");
    session.assert_died("/repo.git", false);
    if d == crate::support::Stock {
        session.assert_line("error: cannot run upload-pack: No such file or directory");
    }
}

fn text_of(packet: Packet) -> String {
    match packet {
        Packet::Data(text) => String::from_utf8(text).unwrap(),
        other => panic!("{other:?}"),
    }
}

/// Stock's reset comes before or after its text; what ends the connection is the reset.
fn reset_or_text(client: &mut Client) -> End {
    client.rest().1
}
