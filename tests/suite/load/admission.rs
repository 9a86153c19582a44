//! The queue, when there are more requests than permits: B3 of `docs/differences.md`.

use std::time::{Duration, Instant};

use super::{Gates, Kept, asking, assert_busy, connect_from, from, is_served};
use crate::support::process::{children, in_network_of, wait_until};
use crate::support::{Daemon, End, Gitd, Invocation, Scratch, needs_root, pkt, request};

/// Past the queue a request gets an answer, not a reset, and stock's line is logged.
#[test]
fn past_the_queue() {
    let scratch = Scratch::new();
    scratch.bare("repo.git");
    let gates = Gates::set_up(&scratch);
    let daemon = Gitd.serve(&scratch).args(["--max-connections=1", "--max-queue=0"]).start();
    let first = gates.keep(&daemon, 1);
    let mark = daemon.log.mark();
    let mut second = from(&daemon, 2);
    // What a client sends ahead must not turn the answer into a reset.
    second.send([request("upload-pack", "/repo.git"), vec![b'0'; 100_000]].concat());
    assert_busy(&mut second);
    assert_eq!(second.rest(), (vec![], End::Closed));
    let line = "Too many children, dropping connection";
    daemon.log.wait(mark, |logged| logged == line);
    first.finish();
    is_served(&daemon);
}

/// A request that has waited for too long is refused; the others wait on.
#[test]
fn queue_timeout() {
    let scratch = Scratch::new();
    scratch.bare("repo.git");
    let gates = Gates::set_up(&scratch);
    let daemon = Gitd.serve(&scratch).args(["--max-connections=1", "--queue-timeout=1"]).start();
    let first = gates.keep(&daemon, 1);
    let started = Instant::now();
    let mut second = asking(&daemon, 2, "/repo.git");
    assert_busy(&mut second);
    assert!(started.elapsed() >= Duration::from_secs(1));
    let mut third = asking(&daemon, 2, "/repo.git");
    first.finish();
    assert!(!third.packets_to_flush().is_empty());
}

/// A client that leaves the queue takes no permit: the next request gets it.
#[test]
fn clients_that_leave_the_queue() {
    let scratch = Scratch::new();
    scratch.bare("repo.git");
    let gates = Gates::set_up(&scratch);
    let daemon = Gitd.serve(&scratch).arg("--max-connections=1").start();
    let first = gates.keep(&daemon, 1);
    for last in 2..6 {
        drop(asking(&daemon, last, "/repo.git"));
    }
    let mut patient = asking(&daemon, 7, "/repo.git");
    first.finish();
    assert!(!patient.packets_to_flush().is_empty());
    patient.finish();
    wait_until("nobody is left", || children(daemon.pid()).is_empty());
}

/// An address with a thousand requests delays ten others by no more than their share.
#[test]
fn a_thousand_against_ten() {
    let scratch = Scratch::new();
    scratch.bare("repo.git");
    let gates = Gates::set_up(&scratch);
    let daemon = Gitd
        .serve(&scratch)
        .args(["--max-connections=2", "--max-queue=1100", "--queue-timeout=0"])
        .start();
    let first = [gates.keep(&daemon, 101), gates.keep(&daemon, 102)];
    let mark = daemon.log.mark();
    let greedy: Vec<_> = (0..1000)
        .map(|_| {
            let mut client = from(&daemon, 1);
            client.send(request("upload-pack", "/repo.git"));
            // Its service ends by itself.
            client.send("0000");
            client
        })
        .collect();
    daemon.log.wait_count(mark, 1000, |line| line.starts_with("Request "));
    let modest: Vec<_> = (2..12).map(|last| asking(&daemon, last, "/repo.git")).collect();
    let mark = daemon.log.mark();
    first.into_iter().for_each(Kept::finish);
    for mut client in modest {
        assert!(!client.packets_to_flush().is_empty());
        client.finish();
    }
    let ended = daemon.log.since(mark);
    let ended = ended.iter().filter(|line| line.starts_with("Disconnected")).count();
    // Their ten, at most as many of the greedy address in turn with them, and those that ran meanwhile.
    assert!(ended < 40, "{ended} sessions ended before ten modest clients were served");
    drop(greedy);
}

/// One address cannot keep the whole queue.
#[test]
fn a_full_queue_has_room_for_others() {
    let scratch = Scratch::new();
    scratch.bare("repo.git");
    let gates = Gates::set_up(&scratch);
    let daemon = Gitd.serve(&scratch).args(["--max-connections=1", "--max-queue=4"]).start();
    let first = gates.keep(&daemon, 1);
    let mut greedy: Vec<_> = (0..4).map(|_| asking(&daemon, 1, "/repo.git")).collect();
    let mut modest = asking(&daemon, 2, "/repo.git");
    // The latest request of the greedy address was dropped.
    assert_busy(&mut greedy.pop().unwrap());
    first.finish();
    greedy[0].packets_to_flush();
    greedy.remove(0).finish();
    assert!(!modest.packets_to_flush().is_empty());
}

/// --max-connections-per-address: others are served while its own requests wait.
#[test]
fn limit_by_address() {
    let scratch = Scratch::new();
    scratch.bare("repo.git");
    for all in ["--max-connections=8", "--max-connections=0"] {
        let daemon = Gitd.serve(&scratch).args([all, "--max-connections-per-address=2"]).start();
        let mut own = [from(&daemon, 1).busy(), from(&daemon, 1).busy()];
        let mut third = asking(&daemon, 1, "/repo.git");
        from(&daemon, 2).busy().finish();
        wait_until("two are left", || children(daemon.pid()).len() == 2);
        own[0].send("0000");
        own[0].rest();
        assert!(!third.packets_to_flush().is_empty());
    }
}

/// One /64 counts as one address, another /64 as another.
#[test]
fn limit_by_ipv6_subnet() {
    needs_root!();
    let scratch = Scratch::new();
    scratch.bare("repo.git");
    let own = ["2001:db8:0:1::1", "2001:db8:0:1:ffff::2"];
    let other = "2001:db8:0:2::1";
    let add = |address| format!("ip address add {address}/128 dev lo nodad");
    let daemon = Gitd
        .serve(&scratch)
        .namespace("--net")
        .shell("ip link set lo up")
        .shell(add(own[0]))
        .shell(add(own[1]))
        .shell(add(other))
        .listen(&["::1"])
        .args(["--max-connections-per-address=1", "--max-queue=0"])
        .start();
    in_network_of(daemon.pid(), || {
        let ask = |address: &str| {
            let mut client = connect_from(&daemon, address.parse().unwrap());
            client.send(request("upload-pack", "/repo.git"));
            client
        };
        let mut first = ask(own[0]);
        first.packets_to_flush();
        for address in own {
            assert_busy(&mut ask(address));
        }
        assert!(!ask(other).packets_to_flush().is_empty());
    });
}

/// A hook that hangs for one repository gets at most half of the permits, so requests for others are not even late.
#[test]
fn a_hanging_hook() {
    let scratch = Scratch::new();
    scratch.bare("repo.git");
    scratch.bare("slow.git");
    let gate = scratch.root().join("gate");
    rustix::fs::mkfifoat(rustix::fs::CWD, &gate, rustix::fs::Mode::RWXU).unwrap();
    let script =
        format!("#!/bin/sh\ncase $2 in *slow*) read x <'{}';; esac\nexit 0\n", gate.display());
    let hook = scratch.script("hook", &script);
    let daemon =
        Gitd.serve(&scratch).option("--access-hook", &hook).arg("--max-connections=4").start();
    let before = super::Resources::of(&daemon);
    let mut hanging: Vec<_> = (1..20).map(|last| asking(&daemon, last, "/slow.git")).collect();
    for _ in 0..5 {
        is_served(&daemon);
    }
    // Of all sessions at least half of the permits are left to others.
    assert!(children(daemon.pid()).len() <= 4 * 5 - 2);
    // The gate opens: the hooks go on, and so do the requests behind them.
    let opener = std::thread::spawn(move || {
        for client in &mut hanging {
            assert!(!client.packets_to_flush().is_empty());
            client.send("0000");
        }
    });
    wait_until("all have been through", || {
        // Opened for reading and writing, the pipe takes bytes without a reader.
        let mut gate = std::fs::File::options().read(true).write(true).open(&gate).unwrap();
        std::io::Write::write_all(&mut gate, b"\n").unwrap();
        opener.is_finished()
    });
    opener.join().unwrap();
    before.assert_back(&daemon);
}

/// Hooks that hang for several repositories take all permits, and the other requests still get them.
#[test]
#[ignore = "waits for many seconds"]
fn hooks_that_hang_everywhere() {
    let scratch = Scratch::new();
    scratch.bare("repo.git");
    for name in ["slow1.git", "slow2.git", "slow3.git"] {
        scratch.bare(name);
    }
    let hook =
        scratch.script("hook", "#!/bin/sh\ncase $2 in *slow*) exec sleep 40;; esac\nexit 0\n");
    let daemon =
        Gitd.serve(&scratch).option("--access-hook", &hook).arg("--max-connections=2").start();
    let hanging: Vec<_> = (1..4).map(|n| asking(&daemon, n, &format!("/slow{n}.git"))).collect();
    is_served(&daemon);
    let mark = daemon.log.mark();
    daemon.log.wait(mark, |line| line.contains("not decided after 10 s"));
    drop(hanging);
}

/// A virtual host at which the hook or the resolver hangs delays only the client that names it.
#[test]
fn a_virtual_host_that_hangs() {
    let scratch = Scratch::new();
    scratch.bare("repo.git");
    let hook = scratch.script("hook", "#!/bin/sh\n[ \"$3\" != slow ] || exec sleep 40\n");
    let daemon =
        Gitd.serve(&scratch).option("--access-hook", &hook).arg("--max-connections=2").start();
    let mut hanging = from(&daemon, 1);
    hanging.send(pkt("git-upload-pack /repo.git\0host=slow\0"));
    daemon.log.wait(0, |line| line == "Request upload-pack for '/repo.git'");
    is_served(&daemon);
}

/// `/slow.git`, whose hook hangs for 40 s, and `/repo.git`.
fn with_a_repository_that_hangs(scratch: &Scratch) -> Invocation {
    for name in ["repo.git", "slow.git"] {
        scratch.bare(name);
    }
    let hook = scratch.script("hook", "#!/bin/sh\ncase $2 in */slow.git) exec sleep 40 ;; esac\n");
    Gitd.serve(scratch).option("--access-hook", &hook)
}

/// Another address than the first is served, before the hook ends.
fn another_is_served(daemon: &Daemon) {
    let started = Instant::now();
    let mut other = from(daemon, 2);
    other.send(request("upload-pack", "/repo.git"));
    assert!(!other.packets_to_flush().is_empty());
    assert!(started.elapsed() < Duration::from_secs(20), "the hook hangs for longer");
    other.finish();
}

/// One address spells the path of a repository whose hook hangs in many ways: another address is served meanwhile.
#[test]
fn many_spellings_of_what_hangs() {
    const CLIENTS: usize = 30;
    let scratch = Scratch::new();
    let daemon = with_a_repository_that_hangs(&scratch).arg("--max-connections=4").start();
    let spellings = ["/slow", "/slow/", "/slow.git", "/slow.git/"];
    let hanging: Vec<_> =
        (0..CLIENTS).map(|n| asking(&daemon, 1, spellings[n % spellings.len()])).collect();
    // As many as one address may have: 4 permits allow 20 in all.
    wait_until("they hang", || children(daemon.pid()).len() >= 18);
    another_is_served(&daemon);
    drop(hanging);
}

/// The same under a limit of open files that does not suffice for as many checks as permits would allow.
#[test]
fn few_descriptors_for_what_hangs() {
    let scratch = Scratch::new();
    let daemon = with_a_repository_that_hangs(&scratch).shell("ulimit -n 1024".to_owned()).start();
    let hanging: Vec<_> = (0..60).map(|_| asking(&daemon, 1, "/slow.git")).collect();
    let mut hang = 0;
    wait_until("no more of them begin", || {
        let before = std::mem::replace(&mut hang, children(daemon.pid()).len());
        std::thread::sleep(Duration::from_millis(1500));
        hang >= 10 && hang == before
    });
    another_is_served(&daemon);
    drop(hanging);
}
