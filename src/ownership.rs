//! Whose repository is it? One of another user is refused unless `safe.directory` names it (contract
//! 45 to 47), for its owner could have put anything into its configuration.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use crate::denial::Denial;
use crate::repository::Repository;
use crate::starter::Starter;

/// Checks the owners of a repository that was found. What `safe.directory` matches is git's to say,
/// and git is asked only if its configuration has anything to say.
///
/// # Errors
/// [`Denial::Foreign`]; [`Denial::Config`] when git cannot be asked.
pub fn check(starter: &Starter, repository: &Repository) -> Result<(), Denial> {
    let ours = |&owner: &u32| owner == starter.uid || starter.sudo_uid == Some(owner);
    if repository.owners().iter().all(ours) {
        return Ok(());
    }
    let safe = repository.safe_name();
    if starter.git.server_config_may_mention("safe") && is_safe(starter, repository, &safe)? {
        return Ok(());
    }
    Err(Denial::Foreign { path: repository.location.clone(), safe, uid: starter.uid })
}

/// Whether `safe.directory` has the name, by git's own rules.
///
/// It is a service that is asked, from where gitd runs: the other commands look at a gitfile as a part
/// of the directory around it, and must run inside a repository, which they then take for `.`. Of the
/// services receive-pack asks in every version; it is told to take every owner for another one, and to
/// show no ref.
fn is_safe(starter: &Starter, repository: &Repository, name: &[u8]) -> Result<bool, Denial> {
    // git looks for a `.git` inside before it takes the directory itself.
    let name = match name.strip_suffix(b"/.git") {
        Some(around) => around,
        None if Repository::hides_another(name) => return Ok(false),
        None => name,
    };
    let variables = [("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")];
    let arguments = [
        b"-c".as_slice(),
        b"transfer.hideRefs=refs",
        b"-c",
        b"core.alternateRefsCommand=:",
        b"receive-pack",
        b"--http-backend-info-refs",
        name,
    ];
    let output = starter.git.ask(None, &variables, &arguments.map(OsStr::from_bytes));
    let output = output.map_err(|error| Denial::unaskable(&repository.path, &error))?;
    // The advice is a command in every language; other complaints, even of the variable, are about something else.
    let advice = b"--add safe.directory";
    let advised = output.stderr.windows(advice.len()).any(|window| window == advice);
    match output.status.success() {
        false if !advised => Err(Denial::refused_by_git(&repository.path, &output)),
        safe => Ok(safe),
    }
}
