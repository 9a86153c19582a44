//! The configuration files outside repositories.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;

use super::Git;
use crate::sys::process::Spawner;

/// The configuration outside repositories.
#[derive(Debug)]
pub(super) struct Configuration {
    /// The files.
    pub(super) files: Vec<CString>,
    /// The settings in command scope, as git lists them. They come from gitd's environment, or from
    /// a program that stands in git's place.
    pub(super) command: Vec<u8>,
}

/// Asks git; `None` if it does not say. `git var` lists the files since git 2.41. With older
/// versions git must be asked each time.
pub(super) fn asked(git: &Git, spawner: &Spawner) -> Option<Configuration> {
    let command = command_settings(git, spawner)?;
    Some(Configuration { files: files(git, spawner)?, command })
}

/// The settings in command scope: each with its scope before it and a NUL after each of the two.
fn command_settings(git: &Git, spawner: &Spawner) -> Option<Vec<u8>> {
    let list = ["config", "--list", "--show-scope", "-z"];
    let output = git.ask(spawner, None, &[], &list).ok()?;
    let fields: Vec<&[u8]> = output.stdout.split(|&byte| byte == 0).collect();
    let settings = fields.chunks_exact(2).filter(|field| field[0] == b"command");
    let settings = settings.flat_map(|field| [field[1], b"\n"].concat()).collect();
    output.status.success().then_some(settings)
}

fn files(git: &Git, spawner: &Spawner) -> Option<Vec<CString>> {
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

/// A relative name is a different file in each repository.
fn all_absolute(files: Vec<CString>) -> Option<Vec<CString>> {
    files.iter().all(|file| file.as_bytes().starts_with(b"/")).then_some(files)
}
