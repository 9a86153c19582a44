//! Clients that are gone, and one that only seems so.

use std::io::Read;
use std::time::Duration;

use rustix::process::Signal;

use super::noise::large;
use super::slow::narrow;
use super::{Gates, ask_for_all, asking, cut_off, let_through};
use crate::support::process::{children, in_network_of, signal, wait_until};
use crate::support::scratch::{append, head};
use crate::support::{Client, End, Gitd, Scratch, needs_root, pkt, request};

/// A client that closes its side and then reads slowly is not gone: its kernel still answers.
#[test]
#[ignore = "waits for many seconds"]
fn a_pause_after_half_a_close() {
    let scratch = Scratch::new();
    let head = head(&large(&scratch));
    let daemon = Gitd.serve(&scratch).start();
    let mut client = daemon.connect();
    client.send(request("upload-pack", "/large.git"));
    client.packets_to_flush();
    client.send([pkt(format!("want {head}\n")), b"0000".to_vec(), pkt("done\n")].concat());
    client.half_close();
    std::thread::sleep(Duration::from_secs(8));
    let (answer, end) = client.rest();
    assert!(answer.len() > 8_000_000 && end == End::Closed, "{} bytes, {end:?}", answer.len());
    let log = daemon.wait_disconnected(0);
    assert!(!log.iter().any(|line| line.contains("client is gone")), "{log:#?}");
}

/// The same when nothing reaches the client for a while: only the kernel can tell when it has gone.
#[test]
fn an_outage_after_half_a_close() {
    needs_root!();
    let scratch = Scratch::new();
    large(&scratch);
    let daemon = Gitd.serve(&scratch).namespace("--net").shell("ip link set lo up").start();
    in_network_of(daemon.pid(), || {
        let mut client = narrow(&daemon);
        ask_for_all(&mut client, "/large.git");
        client.half_close();
        let mut begun = vec![0; 100_000];
        client.stream().read_exact(&mut begun).unwrap();
        cut_off(client.address().ip());
        std::thread::sleep(Duration::from_secs(12));
        let_through();
        let (answer, end) = client.rest();
        let length = begun.len() + answer.len();
        assert!(length > 8_000_000 && end == End::Closed, "{length} bytes, {end:?}");
        let log = daemon.wait_disconnected(0);
        assert!(!log.iter().any(|line| line.contains("client is gone")), "{log:#?}");
    });
}

/// A client that has left the queue is not served.
#[test]
fn resets_in_the_queue() {
    let scratch = Scratch::new();
    scratch.bare("repo.git");
    let gates = Gates::set_up(&scratch);
    let daemon = Gitd.serve(&scratch).arg("--max-connections=1").start();
    let kept = gates.keep(&daemon, 1);
    let mark = daemon.log.mark();
    let waiting: Vec<_> = (2..5).map(|last| asking(&daemon, last, "/repo.git")).collect();
    waiting.into_iter().for_each(Client::reset);
    daemon.log.wait_count(mark, 3, |line| line == "Disconnected (with error)");
    kept.finish();
}

/// A pack-objects ends with the upload-pack that it works for.
#[test]
fn no_pack_without_a_client() {
    let scratch = Scratch::new();
    scratch.bare("repo.git");
    let gates = Gates::set_up(&scratch);
    let daemon = Gitd.serve(&scratch).start();
    let _kept = gates.keep(&daemon, 1);
    let [service] = children(daemon.pid())[..] else { panic!("one service") };
    let mut hooks = Vec::new();
    wait_until("the hook is there", || {
        hooks = children(service);
        hooks.len() == 1
    });
    signal(service, Signal::KILL);
    wait_until("the hook is gone", || !crate::support::process::alive(hooks[0]));
}

/// A push whose client is gone while a hook works: the hook has `--timeout`, like any silence, and no more.
#[test]
#[ignore = "waits for many seconds"]
fn a_push_whose_client_has_left() {
    let scratch = Scratch::new();
    let repository = scratch.bare("repo.git");
    let head = head(&repository);
    // More than a narrow client takes without reading, and less than the server's kernel.
    for n in 0..2_000 {
        append(&repository.join("packed-refs"), &format!("{head} refs/heads/branch-number-{n}\n"));
    }
    let working = scratch.root().join("working");
    let hook =
        format!("#!/bin/sh\n: >'{0}'\nwhile [ -e '{0}' ]; do sleep 0.1; done\n", working.display());
    scratch.pre_receive(&repository, &hook);
    let daemon = Gitd.serve(&scratch).args(["--enable=receive-pack", "--timeout=6"]).start();
    let mark = daemon.log.mark();
    let mut client = narrow(&daemon);
    let command = format!("{head} {} refs/heads/branch-number-1\0report-status\n", "0".repeat(40));
    client.send([request("receive-pack", "/repo.git"), pkt(command), b"0000".to_vec()].concat());
    wait_until("the hook works", || working.exists());
    client.reset();
    daemon.wait_disconnected(mark);
    assert!(working.exists(), "the hook has not ended by itself");
    std::fs::remove_file(working).unwrap();
}
