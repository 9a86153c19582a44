//! What must be so at any time: good clients are answered, limits hold.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::site::{PENDING, PLACES, QUEUE, Site};
use crate::readiness::line::Transport;
use crate::readiness::site::{PROMPTLY, Verdict, ask};
use crate::support::process::{all, descriptors, status};

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(150);

/// In so many looks in a row a service must have worked to count as being at work.
const LOOKS: u32 = 3;

/// An outage and the time until TCP has found its way again.
const OUTAGE: Duration = Duration::from_secs(8);

/// When a good client has waited for this long, the state of the server is printed.
const LATE: Duration = Duration::from_millis(1000);

/// The threads, descriptors and memory that gitd may have in all: for permits, idle sessions, checks, and itself.
const MOST_THREADS: usize = 10 + 2 * 5 * PLACES;
const MOST_DESCRIPTORS: usize = 100 + PENDING + QUEUE + 4 * 5 * PLACES;
const MORE_KILOBYTES: u64 = 24 << 10;

/// The worst that was seen.
#[derive(Default, Debug)]
pub struct Seen {
    pub answers: usize,
    pub slowest: Duration,
    pub in_outage: Duration,
    pub at_work: usize,
    pub threads: usize,
    pub descriptors: usize,
    pub kilobytes: u64,
}

pub struct Observer<'a> {
    site: &'a Site,
    pub seen: Seen,
    kilobytes: u64,
    /// Each service's processor time, and for how many looks it has grown.
    services: HashMap<u32, (Duration, u32)>,
}

impl<'a> Observer<'a> {
    pub fn new(site: &'a Site) -> Self {
        let kilobytes = memory(site.pid());
        Self { site, seen: Seen::default(), kilobytes, services: HashMap::new() }
    }

    /// Looks until `end`, or until something is wrong. For a thread in the daemon's network.
    pub fn watch(&mut self, end: Instant) -> Verdict {
        while Instant::now() < end {
            self.limits()?;
            for transport in [Transport::Unix, Transport::Tcp] {
                self.good_client(transport)?;
            }
            std::thread::sleep(PAUSE);
        }
        Ok(())
    }

    /// It is answered promptly. In an outage clients that are cut off hold permits, up to twice as many as there are, so
    /// a client of another network may wait for as long as an outage and its end take; one of the same network may not
    /// be answered at all.
    fn good_client(&mut self, transport: Transport) -> Verdict {
        let begun = Instant::now();
        let (answer, processes) =
            self.site.watch_processes(LATE, || ask(self.site.place(), transport, OUTAGE));
        let time = begun.elapsed();
        let well = self.site.network_was_well(begun);
        let most = if well { PROMPTLY } else { OUTAGE };
        let told = format!("network well: {well}, {processes}");
        let answer = match answer {
            Ok(()) if time <= most => Ok(()),
            Ok(()) => {
                Err(format!("{transport:?}: a good client is answered after {time:?}: {told}"))
            }
            Err(error) => Err(format!("{transport:?}: a good client hears: {error}: {told}")),
        };
        if answer.is_ok() {
            self.seen.answers += 1;
            let slowest = if well { &mut self.seen.slowest } else { &mut self.seen.in_outage };
            *slowest = time.max(*slowest);
        }
        if well || transport == Transport::Unix { answer } else { Ok(()) }
    }

    fn limits(&mut self) -> Verdict {
        let pid = self.site.pid();
        let threads: usize = status(pid, "Threads").unwrap().parse().unwrap();
        let (descriptors, kilobytes) = (descriptors(pid), memory(pid));
        let at_work = self.at_work();
        let seen = &mut self.seen;
        seen.at_work = seen.at_work.max(at_work);
        seen.threads = seen.threads.max(threads);
        seen.descriptors = seen.descriptors.max(descriptors);
        seen.kilobytes = seen.kilobytes.max(kilobytes);
        let bounds = [
            ("services at work", at_work, PLACES),
            ("threads", threads, MOST_THREADS),
            ("descriptors", descriptors, MOST_DESCRIPTORS),
        ];
        for (what, count, most) in bounds {
            if count > most {
                return Err(format!("{count} {what}, at most {most} are allowed"));
            }
        }
        let most = self.kilobytes + MORE_KILOBYTES;
        if kilobytes > most { Err(format!("{kilobytes} KiB, more than {most}")) } else { Ok(()) }
    }

    /// The services that have worked, they or what they have started, in each of the last looks.
    fn at_work(&mut self) -> usize {
        let processes = all();
        let parents: HashMap<_, _> =
            processes.iter().map(|(pid, parent, _)| (*pid, *parent)).collect();
        let mut now: HashMap<u32, Duration> = HashMap::new();
        for (pid, _, cpu) in &processes {
            if let Some(service) = service_of(*pid, &parents, self.site.pid()) {
                *now.entry(service).or_default() += *cpu;
            }
        }
        self.services = now
            .into_iter()
            .map(|(service, cpu)| {
                let (before, looks) = self.services.get(&service).copied().unwrap_or_default();
                (service, (cpu, if cpu > before { looks + 1 } else { 0 }))
            })
            .collect();
        self.services.values().filter(|(_, looks)| *looks >= LOOKS).count()
    }
}

/// Which of gitd's children a process descends from.
fn service_of(mut pid: u32, parents: &HashMap<u32, u32>, gitd: u32) -> Option<u32> {
    loop {
        let parent = *parents.get(&pid)?;
        if parent == gitd {
            return Some(pid);
        }
        pid = parent;
    }
}

/// In KiB.
pub fn memory(pid: u32) -> u64 {
    status(pid, "RssAnon").unwrap().split(' ').next().unwrap().parse().unwrap()
}
