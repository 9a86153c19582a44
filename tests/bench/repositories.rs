//! The repositories that are served, made once with `git fast-import` and kept under `target/` between runs.

use std::fs;
use std::path::{Path, PathBuf};

use crate::fast_import::{Noise, Stream, import, text};
use crate::{Result, git, progress};

/// Raised when what is made changes, so that no old repository is measured.
const VERSION: u32 = 2;

pub(crate) const SMALL: &str = "small.git";
pub(crate) const MANY_REFERENCES: &str = "references.git";
pub(crate) const BULK: &str = "bulk.git";
pub(crate) const HISTORY: &str = "history.git";
/// Where pushes go: a link to an empty repository, a new one for each.
pub(crate) const TARGET: &str = "target.git";

pub(crate) const BULK_BLOBS: usize = 320;
pub(crate) const PUSHED_BLOBS: usize = 110;
pub(crate) const HISTORY_COMMITS: usize = 25_000;
/// As far as the client of the history scene has come, on a branch of its own.
pub(crate) const KNOWN_COMMITS: usize = 24_000;
const MIB: usize = 1 << 20;

pub(crate) struct Repositories {
    pub(crate) base_path: PathBuf,
}

impl Repositories {
    /// Finds or makes them all.
    pub(crate) fn prepare() -> Result<Self> {
        let base_path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("bench-{VERSION}"));
        fs::create_dir_all(&base_path)?;
        let repositories = Self { base_path };
        repositories.make(SMALL, "10 references", small)?;
        repositories.make(MANY_REFERENCES, "10,000 references", many_references)?;
        repositories.make(BULK, "320 MiB that cannot be compressed", bulk)?;
        repositories.make(HISTORY, "100,000 objects in 25,000 commits", history)?;
        Ok(repositories)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.base_path.join(name)
    }

    /// A repository appears under its name only when it is complete.
    fn make(
        &self,
        name: &str,
        what: &str,
        contents: impl FnOnce(&mut Stream) -> std::io::Result<()>,
    ) -> Result<()> {
        if self.path(name).exists() {
            return Ok(());
        }
        progress::say(&format!("making {name}: {what}"));
        let partial = self.path(&format!("{name}.partial"));
        remove(&partial)?;
        init(&partial)?;
        import(&partial, contents)?;
        git::output(&partial, &["pack-refs", "--all"])?;
        fs::rename(&partial, self.path(name))?;
        Ok(())
    }

    pub(crate) fn tip(&self, name: &str) -> Result<String> {
        git::output(&self.path(name), &["rev-parse", "refs/heads/main"])
    }
}

/// An empty bare repository whose only template is no template: sample hooks would be copied by every clone.
pub(crate) fn init(path: &Path) -> Result<()> {
    let path = path.to_str().ok_or("the target directory's name is not UTF-8")?;
    git::output(
        Path::new("/"),
        &["init", "--quiet", "--bare", "--template=", "--initial-branch=main", path],
    )?;
    Ok(())
}

pub(crate) fn remove(path: &Path) -> Result<()> {
    if path.exists() {
        fs::remove_dir_all(path)?;
    }
    Ok(())
}

/// Ten commits, each with its branch; a few dozen small files.
fn small(stream: &mut Stream) -> std::io::Result<()> {
    for commit in 0..10 {
        stream.commit(
            "main",
            commit,
            &format!("src/part{}/file{commit}.txt", commit % 3),
            &text(commit, 40),
        )?;
        if commit > 0 {
            stream.reference(&format!("heads/topic-{commit}"), "main")?;
        }
    }
    Ok(())
}

fn many_references(stream: &mut Stream) -> std::io::Result<()> {
    for commit in 0..100 {
        stream.commit("main", commit, &format!("file{}.txt", commit % 10), &text(commit, 20))?;
        for reference in 0..100 {
            stream.reference(&format!("tags/release-{commit:03}-{reference:03}"), "main")?;
        }
    }
    Ok(())
}

fn bulk(stream: &mut Stream) -> std::io::Result<()> {
    let mut noise = Noise(0x9e37_79b9_7f4a_7c15);
    for blob in 0..BULK_BLOBS {
        stream.commit("main", blob, &format!("blob{blob:03}.bin"), &noise.bytes(MIB))?;
        if blob + 1 == PUSHED_BLOBS {
            stream.reference("heads/pushed", "main")?;
        }
    }
    Ok(())
}

/// Four objects for each commit: itself, two trees, one blob.
fn history(stream: &mut Stream) -> std::io::Result<()> {
    for commit in 0..HISTORY_COMMITS {
        stream.commit(
            "main",
            commit,
            &format!("dir{:02}/file{:02}.txt", commit % 37, commit % 53),
            &text(commit, 3),
        )?;
        if commit + 1 == KNOWN_COMMITS {
            stream.reference("heads/known", "main")?;
        }
    }
    Ok(())
}
