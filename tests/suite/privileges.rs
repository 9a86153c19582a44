//! --user and --group: contract 9. All but one need root.

use std::fs;

use crate::support::process::status;
use crate::support::scratch::{chmod, chown};
use crate::support::{Gitd, Implementation, Invocation, Scratch, compliance, needs_root};

compliance! {
    ids,
    ids_of_services,
    bound_and_written_as_root,
    whose_repositories,
    home,
    not_root,
}

const USER: u32 = 31_001;
const GROUP: u32 = 31_005;
const EXTRA: u32 = 31_006;
const OTHER: u32 = 31_007;

/// A server with a user database in which gituser is.
fn server(d: Implementation, scratch: &Scratch) -> Invocation {
    d.serve(scratch)
        .etc("passwd", &format!("root:x:0:0::/root:/bin/sh\ngituser:x:{USER}:{GROUP}::/nonexistent:/bin/sh\n"))
        .etc("group", &format!(
            "root:x:0:\ngituser:x:{GROUP}:\nextra:x:{EXTRA}:gituser\nother:x:{OTHER}:\nnone:x:31008:\n"))
        .etc("nsswitch.conf", "passwd: files\ngroup: files\ninitgroups: files\nhosts: files\n")
}

fn four(id: u32) -> String {
    [id.to_string(), id.to_string(), id.to_string(), id.to_string()].join("\t")
}

/// Contract 9: real, effective and saved ids, and the supplementary groups.
fn ids(d: Implementation) {
    needs_root!();
    for (options, gid, groups) in [
        (&["--user=gituser"][..], GROUP, [GROUP, EXTRA]),
        (&["--user=gituser", "--group=other"], OTHER, [EXTRA, OTHER]),
    ] {
        let scratch = Scratch::new();
        let daemon = server(d, &scratch).args(options).start();
        let of = |name: &str| status(daemon.pid(), name).unwrap();
        assert_eq!(of("Uid"), four(USER));
        assert_eq!(of("Gid"), four(gid));
        let mut listed: Vec<u32> =
            of("Groups").split_whitespace().map(|g| g.parse().unwrap()).collect();
        listed.sort_unstable();
        assert_eq!(listed, groups);
        assert_eq!(of("CapEff"), "0000000000000000");
        assert_eq!(of("CapPrm"), "0000000000000000");
    }
}

/// Contract 9: what is run is run as that user.
fn ids_of_services(d: Implementation) {
    needs_root!();
    let scratch = Scratch::new();
    chown(&scratch.bare("repo.git"), USER);
    let seen = scratch.root().join("seen");
    fs::write(&seen, "").unwrap();
    chown(&seen, USER);
    let fake = scratch.fake_git(&format!("id -u >{0}; id -g >>{0}; printf 0000\n", seen.display()));
    let daemon = server(d, &scratch).arg("--user=gituser").path_first(&fake).start();
    let mark = daemon.log.mark();
    let session = daemon.ask("upload-pack", "/repo.git");
    assert_eq!(
        session.verdict,
        crate::support::Verdict::Served(vec![]),
        "{:?}",
        daemon.log.since(mark)
    );
    assert_eq!(fs::read_to_string(seen).unwrap(), format!("{USER}\n{GROUP}\n"));
}

/// Contract 9: a low port and a directory of root's come before the change.
fn bound_and_written_as_root(d: Implementation) {
    needs_root!();
    let scratch = Scratch::new();
    let private = scratch.root().join("private");
    fs::create_dir(&private).unwrap();
    chmod(&private, 0o700);
    let file = private.join("pid");
    let daemon = server(d, &scratch)
        .arg("--user=gituser")
        .option("--pid-file", &file)
        .namespace("--net")
        .listen(&[])
        .port(418)
        .start();
    assert_eq!(fs::read_to_string(&file).unwrap(), format!("{}\n", daemon.pid()));
    let table = fs::read_to_string(format!("/proc/{}/net/tcp", daemon.pid())).unwrap();
    assert!(table.contains(" 00000000:01A2 "), "{table}");
    assert_eq!(status(daemon.pid(), "Uid").unwrap(), four(USER));
}

/// Contract 9, 45: "ours" is what the new user owns.
fn whose_repositories(d: Implementation) {
    needs_root!();
    let scratch = Scratch::new();
    chown(&scratch.bare("ours.git"), USER);
    scratch.bare("root.git");
    let daemon = server(d, &scratch).arg("--user=gituser").start();
    daemon.ask("upload-pack", "/ours").assert_served("ours.git");
    daemon.ask("upload-pack", "/root").assert_died("/root", false);
}

/// Contract 9: HOME stays, and with it whose configuration is read.
fn home(d: Implementation) {
    needs_root!();
    let scratch = Scratch::new();
    chown(&scratch.bare("repo.git"), USER);
    scratch.global_config("[daemon] receivepack = true\n");
    let daemon = server(d, &scratch).arg("--user=gituser").start();
    daemon.ask("receive-pack", "/repo.git").assert_served("repo.git");
}

/// Contract 9: others cannot become anybody, and learn it after the bind.
fn not_root(d: Implementation) {
    needs_root!();
    let scratch = Scratch::new();
    let outcome = d.serve(&scratch).user(USER, GROUP).arg("--user=daemon").run_as_server();
    assert_eq!(outcome.code(), Some(128));
    // Differs: gitd adds the reason, as containers have others than not being root.
    let reason = if d == Gitd { ": Operation not permitted" } else { "" };
    assert_eq!(outcome.stderr, format!("fatal: cannot drop privileges{reason}\n"));
    let outcome = d
        .serve(&scratch)
        .user(USER, GROUP)
        .arg("--user=daemon")
        .listen(&["198.51.100.7"])
        .port(4711)
        .run_as_server();
    assert_eq!(
        outcome.log().last().unwrap(),
        "fatal: unable to allocate any listen sockets on port 4711"
    );
}
