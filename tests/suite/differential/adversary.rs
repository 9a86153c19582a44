//! A user that can rename changes what a name stands for while requests for it run: another user's directory, a link, a
//! gitfile, a repository inside. What is served must be what stock serves under one of these states at least; so what
//! stock refuses under all of them must never be served.
//!
//! As in the other tests of this folder, `GITD_DIFFERENCE_REQUESTS` and `GITD_DIFFERENCE_MINUTES` say how long it goes
//! on, and `GITD_DIFFERENCE_SEED` from which seed.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::fs::{AtFlags, CWD, RenameFlags, renameat, renameat_with, unlinkat};

use super::from_environment;
use crate::support::random::Random;
use crate::support::scratch::{chown, config, export};
use crate::support::{Daemon, Git, Gitd, Packet, Scratch, Stock, needs_root, request};

const OTHER: u32 = 31_002;

/// Clients that ask at a time.
const CLIENTS: u64 = 3;

/// Threads that swap at a time.
const ADVERSARIES: u64 = 2;

/// Branches that some state shows, and branches that no state shows.
const OPEN: [&str; 2] = ["refs/heads/is-ours", "refs/heads/is-safe"];
const SHUT: [&str; 3] = ["refs/heads/is-theirs", "refs/heads/is-hidden", "refs/heads/is-closed"];

#[test]
fn renames_while_requests_run() {
    needs_root!();
    let scene = Scene::make();
    let stop = AtomicBool::new(false);
    let counts = Counts::default();
    let clock = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let seed = from_environment("GITD_DIFFERENCE_SEED").unwrap_or_else(clock);
    let requests: u64 = from_environment("GITD_DIFFERENCE_REQUESTS").unwrap_or(1500);
    let minutes = from_environment::<u64>("GITD_DIFFERENCE_MINUTES");
    let limit = minutes.map_or(Duration::from_secs(12), |m| Duration::from_secs(60 * m));
    println!("seed {seed}");
    scene.assert_every_state();
    let began = Instant::now();
    std::thread::scope(|threads| {
        for number in 0..ADVERSARIES {
            let random = Random::of(seed, number);
            threads.spawn(|| scene.swap(random, &stop));
        }
        let clients: Vec<_> = (0..CLIENTS)
            .map(|number| {
                let (scene, counts) = (&scene, &counts);
                threads.spawn(move || {
                    let mut random = Random::of(seed, ADVERSARIES + number);
                    while counts.requests.fetch_add(1, Ordering::Relaxed) < requests
                        && began.elapsed() < limit
                    {
                        counts.add(ask(&scene.daemon, random.pick(&NAMES)).as_deref());
                    }
                })
            })
            .collect();
        for client in clients {
            client.join().unwrap();
        }
        stop.store(true, Ordering::Relaxed);
    });
    println!("{} in {:.0} s", counts.shown(), began.elapsed().as_secs_f64());
    assert_eq!(
        counts.wrong.into_inner(),
        0,
        "served what stock refuses in every state; seed {seed}"
    );
    // Both happen all the time, or nothing has been tried.
    assert!(counts.served.into_inner() > 0 && counts.refused.into_inner() > 0);
}

#[derive(Default)]
struct Counts {
    requests: AtomicU64,
    served: AtomicU64,
    refused: AtomicU64,
    wrong: AtomicU64,
}

impl Counts {
    fn add(&self, refs: Option<&str>) {
        let count = match refs {
            Some(refs) if shows(refs, &SHUT) => {
                println!("{refs}");
                &self.wrong
            }
            Some(refs) if shows(refs, &OPEN) => &self.served,
            Some(refs) => panic!("{refs}"),
            None => &self.refused,
        };
        count.fetch_add(1, Ordering::Relaxed);
    }

    fn shown(&self) -> String {
        let get = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let (served, refused, wrong) = (get(&self.served), get(&self.refused), get(&self.wrong));
        format!(
            "{} requests: {served} served, {refused} refused, {wrong} served that no state allows",
            served + refused + wrong
        )
    }
}

fn shows(refs: &str, names: &[&str]) -> bool {
    names.iter().any(|name| refs.contains(name))
}

/// The refs that a client is shown, if it is served.
fn ask(daemon: &Daemon, pathname: &str) -> Option<String> {
    let mut client = daemon.connect();
    client.send(request("upload-pack", pathname));
    let mut refs = Vec::new();
    loop {
        match client.packet() {
            Packet::Data(text) if text.starts_with(b"ERR ") => return None,
            Packet::Data(text) => refs.extend(text),
            Packet::Flush => {
                // It may have gone already.
                client.try_send("0000".as_bytes());
                return Some(String::from_utf8_lossy(&refs).into_owned());
            }
            _ => return None,
        }
    }
}

fn exchange(one: &Path, other: &Path) {
    renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE).unwrap();
}

/// What is asked for.
const NAMES: [&str; 4] = ["/a", "/a.git", "/tree", "/tree/.git"];

struct Scene {
    scratch: Scratch,
    daemon: Daemon,
    stock: Daemon,
    /// What changes places with `PLACES`.
    others: Vec<PathBuf>,
    /// Other users' repositories, wherever they are, inside which another comes and goes.
    theirs: Vec<OwnedFd>,
    safe: PathBuf,
}

/// Where something else is at any time.
const PLACES: [&str; 2] = ["a.git", "tree/.git"];

impl Scene {
    fn make() -> Self {
        let scratch = Scratch::new();
        let repository = |place: &str, name: &str, owner: u32| {
            let made = scratch.bare(name);
            export(&made);
            let place = scratch.path(place);
            fs::create_dir_all(place.parent().unwrap()).unwrap();
            fs::rename(made, &place).unwrap();
            chown(&place, owner);
            place
        };
        // What links and gitfiles lead to stays where it is.
        let ours = repository("real/ours.git", "ours", 0);
        let theirs = repository("real/theirs.git", "theirs", OTHER);
        let safe = repository("real/safe.git", "safe", OTHER);
        repository("a.git", "ours", 0);
        repository("tree/.git", "ours", 0);
        let mut others = vec![
            repository("pool/ours", "ours", 0),
            repository("pool/theirs", "theirs", OTHER),
            repository("pool/theirs-too", "theirs", OTHER),
        ];
        let hidden = repository("pool/hidden", "hidden", 0);
        fs::remove_file(hidden.join("git-daemon-export-ok")).unwrap();
        let closed = repository("pool/closed", "closed", 0);
        config(&closed, "[daemon] uploadpack = false\n");
        others.extend([hidden, closed]);
        let pool = scratch.path("pool");
        for (name, target, owner) in [
            ("link-to-ours", &ours, 0),
            ("link-to-safe", &safe, 0),
            ("their-link-to-ours", &ours, OTHER),
            ("their-link-to-theirs", &theirs, OTHER),
            ("their-link-to-safe", &safe, OTHER),
        ] {
            let link = pool.join(name);
            symlink(target, &link).unwrap();
            std::os::unix::fs::lchown(&link, Some(owner), Some(owner)).unwrap();
            others.push(link);
        }
        for (name, target, owner) in [
            ("file-of-ours", ours.as_path(), 0),
            ("file-of-theirs", theirs.as_path(), 0),
            ("their-file-of-ours", ours.as_path(), OTHER),
            ("their-file-of-theirs", theirs.as_path(), OTHER),
            // Relative to wherever it is: one of the names that change places.
            ("file-of-a-name", Path::new("x.git"), 0),
        ] {
            let file = scratch.gitfile(Path::new("pool").join(name), target);
            chown(&file, owner);
            others.push(file);
        }
        for place in ["x.git", "tree/x.git"] {
            repository(place, "theirs", OTHER);
        }
        let theirs = ["pool/theirs", "pool/theirs-too"].map(|name| {
            let directory = fs::File::open(scratch.path(name)).unwrap();
            OwnedFd::from(directory)
        });
        let global = format!("[safe]\n\tdirectory = {}\n", safe.display());
        fs::write(scratch.home().join(".gitconfig"), global).unwrap();
        let git = scratch.trusting_git("");
        let [daemon, stock] = [Gitd, Stock].map(|implementation| {
            implementation.invoke(&scratch).base_path().quiet().path_first(&git).start()
        });
        Self { scratch, daemon, stock, others, theirs: theirs.into(), safe }
    }

    /// One state after the other: stock shows what is open, and nothing else, and so does gitd.
    fn assert_every_state(&self) {
        let mut open = 0;
        for place in PLACES {
            let place = self.scratch.path(place);
            for other in &self.others {
                exchange(&place, other);
                for pathname in NAMES {
                    let (stock, gitd) = (ask(&self.stock, pathname), ask(&self.daemon, pathname));
                    let refs = |of: &Option<String>| {
                        of.as_ref()
                            .map(|refs| SHUT.iter().chain(&OPEN).position(|n| refs.contains(n)))
                    };
                    // An older stock daemon compares names of `safe.directory` as they are; its upload-pack would ask
                    // again.
                    if Git::version() >= (2, 46) {
                        assert_eq!(refs(&stock), refs(&gitd), "{pathname} {}", other.display());
                    }
                    let shut =
                        |of: &Option<String>| of.as_ref().is_some_and(|refs| shows(refs, &SHUT));
                    assert!(!shut(&stock) && !shut(&gitd), "{pathname} {}", other.display());
                    open += usize::from(gitd.is_some());
                }
                exchange(&place, other);
            }
        }
        assert!(open > 10, "{open}");
    }

    fn swap(&self, mut random: Random, stop: &AtomicBool) {
        while !stop.load(Ordering::Relaxed) {
            if random.chance(70) {
                let place = self.scratch.path(random.pick(&PLACES));
                exchange(&place, &self.others[random.below(self.others.len())]);
            } else {
                let theirs = &self.theirs[random.below(self.theirs.len())];
                match random.below(3) {
                    // Another adversary may have done so already.
                    0 => drop(unlinkat(theirs, ".git", AtFlags::empty())),
                    1 => self.put_inside(theirs, &self.safe),
                    // Itself.
                    _ => self.put_inside(theirs, Path::new(".")),
                }
            }
        }
    }

    /// A link of the other user's, which is his from the first moment.
    fn put_inside(&self, directory: &OwnedFd, target: &Path) {
        let spare = self.scratch.root().join(format!("{:?}", std::thread::current().id()));
        symlink(target, &spare).unwrap();
        std::os::unix::fs::lchown(&spare, Some(OTHER), Some(OTHER)).unwrap();
        renameat(CWD, &spare, directory, ".git").unwrap();
    }
}
