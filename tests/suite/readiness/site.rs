//! A daemon with clients at every stage, and what must be so whatever they do: it does not spin, it answers others, and
//! nothing is left of the clients that have gone.

use std::io::Read;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::leave::Leave;
use super::line::{Line, Place, Transport};
use super::stage::Stage;
use crate::load::noise::large;
use crate::support::process::{children, cpu_time, descriptors};
use crate::support::scratch::head;
use crate::support::{DEADLINE, Daemon, Git, Gitd, Invocation, Scratch, pkt, request};

/// Within which a client that does nothing wrong has its answer.
pub const PROMPTLY: Duration = Duration::from_secs(2);

/// Within which nothing is left of a client that has left. A refused one may be listened to for two seconds.
const SOON: Duration = Duration::from_secs(15);

/// How long to observe gitd, and how much processor time counts as idle.
const WINDOW: Duration = Duration::from_millis(300);
const NOTHING: Duration = Duration::from_millis(30);

/// How long gitd may work after a client leaves, and how much processor time that may take.
const CALMED: Duration = Duration::from_secs(5);
const EFFORT: Duration = Duration::from_millis(600);

pub type Verdict = Result<(), String>;

/// The repositories that [`Stage`] speaks of; one of them has a slow access hook.
pub fn scratch() -> Scratch {
    let scratch = Scratch::new();
    scratch.bare("repo.git");
    scratch.bare("slow.git");
    let large = large(&scratch);
    // What is in one pack is copied, at next to no cost.
    Git::of_server(&scratch).cwd(large).args(["repack", "-adq"]).ok();
    scratch.script("hook", "#!/bin/sh\ncase $2 in */slow.git) sleep 0.5 ;; esac\n");
    scratch
}

/// Everything that can be served, in every way.
pub fn invocation(scratch: &Scratch) -> Invocation {
    Gitd.serve(scratch)
        .args(["--enable=receive-pack", "--enable=upload-archive", "--queue-timeout=1"])
        .option("--access-hook", scratch.root().join("hook"))
}

pub struct Site {
    pub daemon: Daemon,
    unix: PathBuf,
    repository: PathBuf,
    /// Whether all clients have one address.
    pub together: bool,
}

impl Site {
    pub fn start(scratch: &Scratch, invocation: Invocation) -> Self {
        let unix = tempfile::NamedTempFile::new_in(scratch.root()).unwrap().path().to_owned();
        let listen = format!("unix:{}", unix.display());
        let daemon = invocation
            .listen(&["127.0.0.1", &listen])
            .args(["--mptcp", "--require-all-listeners"])
            .start();
        Self { daemon, unix, repository: scratch.path("repo.git"), together: false }
    }

    pub fn place(&self) -> Place<'_> {
        Place { address: self.daemon.address(), unix: &self.unix }
    }

    /// Takes the only permit that the clients' address may have.
    pub fn hold(&self, transport: Transport) -> std::io::Result<Line> {
        let line = self.arrive(Stage::Greeted, transport, 1)?;
        let head = head(&self.repository);
        let want = pkt(format!("want {head} no-progress\n"));
        line.send([want, b"0000".to_vec(), pkt("done\n")].concat())?;
        line.packet()?;
        Ok(line)
    }

    /// A client at this stage; returns when the server has it there.
    pub fn arrive(&self, stage: Stage, transport: Transport, last: u8) -> std::io::Result<Line> {
        let from = [127, 0, 2, if self.together { 1 } else { last }];
        let log = &self.daemon.log;
        let (mark, before) = (log.mark(), children(self.daemon.pid()).len());
        let line = Line::dial(self.place(), transport, from, stage.room(), DEADLINE)?;
        stage.reach(&line)?;
        let since = |what| log.since(mark).iter().any(|line| line.starts_with(what));
        let there = || match stage {
            Stage::Silent | Stage::Partial => since("Connection from"),
            Stage::Queued => since("Request"),
            Stage::Hook => children(self.daemon.pid()).len() > before,
            // It has received something.
            _ => true,
        };
        if within(DEADLINE, there) { Ok(line) } else { Err(std::io::ErrorKind::TimedOut.into()) }
    }

    /// Clients at these stages leave in these ways, all at a time. gitd comes to rest while the clients that can are
    /// still connected; it answers another client all the while; and when all have closed nothing is left of them.
    pub fn visit(&self, transport: Transport, cases: &[(Stage, Leave)]) -> Verdict {
        let pid = self.daemon.pid();
        let held = || (descriptors(pid), children(pid).len());
        let before = held();
        let mut lines = Vec::new();
        for ((stage, _), last) in cases.iter().zip(1..) {
            let line = self.arrive(*stage, transport, last);
            lines.push(line.map_err(|error| format!("{stage:?} is not reached: {error}"))?);
        }
        let leaving = lines.into_iter().zip(cases);
        let stayed: Vec<_> = leaving.filter_map(|(line, (_, leave))| leave.from(line)).collect();
        self.answers()?;
        calm(&[pid])?;
        drop(stayed);
        let gone = || {
            let now = held();
            now.0 <= before.0 && now.1 <= before.1
        };
        if !within(SOON, gone) {
            let (descriptors, children) = held();
            return Err(format!("{descriptors} descriptors, {children} children; were {before:?}"));
        }
        calm(&[pid])?;
        self.answers()
    }

    /// Whether it runs, and the end of its log.
    pub fn daemon_says(&mut self) -> String {
        let log = self.daemon.log.since(0);
        let last = &log[log.len().saturating_sub(10)..];
        format!("ended: {:?}, the log ends with {last:#?}", self.daemon.try_status())
    }

    /// A client that does nothing wrong has its answer in time.
    pub fn answers(&self) -> Verdict {
        let begun = Instant::now();
        let answer = ask(self.place(), Transport::Tcp, PROMPTLY);
        match answer {
            Ok(()) if begun.elapsed() <= PROMPTLY => Ok(()),
            Ok(()) => Err(format!("a good client is answered after {:?}", begun.elapsed())),
            Err(error) => Err(format!("a good client is not answered: {error}")),
        }
    }
}

/// What a good client sends and receives.
pub fn ask(place: Place<'_>, transport: Transport, patience: Duration) -> std::io::Result<()> {
    let line = Line::dial(place, transport, [127, 0, 9, 9], None, patience)?;
    line.send(request("upload-pack", "/repo.git"))?;
    let refs = line.to_flush()?;
    assert!(refs.iter().any(|line| line.ends_with(b" refs/heads/is-repo\n")), "{refs:?}");
    line.send("0000")?;
    // gitd closes when the service has ended and was waited for.
    line.0.shutdown(std::net::Shutdown::Write)?;
    (&line.0).read_to_end(&mut Vec::new()).map(drop)
}

/// Waits until the condition holds; `false` if it does not in time.
pub fn within(limit: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + limit;
    loop {
        if condition() {
            return true;
        }
        if Instant::now() >= end {
            return false;
        }
        std::thread::sleep(Duration::from_millis(3));
    }
}

/// These processes, or what is left of them, come to rest without much work before.
pub fn calm(gitds: &[u32]) -> Verdict {
    let spent = || gitds.iter().map(|pid| cpu_time(*pid)).sum::<Duration>();
    let (begun, end) = (spent(), Instant::now() + CALMED);
    loop {
        let (before, from) = (spent(), Instant::now());
        // What is measured is work in a time.
        std::thread::sleep(WINDOW);
        let work = spent().saturating_sub(before);
        if work < NOTHING {
            break;
        }
        if Instant::now() >= end {
            return Err(format!("it spins: {work:?} of processor time in {:?}", from.elapsed()));
        }
    }
    let work = spent().saturating_sub(begun);
    let most = EFFORT * u32::try_from(gitds.len()).unwrap();
    if work > most { Err(format!("it has worked for {work:?}")) } else { Ok(()) }
}
