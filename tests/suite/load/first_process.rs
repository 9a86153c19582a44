//! gitd as process 1 of a container.

use std::process::{Child, Stdio};

use rustix::process::Signal;

use crate::support::invocation::free_port;
use crate::support::process::{
    alive, children, descendants, listening, signal, wait_until, zombies,
};
use crate::support::{Client, Gitd, Scratch, needs_root, request};

struct Container {
    unshare: Child,
    port: u16,
}

impl Container {
    /// `unshare --fork` waits for process 1, and ends as that one does.
    fn start(scratch: &Scratch) -> Self {
        let port = free_port();
        let hook =
            scratch.script("hook", "#!/bin/sh\n(exec >/dev/null; sleep 0.1 & sleep 1000 & ) &\n");
        let command = Gitd
            .serve(scratch)
            .option("--access-hook", hook)
            .arg("--reuseaddr")
            .command(&["--listen=127.0.0.1".to_owned(), format!("--port={port}")]);
        let mut unshare = std::process::Command::new("unshare");
        unshare
            .args(["--pid", "--fork", "--mount-proc", "--kill-child"])
            .arg(command.get_program());
        unshare.args(command.get_args()).env_clear();
        unshare.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let unshare = unshare.stdin(Stdio::null()).spawn().unwrap();
        wait_until("it listens", || listening(port));
        Self { unshare, port }
    }

    /// Process 1, by the number that it has outside.
    fn first(&self) -> u32 {
        children(self.unshare.id())[0]
    }

    fn ask(&self) {
        let mut client = Client::connect(([127, 0, 0, 1], self.port).into());
        client.send(request("upload-pack", "/repo.git"));
        assert!(!client.packets_to_flush().is_empty());
        client.send("0000");
        client.rest();
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let _ = self.unshare.kill();
        let _ = self.unshare.wait();
    }
}

/// Orphans are reaped, and the services' own ends are still seen.
#[test]
fn reaps_orphans() {
    needs_root!();
    let scratch = Scratch::new();
    scratch.bare("repo.git");
    let container = Container::start(&scratch);
    let first = container.first();
    for _ in 0..5 {
        container.ask();
    }
    // Two orphans for each request: one ends soon, the other later.
    let sleeping = |pid: &u32| {
        std::fs::read_to_string(format!("/proc/{pid}/cmdline"))
            .is_ok_and(|c| c.starts_with("sleep\x001000"))
    };
    wait_until("the orphans are process 1's", || {
        children(first).iter().filter(|pid| sleeping(pid)).count() == 5
    });
    wait_until("the ended ones are reaped", || zombies(first) == 0 && children(first).len() == 6);
    for orphan in children(first).into_iter().filter(sleeping) {
        signal(orphan, Signal::KILL);
    }
    wait_until("these too", || zombies(first) == 0 && children(first).len() == 1);
    container.ask();
}

/// The kernel delivers only signals that process 1 handles; gitd handles them.
#[test]
fn stops_at_sigterm() {
    needs_root!();
    for which in [Signal::TERM, Signal::INT, Signal::HUP] {
        let scratch = Scratch::new();
        scratch.bare("repo.git");
        let mut container = Container::start(&scratch);
        container.ask();
        let all = descendants(container.first());
        signal(container.first(), which);
        wait_until("it ends", || container.unshare.try_wait().unwrap().is_some());
        let status = container.unshare.wait().unwrap();
        assert_eq!(status.code(), Some(128 + which.as_raw()), "{which:?}");
        wait_until("nothing is left", || !all.iter().any(|pid| alive(*pid)));
    }
}
