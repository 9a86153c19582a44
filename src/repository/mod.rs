//! Finds a repository on disk: the search for suffixes, gitfiles, and the check whether a directory
//! is a git directory (contract 36 to 39).
//!
//! The repository is held open as an `O_PATH` descriptor, and every later check names its files
//! relative to it. So the repository that was checked is the one that is served, even if its name
//! changes meanwhile.

pub mod name;
pub mod pointer;

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;

use rustix::fs::{Access, CWD, FileType};
use rustix::process::geteuid;

use crate::repository::name::{MAX_PATH, Named};
use crate::repository::pointer::{MAX_GITFILE, MAX_HEAD};
use crate::sys::shortage::{Found, Shortage, found};
use crate::sys::{descriptor, errno_text};

/// How many bytes of a `commondir` are read; no path is longer.
const MAX_COMMON_DIRECTORY: usize = 1 << 16;

/// The size of the first read; most files that git reads are smaller.
const FIRST_READ: usize = 2048;

/// The most symbolic links followed for one name.
const MAX_LINKS: usize = 32;

/// A larger configuration file is not searched for words; git is asked instead.
const MAX_CONFIG: usize = 1 << 20;

/// The suffixes that are tried, in this order.
const SUFFIXES: [&[u8]; 4] = [b"/.git", b"", b".git/.git", b".git"];

/// A directory with this name inside another may be a separate repository.
const DOT_GIT: &[u8] = b".git";

/// The variable by which git finds the refs and the configuration of every repository elsewhere.
pub const COMMON_DIRECTORY: &str = "GIT_COMMON_DIR";
/// The same for the objects.
pub const OBJECT_DIRECTORY: &str = "GIT_OBJECT_DIRECTORY";

/// Why no repository was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Miss {
    /// There is none; the caller may look elsewhere.
    Nothing,
    /// The path is broken: git looks no further.
    Broken,
    /// Nobody knows.
    Unknown(Shortage),
}

impl From<Shortage> for Miss {
    fn from(shortage: Shortage) -> Self {
        Miss::Unknown(shortage)
    }
}

/// A git directory that exists. It may still be refused.
#[derive(Debug)]
pub struct Repository {
    /// The path it was found under: as requested, with the suffix that matched, without trailing
    /// slashes, with symbolic links unresolved.
    pub path: Vec<u8>,
    /// The resolved path: behind a gitfile, the git directory.
    pub location: Vec<u8>,
    directory: OwnedFd,
    /// The directory of the objects, refs and configuration, if the git directory is a worktree's.
    common: Option<OwnedFd>,
    owners: Vec<u32>,
    /// The gitfile that it was found through.
    gitfile: Option<OwnedFd>,
}

impl Repository {
    /// Searches `path` with git's suffixes. A gitfile stands for the git directory that it names.
    /// Any other regular file ends the search as if it did not exist, so that clients cannot probe
    /// for files (B7).
    ///
    /// `see` gets each path that was looked at.
    pub fn search(path: &[u8], see: impl FnMut(&[u8], Result<(), Miss>)) -> Result<Self, Miss> {
        if path.is_empty() {
            return Err(Miss::Nothing);
        }
        Self::search_behind(stem(path), see)
    }

    /// The same, with the suffixes appended to `stem` as it is.
    pub fn search_behind(
        stem: &[u8],
        mut see: impl FnMut(&[u8], Result<(), Miss>),
    ) -> Result<Self, Miss> {
        let mut found = SUFFIXES.iter().map(|suffix| {
            let path = [stem, suffix].concat();
            let look = Self::look(&path);
            see(&path, look.as_ref().map(drop).map_err(|&miss| miss));
            look
        });
        found.find(|look| !matches!(look, Err(Miss::Nothing))).unwrap_or(Err(Miss::Nothing))
    }

    /// Takes `path` literally, as for `--strict-paths`; a repository behind a gitfile keeps that
    /// path. A path that does not exist or is another user's ends the search: git checks the owner
    /// before the type (contract 44).
    pub fn exactly(path: &[u8]) -> Result<Self, Miss> {
        let named = Named::hold(CWD, path)?.map_err(|_| Miss::Broken)?;
        let is_ours = named.owner == geteuid().as_raw();
        match Self::of(named, path.to_vec()) {
            Ok(found) => Ok(Repository { path: found.location.clone(), ..found }),
            Err(Miss::Nothing) if !is_ours => Err(Miss::Broken),
            missed => missed,
        }
    }

    /// The git directory itself, for `fchdir` and relative names.
    pub fn directory(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }

    /// The owners of the name it was found under and, behind a gitfile, of its git directory. For a
    /// symbolic link the link's own owner counts (contract 45).
    pub fn owners(&self) -> &[u32] {
        &self.owners
    }

    /// The name that `safe.directory` must contain, with symbolic links resolved: that of the
    /// gitfile if there is one, else that of the directory.
    pub fn safe_name(&self) -> Result<Vec<u8>, Shortage> {
        Ok(descriptor::real_path(self.named())?.unwrap_or_default())
    }

    /// Whether it was found through a gitfile.
    pub fn is_behind_gitfile(&self) -> bool {
        self.gitfile.is_some()
    }

    /// The directory that contains the repository, or its gitfile, under the last part of `name`;
    /// `None` if it is gone.
    pub fn directory_of(&self, name: &[u8]) -> Result<Option<OwnedFd>, Shortage> {
        let (parent, last) = pointer::split_last(name);
        let (Ok(parent), Ok(last)) = (CString::new(parent), CString::new(last)) else {
            return Ok(None);
        };
        let Ok(parent) = descriptor::locate(CWD, &parent)? else { return Ok(None) };
        let Ok(there) = descriptor::locate_itself(&parent, &last)? else { return Ok(None) };
        Ok(descriptor::same(&there, self.named())?.then_some(parent))
    }

    /// The gitfile or directory that `safe.directory` must name.
    fn named(&self) -> BorrowedFd<'_> {
        self.gitfile.as_ref().unwrap_or(&self.directory).as_fd()
    }

    /// Whether it contains an entry `.git`.
    pub fn contains_dot_git(&self) -> Result<bool, Shortage> {
        Ok(descriptor::status_itself(self.directory(), c".git")?.is_ok())
    }

    /// Whether git, given this directory, would find another repository inside it first. A bare
    /// repository may contain a link to itself as `.git`, for programs that need one.
    pub fn hides_another(&self) -> Result<bool, Shortage> {
        let Ok(named) = Named::hold(self.directory(), DOT_GIT)? else { return Ok(false) };
        match Self::of(named, DOT_GIT.to_vec()) {
            Ok(inside) => Ok(inside.gitfile.is_some() || !self.is(inside.directory())?),
            Err(Miss::Nothing) => Ok(false),
            Err(Miss::Broken) => Ok(true),
            Err(Miss::Unknown(shortage)) => Err(shortage),
        }
    }

    /// Whether `directory` is its git directory.
    pub fn is(&self, directory: BorrowedFd<'_>) -> Result<bool, Shortage> {
        descriptor::same(self.directory(), directory)
    }

    /// Whether its owner exported it (contract 54).
    pub fn exported(&self) -> Result<bool, Shortage> {
        let mark = descriptor::access(&self.directory, c"git-daemon-export-ok", Access::EXISTS);
        Ok(mark?.is_ok())
    }

    /// The text of its configuration file; `None` where only git can read it: the file is
    /// unreadable or too large to search. Empty if there is no file.
    pub fn config(&self) -> Result<Option<Vec<u8>>, Shortage> {
        let directory = self.common.as_ref().unwrap_or(&self.directory);
        read_config(directory.as_fd(), c"config")
    }

    fn look(path: &[u8]) -> Result<Self, Miss> {
        let named = Named::hold(CWD, path)?.map_err(|_| Miss::Nothing)?;
        Self::of(named, path.to_vec())
    }

    fn of(named: Named, path: Vec<u8>) -> Result<Self, Miss> {
        let Named { owner, thing, parent } = named;
        let (found, status) = thing.ok_or(Miss::Nothing)?;
        match status.kind {
            FileType::Directory => {
                let common = common_directory(found.as_fd())?;
                Ok(Repository {
                    location: path.clone(),
                    path,
                    directory: found,
                    common,
                    owners: vec![owner],
                    gitfile: None,
                })
            }
            FileType::RegularFile => {
                Self::follow_gitfile(path, owner, found, parent)?.ok_or(Miss::Broken)
            }
            _ => Err(Miss::Nothing),
        }
    }

    fn follow_gitfile(
        path: Vec<u8>,
        owner: u32,
        gitfile: OwnedFd,
        parent: Option<OwnedFd>,
    ) -> Result<Option<Self>, Shortage> {
        let text = descriptor::reopen_to_read(&gitfile)?;
        let text = text.and_then(|file| read_all(file, MAX_GITFILE + 1));
        let Some(text) = found(text)?.ok().filter(|text| text.len() <= MAX_GITFILE) else {
            return Ok(None);
        };
        let Some(target) = pointer::gitfile_target(&text) else { return Ok(None) };
        // git joins the two and accepts no longer path.
        let (before, _) = pointer::split_last(&path);
        if !target.starts_with(b"/") && before.len() + target.len() >= MAX_PATH {
            return Ok(None);
        }
        let (Some(parent), Ok(target)) = (parent, CString::new(target)) else { return Ok(None) };
        let Ok(directory) = descriptor::locate(parent, &target)? else { return Ok(None) };
        let common = match common_directory(directory.as_fd()) {
            Ok(common) => common,
            Err(Miss::Unknown(shortage)) => return Err(shortage),
            Err(_) => return Ok(None),
        };
        // For a symbolic link the target's owner counts.
        let Ok(status) = descriptor::status_of(&directory)? else { return Ok(None) };
        let Ok(location) = descriptor::real_path(&directory)? else { return Ok(None) };
        let owners = vec![owner, status.owner];
        let gitfile = Some(gitfile);
        Ok(Some(Repository { path, location, directory, common, owners, gitfile }))
    }
}

/// The path without trailing slashes, to which suffixes are appended.
pub fn stem(path: &[u8]) -> &[u8] {
    let end = path.iter().rposition(|&byte| byte != b'/').map_or(1, |last| last + 1);
    path.get(..end).unwrap_or_default()
}

/// Whether `base` is a git directory (contract 39). Returns its common directory if that is
/// another one.
fn common_directory(base: BorrowedFd<'_>) -> Result<Option<OwnedFd>, Miss> {
    if !head_is_valid(base)? {
        return Err(Miss::Nothing);
    }
    let common =
        match (of_environment(COMMON_DIRECTORY)?, descriptor::status_itself(base, c"commondir")?) {
            (Some(common), _) => Some(common),
            (None, Ok(_)) => Some(follow_common_directory(base)?),
            (None, Err(_)) => None,
        };
    let shared = common.as_ref().map_or(base, AsFd::as_fd);
    match of_environment(OBJECT_DIRECTORY)? {
        Some(objects) => reach(objects.as_fd(), c".")?,
        None => reach(shared, c"objects")?,
    }
    reach(shared, c"refs")?;
    Ok(common)
}

fn reach(base: BorrowedFd<'_>, name: &CStr) -> Result<(), Miss> {
    descriptor::access(base, name, Access::EXEC_OK)?.map_err(|_| Miss::Nothing)
}

/// The directory that a variable sets for every repository, for the services too. git resolves a
/// relative one against several directories, so then nothing is a repository.
fn of_environment(variable: &str) -> Result<Option<OwnedFd>, Miss> {
    let Some(path) = std::env::var_os(variable) else { return Ok(None) };
    let path = CString::new(path.into_vec()).map_err(|_| Miss::Nothing)?;
    if !path.to_bytes().starts_with(b"/") {
        return Err(Miss::Nothing);
    }
    descriptor::locate(CWD, &path)?.map(Some).map_err(|_| Miss::Nothing)
}

/// git dies if it cannot read or resolve `commondir`. But if only the last part of the path is
/// missing, the directory is not a git directory.
fn follow_common_directory(base: BorrowedFd<'_>) -> Result<OwnedFd, Miss> {
    let text = read(base, c"commondir", MAX_COMMON_DIRECTORY)?.map_err(|_| Miss::Broken)?;
    let path = pointer::common_directory(&text).ok_or(Miss::Broken)?;
    let name = CString::new(path).map_err(|_| Miss::Broken)?;
    match descriptor::locate(base, &name)? {
        Ok(common) => Ok(common),
        Err(_) if lacks_last_part(base, path)? => Err(Miss::Nothing),
        Err(_) => Err(Miss::Broken),
    }
}

/// Whether only the last part of `path` is missing, also as the target of a symbolic link.
fn lacks_last_part(base: BorrowedFd<'_>, path: &[u8]) -> Result<bool, Shortage> {
    let mut path = path.to_vec();
    let mut held: Option<OwnedFd> = None;
    for _ in 0..MAX_LINKS {
        let base = held.as_ref().map_or(base, AsFd::as_fd);
        let (parent, last) = pointer::split_last(&path);
        let (Ok(parent), Ok(last)) = (CString::new(parent), CString::new(last)) else {
            return Ok(false);
        };
        let Ok(parent) = descriptor::locate(base, &parent)? else { return Ok(false) };
        match descriptor::read_link(&parent, &last)? {
            Ok(target) => path = target,
            Err(error) => return Ok(error.kind() == io::ErrorKind::NotFound),
        }
        held = Some(parent);
    }
    Ok(false)
}

fn head_is_valid(base: BorrowedFd<'_>) -> Result<bool, Shortage> {
    if let Ok(target) = descriptor::read_link(base, c"HEAD")? {
        return Ok(pointer::head_link_is_valid(&target));
    }
    Ok(read(base, c"HEAD", MAX_HEAD)?.is_ok_and(|text| pointer::head_is_valid(&text)))
}

/// Why `path` is no repository, for the log. Only called after a failed search; never sent to the
/// client.
pub fn diagnose(path: &[u8]) -> Result<String, Shortage> {
    let Ok(name) = CString::new(path) else {
        return Ok("the path contains a NUL byte".to_owned());
    };
    let found = match descriptor::locate(CWD, &name)? {
        Ok(found) => found,
        Err(error) => return Ok(errno_text(&error)),
    };
    match descriptor::status_of(&found)?.map(|status| status.kind) {
        Ok(FileType::Directory) => {}
        Ok(FileType::RegularFile) => {
            return Ok("it is a file, and does not lead to a git directory".to_owned());
        }
        Ok(_) => return Ok("it is neither directory nor file".to_owned()),
        Err(error) => return Ok(errno_text(&error)),
    }
    for (name, access) in
        [(c"HEAD", Access::EXISTS), (c"objects", Access::EXEC_OK), (c"refs", Access::EXEC_OK)]
    {
        if let Err(error) = descriptor::access(&found, name, access)? {
            return Ok(format!("{}: {}", name.to_string_lossy(), errno_text(&error)));
        }
    }
    Ok("HEAD or commondir: unreadable or invalid".to_owned())
}

/// The text of a configuration file, as [`Repository::config`] says.
pub fn read_config(base: BorrowedFd<'_>, name: &CStr) -> Result<Option<Vec<u8>>, Shortage> {
    Ok(match read(base, name, MAX_CONFIG)? {
        Ok(text) if text.len() < MAX_CONFIG => Some(text),
        Ok(_) => None,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Some(Vec::new()),
        Err(_) => None,
    })
}

fn read(base: BorrowedFd<'_>, name: &CStr, most: usize) -> Found<Vec<u8>> {
    found(descriptor::open_to_read(base, name)?.and_then(|file| read_all(file, most)))
}

fn read_all(mut file: File, most: usize) -> io::Result<Vec<u8>> {
    let mut text = vec![0; FIRST_READ.min(most)];
    let length = file.read(&mut text)?;
    text.truncate(length);
    // A short read need not be the whole file: network and FUSE file systems may return less.
    if length > 0 {
        file.take((most - length) as u64).read_to_end(&mut text)?;
    }
    Ok(text)
}
