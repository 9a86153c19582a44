//! Clients whose network goes away, in a network namespace of gitd's own: nothing arrives of them any more, nothing
//! reaches them, and in the end the kernel gives them up. A client on another path is served all the while.

use std::process::Command;
use std::sync::Mutex;
use std::time::Duration;

use gitd::sys::socket::set_option;
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};
use socket2::Socket;

use super::leave::Leave;
use super::line::{Line, Transport};
use super::sane;
use super::site::{self, Site, Verdict, calm, invocation, within};
use super::stage::Stage;
use crate::support::{Scratch, needs_root};

use crate::support::process::{children, descriptors, in_network_of};

/// How their packets are lost.
#[derive(Clone, Copy)]
struct Outage {
    name: &'static str,
    /// The shell command that makes the loss, and the one that undoes it.
    begin: &'static str,
    end: &'static str,
    /// Whether gitd's socket hears of each packet that was lost: the only error that epoll tells of while
    /// the connection is open in both directions.
    hears: bool,
}

const UNREACHABLE: &str =
    "nft add rule ip t c ip daddr 127.0.2.0/24 reject with icmp type host-unreachable";

const FLUSH: &str = "nft flush chain ip t c";

const OUTAGES: [Outage; 5] = [
    Outage {
        name: "dropped",
        begin: "nft add rule ip t c ip daddr 127.0.2.0/24 drop",
        end: FLUSH,
        hears: false,
    },
    Outage { name: "said to be unreachable", begin: UNREACHABLE, end: FLUSH, hears: false },
    Outage { name: "heard to be unreachable", begin: UNREACHABLE, end: FLUSH, hears: true },
    Outage {
        name: "answered by somebody else",
        begin: "nft add rule ip t c ip daddr 127.0.2.0/24 meta l4proto tcp reject with tcp reset",
        end: FLUSH,
        hears: false,
    },
    Outage {
        name: "without a route",
        begin: "ip route add blackhole 127.0.2.0/24 table local",
        end: "ip route del blackhole 127.0.2.0/24 table local",
        hears: false,
    },
];

/// The kernel of this namespace gives up a silent client after two seconds, and one that does not acknowledge after a
/// few.
const IMPATIENCE: [&str; 5] = [
    "net.ipv4.tcp_keepalive_time=1",
    "net.ipv4.tcp_keepalive_intvl=1",
    "net.ipv4.tcp_keepalive_probes=1",
    "net.ipv4.tcp_retries2=2",
    // From the end of the last path on.
    "net.mptcp.close_timeout=1",
];

/// Within which all of them have been given up.
const GIVEN_UP: Duration = Duration::from_secs(30);

fn shell(line: &str) {
    assert!(Command::new("sh").args(["-c", line]).status().unwrap().success(), "{line}");
}

/// Before they are lost, clients do nothing, have closed their writing side, or have filled both directions.
const BEFORE: [Leave; 3] = [Leave::Stay, Leave::StopSaying, Leave::FloodAndStopSaying];

fn lose(transport: Transport) {
    let scratch = site::scratch();
    let failed = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for outage in OUTAGES {
            let (scratch, failed) = (&scratch, &failed);
            scope.spawn(move || {
                let mut site = start(scratch);
                for before in BEFORE {
                    let mut verdict = Ok(());
                    let daemon = &site.daemon;
                    in_network_of(daemon.pid(), || {
                        verdict = lost(&site, transport, outage, before)
                    });
                    if let Err(why) = verdict.and_then(|()| sane(&site)) {
                        failed.lock().unwrap().push(format!("{}, {before:?}: {why}", outage.name));
                        site = start(scratch);
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap();
    assert!(failed.is_empty(), "{failed:#?}");
}

fn start(scratch: &Scratch) -> Site {
    // What prepares the namespace stands in one file.
    static ONE: Mutex<()> = Mutex::new(());
    let _one = ONE.lock().unwrap();
    let rules = "nft 'add table ip t; add chain ip t c { type filter hook output priority 0; }'";
    let impatience = format!("sysctl -qw {}", IMPATIENCE.join(" "));
    let invocation = invocation(scratch).arg("--init-timeout=5").namespace("--net");
    Site::start(scratch, invocation.shell("ip link set lo up").shell(rules).shell(impatience))
}

fn lost(site: &Site, transport: Transport, outage: Outage, leave: Leave) -> Verdict {
    let pid = site.daemon.pid();
    let before = (descriptors(pid), children(pid).len());
    let mut lines: Vec<Line> = Vec::new();
    for (stage, last) in Stage::ALL.into_iter().zip(1..) {
        let line = site.arrive(stage, transport, last);
        lines.push(line.map_err(|error| format!("{stage:?} is not reached: {error}"))?);
    }
    let lines: Vec<_> = lines.into_iter().filter_map(|line| leave.from(line)).collect();
    let gone = || {
        let now = (descriptors(pid), children(pid).len());
        let gone =
            within(GIVEN_UP, || descriptors(pid) <= before.0 && children(pid).len() <= before.1);
        if gone { Ok(()) } else { Err(format!("{now:?} after {before:?}")) }
    };
    shell(outage.begin);
    if outage.hears {
        // What answers it is lost, and heard of; over MPTCP no path tells.
        for line in &lines {
            hear_of_errors(pid, line);
            let _ = line.send("0");
        }
    }
    let verdict = site.answers().and_then(|()| calm(&[pid])).and_then(|()| gone());
    shell(outage.end);
    // The clients notice that the connection was given up only when they send something.
    drop(lines);
    verdict.and_then(|()| calm(&[pid])).and_then(|()| site.answers())
}

/// Has the server's end of a connection hear of errors at once, while it is still open (ip(7)).
fn hear_of_errors(gitd: u32, line: &Line) {
    const IP_RECVERR: i32 = 11;
    let client = line.0.local_addr().unwrap().as_socket();
    let process = pidfd_open(Pid::from_raw(gitd.cast_signed()).unwrap(), PidfdFlags::empty());
    let process = process.unwrap();
    for entry in std::fs::read_dir(format!("/proc/{gitd}/fd")).unwrap() {
        let number = entry.unwrap().file_name().to_str().unwrap().parse().unwrap();
        let Ok(found) = pidfd_getfd(&process, number, PidfdGetfdFlags::empty()) else { continue };
        let found = Socket::from(found);
        if found.peer_addr().is_ok_and(|peer| peer.as_socket() == client) {
            let _ = set_option(&found, 0, IP_RECVERR, 1);
        }
    }
}

#[test]
#[ignore = "wants the machine for itself"]
fn tcp() {
    needs_root!();
    lose(Transport::Tcp);
}

#[test]
#[ignore = "wants the machine for itself"]
fn multipath() {
    needs_root!();
    lose(Transport::Multipath);
}
