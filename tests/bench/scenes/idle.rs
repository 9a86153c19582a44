//! A server without requests: its memory and its sleep. And one request under strace: what it makes the server do.

use std::fs;
use std::thread;
use std::time::Duration;

use super::Stage;
use crate::protocol::{self, Target, Writes};
use crate::report::{Bound, Report, Row, number};
use crate::repositories::SMALL;
use crate::rounds::PerSide;
use crate::server::Side;
use crate::{Result, procfs, progress, trace};

const MIB: f64 = 1024.0 * 1024.0;
const TRACED_REQUESTS: usize = 20;

pub(crate) fn run(stage: &Stage<'_>, report: &mut Report) -> Result<()> {
    asleep(stage, report)?;
    traced(stage, report)
}

fn asleep(stage: &Stage<'_>, report: &mut Report) -> Result<()> {
    let mut memory = PerSide::default();
    let mut wake_ups = PerSide::default();
    let servers = stage.start(&Side::DAEMONS, SMALL)?;
    for server in &servers {
        // Idle means: after some work, not before any.
        protocol::ls_remote(&Target::new(server, SMALL), Writes::Whole)?;
        server.settle()?;
    }
    // gitd's threads for the checks end ten seconds after the last request, which is its last wake-up.
    thread::sleep(Duration::from_secs(stage.amount(1, 12)));
    let before: Result<Vec<u64>> =
        servers.iter().map(|server| procfs::context_switches(server.pid())).collect();
    thread::sleep(Duration::from_secs(stage.amount(2, 20)));
    for (server, before) in servers.iter().zip(before?) {
        let after = procfs::context_switches(server.pid())?;
        let woken = after.checked_sub(before).ok_or("a thread has ended meanwhile")?;
        wake_ups[server.side] = Some(woken as f64);
        memory[server.side] = Some(server.pss_mib()?);
    }
    let none = Some(Bound::AtMost(0.0));
    report.row(Row::absolute("idle", "PSS MiB", " MiB", memory, Some(Bound::AtMost(3.0))));
    report.row(Row::absolute("idle", "wake-ups", "", wake_ups, none));
    let mut size = PerSide::default();
    size[Side::Gitd] = Some(fs::metadata(stage.gitd)?.len() as f64 / MIB);
    report.row(Row::absolute(
        "the program",
        "file size MiB",
        " MiB",
        size,
        Some(Bound::AtMost(4.0)),
    ));
    Ok(())
}

fn traced(stage: &Stage<'_>, report: &mut Report) -> Result<()> {
    let mut rows: [PerSide<Option<f64>>; 5] = Default::default();
    for side in Side::ALL {
        let server = stage.start_with(side, SMALL, &[])?;
        let Some(trace) = trace::requests(server, TRACED_REQUESTS, stage.scratch)? else {
            let note = "**system calls and processes were not counted:** strace is missing or may not trace";
            progress::say(note);
            report.note(note.to_owned());
            return Ok(());
        };
        let figures =
            [trace.server_calls, trace.file_calls, trace.all_calls, trace.processes, trace.execs];
        for (row, figure) in rows.iter_mut().zip(figures) {
            row[side] = Some(figure);
        }
        let names: Vec<String> =
            trace.by_name.iter().map(|(name, n)| format!("{name} {}", number(*n))).collect();
        let listed =
            format!("{}'s own system calls in one request: {}", side.name(), names.join(", "));
        progress::say(&listed);
        if side == Side::Gitd {
            report.note(listed);
        }
    }
    let [server, files, all, processes, execs] = rows;
    let work = "one v2 ls-remote under strace";
    report.row(Row::absolute(work, "the server's own system calls", "", server, None));
    report.row(Row::absolute(
        work,
        "of which about files (the checks)",
        "",
        files,
        Some(Bound::AtMost(25.0)),
    ));
    report.row(Row::absolute(work, "all system calls", "", all, None));
    report.row(Row::absolute(work, "processes started", "", processes, Some(Bound::AtMost(1.0))));
    report.row(Row::absolute(work, "programs executed", "", execs, None));
    Ok(())
}
