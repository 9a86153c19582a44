//! A runtime in a busy loop: gitd logs it, and the service manager's watchdog gets no report.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use super::from;
use crate::support::{DEADLINE, Gitd, Scratch, request};

/// Makes a system call of gitd loop while a file exists: the one that reads a session's counters.
const SPIN: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

int getsockopt(int fd, int level, int option, void *value, socklen_t *length)
{
    int (*real)(int, int, int, void *, socklen_t *) = dlsym(RTLD_NEXT, "getsockopt");
    const char *file = getenv("SPIN_WHILE");
    while (level == IPPROTO_TCP && option == TCP_INFO && file && access(file, F_OK) == 0)
        ;
    return real(fd, level, option, value, length);
}
"#;

fn spinning(scratch: &Scratch) -> PathBuf {
    let (source, library) = (scratch.root().join("spin.c"), scratch.root().join("spin.so"));
    fs::write(&source, SPIN).unwrap();
    let cc = Command::new("cc").args(["-shared", "-fPIC", "-o"]).args([&library, &source]).status();
    assert!(cc.expect("cc").success());
    library
}

/// Waits for one report to the watchdog.
fn feeds_once(manager: &UnixDatagram) -> bool {
    manager.set_read_timeout(Some(DEADLINE)).unwrap();
    let mut buffer = [0; 1024];
    loop {
        match manager.recv(&mut buffer) {
            Ok(length) if &buffer[..length] == b"WATCHDOG=1" => return true,
            Ok(_) => {}
            Err(_) => return false,
        }
    }
}

#[test]
#[ignore = "waits for many seconds"]
fn a_busy_loop_is_reported() {
    let scratch = Scratch::new();
    scratch.bare("repo.git");
    let (file, notify) = (scratch.root().join("spin"), scratch.root().join("notify"));
    let manager = UnixDatagram::bind(&notify).unwrap();
    let feeds = |wait: Duration| {
        manager.set_read_timeout(Some(wait)).unwrap();
        let mut buffer = [0; 1024];
        std::iter::from_fn(|| {
            manager.recv(&mut buffer).ok().map(|length| buffer[..length].to_vec())
        })
        .filter(|said| said == b"WATCHDOG=1")
        .count()
    };
    let daemon = Gitd
        .serve(&scratch)
        .env("LD_PRELOAD", spinning(&scratch))
        .env("SPIN_WHILE", &file)
        .env("NOTIFY_SOCKET", &notify)
        .env("WATCHDOG_USEC", "1000000")
        .start();
    let mark = daemon.log.mark();
    let client = from(&daemon, 1).busy();
    // The next read of its counters does not end.
    fs::write(&file, "").unwrap();
    // No report for longer than the manager waits: the runtime is stuck.
    while feeds(Duration::from_millis(1500)) > 0 {}
    let lines = daemon.log.wait(mark, |line| line.contains("serves nobody"));
    let line = lines.last().unwrap();
    let works = format!("it works for client {}, watching its service ", client.address());
    assert!(line.contains("stuck for 1") && line.contains(&works), "{line}");
    assert_eq!(feeds(Duration::from_millis(1)), 0);
    // It is logged once.
    fs::remove_file(&file).unwrap();
    let lines = daemon.log.wait(mark, |line| line.contains("gitd goes on after 1"));
    assert_eq!(lines.iter().filter(|line| line.contains("serves nobody")).count(), 1);
    assert!(feeds_once(&manager), "it is fed again");
    client.finish();
}

/// A runtime that sleeps is not stuck, and no thread wakes to check it.
#[test]
fn sleep_is_no_busy_loop() {
    let (_scratch, daemon) = Gitd.serve_one();
    daemon.ask("upload-pack", "/repo.git").assert_served("repo.git");
    wait_until_all_sleep(daemon.pid());
    assert!(!daemon.log.since(0).iter().any(|line| line.contains("serves nobody")));
}

/// The thread that checks wakes with the runtime.
#[test]
#[ignore = "waits for many seconds"]
fn a_busy_loop_after_a_sleep() {
    let scratch = Scratch::new();
    scratch.bare("repo.git");
    let file = scratch.root().join("spin");
    let daemon =
        Gitd.serve(&scratch).env("LD_PRELOAD", spinning(&scratch)).env("SPIN_WHILE", &file).start();
    wait_until_all_sleep(daemon.pid());
    let mark = daemon.log.mark();
    fs::write(&file, "").unwrap();
    let mut client = daemon.connect();
    client.send(request("upload-pack", "/repo.git"));
    daemon.log.wait(mark, |line| line.contains("serves nobody"));
    fs::remove_file(&file).unwrap();
    client.packets_to_flush();
}

fn wait_until_all_sleep(pid: u32) {
    let threads = || {
        let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
        let switches = |task: fs::DirEntry| {
            let status = fs::read_to_string(task.path().join("status")).ok()?;
            let line = status.lines().find(|line| line.starts_with("voluntary_ctxt_switches"))?;
            Some(line.to_owned())
        };
        tasks.filter_map(|task| switches(task.unwrap())).collect::<Vec<_>>()
    };
    let mut last = threads();
    crate::support::process::wait_until("no thread runs for two seconds", || {
        std::thread::sleep(Duration::from_secs(2));
        std::mem::replace(&mut last, threads()) == last
    });
}
