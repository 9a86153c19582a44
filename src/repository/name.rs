//! Resolves a name on disk once: to a directory or file that is held open, with the owner of the
//! name at that time.
//!
//! A name that is looked up twice may change in between. So everything is asked of a descriptor
//! where possible, and a symbolic link is followed by the text of the link that is held.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::FileType;

use crate::repository::pointer;
use crate::sys::descriptor::{self, Status};
use crate::sys::shortage::{Found, Shortage, found};

/// The longest path that is looked up, in bytes with the terminating NUL.
pub const MAX_PATH: usize = 4096;

/// How often to retry a link that changes while it is read.
const MAX_RETRIES: usize = 8;

/// A resolved name, held open: its owner and its target belong together, even if the name changes.
#[derive(Debug)]
pub struct Named {
    /// The owner of the name: for a symbolic link, of the link itself.
    pub owner: u32,
    /// The target, if it exists.
    pub thing: Option<(OwnedFd, Status)>,
    /// The directory that contains the name. `None` where the name itself is a directory.
    pub parent: Option<OwnedFd>,
}

impl Named {
    /// Resolves `path` and holds the result.
    ///
    /// # Errors
    /// Those of `openat(2)`; `ELOOP` when a link keeps changing.
    pub fn hold(base: BorrowedFd<'_>, path: &[u8]) -> Found<Self> {
        found(Self::open(base, path))
    }

    fn open(base: BorrowedFd<'_>, path: &[u8]) -> io::Result<Self> {
        if path.len() >= MAX_PATH {
            return Err(io::Error::from_raw_os_error(libc::ENAMETOOLONG));
        }
        let name = CString::new(path)?;
        // With a trailing slash the name is that of the link's target.
        let itself = if path.ends_with(b"/") {
            descriptor::locate(base, &name)??
        } else {
            descriptor::locate_itself(base, &name)??
        };
        let status = descriptor::status_of(&itself)??;
        if status.kind == FileType::Directory {
            return Ok(Named { owner: status.owner, thing: Some((itself, status)), parent: None });
        }
        let (parent, last) = pointer::split_last(path);
        let parent = descriptor::locate(base, &CString::new(parent)?)??;
        Self::in_directory(parent, &CString::new(last)?)
    }

    fn in_directory(parent: OwnedFd, last: &CStr) -> io::Result<Self> {
        let base = parent.as_fd();
        for _ in 0..MAX_RETRIES {
            let itself = descriptor::locate_itself(base, last)??;
            let status = descriptor::status_of(&itself)??;
            if status.kind != FileType::Symlink {
                let thing = Some((itself, status));
                return Ok(Named { owner: status.owner, thing, parent: Some(parent) });
            }
            let target = descriptor::read_link(&itself, c"")??;
            let thing = located(base, &CString::new(target)?)?;
            // The kernel may refuse to follow a readable link, and some links in /proc lead
            // elsewhere than their text says. If the link has changed meanwhile, try again.
            let followed = located(base, last)?;
            let identity =
                |thing: &Option<(OwnedFd, Status)>| thing.as_ref().map(|(_, s)| s.identity);
            if identity(&thing) == identity(&followed) {
                return Ok(Named { owner: status.owner, thing, parent: Some(parent) });
            }
        }
        Err(io::Error::from_raw_os_error(libc::ELOOP))
    }
}

fn located(base: BorrowedFd<'_>, name: &CStr) -> Result<Option<(OwnedFd, Status)>, Shortage> {
    let Ok(thing) = descriptor::locate(base, name)? else { return Ok(None) };
    Ok(descriptor::status_of(&thing)?.ok().map(|status| (thing, status)))
}
