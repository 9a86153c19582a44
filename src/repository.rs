//! Finding a repository on disk: the search for suffixes, gitfiles, and the question whether a
//! directory is a git directory at all (contract 36 to 39).
//!
//! What is found is held open as an `O_PATH` descriptor, so that what was checked is what is served,
//! whatever happens to its name meanwhile; and every later check names its files relative to it.

use std::ffi::{CString, OsStr};
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use crate::sys::descriptor::{self, Access, Base, Kind};
use crate::sys::errno_text;

/// The longest path that is looked at, in bytes with the NUL that ends it.
pub const MAX_PATH: usize = 4096;

/// A gitfile or a HEAD larger than this is nobody's.
const MAX_SMALL_FILE: u64 = 4096 + 64;

/// Most files that gitd reads are smaller than this.
const FIRST_READ: usize = 2048;

/// A configuration file larger than this is not searched for words; git is asked instead.
const MAX_CONFIG: u64 = 1 << 20;

/// The suffixes that are tried, in this order.
const SUFFIXES: [&[u8]; 4] = [b"/.git", b"", b".git/.git", b".git"];

/// A git directory that exists. Nothing is said about whether it may be served.
#[derive(Debug)]
pub struct Repository {
    /// The path it was found under: as requested, with the suffix that matched, without trailing
    /// slashes, no symbolic link resolved.
    pub path: Vec<u8>,
    directory: OwnedFd,
    /// What the gitfile named, if there was one.
    target: Option<Vec<u8>>,
    /// Where the objects, refs and configuration are, if the git directory is a worktree's.
    common: Option<OwnedFd>,
    owners: Vec<u32>,
}

impl Repository {
    /// Searches `path` with git's suffixes. A regular file that is a gitfile stands for the git
    /// directory it names; any other regular file ends the search as if nothing were there, so that
    /// nobody can probe for files (B7).
    #[must_use]
    pub fn search(path: &[u8]) -> Option<Self> {
        let end = path.iter().rposition(|&octet| octet != b'/').map_or(1, |last| last + 1);
        let stem = path.get(..end)?;
        SUFFIXES.iter().find_map(|suffix| Self::look([stem, suffix].concat())).flatten()
    }

    /// Takes `path` literally, as `--strict-paths` wants it. Behind a gitfile the path it was found
    /// under is that of the git directory, resolved: the directories on the command line must name
    /// that one.
    #[must_use]
    pub fn exactly(path: &[u8]) -> Option<Self> {
        let mut repository = Self::look(path.to_vec()).flatten()?;
        if let Some(target) = repository.target.take() {
            let target = std::fs::canonicalize(OsStr::from_bytes(&target)).ok()?;
            repository.path = target.into_os_string().into_vec();
        }
        Some(repository)
    }

    /// The git directory itself, good for `fchdir` and as a base of relative names.
    #[must_use]
    pub fn directory(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }

    /// The users that own the name it was found under and, behind a gitfile, its git directory. Of a
    /// symbolic link the link's own owner counts (contract 45).
    #[must_use]
    pub fn owners(&self) -> &[u32] {
        &self.owners
    }

    /// Whether its owner exported it (contract 54).
    #[must_use]
    pub fn exported(&self) -> bool {
        let base = Base::Directory(self.directory.as_fd());
        descriptor::access(base, c"git-daemon-export-ok", Access::Exists).is_ok()
    }

    /// The text of its configuration file; `None` where only git can tell what it says: it cannot be
    /// read, or is too large to be looked through. A missing file is empty.
    #[must_use]
    pub fn config(&self) -> Option<Vec<u8>> {
        let directory = self.common.as_ref().unwrap_or(&self.directory);
        read_config(Base::Directory(directory.as_fd()), c"config")
    }

    /// `None`: the search goes on. `Some(None)`: it ends without a repository.
    fn look(path: Vec<u8>) -> Option<Option<Self>> {
        if path.len() >= MAX_PATH {
            return None;
        }
        let name = CString::new(path.as_slice()).ok()?;
        let found = descriptor::locate(Base::WorkingDirectory, &name).ok()?;
        match descriptor::status_of(&found).ok()?.kind {
            Kind::Directory => {
                let common = common_directory(found.as_fd())?;
                let owner = descriptor::status(Base::WorkingDirectory, &name, false).ok()?.owner;
                Some(Some(Repository {
                    path,
                    directory: found,
                    target: None,
                    common,
                    owners: vec![owner],
                }))
            }
            Kind::Regular => Some(Self::follow_gitfile(path, &name)),
            Kind::Symlink | Kind::Other => None,
        }
    }

    fn follow_gitfile(path: Vec<u8>, name: &CString) -> Option<Self> {
        let text = read_small(Base::WorkingDirectory, name).ok()?;
        let target = text.strip_prefix(b"gitdir: ")?;
        let end = target.iter().rposition(|octet| !matches!(octet, b'\n' | b'\r'))? + 1;
        let target = match &target[..end] {
            absolute @ [b'/', ..] => absolute.to_vec(),
            relative => {
                let slash = path.iter().rposition(|&octet| octet == b'/');
                [&path[..slash.map_or(0, |slash| slash + 1)], relative].concat()
            }
        };
        let target = CString::new(target).ok()?;
        let directory = descriptor::locate(Base::WorkingDirectory, &target).ok()?;
        let common = common_directory(directory.as_fd())?;
        let file = descriptor::status(Base::WorkingDirectory, name, false).ok()?;
        let owners = vec![file.owner, descriptor::status_of(&directory).ok()?.owner];
        let target = Some(target.into_bytes());
        Some(Repository { path, directory, target, common, owners })
    }
}

/// Whether `directory` is a git directory (contract 39), and where its common directory is if that is
/// another one. The outer `None` says that it is none.
fn common_directory(directory: BorrowedFd<'_>) -> Option<Option<OwnedFd>> {
    let base = Base::Directory(directory);
    if !head_is_valid(base) {
        return None;
    }
    let common = match read_small(base, c"commondir") {
        Ok(text) => {
            let end = text.iter().rposition(|octet| !matches!(octet, b'\n' | b'\r'));
            let path = CString::new(&text[..end.map_or(0, |last| last + 1)]).ok()?;
            Some(descriptor::locate(base, &path).ok()?)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(_) => return None,
    };
    let shared = common.as_ref().map_or(base, |common| Base::Directory(common.as_fd()));
    let reachable = |name| descriptor::access(shared, name, Access::Execute).is_ok();
    (reachable(c"objects") && reachable(c"refs")).then_some(common)
}

/// HEAD names a ref or an object, or is a symbolic link to a ref as git made them in 2005.
fn head_is_valid(base: Base<'_>) -> bool {
    if let Ok(target) = descriptor::read_link(base, c"HEAD") {
        return target.starts_with(b"refs/");
    }
    let Ok(text) = read_small(base, c"HEAD") else { return false };
    if let Some(target) = text.strip_prefix(b"ref:") {
        return target.trim_ascii_start().starts_with(b"refs/");
    }
    text.len() >= 40 && text[..40].iter().all(u8::is_ascii_hexdigit)
}

/// What keeps `path` from being a repository, in words for the log. Only asked after a search found
/// nothing; the client never hears it.
#[must_use]
pub fn diagnose(path: &[u8]) -> String {
    let Ok(name) = CString::new(path) else { return "the path contains a NUL byte".to_owned() };
    let found = match descriptor::locate(Base::WorkingDirectory, &name) {
        Ok(found) => found,
        Err(error) => return errno_text(&error),
    };
    match descriptor::status_of(&found).map(|status| status.kind) {
        Ok(Kind::Directory) => {}
        Ok(Kind::Regular) => {
            return "it is a file, and does not lead to a git directory".to_owned();
        }
        Ok(Kind::Symlink | Kind::Other) => return "it is neither directory nor file".to_owned(),
        Err(error) => return errno_text(&error),
    }
    let base = Base::Directory(found.as_fd());
    for (name, access) in
        [(c"HEAD", Access::Exists), (c"objects", Access::Execute), (c"refs", Access::Execute)]
    {
        if let Err(error) = descriptor::access(base, name, access) {
            return format!("{}: {}", name.to_string_lossy(), errno_text(&error));
        }
    }
    "HEAD or commondir: unreadable or invalid".to_owned()
}

fn read_small(base: Base<'_>, name: &std::ffi::CStr) -> io::Result<Vec<u8>> {
    read(base, name, MAX_SMALL_FILE)
}

/// The text of a configuration file, as [`Repository::config`] says.
#[must_use]
pub fn read_config(base: Base<'_>, name: &std::ffi::CStr) -> Option<Vec<u8>> {
    match read(base, name, MAX_CONFIG) {
        Ok(text) if (text.len() as u64) < MAX_CONFIG => Some(text),
        Ok(_) => None,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Some(Vec::new()),
        Err(_) => None,
    }
}

fn read(base: Base<'_>, name: &std::ffi::CStr, most: u64) -> io::Result<Vec<u8>> {
    let mut file = descriptor::open_to_read(base, name)?;
    let mut text = vec![0; FIRST_READ];
    let length = file.read(&mut text)?;
    text.truncate(length);
    // Of a regular file a short read is the whole file; asking for its end would be one call more.
    if length == FIRST_READ {
        file.take(most - FIRST_READ as u64).read_to_end(&mut text)?;
    }
    Ok(text)
}
