//! Files that say something of a running server: its process id, its ports. They are there exactly as
//! long as it listens (B11).

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use crate::event;
use crate::sys::errno_text;

/// Such a file; removed when dropped, unless it speaks of a successor, or was something before that is
/// no plain file.
#[derive(Debug)]
pub struct StateFile {
    path: PathBuf,
    text: Vec<u8>,
    removable: bool,
}

impl StateFile {
    /// Writes it under another name first, so that nobody ever reads half of it.
    ///
    /// # Errors
    /// Those of writing and renaming.
    pub fn write(path: &[u8], text: Vec<u8>) -> io::Result<Self> {
        let path_of = |bytes: &[u8]| PathBuf::from(OsStr::from_bytes(bytes));
        let target = path_of(path);
        // What is not a plain file, such as a pipe or /dev/stdout, is written through, and stays.
        if fs::symlink_metadata(&target).is_ok_and(|found| !found.is_file()) {
            fs::write(&target, &text)?;
            return Ok(StateFile { path: target, text, removable: false });
        }
        let temporary = path_of(&[path, format!(".{}", std::process::id()).as_bytes()].concat());
        let written = fs::write(&temporary, &text).and_then(|()| fs::rename(&temporary, &target));
        if written.is_err() {
            let _ = fs::remove_file(&temporary);
        }
        written.map(|()| StateFile { path: target, text, removable: true })
    }

    fn is_ours(&self) -> bool {
        // What has taken its place may be a pipe, and reading would wait for a writer.
        self.removable
            && fs::symlink_metadata(&self.path).is_ok_and(|found| found.is_file())
            && fs::read(&self.path).is_ok_and(|found| found == self.text)
    }
}

impl Drop for StateFile {
    fn drop(&mut self) {
        if self.is_ours()
            && let Err(error) = fs::remove_file(&self.path)
        {
            event::file_left(&self.path, &errno_text(&error));
        }
    }
}
