//! Files that say something of a running server: its process id, its ports. They are there exactly as
//! long as it listens (B11).

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::event;
use crate::sys::errno_text;

/// Such a file; removed when dropped, unless it speaks of a successor.
#[derive(Debug)]
pub struct StateFile {
    path: PathBuf,
    text: Vec<u8>,
}

impl StateFile {
    /// Writes it under another name first, so that nobody ever reads half of it.
    ///
    /// # Errors
    /// Those of writing and renaming.
    pub fn write(path: &[u8], text: Vec<u8>) -> io::Result<Self> {
        let path_of = |bytes: &[u8]| PathBuf::from(OsStr::from_bytes(bytes));
        let target = path_of(path);
        // What is not a plain file, such as a device or a symbolic link, is written through.
        if fs::symlink_metadata(&target).is_ok_and(|found| !found.is_file()) {
            fs::write(&target, &text)?;
            return Ok(StateFile { path: target, text });
        }
        let temporary = path_of(&[path, format!(".{}", std::process::id()).as_bytes()].concat());
        let written = fs::write(&temporary, &text).and_then(|()| fs::rename(&temporary, &target));
        if written.is_err() {
            let _ = fs::remove_file(&temporary);
        }
        written.map(|()| StateFile { path: target, text })
    }

    fn is_ours(path: &Path, text: &[u8]) -> bool {
        // Reading a pipe or a terminal would wait for a writer.
        fs::metadata(path).is_ok_and(|found| found.is_file())
            && fs::read(path).is_ok_and(|found| found == text)
    }
}

impl Drop for StateFile {
    fn drop(&mut self) {
        if Self::is_ours(&self.path, &self.text)
            && let Err(error) = fs::remove_file(&self.path)
        {
            event::file_left(&self.path, &errno_text(&error));
        }
    }
}
