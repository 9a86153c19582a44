//! The repository that is cloned: blobs that do not compress, so that its pack is as long on the wire as on the disk.

use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::host::succeed;

/// A bare repository under the build directory: made once, used by all.
#[derive(Debug)]
pub struct Repository {
    path: PathBuf,
}

impl Repository {
    /// A repository of `megabytes` blobs of 1,000,000 random bytes each.
    pub fn of_megabytes(megabytes: u32) -> Self {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("lab-{megabytes}/r.git"));
        if !path.exists() {
            build(&path, megabytes);
        }
        Self { path }
    }

    /// The directory that a daemon serves.
    pub fn base(&self) -> &Path {
        self.path.parent().unwrap()
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes that a clone brings.
    pub fn pack_bytes(&self) -> u64 {
        pack_bytes(&self.path)
    }

    pub fn tip(&self) -> String {
        tip(&self.path)
    }
}

/// git, apart from this user's configuration.
pub fn git(directory: &Path) -> Command {
    let mut git = Command::new("git");
    isolate(&mut git);
    git.arg("-C").arg(directory);
    git
}

pub fn isolate(command: &mut Command) {
    command
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("LC_ALL", "C")
        .env_remove("GIT_PROXY_COMMAND")
        .env_remove("GIT_ENABLE_MPTCP");
}

pub fn tip(repository: &Path) -> String {
    succeed(git(repository).args(["rev-parse", "refs/heads/master"])).trim().to_owned()
}

/// The length of all packs of a bare repository, those on their way included.
pub fn pack_bytes(repository: &Path) -> u64 {
    bytes_of_packs(&repository.join("objects/pack"))
}

/// The same of a directory of packs.
pub fn bytes_of_packs(directory: &Path) -> u64 {
    let Ok(files) = directory.read_dir() else {
        return 0;
    };
    files
        .flatten()
        .filter(|file| {
            let name = file.file_name();
            let name = name.to_string_lossy();
            name.starts_with("tmp_pack_") || name.ends_with(".pack")
        })
        .map(|file| file.metadata().map_or(0, |metadata| metadata.len()))
        .sum()
}

fn build(path: &Path, megabytes: u32) {
    let target = path.parent().unwrap();
    let parent = target.parent().unwrap();
    let temporary = tempfile::tempdir_in(parent).unwrap();
    let repository = temporary.path().join("r.git");
    succeed(git(parent).args(["init", "-q", "--bare", "-b", "master"]).arg(&repository));
    let mut import = git(&repository)
        .args([
            "-c",
            "core.compression=0",
            "-c",
            "fastimport.unpackLimit=0",
            "fast-import",
            "--quiet",
        ])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    write_history(import.stdin.take().unwrap(), megabytes);
    assert!(import.wait().unwrap().success());
    // Whoever comes second throws his away: they are equal.
    let _ = std::fs::rename(temporary.path(), target);
    assert!(path.exists());
}

fn write_history(stdin: impl Write, megabytes: u32) {
    let mut out = BufWriter::new(stdin);
    let mut blob = vec![0; 1_000_000];
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for mark in 1..=megabytes {
        for bytes in blob.chunks_mut(8) {
            // xorshift64: random enough for zlib.
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            bytes.copy_from_slice(&state.to_le_bytes()[..bytes.len()]);
        }
        writeln!(out, "blob\nmark :{mark}\ndata {}", blob.len()).unwrap();
        out.write_all(&blob).unwrap();
    }
    let who = "a <a@example.org> 1700000000 +0000";
    writeln!(out, "commit refs/heads/master\ncommitter {who}\ndata 3\nbig").unwrap();
    for mark in 1..=megabytes {
        writeln!(out, "M 100644 :{mark} file{mark}").unwrap();
    }
    out.flush().unwrap();
}
