//! Twelve threads of clients that leave, at random stages and in random ways: the kernel's order of events is different
//! each time, and some orders are rare.

use std::io::Read;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::leave::Leave;
use super::line::{Line, Transport};
use super::site::{self, PROMPTLY, Site, Verdict, calm, invocation, within};
use super::stage::Stage;
use crate::support::process::{children, descriptors, zombies};
use crate::support::random::Random;
use crate::support::{DEADLINE, pkt, request};

const THREADS: u64 = 12;

/// It ends with the earlier of the two.
const CLIENTS: usize = 20_000;
const TIME: Duration = Duration::from_secs(20);

/// What a client sends at once when it does not wait to be answered.
fn requests() -> Vec<Vec<u8>> {
    let mut requests = Vec::new();
    for service in ["upload-pack", "receive-pack", "upload-archive"] {
        for version in ["", "\0version=1\0", "\0version=2\0"] {
            for path in ["/repo.git", "/large.git", "/nothing.git"] {
                requests.push(pkt(format!("git-{service} {path}\0host=x\0{version}")));
            }
        }
    }
    requests
}

struct Storm<'a> {
    site: &'a Site,
    seed: u64,
    requests: Vec<Vec<u8>>,
    stages: Vec<Stage>,
    done: AtomicUsize,
    over: AtomicBool,
}

impl Storm<'_> {
    /// Clients of one thread, until the storm is over.
    fn work(&self, thread: u64) {
        let end = Instant::now() + TIME;
        let mut number = 0;
        while Instant::now() < end
            && !self.over.load(Ordering::Relaxed)
            && self.done.fetch_add(1, Ordering::Relaxed) < CLIENTS
        {
            let mut random = Random::of(self.seed, thread << 32 | number);
            // It may be dropped or refused: other tests check that.
            let _ = self.client(thread, &mut random);
            number += 1;
        }
    }

    fn client(&self, thread: u64, random: &mut Random) -> std::io::Result<()> {
        let transport = random.pick(&Transport::ALL);
        let room = random.chance(50).then_some(2048);
        let from = [127, 0, 2, u8::try_from(thread).unwrap() + 1];
        let line = Line::dial(self.site.place(), transport, from, room, PROMPTLY)?;
        if random.chance(30) {
            let stage = random.pick(&self.stages);
            if !stage.is_heavy() || random.chance(10) {
                stage.reach(&line)?;
            }
        } else {
            let request = random.pick(&self.requests);
            let whole = random.chance(60);
            let length = if whole { request.len() } else { random.below(request.len()) };
            line.send(&request[..length])?;
            if whole && random.chance(50) {
                let mut some = [0; 300];
                let _ = (&line.0).read(&mut some[..1 + random.below(300)]);
            }
        }
        // What is cheap, and rarely comes in the wrong moment, most of the time.
        let quick = [Leave::Close, Leave::Reset, Leave::ByteAndReset];
        let usual = random.chance(70);
        let leave = random.pick(if usual { &quick[..] } else { &Leave::ALL });
        drop(leave.from(line));
        Ok(())
    }
}

/// A good client is answered all the while, and after it nothing is left.
#[test]
#[ignore = "wants the machine for itself"]
fn clients_that_leave() {
    let seed = std::env::var("GITD_CHAOS_SEED").map_or(1, |seed| seed.parse().unwrap());
    let scratch = site::scratch();
    // Whoever stops and stays has left too.
    let site = Site::start(&scratch, invocation(&scratch).arg("--timeout=10"));
    site.answers().unwrap();
    let pid = site.daemon.pid();
    let before = descriptors(pid);
    let slow = |stage: &Stage| !matches!(stage, Stage::Hook | Stage::Queued);
    let storm = Storm {
        site: &site,
        seed,
        requests: requests(),
        stages: Stage::ALL.into_iter().filter(slow).collect(),
        done: AtomicUsize::new(0),
        over: AtomicBool::new(false),
    };
    let verdict: Verdict = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|n| {
                scope.spawn({
                    let storm = &storm;
                    move || storm.work(n)
                })
            })
            .collect();
        while !threads.iter().all(|thread| thread.is_finished()) {
            if let Err(why) = site.answers() {
                storm.over.store(true, Ordering::Relaxed);
                return Err(why);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    });
    let done = storm.done.load(Ordering::Relaxed);
    println!("seed {seed}: {done} clients");
    let verdict = verdict.and_then(|()| {
        let gone = || children(pid).is_empty() && zombies(pid) == 0 && descriptors(pid) <= before;
        if !within(DEADLINE, gone) {
            return Err(format!("{} descriptors after {before}", descriptors(pid)));
        }
        calm(&[pid])?;
        site.answers()?;
        super::sane(&site)
    });
    assert!(verdict.is_ok(), "after {done} clients: {verdict:?}");
}

/// The shortest way: a byte wakes the server, and while it is awake the reset comes.
#[test]
#[ignore = "wants the machine for itself"]
fn a_byte_and_a_reset() {
    const TIME: Duration = Duration::from_secs(10);
    let scratch = site::scratch();
    // A service that costs little.
    let git = scratch.fake_git("printf 0000; read line\n");
    let site = Site::start(&scratch, invocation(&scratch).path_first(&git));
    let place = site.place();
    let end = Instant::now() + TIME;
    let client = |from: [u8; 4]| {
        let line = Line::dial(place, Transport::Tcp, from, None, PROMPTLY)?;
        line.send(request("upload-pack", "/repo.git"))?;
        line.to_flush()?;
        Leave::ByteAndReset.from(line);
        std::io::Result::Ok(())
    };
    let failed = Mutex::new(None);
    let done = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for thread in 1..=6 {
            let (failed, done) = (&failed, &done);
            scope.spawn(move || {
                while Instant::now() < end && failed.lock().unwrap().is_none() {
                    match client([127, 0, 2, thread]) {
                        Ok(()) => drop(done.fetch_add(1, Ordering::Relaxed)),
                        Err(error) => *failed.lock().unwrap() = Some(error),
                    }
                }
            });
        }
    });
    let pid = site.daemon.pid();
    let failed = failed.into_inner().unwrap();
    println!("{done:?} clients");
    assert!(failed.is_none(), "{failed:?} after {done:?} clients; {:?}", calm(&[pid]));
    assert!(within(DEADLINE, || children(pid).is_empty()));
    assert_eq!(calm(&[pid]), Ok(()));
}
