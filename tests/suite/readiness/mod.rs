//! Nothing can spin: whatever epoll reports of a client's connection, whatever state the session is in, gitd takes note
//! of it once, comes to rest, answers others, and forgets the client when it is gone.
//!
//! Each test is a table of what sessions do times how clients leave, by real sockets. The clients of one row leave at a
//! time; a row that fails is tried again cell by cell, to name the cells that fail alone.

mod inetd;
pub mod leave;
pub mod line;
mod lost;
pub mod site;
pub mod stage;
mod storm;

use std::os::unix::process::ExitStatusExt;
use std::sync::Mutex;
use std::time::Duration;

use rustix::process::Signal;

use crate::support::process::{alive, cpu_time, listening, wait_until};
use crate::support::{Invocation, Scratch};
use leave::Leave;
use line::Transport;
use site::{Site, Verdict, calm, invocation, within};
use stage::Stage;

type Case = (Stage, Leave);

/// All rows, each with all stages.
fn rows() -> Vec<Vec<Case>> {
    Leave::ALL.map(|leave| Stage::ALL.map(|stage| (stage, leave)).to_vec()).to_vec()
}

/// Tries all rows, some at a time, each worker with a server of its own and a new one after a failure. Of a row that
/// fails each case is tried alone. Fails with all that went wrong.
#[track_caller]
fn try_all<S>(
    rows: Vec<Vec<Case>>,
    start: impl Fn() -> S + Sync,
    visit: impl Fn(&mut S, &[Case]) -> Verdict + Sync,
) {
    const WORKERS: usize = 4;
    let rows = Mutex::new(rows);
    let failed = Mutex::new(Vec::new());
    let work = || {
        let mut server = start();
        let mut visit =
            |cases: &[Case]| visit(&mut server, cases).inspect_err(|_| server = start());
        loop {
            let Some(row) = rows.lock().unwrap().pop() else { return };
            let Err(why) = visit(&row) else { continue };
            let alone = row.iter().filter_map(|case| Some((case, visit(&[*case]).err()?)));
            let alone: Vec<_> = alone.map(|(case, why)| format!("{case:?} alone: {why}")).collect();
            let what = format!("{:?} to {:?}: {why}; {alone:#?}", row[0], row[row.len() - 1]);
            failed.lock().unwrap().push(what);
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(work);
        }
    });
    let failed = failed.into_inner().unwrap();
    assert!(failed.is_empty(), "{failed:#?}");
}

/// The log has no internal error.
fn sane(site: &Site) -> Verdict {
    let log = site.daemon.log.since(0);
    let wrong = log.into_iter().find(|l| l.contains("internal error") || l.contains("panicked"));
    wrong.map_or(Ok(()), Err)
}

fn in_the_daemon(transport: Transport) {
    let scratch = site::scratch();
    let start = || Site::start(&scratch, invocation(&scratch));
    try_all(rows(), start, |site, cases| {
        let verdict = site.visit(transport, cases).and_then(|()| sane(site));
        verdict.map_err(|why| format!("{why}; {}", site.daemon_says()))
    });
}

#[test]
#[ignore = "wants the machine for itself"]
fn tcp() {
    in_the_daemon(Transport::Tcp);
}

#[test]
#[ignore = "wants the machine for itself"]
fn multipath() {
    in_the_daemon(Transport::Multipath);
}

#[test]
#[ignore = "wants the machine for itself"]
fn unix() {
    in_the_daemon(Transport::Unix);
}

fn on_standard_input(transport: Transport) {
    let scratch = site::scratch();
    try_all(rows(), || (), |(), cases| inetd::visit(&scratch, transport, cases));
}

#[test]
#[ignore = "wants the machine for itself"]
fn inetd_tcp() {
    on_standard_input(Transport::Tcp);
}

#[test]
#[ignore = "wants the machine for itself"]
fn inetd_multipath() {
    on_standard_input(Transport::Multipath);
}

#[test]
#[ignore = "wants the machine for itself"]
fn inetd_unix() {
    on_standard_input(Transport::Unix);
}

/// The address has its only permit: a pack whose hook waits at a gate.
fn held(scratch: &Scratch) -> Invocation {
    let gate = scratch.root().join("gate");
    if !gate.exists() {
        rustix::fs::mkfifoat(rustix::fs::CWD, &gate, rustix::fs::Mode::RWXU).unwrap();
        let script = format!("#!/bin/sh\nread go <'{}'\nexec \"$@\"\n", gate.display());
        let hook = scratch.script("pack", &script);
        scratch.global_config(&format!("[uploadpack] packObjectsHook = {}\n", hook.display()));
    }
    invocation(scratch).arg("--max-connections-per-address=1")
}

/// All ways to leave at a time, of clients that wait for a permit.
#[test]
#[ignore = "wants the machine for itself"]
fn while_it_waits_for_a_place() {
    let scratch = site::scratch();
    held(&scratch);
    for transport in Transport::ALL {
        let rows = vec![Leave::ALL.map(|leave| (Stage::Queued, leave)).to_vec()];
        let start = || {
            let mut site = Site::start(&scratch, held(&scratch));
            site.together = true;
            let holder = site.hold(transport).unwrap();
            (site, holder)
        };
        try_all(rows, start, |(site, _), cases| {
            site.visit(transport, cases).and_then(|()| sane(site))
        });
    }
}

/// Clients leave while the server does: it ends when the last one has left.
fn while_it_ends(transport: Transport) {
    let scratch = site::scratch();
    let mut rows = rows();
    rows.iter_mut().for_each(|row| row.retain(|(stage, _)| stage.has_child()));
    try_all(rows, || (), |(), cases| leave_at_the_end(&scratch, transport, cases));
}

#[test]
#[ignore = "wants the machine for itself"]
fn ending_tcp() {
    while_it_ends(Transport::Tcp);
}

#[test]
#[ignore = "wants the machine for itself"]
fn ending_multipath() {
    while_it_ends(Transport::Multipath);
}

#[test]
#[ignore = "wants the machine for itself"]
fn ending_unix() {
    while_it_ends(Transport::Unix);
}

fn leave_at_the_end(scratch: &Scratch, transport: Transport, cases: &[Case]) -> Verdict {
    /// After the last client has left.
    const SOON: Duration = Duration::from_secs(5);
    const EFFORT: Duration = Duration::from_millis(600);
    let mut site = Site::start(scratch, invocation(scratch));
    let pid = site.daemon.pid();
    let mut lines = Vec::new();
    for ((stage, _), last) in cases.iter().zip(1..) {
        let line = site.arrive(*stage, transport, last);
        lines.push(line.map_err(|error| format!("{stage:?} is not reached: {error}"))?);
    }
    let before = cpu_time(pid);
    site.daemon.signal(Signal::TERM);
    wait_until("nobody else is let in", || !listening(site.daemon.port));
    let leaving = lines.into_iter().zip(cases);
    let stayed: Vec<_> = leaving.filter_map(|(line, (_, leave))| leave.from(line)).collect();
    calm(&[pid])?;
    drop(stayed);
    let ended = within(SOON, || !alive(pid));
    let work = cpu_time(pid).saturating_sub(before);
    if !ended || work > EFFORT {
        return Err(format!("ended: {ended}, after {work:?} of work"));
    }
    sane(&site)?;
    let status = site.daemon.wait();
    if status.signal() == Some(15) { Ok(()) } else { Err(status.to_string()) }
}
