//! What a name on disk stands for, once and for all: a directory or file that is held open, with the owner that
//! the name had when it was opened.
//!
//! A name that is looked at twice may be another one's by the second time. So nothing is asked of a name
//! that a descriptor can tell, and a symbolic link is followed by the text of the link that is held.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use crate::repository::pointer;
use crate::sys::descriptor::{self, Base, Kind, Status};

/// The longest path that is looked at, in bytes with the NUL that ends it.
pub const MAX_PATH: usize = 4096;

/// How often a link is looked at again that is changed while it is looked at.
const MAX_RETRIES: usize = 8;

/// What a name stands for, held: whatever becomes of the name, its owner and what it led to belong
/// together.
#[derive(Debug)]
pub struct Named {
    /// The owner of the name: of a symbolic link the link's own.
    pub owner: u32,
    /// What it leads to, if anything.
    pub thing: Option<(OwnedFd, Status)>,
    /// The directory in which the name is. Not asked for where it leads to a directory at once.
    pub parent: Option<OwnedFd>,
}

impl Named {
    /// Holds what `path` names.
    ///
    /// # Errors
    /// Those of `openat(2)`; `ELOOP` when a link is never twice the same.
    pub fn hold(base: Base<'_>, path: &[u8]) -> io::Result<Self> {
        if path.len() >= MAX_PATH {
            return Err(io::Error::from_raw_os_error(libc::ENAMETOOLONG));
        }
        let name = CString::new(path)?;
        // With a slash at the end the name is that of what a link leads to.
        let itself = if path.ends_with(b"/") {
            descriptor::locate(base, &name)?
        } else {
            descriptor::locate_itself(base, &name)?
        };
        let status = descriptor::status_of(&itself)?;
        if status.kind == Kind::Directory {
            return Ok(Named { owner: status.owner, thing: Some((itself, status)), parent: None });
        }
        let (parent, last) = pointer::split_last(path);
        let parent = descriptor::locate(base, &CString::new(parent)?)?;
        Self::in_directory(parent, &CString::new(last)?)
    }

    fn in_directory(parent: OwnedFd, last: &CStr) -> io::Result<Self> {
        let base = Base::Directory(parent.as_fd());
        for _ in 0..MAX_RETRIES {
            let itself = descriptor::locate_itself(base, last)?;
            let status = descriptor::status_of(&itself)?;
            if status.kind != Kind::Symlink {
                let thing = Some((itself, status));
                return Ok(Named { owner: status.owner, thing, parent: Some(parent) });
            }
            let target = descriptor::read_link(Base::Directory(itself.as_fd()), c"")?;
            let thing = located(base, &CString::new(target)?);
            // The kernel may refuse to follow a link that can be read, and knows some that lead elsewhere
            // than they say. If somebody has changed the link meanwhile, there is another one to look at.
            let followed = located(base, last);
            let identity =
                |thing: &Option<(OwnedFd, Status)>| thing.as_ref().map(|(_, s)| s.identity);
            if identity(&thing) == identity(&followed) {
                return Ok(Named { owner: status.owner, thing, parent: Some(parent) });
            }
        }
        Err(io::Error::from_raw_os_error(libc::ELOOP))
    }
}

fn located(base: Base<'_>, name: &CStr) -> Option<(OwnedFd, Status)> {
    let thing = descriptor::locate(base, name).ok()?;
    let status = descriptor::status_of(&thing).ok()?;
    Some((thing, status))
}
