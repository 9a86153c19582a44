//! Everything at once: clients that leave at every stage, services and clients that are stopped and killed, hooks and a
//! file system that hang, a network that fails. All the while good clients are answered and limits hold, and after it
//! everything is as it was.
//!
//! It takes a minute; `GITD_CHAOS=1800 cargo test --test suite -- --ignored --nocapture chaos::everything` takes half
//! an hour. The seed is printed, and `GITD_CHAOS_SEED` makes the same choices again; how they fall together is the
//! machine's to say.

mod clients;
mod disturber;
mod fuse;
mod hung;
mod observer;
mod site;

use std::os::unix::process::ExitStatusExt;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::process::Signal;

use crate::readiness::site::{Verdict, calm, within};
use crate::support::needs_root;
use crate::support::process::{alive, children, descriptors, in_network_of, status, zombies};
use clients::{CLIENTS, Clients};
use observer::{Observer, memory};
use site::Site;

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().unwrap())
}

#[test]
#[ignore = "works for a minute"]
fn everything() {
    needs_root!();
    let seconds = variable("GITD_CHAOS").unwrap_or(60);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let seed = variable("GITD_CHAOS_SEED").unwrap_or(now.as_secs());
    println!("GITD_CHAOS_SEED={seed}, {seconds} s");
    let mut site = Site::start();
    let mut verdict = Ok(());
    in_network_of(site.pid(), || verdict = happen(&site, seed, Duration::from_secs(seconds)));
    let verdict = verdict.and_then(|()| end(&mut site));
    let log = site.daemon.log.since(0);
    let last = &log[log.len().saturating_sub(20)..];
    assert!(verdict.is_ok(), "{verdict:?}, GITD_CHAOS_SEED={seed}; the log ends with {last:#?}");
}

fn happen(site: &Site, seed: u64, time: Duration) -> Verdict {
    let before = Resources::of(site.pid());
    let mut observer = Observer::new(site);
    let clients = &Clients::new(site, seed);
    let verdict = std::thread::scope(|scope| {
        // A thread has the network of the one that starts it.
        let threads: Vec<_> = (0..CLIENTS).map(|n| scope.spawn(move || clients.work(n))).collect();
        let disturber = scope.spawn(|| disturber::work(site, seed));
        let verdict = observer.watch(Instant::now() + time);
        site.end();
        let count: u64 = threads.into_iter().map(|thread| thread.join().unwrap()).sum();
        println!("{count} clients, {:?}, {:?}", disturber.join().unwrap(), observer.seen);
        verdict
    });
    verdict.and_then(|()| before.is_back(site))
}

/// The resources that must be as before when all clients have gone.
#[derive(Debug)]
struct Resources {
    descriptors: usize,
    threads: usize,
    kilobytes: u64,
}

impl Resources {
    fn of(pid: u32) -> Self {
        let threads = status(pid, "Threads").unwrap().parse().unwrap();
        Self { descriptors: descriptors(pid), threads, kilobytes: memory(pid) }
    }

    fn is_back(&self, site: &Site) -> Verdict {
        /// Sessions that stand still have five seconds and what follows, threads without work ten.
        const SOON: Duration = Duration::from_secs(40);
        /// What the allocator may keep for later.
        const KEPT: u64 = 8 << 10;
        let pid = site.pid();
        let nobody = within(SOON, || children(pid).is_empty() && zombies(pid) == 0);
        let back = within(SOON, || {
            let now = Self::of(pid);
            now.descriptors <= self.descriptors && now.threads <= self.threads
        });
        let now = Self::of(pid);
        if !nobody || !back || now.kilobytes > self.kilobytes + KEPT {
            return Err(format!("{now:?} after {self:?}, {:?}", children(pid)));
        }
        calm(&[pid])
    }
}

/// It ends when it is told to, and nothing has gone wrong inside.
fn end(site: &mut Site) -> Verdict {
    const SOON: Duration = Duration::from_secs(5);
    site.daemon.signal(Signal::TERM);
    let pid = site.pid();
    if !within(SOON, || !alive(pid)) {
        return Err("it does not end".to_owned());
    }
    let status = site.daemon.wait();
    let log = site.daemon.log.wait_end();
    let wrong = log.iter().find(|l| l.contains("internal error") || l.contains("panicked"));
    match wrong {
        Some(line) => Err(line.clone()),
        None if status.signal() == Some(15) => Ok(()),
        None => Err(status.to_string()),
    }
}
