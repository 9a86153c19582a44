//! Sessions whose client works on its own: they give their place to those that wait, and go on.

use super::{asking, finish};
use crate::support::process::{children, wait_until};
use crate::support::{Client, Daemon, End, Gitd, Scratch, pkt};

fn version_2(daemon: &Daemon) -> Client {
    let mut client = daemon.connect();
    client.send(pkt("git-upload-pack /repo.git\0host=x\0\0version=2\0"));
    client.packets_to_flush();
    client
}

/// One command of protocol v2 and its whole answer.
fn list(client: &mut Client) {
    client.send(
        [pkt("command=ls-refs\n"), b"0001".to_vec(), pkt("peel\n"), b"0000".to_vec()].concat(),
    );
    assert!(!client.packets_to_flush().is_empty());
}

fn server(scratch: &Scratch, options: &[&str]) -> Daemon {
    scratch.bare("repo.git");
    Gitd.serve(scratch).arg("--max-connections=1").args(options).start()
}

/// Everything was answered and acknowledged: the next request is served beside it, and it can go on whenever it likes.
#[test]
fn lends_its_place() {
    let scratch = Scratch::new();
    let daemon = server(&scratch, &[]);
    let mut working = version_2(&daemon);
    list(&mut working);
    for _ in 0..3 {
        let mut next = asking(&daemon, 2, "/repo.git");
        assert!(!next.packets_to_flush().is_empty());
        finish(next);
    }
    list(&mut working);
    working.send("0000");
    assert_eq!(working.rest(), (vec![], End::Closed));
    wait_until("all have ended", || children(daemon.pid()).is_empty());
}

/// A client that was greeted and asks for nothing is not at rest.
#[test]
fn who_asked_for_nothing_does_not_rest() {
    let scratch = Scratch::new();
    let daemon = server(&scratch, &["--queue-timeout=3"]);
    let _silent = version_2(&daemon);
    let mut next = asking(&daemon, 2, "/repo.git");
    let answer = next.rest().0;
    assert!(answer.windows(4).any(|word| word == b"busy"), "{answer:?}");
}

/// --timeout ends what is stuck, and leaves ten times as much to who works.
#[test]
fn is_not_cut() {
    let scratch = Scratch::new();
    scratch.bare("repo.git");
    let daemon = Gitd.serve(&scratch).args(["--timeout=1", "--init-timeout=9"]).start();
    let mut working = version_2(&daemon);
    list(&mut working);
    let mut stuck = version_2(&daemon);
    assert_eq!(stuck.rest(), (vec![], End::Closed));
    let mut stuck = version_2(&daemon);
    assert_eq!(stuck.rest(), (vec![], End::Closed));
    list(&mut working);
    // But not for ever.
    assert_eq!(working.rest(), (vec![], End::Closed));
}
