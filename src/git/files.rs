//! The configuration files outside repositories.

use std::ffi::{CStr, CString, OsString};
use std::io::Read;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use rustix::fs::CWD;

use super::Git;
use crate::sys::descriptor;
use crate::sys::process::Spawner;
use crate::sys::shortage::{Shortage, found};

/// The files that git names: `git var` lists them since git 2.41. With older versions git must be
/// asked each time.
pub(super) fn asked(git: &Git, spawner: &Spawner) -> Option<Vec<CString>> {
    // A name with a line feed would split one file's line into several.
    let in_lines =
        |name| std::env::var_os(name).is_some_and(|value| value.as_bytes().contains(&b'\n'));
    if ["HOME", "XDG_CONFIG_HOME", "GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM"]
        .into_iter()
        .any(in_lines)
    {
        return None;
    }
    let mut files = Vec::new();
    for variable in ["GIT_CONFIG_SYSTEM", "GIT_CONFIG_GLOBAL"] {
        let output = git.ask(spawner, None, &[], &["var", variable]).ok()?;
        match (output.status.code(), output.stderr.is_empty()) {
            (Some(0), _) => files.extend(
                output
                    .stdout
                    .split(|&byte| byte == b'\n')
                    .filter(|path| !path.is_empty())
                    .filter_map(|path| CString::new(path).ok()),
            ),
            // Status 1 without a message means that there is no such file (GIT_CONFIG_NOSYSTEM).
            (Some(1), true) => {}
            _ => return None,
        }
    }
    all_absolute(files)
}

/// What git is configured by at most, as its manual says, if the administrator says that there is no system file. Where
/// that file is, was decided when git was built, and git before 2.32 heeds no other name for it: git must be asked.
/// So must a script in its place, which may change the environment.
pub(super) fn named(
    program: &CStr,
    variable: impl Fn(&str) -> Option<OsString>,
) -> Result<Option<Vec<CString>>, Shortage> {
    let mut magic = [0; 4];
    let file = descriptor::open_to_read(CWD, program)?;
    let read = found(file.and_then(|mut file| file.read_exact(&mut magic)))?;
    let script = read.is_err() || magic != *b"\x7fELF";
    if script || variable("GIT_CONFIG_NOSYSTEM").is_none_or(|value| value != "1") {
        return Ok(None);
    }
    // Where GIT_CONFIG_GLOBAL names a file git does not read the others, but including them does no
    // harm.
    let names = [
        ("GIT_CONFIG_GLOBAL", ""),
        ("XDG_CONFIG_HOME", "/git/config"),
        ("HOME", "/.config/git/config"),
        ("HOME", "/.gitconfig"),
    ];
    let names = names.into_iter().filter_map(|(name, below)| {
        let mut path = variable(name)?.into_vec();
        path.extend_from_slice(below.as_bytes());
        Some(path)
    });
    Ok(names.map(CString::new).collect::<Result<_, _>>().ok().and_then(all_absolute))
}

/// A relative name is a different file in each repository.
fn all_absolute(files: Vec<CString>) -> Option<Vec<CString>> {
    files.iter().all(|file| file.as_bytes().starts_with(b"/")).then_some(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIT: &CStr = c"/proc/self/exe";

    fn named_by(variables: &[(&str, &str)], program: &CStr) -> Option<Vec<CString>> {
        let value = |name: &str| {
            variables.iter().find(|variable| variable.0 == name).map(|variable| variable.1.into())
        };
        named(program, value).unwrap()
    }

    #[test]
    fn files_that_are_named() {
        let none = ("GIT_CONFIG_NOSYSTEM", "1");
        let home = named_by(&[none, ("HOME", "/h")], GIT).unwrap();
        assert_eq!(home, [c"/h/.config/git/config".to_owned(), c"/h/.gitconfig".to_owned()]);
        let both = [none, ("GIT_CONFIG_GLOBAL", "/g"), ("XDG_CONFIG_HOME", "/x")];
        let both = named_by(&both, GIT).unwrap();
        assert_eq!(both, [c"/g".to_owned(), c"/x/git/config".to_owned()]);
    }

    #[test]
    fn files_that_are_unknown() {
        for variables in [
            &[("HOME", "/h")][..],
            &[("GIT_CONFIG_NOSYSTEM", "0"), ("HOME", "/h")],
            &[("GIT_CONFIG_SYSTEM", "/s"), ("HOME", "/h")],
            &[("GIT_CONFIG_NOSYSTEM", "1"), ("HOME", "h")],
        ] {
            assert_eq!(named_by(variables, GIT), None, "{variables:?}");
        }
        // A script, and no file at all.
        for program in [c"/etc/passwd", c"/usr/bin/nothing"] {
            assert_eq!(named_by(&[("GIT_CONFIG_NOSYSTEM", "1")], program), None, "{program:?}");
        }
    }
}
