//! The real git client across a long wire: client and server in two network namespaces, joined by a delaying tun.
//!
//! The bench starts itself again in a new network namespace, which becomes the client's; there a sleeping process holds a
//! second one for the servers. Both vanish with their processes. The inner bench prints its samples, the outer reads them.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use super::Stage;
use crate::report::{Bound, Report, Row, medians};
use crate::repositories::{SMALL, remove};
use crate::rounds::{Samples, alternate};
use crate::server::{Place, Server, Side};
use crate::svg::Chart;
use crate::{Result, git, process, progress, tun};

const CLIENT_END: &str = "bench-client";
const SERVER_END: &str = "bench-server";
const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 50, 0, 1);
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 50, 0, 2);
const LS_REMOTE: &str = "ls-remote";
const CLONE: &str = "clone";
const MPTCP: &str = "ls-remote-over-mptcp";

pub(crate) fn run(stage: &Stage<'_>, report: &mut Report) -> Result<()> {
    let round_trips: &[u64] = stage.amount(&[40], &[1, 10, 40]);
    let mut chart = Chart {
        name: "wire",
        title: "Across a long wire: milliseconds (less is better)".to_owned(),
        groups: Vec::new(),
    };
    for &milliseconds in round_trips {
        let [ls_remote, clone, mptcp] = match measure(stage, milliseconds) {
            Ok(seen) => seen,
            Err(error) => {
                let note = format!(
                    "**the long wire was not measured:** {error} (it takes root, or user namespaces)"
                );
                progress::say(&note.to_uppercase());
                report.note(note);
                return Ok(());
            }
        };
        let is_far = milliseconds == 40;
        for (what, samples, goal) in [
            ("git ls-remote", ls_remote, 0.75),
            ("small git clone", clone, 0.78),
            ("mptcpize run git ls-remote", mptcp, 1.0),
        ] {
            let work = format!("{what}, {milliseconds} ms RTT");
            let bound = is_far.then_some(Bound::AtMost(goal));
            report.row(Row::ratio(&work, "ms", &samples, (Side::Gitd, Side::Stock), bound));
            report.distribution(&work, "ms", &samples);
            chart.groups.push((work, medians(&samples)));
        }
    }
    report.charts.push(chart);
    Ok(())
}

/// What the inner bench measures.
const WORKS: [&str; 3] = [LS_REMOTE, CLONE, MPTCP];

/// Runs the inner bench for one round-trip time and reads its samples of each of [`WORKS`].
fn measure(stage: &Stage<'_>, milliseconds: u64) -> Result<[Samples; 3]> {
    let rounds = match milliseconds {
        40 => stage.amount(3, 30),
        _ => 40,
    };
    let mut inner = process::tied(&unshare()?, std::env::current_exe()?)
        .args(["@wire", &milliseconds.to_string(), &rounds.to_string()])
        .args([stage.gitd, &stage.repositories.base_path, stage.scratch])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut samples = WORKS.map(|_| Samples::default());
    if let Some(stdout) = inner.stdout.take() {
        for line in BufReader::new(stdout).lines() {
            let line = line?;
            let fields: Vec<&str> = line.split(' ').collect();
            let [what, side, milliseconds] = fields[..] else {
                return Err(format!("unexpected: {line}").into());
            };
            let side = if side == label(Side::Gitd) { Side::Gitd } else { Side::Stock };
            let Some(work) = WORKS.iter().position(|work| *work == what) else {
                return Err(format!("unexpected: {line}").into());
            };
            samples[work][side].push(milliseconds.parse()?);
        }
    }
    let status = inner.wait()?;
    if !status.success() {
        return Err(format!("the bench in its own namespace ended with {status}").into());
    }
    Ok(samples)
}

/// The command that runs another in a network namespace of its own, in which it is root.
fn unshare() -> Result<Vec<String>> {
    let is_root = std::fs::metadata("/proc/self")?.uid() == 0;
    let words = if is_root {
        &["unshare", "--net"][..]
    } else {
        &["unshare", "--user", "--map-root-user", "--net"]
    };
    Ok(words.iter().map(|&word| word.to_owned()).collect())
}

/// The inner bench: lays the wire, starts the daemons at its other end, and prints a line for each sample.
pub(crate) fn inside(
    milliseconds: &str,
    rounds: &str,
    gitd: &Path,
    base_path: &Path,
    scratch: &Path,
) -> Result<()> {
    let delay = Duration::from_micros(milliseconds.parse::<u64>()? * 1000 / 2);
    let wire = Wire::lay(delay)?;
    let mut place = Place::loopback(gitd, base_path, SMALL, scratch);
    place.address = IpAddr::V4(SERVER);
    place.through = wire.through();
    for what in WORKS {
        if what == MPTCP
            && let Some(why) = crate::lab::missing()
        {
            progress::say(&format!("NOT MEASURED OVER MPTCP: it {why}"));
            continue;
        }
        progress::say(&format!("git {what} at {milliseconds} ms RTT, {rounds} rounds"));
        let mut servers = Vec::new();
        for (port, side) in (9418..).zip(Side::DAEMONS) {
            place.port = Some(port);
            place.options = match side {
                Side::Gitd => vec!["--mptcp".to_owned()],
                _ => Vec::new(),
            };
            servers.push(Server::start(side, &place)?);
        }
        let once = |side: Side| {
            let Some(server) = servers.iter().find(|server| server.side == side) else {
                return Ok(0.0);
            };
            let url = server.url(SMALL);
            match what {
                LS_REMOTE => return git::timed(scratch, &["ls-remote", &url]),
                MPTCP => {
                    return git::timed_through(&["mptcpize", "run"], scratch, &["ls-remote", &url]);
                }
                _ => {}
            }
            remove(&scratch.join("far"))?;
            git::timed(scratch, &["clone", "-q", &url, "far"])
        };
        for side in Side::DAEMONS {
            once(side)?;
        }
        alternate(rounds.parse()?, &Side::DAEMONS, |_, side| {
            println!("{what} {} {:.3}", label(side), once(side)?);
            Ok(())
        })?;
    }
    Ok(())
}

fn label(side: Side) -> &'static str {
    if side == Side::Gitd { "gitd" } else { "stock" }
}

/// Two namespaces and the wire between them. The client's end is here.
struct Wire {
    /// Sleeps in the servers' namespace, which would vanish without it.
    holder: Child,
    _ends: [File; 2],
}

impl Wire {
    fn lay(delay: Duration) -> Result<Self> {
        let ends = [tun::open(CLIENT_END)?, tun::open(SERVER_END)?];
        let unshare = ["unshare", "--net"].map(str::to_owned);
        let holder = process::tied(&unshare, "sleep").arg("3600").stdout(Stdio::null()).spawn()?;
        let holder_pid = holder.id().to_string();
        let wire = Self { holder, _ends: ends };
        wire.wait_for_the_other_namespace()?;
        ip(&["link", "set", SERVER_END, "netns", &holder_pid])?;
        for (end, address, through) in
            [(CLIENT_END, CLIENT, Vec::new()), (SERVER_END, SERVER, wire.through())]
        {
            let address = format!("{address}/24");
            for arguments in [
                &["link", "set", "lo", "up"][..],
                &["address", "add", &address, "dev", end],
                &["link", "set", end, "up"],
            ] {
                run_through(&through, "ip", arguments)?;
            }
        }
        tun::carry(&wire._ends[0], &wire._ends[1], delay)?;
        Ok(wire)
    }

    /// unshare has called exec once the holder's namespace is no longer ours.
    fn wait_for_the_other_namespace(&self) -> Result<()> {
        let ours = std::fs::read_link("/proc/self/ns/net")?;
        let theirs = format!("/proc/{}/ns/net", self.holder.id());
        for _ in 0..500 {
            if std::fs::read_link(&theirs)? != ours {
                return Ok(());
            }
            thread::sleep(Duration::from_millis(10));
        }
        Err("no second network namespace".into())
    }

    /// The command that runs another in the servers' namespace.
    fn through(&self) -> Vec<String> {
        vec!["nsenter".to_owned(), format!("--net=/proc/{}/ns/net", self.holder.id())]
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

fn ip(arguments: &[&str]) -> Result<()> {
    run_through(&[], "ip", arguments)
}

fn run_through(through: &[String], program: &str, arguments: &[&str]) -> Result<()> {
    let line: Vec<&str> = through
        .iter()
        .map(String::as_str)
        .chain([program])
        .chain(arguments.iter().copied())
        .collect();
    let status = Command::new(line[0])
        .args(&line[1..])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status()?;
    if status.success() { Ok(()) } else { Err(format!("{}: {status}", line.join(" ")).into()) }
}
