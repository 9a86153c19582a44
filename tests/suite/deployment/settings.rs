//! --git-config and --nice: what is passed on to git.

use std::fs;

use super::server::{Server, gitd, scratch};
use crate::support::process::{children, wait_until};
use crate::support::scratch::{chown, config};
use crate::support::{Client, GENERIC, Invocation, Packet, Scratch, needs_root, request};

fn listening(invocation: Invocation) -> (Server, Client) {
    let server = Server::start(invocation.args(["--listen=127.0.0.1", "--port=auto"]));
    let client = Client::connect(server.addresses(1)[0]);
    (server, client)
}

/// Settings on the command line come after those in the environment, and so win.
#[test]
fn services_are_configured() {
    let scratch = scratch();
    let out = scratch.root().join("out");
    let fake = scratch.fake_git(&format!(
        "for key in a.b c.d e.f; do \"$REAL\" config --get-all $key; done >{}\n",
        out.display()
    ));
    let (_server, mut client) = listening(
        gitd(&scratch)
            .path_first(&fake)
            .command_config(&[("a.b", "environment"), ("c.d", "environment")])
            .args(["--git-config=a.b=first=1", "--git-config=e.f=", "--git-config=a.b=second two"]),
    );
    client.send(request("upload-pack", "/repo.git"));
    client.rest();
    let text = fs::read_to_string(out).unwrap();
    assert_eq!(text, "environment\nfirst=1\nsecond two\nenvironment\n\n");
}

/// Whether the repository is served with this setting.
fn serves(scratch: &Scratch, setting: &str) -> bool {
    let (_server, mut client) = listening(gitd(scratch).arg(format!("--git-config={setting}")));
    client.send(request("upload-pack", "/repo.git"));
    match client.packet() {
        Packet::Data(packet) => !packet.starts_with(b"ERR "),
        other => panic!("{other:?}"),
    }
}

/// gitd asks git with the same configuration that the service gets.
#[test]
fn gitds_own_questions_too() {
    let scratch = scratch();
    for (argument, served) in [("daemon.uploadpack=false", false), ("daemon.uploadpack=yes", true)]
    {
        assert_eq!(serves(&scratch, argument), served, "{argument}");
    }
}

/// A repository's setting counts less than the server's command line, as in git.
#[test]
fn command_scope_outweighs_the_repository() {
    let scratch = scratch();
    config(&scratch.path("repo.git"), "[daemon]\n\tuploadpack = true\n");
    let (_server, mut client) =
        listening(gitd(&scratch).arg("--git-config=daemon.uploadPack=false"));
    client.send(request("upload-pack", "/repo.git"));
    let refusal = format!("ERR {GENERIC}: /repo.git").into_bytes();
    assert_eq!(client.packet(), Packet::Data(refusal));
}

#[test]
fn safe_directory() {
    needs_root!();
    let scratch = scratch();
    chown(&scratch.path("repo.git"), 12345);
    for (argument, served) in [("safe.directory=/x", false), ("safe.directory=*", true)] {
        assert_eq!(serves(&scratch, argument), served, "{argument}");
    }
}

/// The niceness, 17th field behind the name in parentheses.
fn niceness(pid: u32) -> i32 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields = stat.rsplit_once(") ").unwrap().1;
    fields.split(' ').nth(16).unwrap().parse().unwrap()
}

#[test]
fn services_are_nicer_than_gitd() {
    let scratch = scratch();
    for (argument, more) in [("--nice=0", 0), ("--nice=7", 7)] {
        let (server, mut client) = listening(gitd(&scratch).arg(argument));
        client.send(request("upload-pack", "/repo.git"));
        client.packets_to_flush();
        let mut services = Vec::new();
        wait_until("the service runs", || {
            services = children(server.pid());
            !services.is_empty()
        });
        assert_eq!(niceness(services[0]), niceness(server.pid()) + more);
        client.send("0000");
    }
}
