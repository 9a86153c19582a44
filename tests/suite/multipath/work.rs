//! Other work over two paths than one clone.

use std::fs;
use std::time::{Duration, Instant};

use super::{LIMIT, Lab, MULTIPATH};
use crate::lab::{Client, Transfer, git, succeed};
use crate::support::process::wait_for;

#[test]
#[ignore = "clones over links for many seconds"]
fn a_push_uses_both_links() {
    needs_lab!();
    let lab = Lab::new(&[50, 50], MULTIPATH, 30);
    for client in [Client::Connect, Client::Mptcpize] {
        let target = tempfile::tempdir_in(lab.repository.base()).unwrap();
        succeed(git(target.path()).args(["init", "-q", "--bare", "-b", "master"]));
        let outcome =
            Transfer::push(&lab.network, client, &lab.repository, "10.50.1.1", target.path())
                .finish(LIMIT);
        outcome.verify(&lab.repository);
        let bytes = outcome.record.link_bytes();
        let share = bytes[1] as f64 / bytes.iter().sum::<u64>() as f64;
        println!("{client:?}: {:?}, by link {bytes:?}", outcome.duration);
        assert!((0.4..0.6).contains(&share), "{bytes:?}");
    }
}

#[test]
#[ignore = "clones over links for many seconds"]
fn fifty_clones_at_once_all_arrive() {
    needs_lab!();
    let lab = Lab::new(&[50, 50], MULTIPATH, 1);
    let directory = tempfile::tempdir().unwrap();
    let copies: Vec<_> = (0..50).map(|n| directory.path().join(n.to_string())).collect();
    let start = |copy| {
        let mut git = Client::Connect.git(&lab.network, directory.path());
        git.args(["clone", "-q", "--bare", "git://10.50.1.1/r.git"]).arg(copy).spawn().unwrap()
    };
    let clones: Vec<_> = copies.iter().map(start).collect();
    for mut clone in clones {
        assert!(wait_for(&mut clone).success());
    }
    for copy in &copies {
        succeed(git(copy).args(["fsck", "--strict"]));
        assert_eq!(succeed(git(copy).args(["rev-parse", "master"])).trim(), lab.repository.tip());
    }
    assert_eq!(lab.network.server.mptcp_counter("MPCapableACKRX"), 50);
    assert_eq!(lab.network.server.mptcp_counter("MPJoinAckRx"), 50);
}

#[test]
fn a_dead_ipv6_address_costs_no_more_than_300_ms() {
    needs_lab!();
    let lab = Lab::new(&[50], MULTIPATH, 1);
    let hosts = tempfile::NamedTempFile::new().unwrap();
    // No host has the first address: packets to it are dropped without an error.
    fs::write(hosts.path(), "fd50:1::dead both\n10.50.1.1 both\n10.50.1.1 one\n").unwrap();
    let network = &lab.network;
    network.client.run(&format!("mount --bind {} /etc/hosts", hosts.path().display()));
    network.client.nft(
        "add table ip6 dead; add chain ip6 dead c { type filter hook output priority 0; }; \
         add rule ip6 dead c ip6 daddr fd50:1::dead drop",
    );
    let list = |host: &str| {
        let begin = Instant::now();
        let url = format!("git://{host}/r.git");
        let listed =
            succeed(Client::Connect.git(network, lab.repository.path()).args(["ls-remote", &url]));
        assert!(listed.contains("refs/heads/master"), "{listed}");
        begin.elapsed()
    };
    // Alternating, and the least of ten: what is left is the waiting.
    let mut least = [Duration::MAX; 2];
    for _ in 0..10 {
        for (least, host) in least.iter_mut().zip(["both", "one"]) {
            *least = (*least).min(list(host));
        }
    }
    let cost = least[0].saturating_sub(least[1]);
    println!("a dead address costs {cost:?}");
    assert!(cost.as_millis() >= 200, "the dead address was not tried: {cost:?}");
    assert!(cost.as_millis() <= 300, "{cost:?}");
}

/// Behind a full queue the round trip is long, and what gitd does about that must not hold an answer back.
#[test]
#[ignore = "clones over links for many seconds"]
fn a_small_answer_is_prompt_though_the_round_trip_is_long() {
    needs_lab!();
    let lab = Lab::new(&[50], MULTIPATH, 84);
    let mut bulk = Transfer::clone(&lab.network, Client::Git, &lab.repository, "10.50.1.1");
    bulk.await_share(0.1);
    let list = |_| {
        let mut git = Client::Connect.git(&lab.network, lab.repository.path());
        let begin = Instant::now();
        succeed(git.args(["ls-remote", "git://10.50.1.1/r.git"]));
        begin.elapsed()
    };
    let least = (0..5).map(list).min().unwrap();
    println!("{least:?}");
    // One round trip of 50 ms and a little. What is held back in an MPTCP socket stays for 200 ms, each time.
    assert!(least < Duration::from_millis(300), "{least:?}");
    bulk.await_share(0.2);
}
