//! Files that describe a running server: its process id, its ports. They exist exactly as long as
//! it listens (B11).

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use crate::listen::place::Place;
use crate::log::event;
use crate::sys::errno_text;

/// Such a file. Removed on drop, unless a successor has replaced it or it is not a plain file.
#[derive(Debug)]
pub struct StateFile {
    path: PathBuf,
    /// The place and the file itself, because a successor's text may be the same. `None` if the
    /// file stays.
    made: Option<(Place, File)>,
    text: Vec<u8>,
}

impl StateFile {
    /// Writes the text to a temporary file and renames it, so that it is never read in part.
    ///
    /// # Errors
    /// Those of writing and renaming; as root, where another user could make root overwrite a file.
    pub fn write(path: &[u8], text: Vec<u8>) -> io::Result<Self> {
        let place = Place::find(path)?;
        let path = PathBuf::from(OsStr::from_bytes(path));
        // A file that is not plain, such as a pipe or /dev/stdout, is written to and stays.
        if place.look()?.is_some_and(|found| !found.kind.is_file()) {
            place.write_through(&text)?;
            return Ok(StateFile { path, made: None, text });
        }
        let file = place.replace(&text)?;
        Ok(StateFile { path, made: Some((place, file)), text })
    }

    fn says_the_same(&self, place: &Place) -> bool {
        let mut found = Vec::new();
        let most = self.text.len() as u64 + 1;
        let read = place.open().and_then(|file| file.take(most).read_to_end(&mut found));
        read.is_ok() && found == self.text
    }
}

impl Drop for StateFile {
    fn drop(&mut self) {
        if let Some((place, file)) = &self.made
            && place.is(file)
            && self.says_the_same(place)
            && let Err(error) = place.remove()
        {
            event::file_left(&self.path, &errno_text(&error));
        }
    }
}
