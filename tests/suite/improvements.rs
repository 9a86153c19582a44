//! What gitd does better on purpose, where stock's daemon has nothing to compare with: the lines B1 to B18 of
//! `docs/differences.md` that no compliance case shows.

use std::fs;
use std::time::{Duration, Instant};

use crate::support::process::{children, descriptor, descriptors, wait_until};
use crate::support::scratch::{config, export};
use crate::support::{Client, End, Git, Gitd, Packet, Scratch, Verdict, pkt, request};

/// B1: gitd starts no process for a client that has sent no request, or is refused.
#[test]
fn no_process_before_the_request() {
    let (_scratch, daemon) = Gitd.serve_one();
    let whole = request("upload-pack", "/repo.git");
    let mark = daemon.log.mark();
    let mut client = daemon.connect();
    client.send(&whole[..whole.len() - 1]);
    daemon.log.wait(mark, |line| line.starts_with("Connection from"));
    // A request that was answered later proves that the bytes before have been looked at.
    daemon.ask("upload-pack", "/nothing");
    assert_eq!(children(daemon.pid()), [0_u32; 0]);
    client.send(&whole[whole.len() - 1..]);
    client.packets_to_flush();
    assert_eq!(children(daemon.pid()).len(), 1);
}

/// B1: one process, with the client's own socket and nothing between.
#[test]
fn the_service_has_the_socket() {
    let (_scratch, daemon) = Gitd.serve_one();
    let mut client = daemon.connect().busy();
    let services = children(daemon.pid());
    let [service] = services[..] else { panic!("{services:?}") };
    let inode = inode_of(daemon.port, client.address().port());
    for fd in [0, 1] {
        let target = descriptor(service, fd).unwrap();
        assert_eq!(target.to_str().unwrap(), format!("socket:[{inode}]"));
    }
    let stderr = descriptor(service, 2).unwrap();
    assert!(stderr.to_str().unwrap().starts_with("pipe:"), "{stderr:?}");
    // Not one descriptor of gitd's is left in it.
    let mut open: Vec<u32> = fs::read_dir(format!("/proc/{service}/fd"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_str().unwrap().parse().unwrap())
        .filter(|fd| {
            descriptor(service, *fd)
                .is_some_and(|target| target.to_string_lossy().starts_with("socket:"))
        })
        .collect();
    open.sort_unstable();
    assert_eq!(open, [0, 1]);
    client.send("0000");
    assert_eq!(client.rest(), (vec![], End::Closed));
    wait_until("the service is reaped", || children(daemon.pid()).is_empty());
}

/// B6: a service that ends with 0 and no output has not failed, and gitd sends no `ERR`.
#[test]
fn success_in_silence() {
    let scratch = Scratch::new();
    scratch.bare("repo.git");
    for (status, silent) in [(0, true), (7, false)] {
        let fake = scratch.fake_git(&format!("exit {status}\n"));
        let daemon = Gitd.serve(&scratch).path_first(&fake).start();
        let session = daemon.ask("upload-pack", "/repo.git");
        assert_eq!(session.verdict == Verdict::Silence, silent, "{status}: {session:#?}");
    }
}

/// B3, B4: a silent client takes no permit.
#[test]
fn silent_clients_hold_no_slot() {
    let scratch = Scratch::new();
    scratch.bare("repo.git");
    let daemon = Gitd.serve(&scratch).arg("--max-connections=1").start();
    let _silent: Vec<_> = (0..40).map(|_| daemon.connect()).collect();
    let started = Instant::now();
    for _ in 0..3 {
        let mut client = daemon.connect().busy();
        client.send("0000");
        assert_eq!(client.rest(), (vec![], End::Closed));
    }
    // Stock sleeps for a second in the accept loop for each client past the limit.
    assert!(started.elapsed() < Duration::from_secs(20));
}

/// B3: past the limit a request waits for its turn.
#[test]
fn requests_past_the_limit_wait() {
    let scratch = Scratch::new();
    scratch.bare("repo.git");
    let daemon = Gitd.serve(&scratch).arg("--max-connections=1").start();
    let mut first = daemon.connect().busy();
    let mut waiting: Vec<_> = (0..5)
        .map(|_| {
            let mut client = daemon.connect();
            client.send(request("upload-pack", "/repo.git"));
            client
        })
        .collect();
    wait_until("all are known", || {
        daemon.log.since(0).iter().filter(|line| line.starts_with("Request ")).count() == 6
    });
    assert_eq!(children(daemon.pid()).len(), 1);
    first.send("0000");
    assert_eq!(first.rest(), (vec![], End::Closed));
    for client in &mut waiting {
        client.packets_to_flush();
        client.send("0000");
        assert_eq!(client.rest(), (vec![], End::Closed));
    }
}

/// B6: the log contains the remedy.
#[test]
fn remedies() {
    let scratch = Scratch::new();
    scratch.bare("repo.git");
    let broken = scratch.bare("broken.git");
    config(&broken, "[broken\n");
    export(&broken);
    // The file must be in the git directory, wherever that is.
    let elsewhere = scratch.bare("elsewhere.git");
    scratch.gitfile("tree/.git", &elsewhere);
    let export = format!("touch '{}/git-daemon-export-ok'", elsewhere.display());
    let daemon = Gitd.invoke(&scratch).base_path().start();
    for (pathname, words) in [
        ("/repo.git", "git-daemon-export-ok"),
        ("/broken.git", "bad config line"),
        ("~alice/x", "--user-path"),
        ("/tree", &export),
    ] {
        let mark = daemon.log.mark();
        let session = daemon.ask("upload-pack", pathname);
        // One line for the reason, beside what git itself says of a configuration; 2.39 does not.
        let said_by_git = usize::from(pathname == "/broken.git" && Git::version() > (2, 39));
        assert_eq!(session.log.len(), 5 + said_by_git, "{:?}", session.log);
        // The end of the connection before may be logged after the mark.
        let lines: Vec<_> = daemon.log.raw(mark).into_iter().map(String::from_utf8).collect();
        let reasons = lines.iter().flatten().filter(|line| line.contains(words));
        assert_eq!(reasons.count(), 1, "{words}: {lines:?}");
    }
}

/// B7: files outside of everything look like nothing at all.
#[test]
fn no_oracle() {
    let scratch = Scratch::new();
    scratch.file("secret", "text");
    let list = scratch.directory("public");
    for options in [&["--informative-errors"][..], &[]] {
        let daemon =
            Gitd.invoke(&scratch).args(options).arg("--export-all").directory(&list).start();
        let answer = |path: String| {
            let mut client = daemon.connect();
            client.send(request("upload-pack", &path));
            let (bytes, end) = client.rest();
            (String::from_utf8(bytes).unwrap().replace(&path, "PATH")[4..].to_owned(), end)
        };
        let nothing = answer(scratch.path("nothing").display().to_string());
        for path in [
            scratch.path("secret").display().to_string(),
            "/etc/passwd".into(),
            "/etc".into(),
            "/etc/shadow".into(),
        ] {
            assert_eq!(answer(path.clone()), nothing, "{path}");
        }
    }
}

/// B8: gitd does not wait for a client that neither reads nor closes.
#[test]
fn a_refused_client_that_stays() {
    let (_scratch, daemon) = Gitd.serve_one();
    let before = descriptors(daemon.pid());
    let mut clients: Vec<_> = (0..3).map(|_| daemon.connect()).collect();
    for client in &mut clients {
        client.send(request("upload-pack", "/nothing"));
        assert!(matches!(client.packet(), Packet::Data(_)));
        assert_eq!(client.packet(), Packet::End(End::Closed));
    }
    wait_until("gitd has let go of them", || descriptors(daemon.pid()) == before);
}

/// B8: bytes sent ahead without end have an end.
#[test]
fn a_refused_client_that_floods() {
    let (_scratch, daemon) = Gitd.serve_one();
    let mut client = daemon.connect();
    client.send(request("upload-pack", "/nothing"));
    let mut flood = Client::from(client.stream().try_clone().unwrap());
    let flooding = std::thread::spawn(move || {
        let block = vec![b'x'; 1 << 16];
        let mut sent = 0_u64;
        while flood.sends(&block) {
            sent += block.len() as u64;
            assert!(sent < 1 << 30, "gitd reads for ever");
        }
        flood.half_close();
    });
    assert!(matches!(client.packet(), Packet::Data(_)));
    flooding.join().unwrap();
}

/// B9: whatever a client sends, a line is a line, and shows no more than text.
#[test]
fn no_byte_of_a_client_breaks_a_line() {
    let (_scratch, daemon) = Gitd.serve_one();
    let nasty: Vec<u8> = (1..=255_u8).collect();
    let with = |head: &str, tail: &str| pkt([head.as_bytes(), &nasty, tail.as_bytes()].concat());
    for bytes in [
        with("git-upload-pack /", "\0host=x\0"),
        with("git-upload-pack /nothing\0host=", "\0"),
        with("git-upload-pack /nothing\0host=x\0\0version=1\0", "\0"),
        with("", ""),
        with("git-upload-pack ~", "/x\0"),
        b"\n\x1b[\r".to_vec(),
        b"\xff\xfe\xfd\xfc".to_vec(),
    ] {
        let mark = daemon.log.mark();
        let mut client = daemon.connect();
        client.send(bytes);
        client.rest();
        // gitd waits for a client that stays.
        drop(client);
        daemon.wait_disconnected(mark);
    }
    let pid = daemon.pid();
    for line in daemon.log.raw(0) {
        let line = String::from_utf8(line).expect("lines are UTF-8");
        let text = line.strip_suffix('\n').unwrap();
        assert!(text.starts_with(&format!("[{pid}] ")), "{text:?}");
        assert!(!text.chars().any(char::is_control), "{text:?}");
    }
}

/// Clients leave no descriptors, processes or memory behind.
#[test]
fn no_leak() {
    let (_scratch, daemon) = Gitd.serve_one();
    let round = || {
        daemon.ask("upload-pack", "/repo.git").assert_served("repo.git");
        daemon.ask("upload-pack", "/nothing");
        daemon.ask("receive-pack", "/repo.git");
        daemon.talk("zzzz");
        drop(daemon.connect());
        drop(daemon.connect().busy());
    };
    let settled = || {
        wait_until("all children have gone", || children(daemon.pid()).is_empty());
        let mut last = 0;
        wait_until("the descriptors are steady", || {
            std::mem::replace(&mut last, descriptors(daemon.pid())) == last
        });
        last
    };
    round();
    let before = settled();
    for _ in 0..10 {
        round();
    }
    wait_until("no descriptor is left over", || descriptors(daemon.pid()) <= before);
}

/// The inode of the daemon's end of a connection.
fn inode_of(local: u16, remote: u16) -> String {
    let table = fs::read_to_string("/proc/net/tcp").unwrap();
    let ends = [format!(":{local:04X}"), format!(":{remote:04X}")];
    let line = table.lines().find(|line| {
        let mut columns = line.split_whitespace().skip(1);
        ends.iter().all(|end| columns.next().is_some_and(|column| column.ends_with(end)))
    });
    line.unwrap().split_whitespace().nth(9).unwrap().to_owned()
}
