//! Finding a repository on disk: the search for suffixes, gitfiles, and the question whether a
//! directory is a git directory at all (contract 36 to 39).
//!
//! What is found is held open as an `O_PATH` descriptor, so that what was checked is what is served,
//! whatever happens to its name meanwhile; and every later check names its files relative to it.

use std::ffi::CString;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::pointer::{self, MAX_GITFILE, MAX_HEAD};
use crate::sys::descriptor::{self, Access, Base, Kind};
use crate::sys::{account, errno_text};

/// The longest path that is looked at, in bytes with the NUL that ends it.
pub const MAX_PATH: usize = 4096;

/// A `commondir` is read up to here; no path is as long.
const MAX_COMMON_DIRECTORY: usize = 1 << 16;

/// Most files that gitd reads are smaller than this.
const FIRST_READ: usize = 2048;

/// The most symbolic links on the way to a name.
const MAX_LINKS: usize = 32;

/// A configuration file larger than this is not searched for words; git is asked instead.
const MAX_CONFIG: usize = 1 << 20;

/// The suffixes that are tried, in this order.
const SUFFIXES: [&[u8]; 4] = [b"/.git", b"", b".git/.git", b".git"];

/// Why no repository was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Miss {
    /// There is none; it may be looked for elsewhere.
    Nothing,
    /// What is there is broken: git looks no further.
    Broken,
}

/// A git directory that exists. Nothing is said about whether it may be served.
#[derive(Debug)]
pub struct Repository {
    /// The path it was found under: as requested, with the suffix that matched, without trailing
    /// slashes, no symbolic link resolved.
    pub path: Vec<u8>,
    /// The same as the file system knows it: behind a gitfile, the git directory.
    pub location: Vec<u8>,
    directory: OwnedFd,
    /// Where the objects, refs and configuration are, if the git directory is a worktree's.
    common: Option<OwnedFd>,
    owners: Vec<u32>,
    /// The gitfile that it was found through.
    gitfile: Option<OwnedFd>,
}

impl Repository {
    /// Searches `path` with git's suffixes. A regular file that is a gitfile stands for the git
    /// directory it names; any other regular file ends the search as if nothing were there, so that
    /// nobody can probe for files (B7).
    ///
    /// # Errors
    /// [`Miss`]
    pub fn search(path: &[u8]) -> Result<Self, Miss> {
        let end = path.iter().rposition(|&octet| octet != b'/').map_or(1, |last| last + 1);
        let stem = path.get(..end).ok_or(Miss::Nothing)?;
        let mut found = SUFFIXES.iter().map(|suffix| Self::look([stem, suffix].concat()));
        found.find(|look| !matches!(look, Err(Miss::Nothing))).unwrap_or(Err(Miss::Nothing))
    }

    /// Takes `path` literally, as `--strict-paths` wants it; what is found through a gitfile is named
    /// as it is. What is not there, or not ours, ends the search: git asks whose it is before it asks
    /// what it is (contract 44).
    ///
    /// # Errors
    /// [`Miss`]
    pub fn exactly(path: &[u8]) -> Result<Self, Miss> {
        match Self::look(path.to_vec()) {
            Ok(found) => Ok(Repository { path: found.location.clone(), ..found }),
            Err(Miss::Nothing) if is_ours(path) => Err(Miss::Nothing),
            Err(_) => Err(Miss::Broken),
        }
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

    /// The name that `safe.directory` must have, without any symbolic link: that of the gitfile where
    /// there is one, else that of the directory.
    #[must_use]
    pub fn safe_name(&self) -> Vec<u8> {
        let named = self.gitfile.as_ref().unwrap_or(&self.directory);
        descriptor::real_path(named).unwrap_or_default()
    }

    /// Whether there is something called `.git` in it.
    #[must_use]
    pub fn contains_dot_git(&self) -> bool {
        descriptor::status(Base::Directory(self.directory()), c".git", false).is_ok()
    }

    /// Whether git, given `name` for a directory, would find another repository inside it first. One that
    /// is bare may have a link to itself there, for programs that want a `.git`.
    #[must_use]
    pub fn hides_another(name: &[u8]) -> bool {
        match Self::look([name, SUFFIXES[0]].concat()) {
            Ok(inside) => inside.safe_name() != name,
            Err(miss) => !matches!(miss, Miss::Nothing),
        }
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

    fn look(path: Vec<u8>) -> Result<Self, Miss> {
        let nothing = |_| Miss::Nothing;
        if path.len() >= MAX_PATH {
            return Err(Miss::Nothing);
        }
        let name = CString::new(path.as_slice()).map_err(|_| Miss::Nothing)?;
        let found = descriptor::locate(Base::WorkingDirectory, &name).map_err(nothing)?;
        match descriptor::status_of(&found).map_err(nothing)?.kind {
            Kind::Directory => {
                let common = common_directory(found.as_fd())?;
                let status = descriptor::status(Base::WorkingDirectory, &name, false);
                Ok(Repository {
                    location: path.clone(),
                    path,
                    directory: found,
                    common,
                    owners: vec![status.map_err(nothing)?.owner],
                    gitfile: None,
                })
            }
            Kind::Regular => Self::follow_gitfile(path, &name, found).ok_or(Miss::Broken),
            Kind::Symlink | Kind::Other => Err(Miss::Nothing),
        }
    }

    fn follow_gitfile(path: Vec<u8>, name: &CString, gitfile: OwnedFd) -> Option<Self> {
        let text = read(Base::WorkingDirectory, name, MAX_GITFILE + 1).ok()?;
        if text.len() > MAX_GITFILE {
            return None;
        }
        let target = CString::new(pointer::gitfile_target(&text, &path)?).ok()?;
        let directory = descriptor::locate(Base::WorkingDirectory, &target).ok()?;
        let common = common_directory(directory.as_fd()).ok()?;
        // A symbolic link in the place of the target does not count: its own target does.
        let owners = [
            descriptor::status(Base::WorkingDirectory, name, false),
            descriptor::status_of(&directory),
        ];
        let owners = owners.into_iter().map(|status| status.map(|found| found.owner));
        let owners = owners.collect::<io::Result<_>>().ok()?;
        let location = descriptor::real_path(&directory).ok()?;
        let gitfile = Some(gitfile);
        Some(Repository { path, location, directory, common, owners, gitfile })
    }
}

fn is_ours(path: &[u8]) -> bool {
    let Ok(name) = CString::new(path) else { return false };
    let status = descriptor::status(Base::WorkingDirectory, &name, false);
    status.is_ok_and(|found| found.owner == account::effective_uid())
}

/// Whether `directory` is a git directory (contract 39), and where its common directory is if that is
/// another one.
fn common_directory(directory: BorrowedFd<'_>) -> Result<Option<OwnedFd>, Miss> {
    let base = Base::Directory(directory);
    if !head_is_valid(base) {
        return Err(Miss::Nothing);
    }
    let common = match descriptor::status(base, c"commondir", false) {
        Ok(_) => Some(follow_common_directory(base)?),
        Err(_) => None,
    };
    let shared = common.as_ref().map_or(base, |common| Base::Directory(common.as_fd()));
    let reachable = |name| descriptor::access(shared, name, Access::Execute).is_ok();
    if reachable(c"objects") && reachable(c"refs") { Ok(common) } else { Err(Miss::Nothing) }
}

/// git dies of a `commondir` that it cannot read or resolve; but where only the last part of the path
/// is missing, it is as if this were no git directory.
fn follow_common_directory(base: Base<'_>) -> Result<OwnedFd, Miss> {
    let text = read(base, c"commondir", MAX_COMMON_DIRECTORY).map_err(|_| Miss::Broken)?;
    let path = pointer::common_directory(&text).ok_or(Miss::Broken)?;
    let name = CString::new(path).map_err(|_| Miss::Broken)?;
    let missing = || if lacks_last_part(base, path) { Miss::Nothing } else { Miss::Broken };
    descriptor::locate(base, &name).map_err(|_| missing())
}

/// Whether nothing but the last part of `path` is missing, also when that is a symbolic link.
fn lacks_last_part(base: Base<'_>, path: &[u8]) -> bool {
    let mut path = path.to_vec();
    let mut held: Option<OwnedFd> = None;
    for _ in 0..MAX_LINKS {
        let base = held.as_ref().map_or(base, |held| Base::Directory(held.as_fd()));
        let (parent, last) = pointer::split_last(&path);
        let (Ok(parent), Ok(last)) = (CString::new(parent), CString::new(last)) else {
            return false;
        };
        let Ok(parent) = descriptor::locate(base, &parent) else { return false };
        match descriptor::read_link(Base::Directory(parent.as_fd()), &last) {
            Ok(target) => path = target,
            Err(error) => return error.kind() == io::ErrorKind::NotFound,
        }
        held = Some(parent);
    }
    false
}

fn head_is_valid(base: Base<'_>) -> bool {
    match descriptor::read_link(base, c"HEAD") {
        Ok(target) => pointer::head_link_is_valid(&target),
        Err(_) => read(base, c"HEAD", MAX_HEAD).is_ok_and(|text| pointer::head_is_valid(&text)),
    }
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

/// The text of a configuration file, as [`Repository::config`] says.
#[must_use]
pub fn read_config(base: Base<'_>, name: &std::ffi::CStr) -> Option<Vec<u8>> {
    match read(base, name, MAX_CONFIG) {
        Ok(text) if text.len() < MAX_CONFIG => Some(text),
        Ok(_) => None,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Some(Vec::new()),
        Err(_) => None,
    }
}

fn read(base: Base<'_>, name: &std::ffi::CStr, most: usize) -> io::Result<Vec<u8>> {
    let mut file = descriptor::open_to_read(base, name)?;
    let mut text = vec![0; FIRST_READ.min(most)];
    let length = file.read(&mut text)?;
    text.truncate(length);
    // A short read need not be the whole file: network and FUSE file systems may give less.
    if length > 0 {
        file.take((most - length) as u64).read_to_end(&mut text)?;
    }
    Ok(text)
}
