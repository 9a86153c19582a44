//! --inetd with few descriptors: a client is served, or told that the server is busy, and never that it is
//! refused; contract 8.

use crate::inetd::Inetd;
use crate::support::scratch::{chown, config};
use crate::support::{
    Client, Git, Gitd, Implementation, Invocation, Scratch, compliance, needs_root, pkt, request,
};

compliance! {
    eight_descriptors,
}

const BUSY: &str = "server is busy, try again later";

/// From here on everything in this file is served.
const ENOUGH: usize = 16;

fn limited(invocation: Invocation, limit: usize) -> (Inetd, Client) {
    Inetd::tcp(invocation.shell(format!("ulimit -n {limit}")))
}

/// Every service in every version of the protocol, to its end.
fn eight_descriptors(d: Implementation) {
    let scratch = Scratch::new();
    scratch.bare("repo.git");
    config(&scratch.bare("asks.git"), "[daemon] uploadarch = true\n receivepack = true\n");
    let tree = pkt("argument --format=tar\n");
    let archive = [tree, pkt("argument HEAD\n"), b"0000".to_vec()].concat();
    let refs = [pkt("command=ls-refs\n"), b"00000000".to_vec()].concat();
    for (service, version, rest, answer) in [
        ("upload-pack", "", b"0000".as_slice(), "refs/heads/"),
        ("upload-pack", "\0version=1\0", b"0000", "version 1\n"),
        ("upload-pack", "\0version=2\0", &refs, "refs/heads/"),
        ("receive-pack", "", b"0000", "refs/heads/"),
        ("receive-pack", "\0version=1\0", b"0000", "version 1\n"),
        ("upload-archive", "", &archive, "greeting"),
    ] {
        for pathname in ["/repo.git", "/asks.git"] {
            let invocation =
                d.serve(&scratch).args(["--enable=receive-pack", "--enable=upload-archive"]);
            let (mut inetd, mut client) = limited(invocation, 8);
            client.send(pkt(format!("git-{service} {pathname}\0host=localhost\0{version}")));
            client.send(rest);
            let (said, _) = client.rest();
            let said = String::from_utf8_lossy(&said).into_owned();
            assert!(said.contains(answer), "{service} {pathname} {version:?}: {said}");
            assert_eq!(inetd.code(), Some(0), "{service} {pathname} {version:?}");
        }
    }
}

/// Service, pathname, options, and with how many descriptors it is served.
type Case = (&'static str, &'static str, Box<dyn Fn(Invocation) -> Invocation>, usize);

/// What takes descriptors before a service has started. No shell is among it, as many take number 10 for a script.
fn cases(scratch: &Scratch) -> Vec<Case> {
    scratch.bare("repo.git");
    scratch.gitfile("gitfile", "repo.git");
    scratch.symlink("link", "repo.git");
    let tree = scratch.non_bare("tree");
    let git = Git::of_server(scratch).arg("-C").arg(&tree);
    git.args(["worktree", "add", "--detach", "-q"]).arg(scratch.path("wt")).ok();
    config(&scratch.bare("asks.git"), "[daemon] uploadpack = true\n");
    let foreign = scratch.bare("foreign.git");
    chown(&foreign, 31_002);
    scratch.global_config(&format!("[safe] directory = {}\n", foreign.display()));
    let repos = scratch.repos();
    let home = format!("--user-path=..{}", repos.display());
    let template = format!("--interpolated-path={}/%D", repos.display());
    vec![
        ("upload-pack", "/repo.git", Box::new(|i| i), 8),
        ("upload-pack", "/repo.git", Box::new(|i| i.arg("--access-hook=true")), 8),
        ("upload-pack", "/gitfile", Box::new(|i| i), 9),
        ("upload-pack", "/link", Box::new(|i| i), 8),
        ("upload-pack", "/tree", Box::new(|i| i), 8),
        ("upload-pack", "/wt", Box::new(|i| i), 10),
        ("upload-pack", "/asks.git", Box::new(|i| i), 8),
        ("upload-pack", "/foreign.git", Box::new(|i| i), 12),
        ("upload-pack", "~root/repo.git", Box::new(move |i| i.arg(&home)), 8),
        ("upload-pack", "/repo.git", Box::new(move |i| i.arg(&template)), 8),
        ("receive-pack", "/repo.git", Box::new(|i| i.arg("--enable=receive-pack")), 8),
        ("upload-archive", "/repo.git", Box::new(|i| i.arg("--enable=upload-archive")), 8),
    ]
}

/// A program of this system needs 4 to start. From there on, whatever the request takes, it is served, or the client
/// hears that it may come again, and the administrator what to do.
#[test]
fn served_or_busy() {
    needs_root!();
    let scratch = Scratch::new();
    for (service, pathname, prepare, enough) in cases(&scratch) {
        let mut least = ENOUGH;
        for limit in (4..=ENOUGH).rev() {
            let (mut inetd, mut client) = limited(prepare(Gitd.serve(&scratch)), limit);
            client.send(request(service, pathname));
            client.send("0000");
            client.half_close();
            let answer = String::from_utf8_lossy(&client.rest().0).into_owned();
            let (code, log) = (inetd.code(), inetd.raw_log());
            if !answer.contains("ERR ") {
                assert_eq!(
                    limit, least,
                    "{service} {pathname}: served with fewer, but not with {least}"
                );
                least = limit - 1;
                continue;
            }
            assert!(limit < ENOUGH, "{service} {pathname}: {answer:?} {log}");
            assert!(answer.ends_with(&format!("ERR {BUSY}: {pathname}")), "{limit}: {answer:?}");
            assert_eq!(code, Some(255));
            let reason = format!("cannot run {service}: Too many open files (client ");
            assert!(log.contains(&reason), "{limit}: {log}");
            assert!(log.contains("; raise the limits of open files "), "{limit}: {log}");
            assert!(!log.contains("failed to start"), "{limit}: {log}");
        }
        assert!((4..enough).contains(&least), "{service} {pathname}: not with {least}");
    }
}
