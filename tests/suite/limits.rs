//! Timeouts and the number of connections: contract 60 to 62.

use rustix::process::{Pid, Resource, Rlimit, Signal, prlimit};

use crate::support::process::{children, descriptor, signal, wait_until};
use crate::support::{
    Client, End, Gitd, Implementation, Packet, Scratch, Stock, compliance, pkt, request,
};

compliance! {
    init_timeout,
    timeout_is_the_init_timeout,
    init_timeout_is_absolute,
    init_timeout_ends_with_the_request,
    timeout_of_upload_pack,
    timeout_of_other_services,
    max_connections,
    silent_clients_at_the_limit,
    no_limit,
    sixty_at_once,
    a_child_killed_before_its_request,
    out_of_descriptors,
}

/// Contract 60: a silent client is disconnected without an answer.
fn init_timeout(d: Implementation) {
    let scratch = Scratch::new();
    let daemon = d.serve(&scratch).arg("--init-timeout=1").start();
    let mark = daemon.log.mark();
    let mut client = daemon.connect();
    assert_eq!(client.rest(), (vec![], End::Closed));
    if d == Stock {
        assert_eq!(daemon.wait_disconnected(mark)[1..], ["Disconnected (with error)"]);
    }
    let mut client = daemon.connect();
    client.send("00");
    assert_eq!(client.rest().0, b"");
}

/// Contract 60: without --init-timeout it is --timeout.
fn timeout_is_the_init_timeout(d: Implementation) {
    let scratch = Scratch::new();
    for options in [&["--timeout=1"][..], &["--timeout=1", "--init-timeout=0"]] {
        let daemon = d.serve(&scratch).args(options).start();
        assert_eq!(daemon.connect().rest().0, b"");
    }
}

/// Contract 60, B4: a byte now and then gains nothing.
fn init_timeout_is_absolute(d: Implementation) {
    let scratch = Scratch::new();
    let daemon = d.serve(&scratch).arg("--init-timeout=1").start();
    let started = std::time::Instant::now();
    let mut client = daemon.connect();
    let reader = client.stream().try_clone().unwrap();
    let writer = std::thread::spawn(move || {
        for byte in request("upload-pack", "/nothing") {
            if !client.sends([byte]) {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
    });
    assert_eq!(Client::from(reader).rest().0, b"");
    // 46 bytes would have taken 4.6 s.
    assert!(started.elapsed() < std::time::Duration::from_secs(4));
    writer.join().unwrap();
}

/// Contract 60: a session may last longer.
fn init_timeout_ends_with_the_request(d: Implementation) {
    let scratch = Scratch::new();
    scratch.bare("repo.git");
    let daemon = d.serve(&scratch).arg("--init-timeout=1").start();
    let mut client = daemon.connect();
    client.send(request("upload-pack", "/repo.git"));
    client.packets_to_flush();
    let mut silent = daemon.connect();
    assert_eq!(silent.rest().0, b"");
    client.send("0000");
    assert_eq!(client.rest(), (vec![], End::Closed));
}

/// Contract 60, 55: the service's own time-out, and how its end is logged.
fn timeout_of_upload_pack(d: Implementation) {
    let scratch = Scratch::new();
    scratch.bare("repo.git");
    let daemon = d.serve(&scratch).args(["--timeout=1"]).start();
    let mark = daemon.log.mark();
    let mut client = daemon.connect();
    client.send(request("upload-pack", "/repo.git"));
    client.packets_to_flush();
    assert_eq!(client.rest().0, b"");
    let log = daemon.wait_disconnected(mark);
    assert_eq!(log.last().unwrap(), "Disconnected (with error)");
    if d == Stock {
        assert_eq!(log[log.len() - 2], "error: upload-pack died of signal 14");
    }
}

/// Contract 60, B5: the other services time out too.
fn timeout_of_other_services(d: Implementation) {
    let scratch = Scratch::new();
    scratch.bare("repo.git");
    let daemon = d
        .serve(&scratch)
        .args(["--timeout=3", "--enable=receive-pack", "--enable=upload-archive"])
        .start();
    let talk = |request: Vec<u8>| {
        let mut client = daemon.connect();
        client.send(request);
        client
    };
    let mut v1 = talk(pkt("git-upload-pack /repo.git\0host=x\0\0version=1\0"));
    assert_eq!(v1.packets_to_flush()[0], b"version 1\n");
    let mut v2 = talk(pkt("git-upload-pack /repo.git\0host=x\0\0version=2\0"));
    assert_eq!(v2.packets_to_flush()[0], b"version 2\n");
    let mut push = talk(request("receive-pack", "/repo.git"));
    push.packets_to_flush();
    let mut archive = talk(request("upload-archive", "/repo.git"));
    assert_eq!(archive.packets_to_flush(), [b"ACK\n"]);
    // All have been idle for longer than this one when it is sent away.
    let mut silent = daemon.connect();
    assert_eq!(silent.rest().0, b"");
    // Its service has a clock of its own.
    assert_eq!(v1.rest(), (vec![], End::Closed));
    if d == Stock {
        v2.send("0000");
        push.send("0000");
        archive.send([pkt("argument HEAD\n"), b"0000".to_vec()].concat());
        assert!(!archive.packets_to_flush().is_empty());
    } else {
        // gitd sends them away as well.
        assert_eq!(archive.rest(), (vec![], End::Closed));
    }
    for client in [&mut v2, &mut push] {
        assert_eq!(client.rest(), (vec![], End::Closed));
    }
}

/// Contract 61, B3: one too many.
fn max_connections(d: Implementation) {
    let scratch = Scratch::new();
    scratch.bare("repo.git");
    let daemon = d.serve(&scratch).args(["--max-connections=2"]).start();
    let mut busy = [daemon.connect().busy(), daemon.connect().busy()];
    let mark = daemon.log.mark();
    match d {
        Stock => {
            let mut client = daemon.connect();
            assert_eq!(client.rest().0, b"");
            daemon.log.wait(mark, |line| line == "Too many children, dropping connection");
        }
        // Waits for its turn.
        Gitd => {
            let mut client = daemon.connect();
            client.send(request("upload-pack", "/repo.git"));
            daemon.log.wait(mark, |line| line.starts_with("Connection from"));
            busy[0].send("0000");
            busy[0].rest();
            assert!(!client.packets_to_flush().is_empty());
        }
    }
    for client in &mut busy {
        client.try_send("0000");
        client.rest();
    }
    wait_until("the children have gone", || children(daemon.pid()).is_empty());
    daemon.ask("upload-pack", "/repo.git").assert_served("repo.git");
}

/// Contract 61, B4: stock ends the newest of the silent ones for another client of the same address, and then drops
/// that one if it took too long; with gitd they take no permit.
fn silent_clients_at_the_limit(d: Implementation) {
    let scratch = Scratch::new();
    scratch.bare("repo.git");
    let daemon = d.serve(&scratch).args(["--max-connections=2"]).start();
    let mut silent = [daemon.connect(), daemon.connect()];
    wait_until("both are known", || {
        let log = daemon.log.since(0);
        log.iter().filter(|line| line.starts_with("Connection from")).count() == 2
    });
    daemon.ask("upload-pack", "/repo.git").assert_served("repo.git");
    if d == Stock {
        assert_eq!(silent[1].rest().0, b"");
        silent[0].send(request("upload-pack", "/repo.git"));
        assert!(!silent[0].packets_to_flush().is_empty());
    } else {
        for client in &mut silent {
            client.send(request("upload-pack", "/repo.git"));
            assert!(!client.packets_to_flush().is_empty());
        }
    }
}

/// Contract 61: 0 and less mean none; without the option there are 32.
fn no_limit(d: Implementation) {
    let scratch = Scratch::new();
    scratch.bare("repo.git");
    for limit in ["0", "-1"] {
        let daemon = d.serve(&scratch).option("--max-connections", limit).start();
        let mut clients: Vec<_> = (0..35).map(|_| daemon.connect().busy()).collect();
        for client in &mut clients {
            client.send("0000");
            assert_eq!(client.rest(), (vec![], End::Closed));
        }
    }
}

/// Contract 62: many at a time.
fn sixty_at_once(d: Implementation) {
    let scratch = Scratch::new();
    scratch.bare("repo.git");
    let daemon = d.serve(&scratch).arg("--max-connections=0").start();
    let mut clients: Vec<_> = (0..60).map(|_| daemon.connect().busy()).collect();
    for client in &mut clients {
        client.send("0000");
        client.half_close();
        assert_eq!(client.packet(), Packet::End(End::Closed));
    }
}

/// Contract 62, 18: any end but status 0 is logged.
fn a_child_killed_before_its_request(d: Implementation) {
    let scratch = Scratch::new();
    scratch.bare("repo.git");
    let daemon = d.serve(&scratch).start();
    let mark = daemon.log.mark();
    let mut client = daemon.connect();
    if d == Gitd {
        // There is no child yet: the service is what can be killed.
        client.send(request("upload-pack", "/repo.git"));
        client.packets_to_flush();
    }
    wait_until("there is a child", || !children(daemon.pid()).is_empty());
    for child in children(daemon.pid()) {
        signal(child, Signal::KILL);
    }
    assert_eq!(client.rest().0, b"");
    assert_eq!(daemon.wait_disconnected(mark).last().unwrap(), "Disconnected (with error)");
}

/// Contract 17, B2: accept() without a descriptor to give.
fn out_of_descriptors(d: Implementation) {
    let (_scratch, mut daemon) = d.serve_one();
    let pid = Pid::from_raw(daemon.pid().cast_signed());
    let limit = |current: u64| {
        let maximum = Some(4096);
        prlimit(pid, Resource::Nofile, Rlimit { current: Some(current), maximum }).unwrap();
    };
    let free = (0..).find(|fd| descriptor(daemon.pid(), *fd).is_none()).unwrap();
    limit(free.into());
    let mark = daemon.log.mark();
    let reason = "accept returned: Too many open files";
    match d {
        Stock => {
            // It may be gone before the connection is made.
            let _ = std::net::TcpStream::connect(daemon.address());
            assert_eq!(daemon.wait().code(), Some(128));
            assert_eq!(daemon.log.wait_end()[mark..], [format!("fatal: {reason}")]);
        }
        Gitd => {
            let mut client = daemon.connect();
            daemon.log.wait(mark, |line| line.starts_with(reason));
            assert_eq!(daemon.try_status(), None);
            limit(4096);
            client.send(request("upload-pack", "/repo.git"));
            assert!(!client.packets_to_flush().is_empty());
        }
    }
}
