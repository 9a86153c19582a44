//! Names in directories that are held open, found by walking a path one step at a time.
//!
//! Root must not act by path where another user can write: that user can put a symbolic link in the
//! path and make root give away, overwrite or remove another user's file. An operation on a
//! [`Place`] acts in the one directory that was found, and a place knows whether any user but root
//! could have chosen it. A process that is not root risks only its own user's files, so it is not
//! restricted.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::fs::{AtFlags, CWD, renameat, unlinkat};
use rustix::process::geteuid;
use rustix::rand::{GetRandomFlags, getrandom};

use crate::sys::descriptor::{self, Status};
use crate::sys::entry;

/// The most symbolic links followed on one path, as in the kernel.
const MOST_LINKS: usize = 40;

/// Why root does not follow a symbolic link.
const FOREIGN_LINK: &str =
    "as root, no symbolic link is followed that another user can make; name where it leads";

/// Why root does not write into a file that is not plain.
const FOREIGN_CHOICE: &str =
    "as root, only a plain file is written where another user can choose what is there";

/// A name in a directory that is held open.
#[derive(Debug)]
pub struct Place {
    directory: OwnedFd,
    name: CString,
    /// Whether only root could choose that directory.
    led_by_root: bool,
    /// How many symbolic links were followed.
    links: usize,
}

impl Place {
    /// Walks to the directory of the last name in `path`. The file with that name is not looked at.
    ///
    /// # Errors
    /// Those of `openat(2)`; `EISDIR` where the path has no last name; as root, a symbolic link
    /// that another user may have made.
    pub fn find(path: &[u8]) -> io::Result<Self> {
        if path.is_empty() {
            return Err(io::Error::from_raw_os_error(libc::ENOENT));
        }
        let here = descriptor::locate(CWD, c".")??;
        Walk { here, led_by_root: true, steps: Vec::new(), links: 0 }.along(path)
    }

    /// The status of the file, of a symbolic link the link's own; `None` if there is none.
    pub fn look(&self) -> io::Result<Option<Status>> {
        match entry::look(&self.directory, &self.name) {
            Ok(found) => Ok(Some(found)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Whether no user but root can replace a file that root makes here. True for every place if
    /// the process is not root.
    pub fn is_guarded(&self) -> bool {
        let is_safe = |directory: Status| {
            directory.owner == 0 && (!directory.others_write() || directory.is_sticky())
        };
        !is_root() || self.led_by_root && entry::look(&self.directory, c"").is_ok_and(is_safe)
    }

    /// A path through the directory that is held, for calls that only take a path.
    pub fn path(&self) -> Vec<u8> {
        let directory = format!("/proc/self/fd/{}/", self.directory.as_raw_fd());
        [directory.as_bytes(), self.name.as_bytes()].concat()
    }

    /// Holds the file with `O_PATH`, of a symbolic link the link itself.
    pub fn hold(&self) -> io::Result<OwnedFd> {
        entry::hold(&self.directory, &self.name)
    }

    /// Whether the file, or the symbolic link itself, is `held`.
    pub fn is(&self, held: impl AsFd) -> bool {
        let there = self.look().ok().flatten().map(|found| found.identity);
        there.is_some() && there == entry::look(held, c"").ok().map(|held| held.identity)
    }

    /// Opens the plain file.
    ///
    /// # Errors
    /// Those of `openat(2)`; a file that is not plain.
    pub fn open(&self) -> io::Result<File> {
        let file = entry::open_to_read(&self.directory, &self.name)?;
        match entry::look(&file, c"")?.kind.is_file() {
            true => Ok(file),
            false => Err(io::ErrorKind::InvalidInput.into()),
        }
    }

    /// Removes the file, if it is no directory.
    pub fn remove(&self) -> io::Result<()> {
        self.remove_named(&self.name)
    }

    /// Atomically replaces the file with a new one, and returns that. Until then it has a random
    /// name.
    pub fn replace(&self, text: &[u8]) -> io::Result<File> {
        let mut random = [0_u8; 8];
        // The kernel never returns less of so few bytes.
        getrandom(&mut random, GetRandomFlags::empty())?;
        let aside = CString::new(format!(".gitd-{:016x}", u64::from_ne_bytes(random)))?;
        let mut file = entry::create(&self.directory, &aside)?;
        let renamed = || renameat(&self.directory, &aside, &self.directory, &self.name);
        let written = file.write_all(text).and_then(|()| Ok(renamed()?));
        if written.is_err() {
            let _ = self.remove_named(&aside);
        }
        written.map(|()| file)
    }

    fn remove_named(&self, name: &CStr) -> io::Result<()> {
        Ok(unlinkat(&self.directory, name, AtFlags::empty())?)
    }

    /// Writes into the existing file, also a pipe or a device, and follows symbolic links.
    ///
    /// # Errors
    /// Those of opening and writing; as root, where another user can choose which file is written.
    pub fn write_through(self, text: &[u8]) -> io::Result<()> {
        let found = self.look()?;
        if is_root() && !self.is_roots_choice(found.as_ref()) {
            return Err(io::Error::other(FOREIGN_CHOICE));
        }
        let is_link = found.is_some_and(|found| found.kind.is_symlink());
        // A link in /proc may stand for a pipe and contain no path.
        let magic = is_link && entry::is_of_proc(&self.directory);
        if is_link && !magic {
            return self.follow()?.write_through(text);
        }
        entry::open_to_write(&self.directory, &self.name, magic)?.write_all(text)
    }

    fn is_roots_choice(&self, found: Option<&Status>) -> bool {
        let chosen = |directory: Status| found.is_none_or(|found| guards(&directory, found));
        self.is_guarded() && entry::look(&self.directory, c"").is_ok_and(chosen)
    }

    fn follow(self) -> io::Result<Self> {
        let Place { directory, name, led_by_root, links } = self;
        let mut walk = Walk { here: directory, led_by_root, steps: Vec::new(), links };
        let target = walk.read_link(&name)?;
        walk.along(&target)
    }
}

/// The state of a walk along a path.
struct Walk {
    here: OwnedFd,
    led_by_root: bool,
    /// The names still to come, the next one last.
    steps: Vec<Vec<u8>>,
    links: usize,
}

impl Walk {
    fn along(mut self, path: &[u8]) -> io::Result<Place> {
        self.add(path)?;
        while let Some(step) = self.steps.pop() {
            let stays = matches!(step.as_slice(), b"" | b".");
            if !self.steps.is_empty() {
                if !stays {
                    self.descend(&CString::new(step)?)?;
                }
            } else if !stays && step != b".." {
                let Walk { here, led_by_root, links, .. } = self;
                return Ok(Place {
                    directory: here,
                    name: CString::new(step)?,
                    led_by_root,
                    links,
                });
            }
        }
        Err(io::Error::from_raw_os_error(libc::EISDIR))
    }

    fn add(&mut self, path: &[u8]) -> io::Result<()> {
        if path.starts_with(b"/") {
            self.here = descriptor::locate(CWD, c"/")??;
            // `/` is root's, and a link leads here only if root has chosen it.
            self.led_by_root = true;
        }
        self.steps.extend(path.split(|&byte| byte == b'/').rev().map(<[u8]>::to_vec));
        Ok(())
    }

    fn descend(&mut self, name: &CString) -> io::Result<()> {
        match entry::hold_directory(&self.here, name) {
            Ok(below) => {
                // The parent of a directory that root has chosen is root's choice too.
                if name.as_bytes() != b".." {
                    let (above, entry) = (entry::look(&self.here, c"")?, entry::look(&below, c"")?);
                    self.led_by_root &= guards(&above, &entry);
                }
                self.here = below;
                Ok(())
            }
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOTDIR | libc::ELOOP)) => {
                let target = self.read_link(name).map_err(|other| match other.raw_os_error() {
                    Some(libc::EINVAL) => error,
                    _ => other,
                })?;
                self.add(&target)
            }
            Err(error) => Err(error),
        }
    }

    /// The target of a symbolic link, if this process may follow it.
    fn read_link(&mut self, name: &CString) -> io::Result<Vec<u8>> {
        self.links += 1;
        if self.links > MOST_LINKS {
            return Err(io::Error::from_raw_os_error(libc::ELOOP));
        }
        let (above, link) = (entry::look(&self.here, c"")?, entry::look(&self.here, name)?);
        let target = descriptor::read_link(&self.here, name)??;
        match is_root() && !(self.led_by_root && guards(&above, &link)) {
            true => Err(io::Error::other(FOREIGN_LINK)),
            false => Ok(target),
        }
    }
}

/// Whether only root can decide that this entry is in the directory.
fn guards(directory: &Status, entry: &Status) -> bool {
    directory.owner == 0 && (!directory.others_write() || directory.is_sticky() && entry.owner == 0)
}

fn is_root() -> bool {
    geteuid().is_root()
}
