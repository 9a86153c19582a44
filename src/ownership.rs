//! Whose repository is it? One of another user is refused unless `safe.directory` names it (contract
//! 45 to 47), for its owner could have put anything into its configuration.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;

use crate::denial::Denial;
use crate::git::Git;
use crate::repository::Repository;
use crate::starter::Starter;
use crate::sys::descriptor::{self, Base};

/// Checks the owners of a repository that was found. What `safe.directory` matches is git's to say,
/// and git is asked only if its configuration has anything to say.
///
/// # Errors
/// [`Denial::Foreign`]; [`Denial::Config`] when git could not be asked.
pub fn check(starter: &Starter, repository: &Repository) -> Result<(), Denial> {
    let ours = |&owner: &u32| owner == starter.uid || starter.sudo_uid == Some(owner);
    if repository.owners().iter().all(ours) {
        return Ok(());
    }
    let safe = starter.git.server_config_may_mention("safe")
        && is_safe(&starter.git, repository)
            .map_err(|error| Denial::unaskable(&repository.path, &error))?;
    if safe {
        Ok(())
    } else {
        Err(Denial::Foreign { path: repository.path.clone(), uid: starter.uid })
    }
}

/// Whether `safe.directory` covers the git directory.
///
/// The value `.` means the directory that git runs in. The stock daemon does not run in the repository
/// when it asks, so there it covers nothing (contract 47); here it would cover everything. So git is
/// given the values once more, without it.
fn is_safe(git: &Git, repository: &Repository) -> io::Result<bool> {
    let root = descriptor::locate(Base::WorkingDirectory, c"/")?;
    // Outside any repository, and told not to look for one: its own word does not count.
    let variables = [("GIT_DIR", "/nonexistent")];
    let list = ["config", "-z", "--get-all", "safe.directory"];
    let output = git.ask(root.as_fd(), &variables, &list)?;
    let mut arguments: Vec<OsString> =
        ["-c", "safe.bareRepository=all", "-c", "safe.directory="].map(OsString::from).to_vec();
    for value in output.stdout.split(|&octet| octet == 0).filter(|&value| value != b".") {
        arguments.push("-c".into());
        arguments
            .push([OsStr::new("safe.directory="), OsStr::from_bytes(value)].into_iter().collect());
    }
    // What stands behind the last NUL is no value, and an empty one would undo all before it.
    arguments.truncate(arguments.len() - 2);
    arguments.extend(["rev-parse", "--git-dir"].map(OsString::from));
    // Of a gitfile only its name may be foreign; told to take every owner for another one, git
    // answers by safe.directory alone.
    let variables = [("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")];
    let output = git.ask(repository.directory(), &variables, &arguments)?;
    // Any other answer is about a repository inside this one.
    Ok(output.status.success() && output.stdout == b".\n")
}
