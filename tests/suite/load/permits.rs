//! The limit holds when services wake all at once, when pushes are ended in their hooks, and when clients leave during
//! their checks. And no request is refused while a permit is free.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Signal;

use super::{Gates, from, is_served};
use crate::support::process::{alive, children, descendants, state, status, wait_until};
use crate::support::scratch::{append, head};
use crate::support::{Client, Daemon, End, Gitd, Packet, Scratch, pkt, request};

/// A session of protocol v2 that has its answer and is idle, and the object that it may ask for.
pub(super) fn resting(daemon: &Daemon, last: u8) -> (Client, String) {
    let mut client = from(daemon, last);
    client.send(pkt("git-upload-pack /repo.git\0host=x\0\0version=2\0"));
    client.packets_to_flush();
    client.send([pkt("command=ls-refs\n"), b"00010000".to_vec()].concat());
    let refs = client.packets_to_flush();
    (client, String::from_utf8_lossy(&refs[0])[..40].to_owned())
}

/// Asks for a pack, which is not made before its gate opens.
pub(super) fn ask_for_pack(client: &mut Client, id: &str) {
    let want = pkt(format!("want {id}\n"));
    client.send(
        [pkt("command=fetch\n"), b"0001".to_vec(), want, pkt("done\n"), b"0000".to_vec()].concat(),
    );
}

/// As many sessions as may be idle beside one permit, all of which ask for a pack at once.
fn all_awake(scratch: &Scratch) -> (Daemon, Vec<(PathBuf, Client)>) {
    scratch.bare("repo.git");
    let gates = Gates::set_up(scratch);
    let daemon = Gitd.serve(scratch).arg("--max-connections=1").start();
    let mut sessions: Vec<_> = (1..=4).map(|last| resting(&daemon, last)).collect();
    // The permit is free again when the last one is idle.
    is_served(&daemon);
    let gates: Vec<_> = (1..=4).map(|last| gates.gate(last)).collect();
    for (client, id) in &mut sessions {
        ask_for_pack(client, id);
    }
    let sessions = gates.into_iter().zip(sessions.into_iter().map(|(client, _)| client)).collect();
    wait_until("one service works and the others are stopped", || {
        let services = children(daemon.pid());
        let stopped = services.iter().filter(|&&pid| state(pid) == Some('T')).count();
        // A second one, if this has taken long.
        services.len() == 4 && (2..=3).contains(&stopped)
    });
    (daemon, sessions)
}

/// They get their packs one after another.
#[test]
fn sessions_that_all_wake() {
    let scratch = Scratch::new();
    let (daemon, sessions) = all_awake(&scratch);
    let readers: Vec<_> = sessions
        .into_iter()
        .map(|(gate, mut client)| {
            std::thread::spawn(move || {
                // Waits until the hook has opened it.
                fs::write(gate, "\n").unwrap();
                assert_eq!(client.packet(), Packet::Data(b"packfile\n".to_vec()));
                assert!(!client.packets_to_flush().is_empty());
                client.send("0000");
                assert_eq!(client.rest(), (vec![], End::Closed));
            })
        })
        .collect();
    let mut done = false;
    wait_until("all have their packs", || {
        done = readers.iter().all(std::thread::JoinHandle::is_finished);
        let working = |&&pid: &&u32| matches!(state(pid), Some(state) if state != 'T');
        let packs =
            children(daemon.pid()).iter().filter(working).flat_map(|&pid| children(pid)).count();
        assert!(
            packs <= 3,
            "two, and one is about to end and the next has begun, at most: {packs}"
        );
        done
    });
    for reader in readers {
        reader.join().unwrap();
    }
    wait_until("all have ended", || children(daemon.pid()).is_empty());
}

/// One permit continues one service: the others are not even continued and stopped again.
#[test]
fn one_permit_is_for_one() {
    let scratch = Scratch::new();
    let (daemon, sessions) = all_awake(&scratch);
    let stopped = |pid: &u32| state(*pid) == Some('T');
    let services: Vec<_> = children(daemon.pid()).into_iter().filter(stopped).collect();
    let switches = |pid: u32| {
        ["voluntary_ctxt_switches", "nonvoluntary_ctxt_switches"].map(|name| status(pid, name))
    };
    let before: Vec<_> = services.iter().map(|&pid| switches(pid)).collect();
    let mut next = None;
    wait_until("another one goes on", || {
        next = services.iter().find(|pid| !stopped(pid));
        if next.is_none() {
            // The service that has the permit waits at one of them.
            sessions.iter().for_each(|(gate, _)| open(gate));
        }
        next.is_some()
    });
    let next = *next.unwrap();
    wait_until("it makes its pack", || !children(next).is_empty());
    let others = services.iter().zip(before).filter(|&(&pid, _)| pid != next);
    let waiting: Vec<_> = others.filter(|(pid, _)| stopped(pid)).collect();
    assert!(!waiting.is_empty(), "at least one of three");
    for (&pid, before) in waiting {
        assert_eq!(switches(pid), before, "it has run");
    }
}

/// A hook may hold a lock that others wait for, so its service must not be stopped.
#[test]
#[ignore = "waits for many seconds"]
fn locks_that_services_share() {
    let scratch = Scratch::new();
    scratch.bare("repo.git");
    let lock = scratch.root().join("lock");
    let script =
        format!("#!/bin/sh\nexec 9>'{}'\nflock 9\nsleep 0.2\n\"$@\" 9>&-\n", lock.display());
    let hook = scratch.script("pack", &script);
    scratch.global_config(&format!("[uploadpack] packObjectsHook = {}\n", hook.display()));
    let daemon = Gitd.serve(&scratch).arg("--max-connections=2").start();
    for _ in 0..3 {
        let mut sessions: Vec<_> = (1..=6).map(|last| resting(&daemon, last)).collect();
        for (client, id) in &mut sessions {
            ask_for_pack(client, id);
        }
        for (mut client, _) in sessions {
            assert_eq!(client.packet(), Packet::Data(b"packfile\n".to_vec()));
            assert!(!client.packets_to_flush().is_empty());
        }
    }
}

/// When the thread that started a stopped service ends, the kernel continues the service. So the thread must not end
/// after ten idle seconds, as others do.
#[test]
#[ignore = "waits for many seconds"]
fn an_idle_service_stays_stopped() {
    let scratch = Scratch::new();
    scratch.bare("repo.git");
    let daemon = Gitd.serve(&scratch).start();
    let (mut client, _) = resting(&daemon, 1);
    let [service] = children(daemon.pid())[..] else { panic!("one service") };
    wait_until("it is stopped", || state(service) == Some('T'));
    let end = std::time::Instant::now() + Duration::from_secs(13);
    while std::time::Instant::now() < end {
        assert_eq!(state(service), Some('T'));
        std::thread::sleep(Duration::from_millis(50));
    }
    client.send("0000");
    assert_eq!(client.rest(), (vec![], End::Closed));
}

/// git's own alarm goes on in a stopped service, so one that has an alarm gives its permit back, and is not stopped.
#[test]
fn a_service_with_an_alarm_is_not_stopped() {
    let scratch = Scratch::new();
    scratch.bare("repo.git");
    let options = ["--max-connections=1", "--timeout=20"];
    let daemon = Gitd.serve(&scratch).args(options).start();
    let mut first = from(&daemon, 1);
    first.send(request("upload-pack", "/repo.git"));
    first.packets_to_flush();
    let [service] = children(daemon.pid())[..] else { panic!("one service") };
    let mut second = from(&daemon, 2);
    second.send(request("upload-pack", "/repo.git"));
    second.packets_to_flush();
    assert_ne!(state(service), Some('T'));
    for client in [&mut first, &mut second] {
        client.send("0000");
        assert_eq!(client.rest(), (vec![], End::Closed));
    }
}

/// A client that is stopped is not idle: its time-out begins anew when it may go on.
#[test]
#[ignore = "waits for many seconds"]
fn what_is_stopped_does_not_time_out() {
    let scratch = Scratch::new();
    scratch.bare("repo.git");
    let gates = Gates::set_up(&scratch);
    let daemon = Gitd.serve(&scratch).args(["--max-connections=1", "--timeout=2"]).start();
    let (mut first, id) = resting(&daemon, 1);
    let (mut second, _) = resting(&daemon, 2);
    // The service that works in silence is ended after two seconds, the stopped one is not.
    let gates = [1, 2].map(|last| gates.gate(last));
    ask_for_pack(&mut first, &id);
    let mut stopped = None;
    ask_for_pack(&mut second, &id);
    wait_until("one is stopped", || {
        stopped = children(daemon.pid()).into_iter().find(|&pid| state(pid) == Some('T'));
        stopped.is_some()
    });
    let stopped = stopped.unwrap();
    wait_until("it goes on", || state(stopped) != Some('T'));
    assert!(alive(stopped));
    drop((first, second, gates));
}

/// The kernel continues the services that a killed gitd has left stopped.
#[test]
fn nothing_stays_stopped() {
    let scratch = Scratch::new();
    let (mut daemon, sessions) = all_awake(&scratch);
    let services = children(daemon.pid());
    let below = descendants(daemon.pid());
    daemon.signal(Signal::KILL);
    daemon.wait();
    wait_until("nothing is stopped", || services.iter().all(|&pid| state(pid) != Some('T')));
    // The service that worked goes on, as with git daemon.
    let gates: Vec<_> = sessions.iter().map(|(gate, _)| gate.clone()).collect();
    drop(sessions);
    wait_until("nothing is left", || {
        for gate in &gates {
            open(gate);
        }
        below.iter().all(|&pid| !alive(pid))
    });
}

/// Opens a gate, even if no hook waits there.
fn open(gate: &Path) {
    let mut gate = fs::File::options().read(true).write(true).open(gate).unwrap();
    std::io::Write::write_all(&mut gate, b"\n").unwrap();
}

/// A push that `--timeout` ends does not leave its hook behind.
#[test]
#[ignore = "waits for many seconds"]
fn hooks_of_pushes_that_are_ended() {
    let scratch = Scratch::new();
    let repository = scratch.bare("repo.git");
    let head = head(&repository);
    for n in 0..6 {
        append(&repository.join("packed-refs"), &format!("{head} refs/heads/branch-{n}\n"));
    }
    let hooks = scratch.root().join("hooks");
    fs::write(&hooks, "").unwrap();
    // A hook that ignores SIGHUP.
    let hook = format!(
        "#!/bin/sh\ntrap '' HUP\necho $$ >>'{}'\nsleep 900 & wait; wait\n",
        hooks.display()
    );
    scratch.pre_receive(&repository, &hook);
    let options = ["--enable=receive-pack", "--timeout=1", "--max-connections=2"];
    let daemon = Gitd.serve(&scratch).args(options).start();
    let pushes: Vec<_> = (0..6)
        .map(|n| {
            let mut client = from(&daemon, n);
            let command =
                format!("{head} {} refs/heads/branch-{n}\0report-status\n", "0".repeat(40));
            client.send(
                [request("receive-pack", "/repo.git"), pkt(command), b"0000".to_vec()].concat(),
            );
            client
        })
        .collect();
    wait_until("each push has had its hook, and none is left", || {
        let text = fs::read_to_string(&hooks).unwrap();
        let hooks: Vec<u32> = text.lines().map(|line| line.parse().unwrap()).collect();
        let left = hooks.iter().filter(|&&pid| alive(pid)).count();
        assert!(left <= 2, "{left} hooks at 2 places");
        hooks.len() == 6 && left == 0
    });
    drop(pushes);
}

/// gitd starts no service for clients that leave during their access hook, and they delay no others.
#[test]
fn clients_that_leave_during_a_hook() {
    let scratch = Scratch::new();
    scratch.bare("repo.git");
    scratch.bare("slow.git");
    let (go, started) = (scratch.root().join("go"), scratch.root().join("started"));
    let hook = waits_for(&scratch, &go);
    let fake = scratch.fake_git(&format!("echo $PWD >>'{}'\n", started.display()));
    let daemon = Gitd
        .serve(&scratch)
        .option("--access-hook", &hook)
        .arg("--max-connections=2")
        .path_first(&fake)
        .start();
    let clients: Vec<_> = (1..=8)
        .map(|last| {
            let mut client = from(&daemon, last);
            client.send(request("upload-pack", "/slow.git"));
            client
        })
        .collect();
    wait_until("the permits are taken", || !children(daemon.pid()).is_empty());
    let mark = daemon.log.mark();
    clients.into_iter().for_each(Client::reset);
    let begin = std::time::Instant::now();
    let mut other = from(&daemon, 9);
    other.send(request("upload-pack", "/repo.git"));
    other.rest();
    let served = begin.elapsed();
    assert!(served < Duration::from_millis(900), "before a check counts as slow: {served:?}");
    fs::write(&go, "").unwrap();
    daemon.log.wait_count(mark, 9, |line| line.starts_with("Disconnected"));
    let started = fs::read_to_string(started).unwrap();
    assert!(started.lines().all(|line| line.ends_with("repo.git")), "{started}");
    assert_eq!(started.lines().count(), 1);
}

/// A hook that allows `/repo.git` at once and everything else when the file `go` exists.
fn waits_for(scratch: &Scratch, go: &Path) -> PathBuf {
    let go = go.display();
    let script = format!(
        "#!/bin/sh\ncase $2 in */repo.git) exit 0;; esac\nwhile [ ! -e '{go}' ]; do sleep 0.05; done\n"
    );
    scratch.script("hook", &script)
}

/// Hooks are used to fetch before serving: every request with a permit is served, however many want the same
/// repository.
#[test]
fn clones_behind_a_slow_hook() {
    for (places, clients) in [(8, 8), (0, 140)] {
        let scratch = Scratch::new();
        scratch.bare("slow.git");
        let go = scratch.root().join("go");
        let hook = waits_for(&scratch, &go);
        let daemon = Gitd
            .serve(&scratch)
            .option("--access-hook", &hook)
            .arg(format!("--max-connections={places}"))
            .arg("--queue-timeout=10")
            .start();
        let clients: Vec<_> = (1..=clients)
            .map(|last| {
                let mut client = from(&daemon, last);
                client.send(request("upload-pack", "/slow.git"));
                client
            })
            .collect();
        wait_until("all are asked about", || children(daemon.pid()).len() == clients.len());
        fs::write(&go, "").unwrap();
        for mut client in clients {
            assert!(!client.packets_to_flush().is_empty());
            client.send("0000");
        }
    }
}
