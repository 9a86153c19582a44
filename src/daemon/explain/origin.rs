//! Where git's configuration says something: asked of git, and only to explain. The decision does
//! not depend on it.

use std::fmt::{self, Display, Formatter};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::escape::Escaped;
use crate::git::starter::Starter;
use crate::repository::Repository;
use crate::sys::descriptor;

/// A value of a variable, and where git has read it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Setting {
    /// git's name for what it applies to: `system`, `global`, `local`, `worktree` or `command`.
    pub(super) scope: Vec<u8>,
    /// The absolute path of the file; `None` for the command line and the environment.
    pub(super) file: Option<Vec<u8>>,
    /// The value; `None` if the variable has none.
    pub(super) value: Option<Vec<u8>>,
}

impl Setting {
    /// Whether it is in the repository's own configuration.
    pub(super) fn is_its_own(&self) -> bool {
        matches!(self.scope.as_slice(), b"local" | b"worktree")
    }

    /// Whether other users cannot have written it: git heeds `safe.directory` only then.
    pub(super) fn is_protected(&self) -> bool {
        !self.is_its_own()
    }
}

impl Display for Setting {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match &self.value {
            Some(value) => write!(f, "'{}'", Escaped(value))?,
            None => f.write_str("no value")?,
        }
        match &self.file {
            Some(file) => write!(f, " in {} ({})", Escaped(file), Escaped(&self.scope)),
            None => write!(f, " from the command line or the environment"),
        }
    }
}

/// All values of a variable, in git's order: the last one counts. `repository` is where to ask;
/// without it, the server's own configuration alone.
pub(super) fn settings(
    starter: &Starter,
    repository: Option<&Repository>,
    key: &str,
) -> Vec<Setting> {
    // Unlike --get-all it tells a variable without a value from one with an empty value.
    let pattern = format!("^{}$", key.replace('.', "[.]"));
    let arguments = ["config", "--null", "--show-scope", "--show-origin", "--get-regexp", &pattern];
    let directory = repository.map(Repository::directory);
    let variables =
        if repository.is_some() { [("GIT_DIR", ".")] } else { [("GIT_DIR", "/dev/null")] };
    let output = starter.git().ask(&starter.spawner, directory, &variables, &arguments);
    let Ok(output) = output else { return Vec::new() };
    let base = directory.and_then(real_path);
    let mut fields = output.stdout.split(|&byte| byte == 0);
    let mut found = Vec::new();
    while let (Some(scope), Some(origin), Some(pair)) =
        (fields.next(), fields.next(), fields.next())
    {
        let file = origin.strip_prefix(b"file:");
        let file = file.map(|file| absolute(base.as_deref().unwrap_or(b"/"), file));
        let end = pair.iter().position(|&byte| byte == b'\n');
        let value = end.map(|end| pair[end + 1..].to_vec());
        found.push(Setting { scope: scope.to_vec(), file, value });
    }
    found
}

/// The absolute path of what is held open; `None` if it is unknown.
pub(super) fn real_path(held: impl AsFd) -> Option<Vec<u8>> {
    descriptor::real_path(held).ok()?.ok()
}

/// `file` as git names it from `directory`.
pub(super) fn absolute(directory: &[u8], file: &[u8]) -> Vec<u8> {
    let bytes = |bytes| Path::new(std::ffi::OsStr::from_bytes(bytes));
    let joined = bytes(directory).join(bytes(file.strip_prefix(b"./").unwrap_or(file)));
    joined.as_os_str().as_bytes().to_vec()
}
