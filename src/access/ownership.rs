//! Checks a repository's owner. One of another user is refused unless `safe.directory` names it
//! (contract 45 to 47), because its owner controls its configuration.

use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::time::{Duration, SystemTime};

use crate::access::denial::{Denial, Refusal};
use crate::access::step::{Observer, Step};
use crate::git::DIFFERENT_OWNER;
use crate::git::starter::Starter;
use crate::repository::Repository;
use crate::repository::pointer;
use crate::sys::descriptor;
use crate::sys::shortage::{Shortage, found};

/// Checks the owners of a repository. Only git decides what `safe.directory` matches, and git is
/// asked only if its configuration may contain that variable.
///
/// # Errors
/// [`Denial::Foreign`]; [`Denial::Config`] when git cannot be asked.
pub fn check(
    starter: &Starter,
    repository: &Repository,
    observer: &mut impl Observer,
) -> Result<(), Refusal> {
    observer.see(Step::Ownership(repository));
    let ours = |&owner: &u32| owner == starter.uid || starter.sudo_uid == Some(owner);
    if repository.owners().iter().all(ours) && !assumed_different() {
        return Ok(());
    }
    let safe = repository.safe_name()?;
    let may_be_safe = starter.git().server_config_may_mention("safe")?;
    let is_safe = may_be_safe && is_safe(starter, repository, &safe)?;
    observer.see(Step::Safe(&safe, is_safe));
    if is_safe {
        return Ok(());
    }
    Err(Denial::Foreign { path: repository.location.clone(), safe, uid: starter.uid }.into())
}

/// Whether the server's own environment makes every repository another user's. git itself rejects a
/// value that is no boolean when it is asked.
fn assumed_different() -> bool {
    let value = std::env::var_os(DIFFERENT_OWNER).unwrap_or_default().to_ascii_lowercase();
    !["", "0", "false", "no", "off"].iter().any(|no| value == *no)
}

/// How often to ask git while the directory keeps changing.
const MAX_ASKED: usize = 3;

/// How long the directory must not have changed, given the precision of the coarsest file system.
const REST: Duration = Duration::from_secs(3);

/// Whether `safe.directory` contains the name, by git's own rules.
///
/// A service is asked: other commands treat a gitfile as a part of the directory around it, and
/// must run inside a repository, which they then call `.`. Of the services, receive-pack checks in
/// every version. It is told to treat every owner as another user, and to show no ref.
///
/// The repository's owner may replace it between any two look-ups of a name. So git is asked in a
/// directory that is held open, and its answer counts only if it has entered the repository that is
/// to be served. The contents of that directory may still change between two of git's own look-ups,
/// below the stock daemon too. So where anything has changed, git must agree several times.
fn is_safe(starter: &Starter, repository: &Repository, name: &[u8]) -> Result<bool, Refusal> {
    let Some(place) = Asked::of(starter, repository, name)? else { return Ok(false) };
    let before = place.changed()?;
    for _ in 0..MAX_ASKED {
        if !ask(starter, repository, &place)? {
            return Ok(false);
        }
        let rests = before.is_some_and(|before| before.elapsed().is_ok_and(|time| time > REST));
        if place.directory.is_none() || rests && place.changed()? == before {
            break;
        }
    }
    Ok(true)
}

fn ask(starter: &Starter, repository: &Repository, place: &Asked) -> Result<bool, Refusal> {
    let different = [(DIFFERENT_OWNER, "1")];
    let variables = if assumed_different() { &[] } else { different.as_slice() };
    let arguments = [
        b"-c".as_slice(),
        b"transfer.hideRefs=refs",
        b"-c",
        b"core.alternateRefsCommand=:",
        b"receive-pack",
        &place.called,
    ];
    let directory = place.directory.as_ref().map(AsFd::as_fd);
    let entered = starter.git().enter(
        &starter.spawner,
        directory,
        variables,
        &arguments.map(OsStr::from_bytes),
    );
    let (output, entered) =
        entered.map_err(|error| Refusal::unaskable(&repository.path, &error))?;
    if let Some(entered) = entered {
        return Ok(repository.is(entered.as_fd())?);
    }
    // The advice is a command in every language; other messages, even about the variable, mean
    // something else.
    let advice = b"--add safe.directory";
    if output.stderr.windows(advice.len()).any(|window| window == advice) {
        return Ok(false);
    }
    Err(Denial::refused_by_git(&repository.path, &output).into())
}

/// Where git is asked about a repository, and by what name.
struct Asked {
    /// `None` for gitd's own working directory, for a git that compares the names as they are.
    directory: Option<OwnedFd>,
    called: Vec<u8>,
}

impl Asked {
    /// `None` where git would find another repository.
    fn of(
        starter: &Starter,
        repository: &Repository,
        name: &[u8],
    ) -> Result<Option<Self>, Shortage> {
        // git looks for a `.git` inside before it takes the directory itself.
        let around = name.strip_suffix(b"/.git");
        if around.is_none() && !repository.is_behind_gitfile() && repository.hides_another()? {
            return Ok(None);
        }
        if !starter.git().resolves_safe_names(&starter.spawner)? {
            let called = around.unwrap_or(name).to_vec();
            return Ok(Some(Asked { directory: None, called }));
        }
        // `.` cannot be replaced. But `safe.directory` may contain that name too, and mean another
        // directory.
        if !repository.is_behind_gitfile() && !starter.git().may_take_here_for_safe()? {
            let directory = found(repository.directory().try_clone_to_owned())?.ok();
            let asked = |held| Asked { directory: Some(held), called: b".".to_vec() };
            return Ok(directory.map(asked));
        }
        let Some(directory) = repository.directory_of(name)? else { return Ok(None) };
        let (_, last) = pointer::split_last(name);
        let called = if around.is_some() { b".".to_vec() } else { [b"./", last].concat() };
        Ok(Some(Asked { directory: Some(directory), called }))
    }

    /// When an entry of the directory last changed.
    fn changed(&self) -> Result<Option<SystemTime>, Shortage> {
        let Some(directory) = &self.directory else { return Ok(None) };
        Ok(descriptor::status_of(directory)?.ok().map(|status| status.changed))
    }
}
