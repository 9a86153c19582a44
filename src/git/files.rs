//! Which files outside repositories git is configured by.

use std::ffi::{CStr, CString};
use std::io::Read;
use std::os::unix::ffi::OsStringExt;

use super::Git;
use crate::sys::descriptor::{self, Base};
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

/// Where git keeps its programs, behind its prefix.
const PLACES: [&[u8]; 3] = [b"/bin/git", b"/libexec/git-core/git", b"/lib/git-core/git"];

/// What git can be configured by at most, as its manual says, where its prefix says which the system's file
/// is: `/usr` for distributions, `/usr/local` for a git that was built by hand. Any other git, and a script
/// in its place, must be asked.
pub(super) fn expected(program: &CStr) -> Option<Vec<CString>> {
    let mut file = descriptor::open_to_read(Base::WorkingDirectory, program).ok()?;
    let mut magic = [0; 4];
    file.read_exact(&mut magic).ok().filter(|()| magic == *b"\x7fELF")?;
    let path = descriptor::real_path(&file).ok()?;
    let prefix = PLACES.iter().find_map(|place| path.strip_suffix(*place))?;
    if ![b"/usr".as_slice(), b"/usr/local"].contains(&prefix) {
        return None;
    }
    let system = [b"/etc/gitconfig".to_vec(), [prefix, b"/etc/gitconfig"].concat()];
    // Old versions do not heed the first two variables: then both the named and the usual files count.
    let named = [
        ("GIT_CONFIG_SYSTEM", ""),
        ("GIT_CONFIG_GLOBAL", ""),
        ("XDG_CONFIG_HOME", "/git/config"),
        ("HOME", "/.config/git/config"),
        ("HOME", "/.gitconfig"),
    ];
    let named = named.into_iter().filter_map(|(variable, below)| {
        let mut path = std::env::var_os(variable)?.into_vec();
        path.extend_from_slice(below.as_bytes());
        Some(path)
    });
    let files = system.into_iter().chain(named).map(CString::new);
    all_absolute(files.collect::<Result<_, _>>().ok()?)
}

/// A relative name is another file in each repository.
fn all_absolute(files: Vec<CString>) -> Option<Vec<CString>> {
    files.iter().all(|file| file.as_bytes().starts_with(b"/")).then_some(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A git that is installed elsewhere than `/usr` and `/usr/local` cannot run this test.
    #[test]
    fn what_git_reads_is_expected() {
        let git = Git::find(&[]);
        let asked = asked(&git, &Spawner::alone()).unwrap();
        assert!(asked.len() >= 2, "{asked:?}");
        let expected = expected(&git.candidates[0]).unwrap();
        assert!(asked.iter().all(|file| expected.contains(file)), "{asked:?} {expected:?}");
    }

    #[test]
    fn of_other_programs_nothing_is_known() {
        // Not in the place of a git, no program, and nothing at all.
        for program in [c"/proc/self/exe", c"/etc/passwd", c"/usr/bin/nothing"] {
            assert_eq!(expected(program), None, "{program:?}");
        }
        // In a place of its own.
        let prefix = tempfile::tempdir().unwrap();
        std::fs::create_dir(prefix.path().join("bin")).unwrap();
        let program = prefix.path().join("bin/git");
        std::fs::copy("/proc/self/exe", &program).unwrap();
        let program = CString::new(program.into_os_string().into_vec()).unwrap();
        assert_eq!(expected(&program), None);
    }
}
