//! Faults, injected one by one: gitd does not crash, leaves nothing over, logs the fault and recovers by itself.

use std::io::Write;
use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;

use rustix::process::{Pid, Resource, Rlimit, Signal, prlimit};

use super::{Resources, asking, from, is_served, kilobytes};
use crate::support::process::{children, descriptor, signal, wait_until};
use crate::support::scratch::chmod;
use crate::support::{End, Git, Gitd, Scratch, needs_root, pkt, request};

/// The descriptors run out at every stage between accepting a client and starting its service.
#[test]
fn descriptors_run_out_at_every_stage() {
    let (_scratch, mut daemon) = Gitd.serve_one();
    is_served(&daemon);
    let before = Resources::of(&daemon);
    let pid = Pid::from_raw(daemon.pid().cast_signed());
    let limit = |current: u64| {
        prlimit(pid, Resource::Nofile, Rlimit { current: Some(current), maximum: Some(4096) })
            .unwrap();
    };
    let free = (0..).find(|fd| descriptor(daemon.pid(), *fd).is_none()).unwrap();
    let mut served = 0;
    for more in 1..16 {
        limit(u64::from(free) + more);
        let mut client = daemon.connect();
        client.send(request("upload-pack", "/repo.git"));
        client.send("0000");
        client.half_close();
        let answer = String::from_utf8(client.rest().0).unwrap();
        if answer.contains("refs/heads") {
            served += 1;
        } else {
            // The answer must not blame the repository.
            assert!(answer.contains("ERR server is busy, try again later"), "{more}: {answer:?}");
        }
    }
    assert!((1..15).contains(&served), "{served}");
    limit(4096);
    is_served(&daemon);
    before.assert_back(&daemon);
    assert_eq!(daemon.try_status(), None);
}

/// fork says EAGAIN: the user has too many processes.
#[test]
fn no_process_to_be_had() {
    needs_root!();
    // A user of this test's own: the limit counts all processes of a user.
    const USER: u32 = 64_123;
    let scratch = Scratch::new();
    let repository = scratch.bare("repo.git");
    crate::support::scratch::chown(&repository, USER);
    let daemon = Gitd.serve(&scratch).user(USER, USER).start();
    is_served(&daemon);
    let before = Resources::of(&daemon);
    // The user may change it, and root only with all its capabilities.
    let limit = |count: &str| {
        let pid = daemon.pid().to_string();
        let mut prlimit = std::process::Command::new("prlimit");
        prlimit.args(["--pid", &pid, &format!("--nproc={count}:")]).uid(USER).gid(USER);
        assert!(prlimit.status().unwrap().success());
    };
    // Once with threads left over from before, once when those have ended and no new one can start.
    for _ in 0..2 {
        limit("1");
        let mark = daemon.log.mark();
        let mut client = daemon.connect();
        client.send(request("upload-pack", "/repo.git"));
        let answer = String::from_utf8(client.rest().0).unwrap();
        assert!(answer.contains("ERR server is busy, try again later"), "{answer:?}");
        let log = daemon.wait_disconnected(mark);
        let line = "cannot run upload-pack: Resource temporarily unavailable";
        assert!(log.iter().any(|logged| logged == line), "{log:#?}");
        limit("1000");
        is_served(&daemon);
        wait_until("the threads have ended", || {
            // The threads of the runtime, the log and the heartbeat remain.
            std::fs::read_dir(format!("/proc/{}/task", daemon.pid())).unwrap().count() <= 3
        });
    }
    before.assert_back(&daemon);
}

/// git is gone, or cannot be executed, and comes back.
#[test]
fn git_goes_and_comes_back() {
    let scratch = Scratch::new();
    scratch.bare("repo.git");
    let bin = scratch.root().join("bin");
    std::fs::create_dir(&bin).unwrap();
    let git = bin.join("git");
    let install = || std::fs::copy(Git::program(), &git).unwrap();
    install();
    let daemon = Gitd.serve(&scratch).env("PATH", &bin).start();
    is_served(&daemon);
    let before = Resources::of(&daemon);
    let refused = |reason: &str| {
        let session = daemon.ask("upload-pack", "/repo.git");
        session.assert_line(&format!("cannot run upload-pack: {reason}"));
    };
    std::fs::remove_file(&git).unwrap();
    refused("No such file or directory");
    install();
    is_served(&daemon);
    chmod(&git, 0o644);
    refused("Permission denied");
    chmod(&git, 0o755);
    is_served(&daemon);
    std::fs::write(&git, "no program at all").unwrap();
    refused("Exec format error");
    std::fs::remove_file(&git).unwrap();
    install();
    is_served(&daemon);
    before.assert_back(&daemon);
}

/// Services are killed at any time, and clients at every stage.
#[test]
fn killed_at_any_time() {
    let scratch = Scratch::new();
    scratch.bare("repo.git");
    let daemon = Gitd.serve(&scratch).arg("--enable=receive-pack").start();
    is_served(&daemon);
    let before = Resources::of(&daemon);
    let whole = request("upload-pack", "/repo.git");
    for end in 0..whole.len() {
        let mut client = from(&daemon, 3);
        client.send(&whole[..end]);
    }
    for service in ["upload-pack", "receive-pack"] {
        for greeted in [false, true] {
            let mut client = from(&daemon, 3);
            client.send(request(service, "/repo.git"));
            if greeted {
                client.packets_to_flush();
            }
        }
    }
    for which in [Signal::KILL, Signal::HUP, Signal::SEGV] {
        let mut client = from(&daemon, 4).busy();
        wait_until("it is the only one", || children(daemon.pid()).len() == 1);
        let mark = daemon.log.mark();
        signal(children(daemon.pid())[0], which);
        assert_eq!(client.rest(), (vec![], End::Closed));
        let line = format!("error: upload-pack died of signal {}", which.as_raw());
        daemon.log.wait(mark, |logged| logged == line);
    }
    is_served(&daemon);
    before.assert_back(&daemon);
}

/// The disk is full under a push: the client is told, and the next push is taken once there is room.
#[test]
fn full_disk_under_a_push() {
    needs_root!();
    let scratch = Scratch::new();
    let template = scratch.bare("repo.git");
    let small = scratch.directory("small");
    let (small, template) = (small.display(), template.display());
    let daemon = Gitd
        .serve(&scratch)
        .arg("--enable=receive-pack")
        .namespace("--mount")
        .shell(format!("mount -t tmpfs -o size=1m none {small}"))
        .shell(format!("cp -a {template} {small}/repo.git"))
        .start();
    let before = Resources::of(&daemon);
    let work = scratch.root().join("work");
    let git = || Git::new(&scratch).cwd(&work);
    Git::new(&scratch).args(["clone", "-q", &daemon.url("/small/repo.git")]).arg(&work).ok();
    // What cannot be compressed.
    let noise = std::iter::successors(Some(1_u64), |n| {
        let n = n ^ (n << 13);
        let n = n ^ (n >> 7);
        Some(n ^ (n << 17))
    });
    let noise: Vec<u8> = noise.take(400_000).flat_map(u64::to_le_bytes).collect();
    std::fs::write(work.join("noise"), noise).unwrap();
    git().args(["add", "noise"]).ok();
    git().args(["commit", "-qm", "noise"]).ok();
    daemon.wait_disconnected(0);
    let mark = daemon.log.mark();
    let complaint = git().args(["push", "-q", "origin", "main"]).fails();
    assert!(complaint.contains("No space left on device"), "{complaint}");
    let log = daemon.wait_disconnected(mark);
    // git has told the client, and ended well.
    assert_eq!(log[2..], ["Request receive-pack for '/small/repo.git'", "Disconnected"]);
    git().args(["reset", "-q", "--hard", "origin/main"]).ok();
    std::fs::write(work.join("greeting"), "hello again\n").unwrap();
    git().args(["commit", "-qam", "small"]).ok();
    git().args(["push", "-q", "origin", "main"]).ok();
    before.assert_back(&daemon);
}

/// The resolver is slow: only requests that need it wait.
#[test]
fn a_resolver_that_hangs() {
    needs_root!();
    let scratch = Scratch::new();
    scratch.bare("repo.git");
    // Checks of one path take at most half of the permits at once.
    let named = (1..9).map(|n| format!("named{n}.git")).inspect(|name| drop(scratch.bare(name)));
    let named: Vec<_> = named.collect();
    // A name server that takes every question and answers none.
    let hole = std::net::UdpSocket::bind("127.0.77.53:53").unwrap();
    let daemon = Gitd
        .serve(&scratch)
        .etc("resolv.conf", "nameserver 127.0.77.53\noptions timeout:17 attempts:1\n")
        .etc("nsswitch.conf", "hosts: dns\n")
        .option("--access-hook", scratch.script("hook", "#!/bin/sh\nexit 0\n"))
        .arg("--max-connections=4")
        .start();
    let before = Resources::of(&daemon);
    let mark = daemon.log.mark();
    let mut waiting: Vec<_> = named
        .iter()
        .map(|name| {
            let mut client = daemon.connect();
            client.send(pkt(format!("git-upload-pack /{name}\0host=nowhere.example\0")));
            client
        })
        .collect();
    daemon.log.wait_count(mark, 8, |line| line.starts_with("Request "));
    for _ in 0..5 {
        let session = daemon.talk(pkt("git-upload-pack /repo.git\0"));
        session.assert_served("repo.git");
    }
    daemon
        .log
        .wait(mark, |line| line.starts_with("'/named") && line.contains("not decided after 10 s"));
    for client in &mut waiting {
        // Without an answer from the resolver the host has no other name.
        assert!(!client.packets_to_flush().is_empty());
        client.send("0000");
    }
    drop(waiting);
    before.assert_back(&daemon);
    drop(hole);
}

/// An allocation fails under a limit of the address space: gitd ends, as Rust programs do; its services go on, and the
/// next server listens at once.
#[test]
fn no_memory_to_be_had() {
    const MOST: usize = 4_000;
    let scratch = Scratch::new();
    scratch.bare("repo.git");
    let mut old = Gitd.serve(&scratch).arg("--reuseaddr").start();
    let mut client = from(&old, 1).busy();
    let size = kilobytes(old.pid(), "VmSize") * 1024;
    let limit = Rlimit { current: Some(size), maximum: Some(size) };
    prlimit(Pid::from_raw(old.pid().cast_signed()), Resource::As, limit).unwrap();
    let crowd: Vec<_> = (0..MOST)
        .map_while(|_| {
            let mut stream = TcpStream::connect(old.address()).ok()?;
            stream.write_all(&[&b"fff0"[..], &[b'a'; 60_000]].concat()).ok()?;
            Some(stream)
        })
        .collect();
    assert!(crowd.len() < MOST);
    assert_eq!(old.wait().signal(), Some(6));
    let new = Gitd.serve(&scratch).arg("--reuseaddr").port(old.port).start();
    is_served(&new);
    client.send("0000");
    assert_eq!(client.rest(), (vec![], End::Closed));
}

/// A file system that does not answer until it is aborted.
struct Hanging {
    device: Option<std::fs::File>,
    place: PathBuf,
}

impl Hanging {
    /// FUSE without a server: the kernel asks, and waits for an answer.
    fn mount(place: PathBuf) -> Self {
        let device = std::fs::File::options().read(true).write(true).open("/dev/fuse").unwrap();
        let options =
            format!("fd={},rootmode=40000,user_id=0,group_id=0,allow_other", device.as_raw_fd());
        let options = std::ffi::CString::new(options).unwrap();
        let flags = rustix::mount::MountFlags::empty();
        rustix::mount::mount("none", &place, "fuse", flags, Some(options.as_c_str())).unwrap();
        Self { device: Some(device), place }
    }

    /// All calls that wait for it fail.
    fn give_up(&mut self) {
        self.device = None;
    }
}

impl Drop for Hanging {
    fn drop(&mut self) {
        self.give_up();
        let _ = rustix::mount::unmount(&self.place, rustix::mount::UnmountFlags::DETACH);
    }
}

/// A file system does not answer: requests that need it wait, the others are served, and all is as before when it ends.
#[test]
fn a_file_system_that_hangs() {
    needs_root!();
    let scratch = Scratch::new();
    scratch.bare("repo.git");
    let place = scratch.directory("far");
    let daemon = Gitd.serve(&scratch).arg("--max-connections=4").start();
    is_served(&daemon);
    let before = Resources::of(&daemon);
    let mut far = Hanging::mount(place);
    let mut waiting: Vec<_> = (1..11).map(|last| asking(&daemon, last, "/far/a.git")).collect();
    waiting.extend((1..6).map(|n| asking(&daemon, 20 + n, &format!("/far/{n}.git"))));
    for _ in 0..5 {
        is_served(&daemon);
    }
    daemon
        .log
        .wait(0, |line| line.starts_with("'/far/") && line.contains("not decided after 10 s"));
    far.give_up();
    for mut client in waiting {
        let answer = String::from_utf8(client.rest().0).unwrap();
        assert!(answer.contains("ERR access denied"), "{answer:?}");
    }
    is_served(&daemon);
    before.assert_back(&daemon);
}
