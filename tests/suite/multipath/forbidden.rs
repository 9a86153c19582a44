//! A seccomp filter or a security module lets gitd open no MPTCP socket, by strace's hand. Whatever the kernel could do,
//! git works over TCP, and the administrator is told what stands in the way.

use std::fs;

use crate::support::{Gitd, Invocation, Scratch};

const ERRORS: [(&str, &str); 2] =
    [("EPERM", "Operation not permitted"), ("EACCES", "Permission denied")];

const CURE: &str = "a seccomp filter or security module forbids socket protocol 262";

/// gitd on one address, whose first socket is forbidden.
fn gitd(scratch: &Scratch, mode: &str, error: &str) -> Invocation {
    scratch.bare("repo.git");
    let trace = scratch.root().join("trace");
    // With -D the process stays its parent's, and is not strace's child.
    Gitd.serve(scratch).arg(mode).shell(format!(
        "exec strace -D -qq -e trace=socket -e inject=socket:error={error}:when=1 -o {} \"$@\"",
        trace.display()
    ))
}

/// It was MPTCP that was forbidden, and nothing else.
fn assert_forbidden(scratch: &Scratch) {
    let trace = fs::read_to_string(scratch.root().join("trace")).unwrap();
    let forbidden: Vec<_> = trace.lines().filter(|call| call.contains("(INJECTED)")).collect();
    assert!(matches!(forbidden[..], [call] if call.contains("IPPROTO_MPTCP")), "{trace}");
}

#[test]
fn a_server_serves_tcp_and_says_why() {
    for (error, reason) in ERRORS {
        let scratch = Scratch::new();
        let daemon = gitd(&scratch, "--mptcp", error).start();
        assert_forbidden(&scratch);
        let address = daemon.address();
        let warning = format!("warning: no Multipath TCP on {address}, only TCP: {reason}; {CURE}");
        daemon.log.wait(0, |line| line == warning);
        daemon.ask("upload-pack", "/repo.git").assert_served("repo.git");
    }
}

#[test]
fn a_server_that_requires_it_does_not_start() {
    for (error, reason) in ERRORS {
        let scratch = Scratch::new();
        let outcome = gitd(&scratch, "--mptcp=require", error).run_as_server();
        assert_forbidden(&scratch);
        assert_eq!(outcome.code(), Some(128));
        let fatal = "fatal: --mptcp=require: Multipath TCP is not available";
        assert_eq!(outcome.log(), [format!("{fatal}: {reason}; {CURE}")]);
    }
}
