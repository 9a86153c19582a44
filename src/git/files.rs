//! Which files outside repositories git is configured by.

use std::ffi::CString;

use super::Git;
use crate::sys::process::Spawner;

/// What git says: `git var` names the files since git 2.41; of older versions everything must be asked.
pub(super) fn asked(git: &Git, spawner: &Spawner) -> Option<Vec<CString>> {
    let mut files = Vec::new();
    for variable in ["GIT_CONFIG_SYSTEM", "GIT_CONFIG_GLOBAL"] {
        let output = git.ask(spawner, None, &[], &["var", variable]).ok()?;
        match (output.status.code(), output.stderr.is_empty()) {
            (Some(0), _) => files.extend(
                output
                    .stdout
                    .split(|&octet| octet == b'\n')
                    .filter(|path| !path.is_empty())
                    .filter_map(|path| CString::new(path).ok()),
            ),
            // Silence with status 1 means that there is no such file (GIT_CONFIG_NOSYSTEM).
            (Some(1), true) => {}
            _ => return None,
        }
    }
    all_absolute(files)
}

/// A relative name is another file in each repository.
fn all_absolute(files: Vec<CString>) -> Option<Vec<CString>> {
    files.iter().all(|file| file.as_bytes().starts_with(b"/")).then_some(files)
}
