//! Three gitd behind HAProxy, with the configuration of docs/scaling.md: killed, drained and restarted under load.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::haproxy::{Haproxy, client_from};
use super::lines;
use crate::support::invocation::free_port;
use crate::support::process::wait_until;
use crate::support::{Client, Daemon, Git, Gitd, Scratch, request};

/// How many clients fetch at a time, one after another each.
const WORKERS: usize = 4;

/// The balancer's own address: another than its clients'.
const BALANCER: &str = "127.0.0.2";

const SERVERS: [&str; 3] = ["git1", "git2", "git3"];

struct Site {
    scratch: Scratch,
    haproxy: Haproxy,
    /// The port of each gitd, and that of its status.
    ports: [[u16; 2]; 3],
    daemons: Vec<Daemon>,
    /// What the daemons that have ended had logged, by server.
    logs: [Vec<String>; 3],
}

impl Site {
    /// The documented configuration, with addresses of this machine, and what else `change` makes of it.
    fn new(change: impl Fn(String) -> String) -> Self {
        let scratch = Scratch::new();
        scratch.bare("repo.git");
        let ports = [(); 3].map(|()| [free_port(), free_port()]);
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/haproxy/haproxy.cfg");
        let mut text = fs::read_to_string(file).unwrap();
        let mut replace = |from: &str, to: &str| {
            assert_eq!(text.matches(from).count(), 1, "{from}");
            text = text.replace(from, to);
        };
        replace("/run/haproxy/admin.sock", "SOCKET");
        replace("bind :::9418 v4v6", "bind :::PORT v4v6");
        replace("\n    source 10.0.0.10", &format!("\n    source {BALANCER}"));
        // The load is over before a server has its full share again.
        replace("slowstart 30s", "slowstart 2s");
        replace("check port 9419 ", "check ");
        for (number, [port, status]) in (11..).zip(ports) {
            let server = format!("127.0.0.1:{port} port {status}\n");
            replace(&format!("10.0.0.{number}:9418\n"), &server);
        }
        let daemons = ports.iter().map(|&ports| Self::gitd(&scratch, ports)).collect();
        let haproxy = Haproxy::start(&scratch, &change(text));
        let site = Site { scratch, haproxy, ports, daemons, logs: Default::default() };
        SERVERS.iter().for_each(|server| site.haproxy.wait_status(server, |status| status == "UP"));
        site
    }

    fn gitd(scratch: &Scratch, [port, status]: [u16; 2]) -> Daemon {
        let invocation = Gitd.serve(scratch).option("--proxy-protocol", BALANCER);
        let invocation = invocation.option("--status", format!("127.0.0.1:{status}"));
        invocation.arg("--reuseaddr").port(port).start()
    }

    /// Ends one by a signal; HAProxy finds out by itself. Meanwhile `work` is done.
    fn end(&mut self, index: usize, signal: Signal, work: impl FnOnce(&Self)) {
        self.daemons[index].signal(signal);
        self.haproxy.wait_status(SERVERS[index], |status| status == "DOWN");
        work(self);
        assert_eq!(self.daemons[index].wait().signal(), Some(signal.as_raw()));
        self.daemons[index].log.wait_end();
        self.logs[index].extend(lines(&self.daemons[index], 0));
    }

    fn restart(&mut self, index: usize) {
        self.daemons[index] = Self::gitd(&self.scratch, self.ports[index]);
        self.haproxy.wait_status(SERVERS[index], |status| status == "UP");
    }

    /// A session that runs on this server until it is told to end.
    fn session_on(&self, index: usize) -> Client {
        let mut others = Vec::new();
        loop {
            let client = Client::connect(self.haproxy.address()).busy();
            let name = format!("Connection from {}", client.address());
            if self.daemons[index].log.since(0).contains(&name) {
                others.into_iter().for_each(Client::finish);
                return client;
            }
            // With them the server in question has the fewest connections soon.
            others.push(client);
            assert!(others.len() < 100, "{} gets no client", SERVERS[index]);
        }
    }
}

/// The clients that a server has logged; its balancer's own connections are health checks.
fn clients(log: &[String]) -> BTreeSet<String> {
    let names = log.iter().filter_map(|line| line.split_once("] Connection from "));
    let names = names.map(|(_, client)| client.to_owned());
    names.filter(|client| !client.starts_with(&format!("{BALANCER}:"))).collect()
}

struct Fetch {
    begin: Instant,
    end: Instant,
    /// What a fetch that failed has said.
    failure: Option<String>,
}

/// Clones again and again until the end.
fn fetch_for_ever(scratch: &Scratch, url: &str, number: usize, over: &AtomicBool) -> Vec<Fetch> {
    let mut fetches = Vec::new();
    let copy = scratch.root().join(format!("copy-{number}"));
    while !over.load(Relaxed) {
        let begin = Instant::now();
        let git = Git::new(scratch).args(["clone", "--quiet", "--bare", url]).arg(&copy);
        let output = git.output();
        let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
        let failure = (!output.status.success()).then_some(complaint);
        if failure.is_none() {
            fs::remove_dir_all(&copy).unwrap();
        }
        fetches.push(Fetch { begin, end: Instant::now(), failure });
    }
    fetches
}

#[test]
#[ignore = "half a minute of load"]
fn kills_drains_and_restarts() {
    let mut site = Site::new(|text| text);
    let started = Instant::now();
    let over = AtomicBool::new(false);
    let url = format!("git://{}/repo.git", site.haproxy.address());
    let mut kills = Vec::new();
    let load_scratch = Scratch::new();
    let fetches: Vec<Fetch> = std::thread::scope(|scope| {
        let (over, url, load_scratch) = (&over, &url, &load_scratch);
        let load = |number| scope.spawn(move || fetch_for_ever(load_scratch, url, number, over));
        let workers: Vec<_> = (0..WORKERS).map(load).collect();
        let script = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for (index, server) in SERVERS.iter().enumerate() {
                kills.push(Instant::now());
                site.end(index, Signal::KILL, |_| {});
                site.restart(index);
                let held = site.session_on(index);
                site.end(index, Signal::TERM, |site| {
                    // It has stopped listening, and still serves whom it had.
                    wait_until("nobody else is there", || {
                        site.haproxy.statistic(server, "scur") == "1"
                    });
                    held.finish();
                });
                site.restart(index);
            }
        }));
        over.store(true, Relaxed);
        let fetches = workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect();
        if let Err(panic) = script {
            std::panic::resume_unwind(panic);
        }
        fetches
    });
    let took = started.elapsed();
    wait_until("all sessions are over", || site.haproxy.statistic("FRONTEND", "scur") == "0");
    for (log, daemon) in site.logs.iter_mut().zip(&site.daemons) {
        wait_until("the log has the last client", || {
            let lines = lines(daemon, 0);
            let count = |word: &str| lines.iter().filter(|line| line.contains(word)).count();
            count("Request upload-pack ") == count("Disconnected, ")
        });
        log.extend(lines(daemon, 0));
    }
    judge(&site, &fetches, &kills, took);
}

fn judge(site: &Site, fetches: &[Fetch], kills: &[Instant], took: Duration) {
    let failed: Vec<&Fetch> = fetches.iter().filter(|fetch| fetch.failure.is_some()).collect();
    let slowest = fetches.iter().map(|fetch| fetch.end - fetch.begin).max().unwrap();
    let sessions = site.haproxy.sessions();
    let cut: Vec<_> = sessions.iter().filter(|session| session.state != "--").collect();
    println!(
        "{} clones in {took:.1?}, {} failed, the slowest took {slowest:.1?}; {} sessions, {} of them not ended well",
        fetches.len(),
        failed.len(),
        sessions.len(),
        cut.len()
    );
    assert!(fetches.len() > 100, "no steady load");
    // Who fails was with the killed server when it was killed.
    for fetch in &failed {
        let struck = kills.iter().any(|kill| (fetch.begin..=fetch.end).contains(kill));
        assert!(struck, "a clone failed without a kill: {:?}", fetch.failure);
    }
    assert!(failed.len() <= WORKERS * kills.len());
    assert!(cut.len() >= failed.len(), "{cut:#?}");
    assert!(cut.len() <= WORKERS * kills.len(), "{cut:#?}");
    for (server, log) in SERVERS.iter().zip(&site.logs) {
        let passed: Vec<_> = sessions.iter().filter(|session| session.server == *server).collect();
        let all: BTreeSet<_> = passed.iter().map(|session| session.client.clone()).collect();
        let whole = passed.iter().filter(|session| session.state == "--");
        let whole: BTreeSet<_> = whole.map(|session| session.client.clone()).collect();
        let logged = clients(log);
        assert!(logged.len() > 10, "{server} had {} clients", logged.len());
        // Each by the address that HAProxy saw; of those that a kill struck the log may say nothing.
        assert_eq!(logged.difference(&all).next(), None, "{server}");
        let unknown: Vec<_> = whole.difference(&logged).collect();
        assert!(unknown.len() <= WORKERS, "{server}: {unknown:?}");
        let errors: Vec<_> = log.iter().filter(|line| line.contains("PROXY")).collect();
        assert!(errors.is_empty(), "{errors:#?}");
    }
    // Each session has a server.
    assert!(sessions.iter().all(|session| SERVERS.contains(&session.server.as_str())));
}

/// The other variant of the page: an address stays at its server.
#[test]
fn by_source_address() {
    let site = Site::new(|text| {
        assert!(text.contains("balance leastconn\n"));
        text.replace("balance leastconn\n", "balance source\n    hash-type consistent\n")
    });
    let mut servers: BTreeMap<u8, BTreeSet<usize>> = BTreeMap::new();
    for _ in 0..3 {
        for last in 1..=20 {
            let address: IpAddr = Ipv4Addr::new(127, 0, 1, last).into();
            let mut client = client_from(address, site.haproxy.address());
            let name = format!("Connection from {}", client.address());
            client.send(request("upload-pack", "/repo.git"));
            client.packets_to_flush();
            client.finish();
            let has = |daemon: &Daemon| daemon.log.since(0).contains(&name);
            let mut server = None;
            wait_until("one has logged the client", || {
                server = site.daemons.iter().position(has);
                server.is_some()
            });
            servers.entry(last).or_default().extend(server);
        }
    }
    assert!(servers.values().all(|servers| servers.len() == 1), "{servers:?}");
    let used: BTreeSet<_> = servers.values().flatten().collect();
    assert_eq!(used.len(), SERVERS.len(), "{servers:?}");
}

/// A server that is about to stop says so, gets no new client, and keeps those that it has.
#[test]
fn not_ready_while_it_drains() {
    let mut site = Site::new(|text| text);
    assert_eq!(site.haproxy.statistic("git1", "check_status"), "L7OK");
    let held = site.session_on(0);
    site.end(0, Signal::TERM, |site| {
        assert_eq!(site.haproxy.statistic("git1", "check_status"), "L7STS");
        for _ in 0..6 {
            Client::connect(site.haproxy.address()).busy().finish();
        }
        held.finish();
    });
}

/// Without --status a check connects: the two lines and the port are deleted, as the configuration says.
#[test]
fn checked_by_a_connection() {
    let site = Site::new(|text| {
        let text = text.replace("    option httpchk GET /readyz\n", "");
        let text = text.replace("    http-check expect status 200\n", "");
        let lines =
            text.lines().map(|line| line.split_once(" port ").map_or(line, |(line, _)| line));
        lines.map(|line| format!("{line}\n")).collect()
    });
    assert_eq!(site.haproxy.statistic("git1", "check_status"), "L4OK");
    Client::connect(site.haproxy.address()).busy().finish();
}

/// An administrator's drain: HAProxy sends nobody there, and whoever is there stays until done.
#[test]
fn drained_by_the_administrator() {
    let site = Site::new(|text| text);
    let held = site.session_on(0);
    site.haproxy.ask("set server gitd/git1 state drain");
    site.haproxy.wait_status("git1", |status| status == "DRAIN");
    let mark = site.daemons[0].log.mark();
    for _ in 0..20 {
        Client::connect(site.haproxy.address()).busy().finish();
    }
    let came = site.daemons[0].log.since(mark);
    let came = came.iter().find(|line| line.starts_with("Connection from 127.0.0.1"));
    assert_eq!(came, None);
    held.finish();
    wait_until("nobody is there", || site.haproxy.statistic("git1", "scur") == "0");
    site.haproxy.ask("set server gitd/git1 state ready");
    site.haproxy.wait_status("git1", |status| status.starts_with("UP"));
    site.session_on(0).finish();
}
