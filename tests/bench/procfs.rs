//! What the kernel says about a server and everything that it has started: CPU, processes, memory, context switches.
//!
//! CPU is counted without cgroups: a process's own time is `utime + stime`, and when it is reaped its parent inherits
//! that *and* all the process had inherited itself (`cutime`, `cstime`). So the sum of all four over the live processes
//! of a tree is everything the tree has ever used, whichever process reaped which. It is exact once the tree has
//! settled: a descendant that still runs is in the sum with its own figures, and none is ever left to init while its
//! parent lives.

use std::collections::HashMap;
use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use crate::Result;

/// USER_HZ: what /proc counts CPU time in, whatever the kernel's own tick is.
const TICKS_A_SECOND: f64 = 100.0;

/// The part of /proc/PID/stat that the bench reads.
struct Stat {
    parent: u32,
    own_ticks: u64,
    reaped_ticks: u64,
}

fn stat(pid: u32) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command's name is in parentheses and may hold blanks and parentheses itself.
    let fields: Vec<&str> = text.get(text.rfind(')')? + 2..)?.split_ascii_whitespace().collect();
    let number = |index: usize| fields.get(index)?.parse::<u64>().ok();
    Some(Stat {
        parent: u32::try_from(number(1)?).ok()?,
        own_ticks: number(11)? + number(12)?,
        reaped_ticks: number(13)? + number(14)?,
    })
}

/// `root` and all its living descendants.
pub(crate) fn tree(root: u32) -> Result<Vec<u32>> {
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    for entry in fs::read_dir("/proc")? {
        let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        if let Some(stat) = stat(pid) {
            children.entry(stat.parent).or_default().push(pid);
        }
    }
    let mut found = vec![root];
    let mut next = 0;
    while let Some(pid) = found.get(next) {
        found.extend(children.remove(pid).unwrap_or_default());
        next += 1;
    }
    Ok(found)
}

/// CPU seconds used so far by `root`, its descendants, and all descendants that have ended.
pub(crate) fn cpu_seconds(root: u32) -> Result<f64> {
    Ok(tree(root)?.into_iter().map(process_cpu_seconds).sum())
}

/// CPU seconds of the children of `pid` that have been waited for, and of theirs.
pub(crate) fn reaped_seconds(pid: u32) -> Result<f64> {
    let stat = stat(pid).ok_or("the process is not there")?;
    Ok(stat.reaped_ticks as f64 / TICKS_A_SECOND)
}

fn process_cpu_seconds(pid: u32) -> f64 {
    let Some(stat) = stat(pid) else { return 0.0 };
    // A live process's own time is known to the nanosecond, thread by thread, but for the threads that have ended.
    let own_ticks = stat.own_ticks as f64 / TICKS_A_SECOND;
    let own = scheduled_seconds(pid)
        .filter(|precise| (own_ticks - precise).abs() < 0.02)
        .unwrap_or(own_ticks);
    own + stat.reaped_ticks as f64 / TICKS_A_SECOND
}

fn scheduled_seconds(pid: u32) -> Option<f64> {
    let mut nanoseconds = 0.0;
    for task in fs::read_dir(format!("/proc/{pid}/task")).ok()? {
        let text = fs::read_to_string(task.ok()?.path().join("schedstat")).ok()?;
        nanoseconds += text.split_ascii_whitespace().next()?.parse::<f64>().ok()?;
    }
    Some(nanoseconds / 1e9)
}

/// Waits until `root` has no more than `processes` in its tree, so that every service has ended and has been reaped.
pub(crate) fn settle(root: u32, processes: usize, patience: Duration) -> Result<()> {
    let deadline = Instant::now() + patience;
    loop {
        let now = tree(root)?.len();
        if now <= processes {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(
                format!("process {root} still has {now} processes after {patience:?}").into()
            );
        }
        thread::sleep(Duration::from_millis(2));
    }
}

/// Proportional set size of `root` and its descendants, in KiB.
pub(crate) fn pss_kib(root: u32) -> Result<u64> {
    Ok(tree(root)?.into_iter().filter_map(process_pss_kib).sum())
}

fn process_pss_kib(pid: u32) -> Option<u64> {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    rollup
        .lines()
        .find_map(|line| line.strip_prefix("Pss:"))?
        .trim()
        .strip_suffix(" kB")?
        .parse()
        .ok()
}

/// How often any thread of the process has given up the CPU or was put off it: what a sleeping process does not do.
pub(crate) fn context_switches(pid: u32) -> Result<u64> {
    let mut switches = 0;
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let status = fs::read_to_string(task?.path().join("status"))?;
        switches += status
            .lines()
            .filter_map(|line| line.split_once("ctxt_switches:"))
            .filter_map(|(_, count)| count.trim().parse::<u64>().ok())
            .sum::<u64>();
    }
    Ok(switches)
}

pub(crate) fn threads(pid: u32) -> Result<Vec<u32>> {
    let mut threads = Vec::new();
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        threads.extend(task?.file_name().to_str().and_then(|name| name.parse::<u32>().ok()));
    }
    Ok(threads)
}

/// How many descriptors the process has open.
pub(crate) fn descriptors(pid: u32) -> Result<usize> {
    Ok(fs::read_dir(format!("/proc/{pid}/fd"))?.count())
}

/// Whether every thread of the process is traced.
pub(crate) fn is_traced(pid: u32) -> Result<bool> {
    for thread in threads(pid)? {
        let status = fs::read_to_string(format!("/proc/{pid}/task/{thread}/status"))?;
        let tracer = status.lines().find_map(|line| line.strip_prefix("TracerPid:"));
        if tracer.is_none_or(|tracer| tracer.trim() == "0") {
            return Ok(false);
        }
    }
    Ok(true)
}
