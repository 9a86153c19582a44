//! What services and gitd itself use, according to `/proc`. Reading it may take long, so only the
//! status thread does.

use std::fs;
use std::time::Duration;

use rustix::process::{Resource, getrlimit};

/// The most processes of one service that are counted; hooks may start any number.
const MOST: usize = 64;

/// What a service and the processes that it has started use.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Processor time so far.
    pub cpu: Duration,
    /// Resident memory, in bytes. What two processes share counts twice.
    pub memory: u64,
    /// How many processes there are.
    pub processes: usize,
}

/// What gitd itself uses.
#[derive(Debug, Clone, Copy, Default)]
pub struct Own {
    /// Processor time so far, without services.
    pub cpu: Duration,
    /// Resident memory, in bytes.
    pub memory: u64,
    /// Address space, in bytes.
    pub address_space: u64,
    /// Threads.
    pub threads: u64,
    /// Open descriptors.
    pub descriptors: u64,
    /// The most open descriptors.
    pub most_descriptors: Option<u64>,
}

/// The fields of proc_pid_stat(5) that are used, in clock ticks, bytes and pages.
struct Stat {
    parent: u32,
    cpu: u64,
    waited_for: u64,
    threads: u64,
    address_space: u64,
    pages: u64,
}

/// What a service of this process uses; `None` when it has ended.
pub fn of_service(pid: u32) -> Option<Usage> {
    let mut usage = Usage::default();
    let mut waiting = vec![(pid, std::process::id())];
    while let Some((pid, parent)) = waiting.pop() {
        // The number may be another process's by now.
        let Some(stat) = stat(pid).filter(|stat| stat.parent == parent) else { continue };
        usage.cpu += ticks(stat.cpu + stat.waited_for);
        usage.memory += stat.pages * page();
        usage.processes += 1;
        if usage.processes + waiting.len() < MOST {
            let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
            let children = children.unwrap_or_default();
            let children = children.split_whitespace().filter_map(|child| child.parse().ok());
            waiting.extend(children.map(|child| (child, pid)));
        }
    }
    (usage.processes > 0).then_some(usage)
}

/// What gitd itself uses.
pub fn own() -> Own {
    let stat = stat(std::process::id());
    Own {
        cpu: stat.as_ref().map_or(Duration::ZERO, |stat| ticks(stat.cpu)),
        memory: stat.as_ref().map_or(0, |stat| stat.pages * page()),
        address_space: stat.as_ref().map_or(0, |stat| stat.address_space),
        threads: stat.as_ref().map_or(0, |stat| stat.threads),
        descriptors: descriptors(),
        most_descriptors: getrlimit(Resource::Nofile).current,
    }
}

/// Since Linux 6.2 the directory's size is the number; before, it must be read.
fn descriptors() -> u64 {
    const DIRECTORY: &str = "/proc/self/fd";
    match fs::metadata(DIRECTORY).map_or(0, |directory| directory.len()) {
        0 => fs::read_dir(DIRECTORY).map_or(0, |entries| entries.count() as u64),
        size => size,
    }
}

fn stat(pid: u32) -> Option<Stat> {
    // The name before the last parenthesis may hold anything.
    let text = fs::read(format!("/proc/{pid}/stat")).ok()?;
    let end = text.iter().rposition(|&byte| byte == b')')?;
    parse(std::str::from_utf8(&text[end + 1..]).ok()?)
}

/// The fields from the third on.
fn parse(text: &str) -> Option<Stat> {
    let fields: Vec<&str> = text.split_whitespace().collect();
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    Some(Stat {
        parent: u32::try_from(field(4)?).ok()?,
        cpu: field(14)? + field(15)?,
        waited_for: field(16)? + field(17)?,
        threads: field(20)?,
        address_space: field(23)?,
        pages: field(24)?,
    })
}

fn ticks(ticks: u64) -> Duration {
    let each = rustix::param::clock_ticks_per_second().max(1);
    Duration::from_millis(ticks.saturating_mul(1000) / each)
}

fn page() -> u64 {
    rustix::param::page_size() as u64
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_service_and_its_children() {
        let mut child = Command::new("sh")
            .args(["-c", "i=0; while [ $i -lt 200000 ]; do i=$((i + 1)); done; cat; :"])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let pid = child.id();
        let deadline = std::time::Instant::now() + Duration::from_secs(30);
        let usage = loop {
            let usage = of_service(pid).unwrap();
            if usage.processes == 2 {
                break usage;
            }
            assert!(std::time::Instant::now() < deadline, "{usage:?}");
            std::thread::yield_now();
        };
        assert!(usage.cpu > Duration::ZERO && usage.memory > 100_000, "{usage:?}");
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(of_service(pid), None);
        assert_eq!(of_service(1), None, "no child of ours");
    }

    #[test]
    fn this_process() {
        let own = own();
        assert!(own.memory > 100_000 && own.address_space > own.memory, "{own:?}");
        assert!(own.threads >= 1 && own.descriptors >= 3, "{own:?}");
        assert!(own.most_descriptors.is_some_and(|most| most >= own.descriptors), "{own:?}");
    }
}
