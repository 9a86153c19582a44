//! A repository of pseudo-random bytes, the same in every run.

use std::path::PathBuf;

use crate::support::random::Random;
use crate::support::{Git, Scratch};

/// How many files of 200 kB the large repository has.
const LARGE: usize = 40;

/// `/large.git`: some megabytes that do not compress, so that a clone lasts for a while and fills the buffers of both
/// ends.
pub fn large(scratch: &Scratch) -> PathBuf {
    let repository = scratch.bare("large.git");
    let work = scratch.root().join("work");
    let git = || Git::new(scratch).cwd(&work);
    Git::new(scratch).args(["clone", "-q"]).args([&repository, &work]).ok();
    let mut random = Random::of(1, 0);
    for n in 0..LARGE {
        let noise: Vec<u8> = (0..25_000).flat_map(|_| random.next().to_le_bytes()).collect();
        std::fs::write(work.join(format!("noise{n}")), noise).unwrap();
    }
    git().args(["add", "."]).ok();
    git().args(["commit", "-qm", "noise"]).ok();
    git().args(["push", "-q", "origin", "main"]).ok();
    repository
}
