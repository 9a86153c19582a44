//! What lies on disk: a list of entries, made one after the other in a scratch directory.
//!
//! A list is data, so that a failing one can be printed, and made smaller by leaving entries out. An entry that makes
//! no sense (any more) is passed over; both daemons see the same whatever comes of it.

use std::ffi::OsStr;
use std::fmt::{self, Display, Formatter};
use std::fs;
use std::io::{self, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown, symlink};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tempfile::TempDir;

use crate::support::scratch::chmod;
use crate::support::{Git, Scratch};

/// Bytes of a path or a file; `$ROOT`, `$ID` and `$ID256` stand for what is known only when it is made.
pub type Text = Vec<u8>;

/// How many repositories can be told apart.
pub const COMMITS: usize = 48;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// A bare repository that has one commit, whose number tells it from all others.
    Repository {
        path: Text,
        commit: usize,
        sha256: bool,
    },
    File {
        path: Text,
        contents: Text,
    },
    Append {
        path: Text,
        contents: Text,
    },
    Link {
        path: Text,
        target: Text,
    },
    Directory {
        path: Text,
    },
    /// Neither a directory nor a regular file.
    Socket {
        path: Text,
    },
    Remove {
        path: Text,
    },
    Mode {
        path: Text,
        mode: u32,
    },
    /// Another owner, of a symbolic link itself; with `whole`, of all below too.
    Owner {
        path: Text,
        uid: u32,
        whole: bool,
    },
}

/// The objects of all repositories, made once by the real git.
pub struct Seeds {
    directory: TempDir,
    sha1: Vec<String>,
    sha256: Vec<String>,
}

impl Seeds {
    pub fn make(scratch: &Scratch) -> Self {
        let directory = TempDir::new().unwrap();
        chmod(directory.path(), 0o755);
        let make = |format: &str| {
            let git = || Git::of_server(scratch).cwd(directory.path());
            git()
                .args(["init", "--quiet", "--bare", "--template="])
                .arg(format!("--object-format={format}"))
                .arg(format)
                .ok();
            let mut import = git()
                .arg("-C")
                .arg(format)
                .args(["-c", "fastimport.unpackLimit=1", "fast-import", "--quiet"])
                .into_command();
            let mut import = import.stdin(Stdio::piped()).spawn().unwrap();
            import.stdin.take().unwrap().write_all(history().as_bytes()).unwrap();
            assert!(import.wait().unwrap().success());
            let ids =
                git().arg("-C").arg(format).args(["for-each-ref", "--format=%(objectname)"]).ok();
            ids.lines().map(str::to_owned).collect::<Vec<_>>()
        };
        let (sha1, sha256) = (make("sha1"), make("sha256"));
        assert_eq!((sha1.len(), sha256.len()), (COMMITS, COMMITS));
        Self { directory, sha1, sha256 }
    }

    /// The text with everything filled in.
    pub fn expand(&self, text: &[u8], root: &Path) -> Text {
        let text = replace(text, b"$ROOT", root.as_os_str().as_bytes());
        let text = replace(&text, b"$ID256", self.sha256[0].as_bytes());
        replace(&text, b"$ID", self.sha1[0].as_bytes())
    }
}

fn history() -> String {
    let commit = |number: usize| {
        let (name, line) = (name(number), format!("this is {}\n", name(number)));
        format!(
            "commit refs/heads/{name}\ncommitter A U Thor <author@example.com> 1700000000 +0000\ndata 5\nfirst\n\
             M 100644 inline name\ndata {}\n{line}\n",
            line.len()
        )
    };
    (0..COMMITS).map(commit).collect()
}

/// The branch of a repository.
pub fn name(commit: usize) -> String {
    format!("is-{commit:02}")
}

pub fn replace(text: &[u8], from: &[u8], to: &[u8]) -> Text {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.windows(from.len()).position(|window| window == from) {
        out.extend_from_slice(&rest[..at]);
        out.extend_from_slice(to);
        rest = &rest[at + from.len()..];
    }
    out.extend_from_slice(rest);
    out
}

/// Makes entries below one directory, and never touches anything outside of it: entries may lead through symbolic links
/// that lead anywhere.
pub struct Builder<'a> {
    root: PathBuf,
    seeds: &'a Seeds,
    /// The owner of everything that no entry gives to another.
    owner: Option<u32>,
}

impl<'a> Builder<'a> {
    pub fn new(root: &Path, seeds: &'a Seeds, owner: Option<u32>) -> Self {
        Self { root: root.canonicalize().unwrap(), seeds, owner }
    }

    pub fn build(&self, entries: &[Entry]) {
        for directory in ["srv", "home"] {
            self.own(&self.root.join(directory));
        }
        for entry in entries {
            // What makes no sense is passed over.
            let _ = self.make(entry);
        }
    }

    fn make(&self, entry: &Entry) -> io::Result<()> {
        match entry {
            Entry::Repository { path, commit, sha256 } => self.repository(path, *commit, *sha256),
            Entry::File { path, contents } => self.file(&self.place(path)?, &self.expand(contents)),
            Entry::Append { path, contents } => {
                let path = self.place(path)?;
                let mut text = fs::read(&path).unwrap_or_default();
                text.extend(self.expand(contents));
                self.file(&path, &text)
            }
            Entry::Link { path, target } => {
                let path = self.place(path)?;
                let _ = fs::remove_file(&path);
                symlink(OsStr::from_bytes(&self.expand(target)), &path)?;
                self.own(&path);
                Ok(())
            }
            Entry::Directory { path } => self.directories(&self.place(path)?),
            Entry::Socket { path } => {
                let path = self.place(path)?;
                std::os::unix::net::UnixListener::bind(&path)?;
                self.own(&path);
                Ok(())
            }
            Entry::Remove { path } => {
                let path = self.place(path)?;
                match fs::symlink_metadata(&path)?.is_dir() {
                    true => fs::remove_dir_all(path),
                    false => fs::remove_file(path),
                }
            }
            Entry::Mode { path, mode } => {
                let path = self.inside(&self.place(path)?.canonicalize()?)?;
                fs::set_permissions(path, fs::Permissions::from_mode(*mode))
            }
            Entry::Owner { path, uid, whole } => give(&self.place(path)?, *uid, *whole),
        }
    }

    fn repository(&self, path: &[u8], commit: usize, sha256: bool) -> io::Result<()> {
        let place = self.place(path)?;
        let (format, id) = match sha256 {
            true => ("sha256", &self.seeds.sha256[commit]),
            false => ("sha1", &self.seeds.sha1[commit]),
        };
        self.directories(&place.join("objects/info"))?;
        self.directories(&place.join("refs/heads"))?;
        let config = match sha256 {
            true => {
                "[core]\n\trepositoryformatversion = 1\n\tbare = true\n[extensions]\n\tobjectformat = sha256\n"
            }
            false => "[core]\n\trepositoryformatversion = 0\n\tbare = true\n",
        };
        let objects = self.seeds.directory.path().join(format).join("objects");
        let name = name(commit);
        self.file(&place.join("config"), config.as_bytes())?;
        self.file(&place.join("HEAD"), format!("ref: refs/heads/{name}\n").as_bytes())?;
        self.file(&place.join("objects/info/alternates"), objects.as_os_str().as_bytes())?;
        self.file(&place.join("refs/heads").join(name), format!("{id}\n").as_bytes())
    }

    /// Where an entry's path is; its directories are made.
    fn place(&self, path: &[u8]) -> io::Result<PathBuf> {
        let path = self.root.join(std::ffi::OsString::from_vec(self.expand(path)));
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        self.directories(parent)?;
        Ok(self.inside(&parent.canonicalize()?)?.join(name))
    }

    fn inside(&self, path: &Path) -> io::Result<PathBuf> {
        match path.starts_with(&self.root) {
            true => Ok(path.to_owned()),
            false => Err(io::ErrorKind::PermissionDenied.into()),
        }
    }

    fn directories(&self, path: &Path) -> io::Result<()> {
        if path.is_dir() {
            return Ok(());
        }
        let parent = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
        self.directories(parent)?;
        self.inside(&parent.canonicalize()?)?;
        fs::create_dir(path)?;
        self.own(path);
        Ok(())
    }

    fn file(&self, path: &Path, contents: &[u8]) -> io::Result<()> {
        self.inside(&path.parent().ok_or(io::ErrorKind::InvalidInput)?.canonicalize()?)?;
        if fs::symlink_metadata(path).is_ok_and(|found| found.is_symlink()) {
            fs::remove_file(path)?;
        }
        fs::write(path, contents)?;
        self.own(path);
        Ok(())
    }

    fn own(&self, path: &Path) {
        if let Some(uid) = self.owner {
            lchown(path, Some(uid), Some(uid)).unwrap();
        }
    }

    fn expand(&self, text: &[u8]) -> Text {
        self.seeds.expand(text, &self.root)
    }
}

fn give(path: &Path, uid: u32, whole: bool) -> io::Result<()> {
    lchown(path, Some(uid), Some(uid))?;
    if whole && fs::symlink_metadata(path)?.is_dir() {
        for entry in fs::read_dir(path)? {
            give(&entry?.path(), uid, true)?;
        }
    }
    Ok(())
}

/// Makes a tree deletable again, whatever modes its entries have.
pub fn open_up(path: &Path) {
    let Ok(found) = fs::symlink_metadata(path) else { return };
    if !found.is_dir() {
        return;
    }
    if found.mode() & 0o700 != 0o700 {
        let _ = fs::set_permissions(path, fs::Permissions::from_mode(0o755));
    }
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        open_up(&entry.path());
    }
}

impl Display for Entry {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Entry::Repository { path, commit, sha256 } => {
                let format = if *sha256 { " (SHA-256)" } else { "" };
                write!(
                    f,
                    "repository {} with branch {}{format}",
                    path.escape_ascii(),
                    name(*commit)
                )
            }
            Entry::File { path, contents } => {
                write!(f, "file {} with \"{}\"", path.escape_ascii(), shown(contents))
            }
            Entry::Append { path, contents } => {
                write!(f, "append to {}: \"{}\"", path.escape_ascii(), shown(contents))
            }
            Entry::Link { path, target } => {
                write!(f, "symlink {} -> {}", path.escape_ascii(), target.escape_ascii())
            }
            Entry::Directory { path } => write!(f, "directory {}", path.escape_ascii()),
            Entry::Socket { path } => write!(f, "socket {}", path.escape_ascii()),
            Entry::Remove { path } => write!(f, "remove {}", path.escape_ascii()),
            Entry::Mode { path, mode } => write!(f, "chmod {mode:o} {}", path.escape_ascii()),
            Entry::Owner { path, uid, whole } => {
                write!(f, "chown {}{uid} {}", if *whole { "-R " } else { "" }, path.escape_ascii())
            }
        }
    }
}

/// Bytes for a reader; what is repeated is counted.
pub fn shown(bytes: &[u8]) -> String {
    let mut text = String::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let repeated = |period: usize| {
            let same =
                rest.iter().zip(rest.iter().skip(period)).take_while(|(a, b)| a == b).count();
            (same / period + 1, period)
        };
        let (times, period) = [1, 2].map(repeated).into_iter().max().unwrap_or((1, 1));
        match times {
            0..=16 => {
                text.push_str(&rest[..1].escape_ascii().to_string());
                rest = &rest[1..];
            }
            _ => {
                text.push_str(&format!("<{times} times {}>", rest[..period].escape_ascii()));
                rest = &rest[times * period..];
            }
        }
    }
    text
}
