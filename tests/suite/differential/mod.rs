//! Proof by difference: generated requests to generated repositories under generated command lines, each sent to stock's
//! daemon and to gitd. gitd never serves what stock refuses, and stock never serves what gitd refuses; the answers are the
//! same bytes and the logs the same lines, but for the differences that `verdict` names.
//!
//! `GITD_DIFFERENCE_REQUESTS` says how many requests each test sends, `GITD_DIFFERENCE_MINUTES` how long it may take for
//! them, `GITD_DIFFERENCE_SEED` from which seed, and `GITD_DIFFERENCE_SCENE` confines it to one scene of that seed.

mod adversary;
mod configuration;
mod death;
mod exchange;
mod explained;
mod layout;
mod pathnames;
mod repositories;
mod requests;
mod scene;
mod settings;
mod shrink;
mod verdict;

use std::collections::BTreeMap;
use std::str::FromStr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::support::random::Random;
use crate::support::{Scratch, needs_root};
use layout::Seeds;
use requests::Request;
use scene::{Role, Scene, Stage};
use shrink::Failure;
use verdict::{Verdict, judge};

/// Requests to each scene: many, as it starts two daemons.
const REQUESTS_PER_SCENE: usize = 60;

/// Scenes at a time.
const LANES: usize = 3;

/// As many failures as are worth reading.
const MOST_FAILURES: usize = 5;

/// A user that needs no entry in the user database.
const UNPRIVILEGED: u32 = 31_002;

#[test]
fn as_root() {
    needs_root!();
    Run::new(Role::Oneself).go();
}

#[test]
fn as_user() {
    Run::new(if rustix::process::geteuid().is_root() {
        Role::Other(UNPRIVILEGED)
    } else {
        Role::Oneself
    })
    .go();
}

fn from_environment<T: FromStr>(name: &str) -> Option<T> {
    let value = std::env::var(name).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{name}={value} is no number")))
}

struct Run {
    role: Role,
    seed: u64,
    only: Option<u64>,
    requests: usize,
    began: Instant,
    minutes: Option<u64>,
    next: AtomicU64,
    sent: AtomicUsize,
    tally: Mutex<BTreeMap<&'static str, usize>>,
    failures: Mutex<Vec<(u64, Failure)>>,
}

impl Run {
    fn new(role: Role) -> Self {
        let only = from_environment("GITD_DIFFERENCE_SCENE");
        let clock = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        Self {
            role,
            seed: from_environment("GITD_DIFFERENCE_SEED").unwrap_or_else(clock),
            only,
            requests: from_environment("GITD_DIFFERENCE_REQUESTS").unwrap_or(1500),
            began: Instant::now(),
            minutes: from_environment("GITD_DIFFERENCE_MINUTES"),
            next: AtomicU64::new(only.unwrap_or(0)),
            sent: AtomicUsize::new(0),
            tally: Mutex::default(),
            failures: Mutex::default(),
        }
    }

    fn go(self) {
        let scratch = Scratch::new();
        let seeds = Seeds::make(&scratch);
        println!("seed {}", self.seed);
        std::thread::scope(|threads| {
            let lanes: Vec<_> = (0..LANES).map(|_| threads.spawn(|| self.lane(&seeds))).collect();
            for lane in lanes {
                lane.join().unwrap();
            }
        });
        let sent = self.sent.load(Ordering::Relaxed);
        println!(
            "{sent} requests in {:.0} s: {:?}",
            self.began.elapsed().as_secs_f64(),
            self.tally.lock().unwrap()
        );
        let failures = self.failures.lock().unwrap();
        for (number, failure) in failures.iter() {
            println!(
                "\nscene {number} of seed {}: {}\n{}\n  request {}\n{}",
                self.seed, failure.reason, failure.scene, failure.request, failure.details
            );
        }
        assert!(
            failures.is_empty(),
            "{} differences that have no name, above; seed {}",
            failures.len(),
            self.seed
        );
        assert!(
            sent >= self.requests || self.only.is_some() || self.is_late(),
            "{sent} requests sent, fewer than {}: too few scenes in which the daemons start",
            self.requests
        );
    }

    fn lane(&self, seeds: &Seeds) {
        loop {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            if self.ends_before(number) {
                return;
            }
            let mut random = Random::of(self.seed, number);
            let (scene, requests) = Scene::generate(&mut random, self.role, REQUESTS_PER_SCENE);
            let Some(failure) = self.play(&scene, &requests, seeds) else { continue };
            let failure = shrink::shrink(failure, seeds);
            self.failures.lock().unwrap().push((number, failure));
        }
    }

    fn ends_before(&self, scene: u64) -> bool {
        if let Some(only) = self.only {
            return scene > only;
        }
        // Where options make no sense together, no daemon starts and no request is sent. These are few.
        let most = 2 * self.requests / REQUESTS_PER_SCENE + 1;
        self.sent.load(Ordering::Relaxed) >= self.requests
            || scene >= most as u64
            || self.failures.lock().unwrap().len() >= MOST_FAILURES
            || self.is_late()
    }

    fn is_late(&self) -> bool {
        self.minutes
            .is_some_and(|minutes| self.began.elapsed() >= Duration::from_secs(60 * minutes))
    }

    /// Sends all requests to one scene; the first that fails, if it does so alone too.
    fn play(&self, scene: &Scene, requests: &[Request], seeds: &Seeds) -> Option<Failure> {
        let Some(mut stage) = Stage::raise(scene, seeds) else {
            self.count("not started");
            return None;
        };
        for request in requests {
            let (stock, gitd) = stage.ask(request);
            self.sent.fetch_add(1, Ordering::Relaxed);
            let name = match judge(scene, &stage, request, &stock, &gitd) {
                Verdict::Same => stock.kind(),
                Verdict::Differs(name) => name,
                Verdict::Wrong(reason) => {
                    let alone = shrink::attempt(scene, request, seeds);
                    if alone.is_none() && stock.hung && !gitd.hung {
                        // A stock daemon may miss the end of a child until the next connection.
                        stage = Stage::raise(scene, seeds)?;
                        self.count("asked again");
                        continue;
                    }
                    let details = format!("(not when asked alone)\nstock {stock}gitd {gitd}");
                    let (scene, request) = (scene.clone(), request.clone());
                    return Some(alone.unwrap_or(Failure { scene, request, reason, details }));
                }
            };
            self.count(name);
        }
        None
    }

    fn count(&self, name: &'static str) {
        *self.tally.lock().unwrap().entry(name).or_default() += 1;
    }
}
