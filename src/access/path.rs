//! From the pathname of a request to the repository that is served under it (contract 35 to 44).

use std::ffi::CString;
use std::os::unix::ffi::OsStringExt;

use crate::access::denial::{Denial, Refusal};
use crate::access::host::{Canonical, Host};
use crate::access::step::{Observer, Rule, Step};
use crate::config::Policy;
use crate::config::template::Placeholder;
use crate::log::event;
use crate::repository::name::MAX_PATH;
use crate::repository::{Miss, Repository, diagnose, stem};
use crate::sys::account;

/// Finds the repository for `pathname`, in the stock daemon's order: check the name, compute the
/// path, look for a repository.
///
/// # Errors
/// The [`Denial`] of the step that failed.
pub fn enter(
    policy: &Policy,
    pathname: &[u8],
    host: &Host<'_>,
    observer: &mut impl Observer,
) -> Result<Repository, Refusal> {
    observer.see(Step::Name(pathname));
    if !is_plain(pathname) {
        return Err(Denial::Aliased(pathname.to_vec()).into());
    }
    let (rule, candidate) = candidate(policy, pathname, host)?;
    observer.see(Step::Path(rule, &candidate));
    let mut found = find(policy, &candidate, observer);
    let mut tried = candidate;
    let relaxed = policy.base_path.is_some() && policy.base_path_relaxed;
    if relaxed && matches!(found, Err(Miss::Nothing)) {
        observer.see(Step::Path(Rule::Relaxed, pathname));
        found = find(policy, pathname, observer);
        tried = pathname.to_vec();
    }
    match found {
        Ok(repository) => Ok(repository),
        Err(Miss::Unknown(shortage)) => Err(shortage.into()),
        Err(Miss::Nothing | Miss::Broken) => {
            Err(Denial::NotARepository { found: diagnose(&tried)?, path: tried }.into())
        }
    }
}

/// Whether the name is the only one for what it names: it begins with `/` or `~`, and no part of it
/// is empty, `.` or `..`. One slash at the end is allowed.
fn is_plain(pathname: &[u8]) -> bool {
    let Some((b'/' | b'~', rest)) = pathname.split_first() else { return false };
    let rest = rest.strip_suffix(b"/").filter(|rest| !rest.is_empty()).unwrap_or(rest);
    rest.is_empty()
        || rest.split(|&byte| byte == b'/').all(|part| !matches!(part, b"" | b"." | b".."))
}

/// The path to look for, by the first rule that applies.
fn candidate(
    policy: &Policy,
    pathname: &[u8],
    host: &Host<'_>,
) -> Result<(Rule, Vec<u8>), Refusal> {
    if pathname.starts_with(b"~") {
        return Ok((Rule::UserPath, user_candidate(policy, pathname)?));
    }
    if let (Some(template), true) = (&policy.interpolated_path, host.is_named()) {
        let unknown = Canonical::default();
        let canonical = if template.needs_resolver() { host.canonical()? } else { &unknown };
        let path = template.fill(|placeholder| match placeholder {
            Placeholder::Host => host.name(),
            Placeholder::CanonicalHost => &canonical.name,
            Placeholder::Address => &canonical.address,
            Placeholder::Port => host.port(),
            Placeholder::Directory => pathname,
        });
        let path = not_too_long(path, "interpolated path")?;
        event::interpolated(&path);
        return Ok((Rule::InterpolatedPath, path));
    }
    match &policy.base_path {
        Some(base) => Ok((Rule::BasePath, not_too_long([base, pathname].concat(), "base-path")?)),
        None => Ok((Rule::AsRequested, pathname.to_vec())),
    }
}

fn user_candidate(policy: &Policy, pathname: &[u8]) -> Result<Vec<u8>, Denial> {
    let Some(below) = &policy.user_path else {
        return Err(Denial::UserPath(pathname.to_vec()));
    };
    if below.is_empty() {
        return Ok(pathname.to_vec());
    }
    let (user, rest) = split_user(pathname);
    event::user_path(below, pathname, user, rest);
    not_too_long([user, b"/", below.as_slice(), rest].concat(), "user-path")
}

/// `~user`, and the rest with its slash.
fn split_user(path: &[u8]) -> (&[u8], &[u8]) {
    let end = path.iter().position(|&byte| byte == b'/').unwrap_or(path.len());
    path.split_at(end)
}

fn not_too_long(path: Vec<u8>, what: &'static str) -> Result<Vec<u8>, Denial> {
    if path.len() < MAX_PATH { Ok(path) } else { Err(Denial::TooLong { what, path }) }
}

fn find(policy: &Policy, path: &[u8], observer: &mut impl Observer) -> Result<Repository, Miss> {
    let mut see = |path: &[u8], found| observer.see(Step::Candidate(path, found));
    if policy.strict_paths {
        let found = Repository::exactly(path);
        see(path, found.as_ref().map(drop).map_err(|&miss| miss));
        return found;
    }
    if !path.starts_with(b"~") {
        return Repository::search(path, see);
    }
    let path = stem(path);
    let (user, rest) = split_user(path);
    let home = match &user[1..] {
        [] => std::env::var_os("HOME").ok_or(Miss::Nothing)?.into_vec(),
        name => {
            let name = CString::new(name).map_err(|_| Miss::Nothing)?;
            account::user(&name)?.ok_or(Miss::Nothing)?.home
        }
    };
    // Trailing slashes of a request are ignored. Those of a home are not: nothing is called
    // `/home/.git` that should be `/home.git`.
    let place = [&home, rest].concat();
    let mut repository = Repository::search_behind(&place, see)?;
    // Lists and logs use the name with `~user`, not with the home.
    let suffix = repository.path.get(place.len()..).unwrap_or_default();
    repository.path = [path, suffix].concat();
    Ok(repository)
}

/// Whether the directories on the command line cover `path`: the same name, or one of them followed
/// by a slash (contract 40). With strict paths only the same name counts.
pub fn is_listed(policy: &Policy, path: &[u8]) -> bool {
    let covers = |directory: &Vec<u8>| match path.strip_prefix(directory.as_slice()) {
        Some(rest) if policy.strict_paths => rest.is_empty(),
        Some(rest) => rest.is_empty() || rest.starts_with(b"/"),
        None => false,
    };
    policy.directories.is_empty() || policy.directories.iter().any(covers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_names() {
        for plain in
            ["/", "/a", "/a/", "/a/b.git", "/...", "/.hid", "/a..", "/..a/b", "~a", "~a/b/", "~"]
        {
            assert!(is_plain(plain.as_bytes()), "{plain}");
        }
        for aliased in [
            "", "a", "./a", "//", "//a", "/a//b", "/a//", "/.", "/..", "/./a", "/../a", "/a/.",
            "/a/..", "/a/../b", "/a/./", "/a/../", "~/a", "~.", "~..", "~./a", "~//", " /a",
            "\n/a",
        ] {
            assert!(!is_plain(aliased.as_bytes()), "{aliased}");
        }
    }

    #[test]
    fn lists_cover_whole_names() {
        let covered = |list: &[&str], path: &str, strict_paths| {
            let directories = list.iter().map(|d| d.as_bytes().to_vec()).collect();
            let policy = Policy { directories, strict_paths, ..Policy::default() };
            is_listed(&policy, path.as_bytes())
        };
        assert!(covered(&["/srv/git"], "/srv/git/a.git", false));
        assert!(covered(&["/srv/git"], "/srv/git", false));
        assert!(!covered(&["/srv/git"], "/srv/git-private/a.git", false));
        assert!(!covered(&["/srv/git/"], "/srv/git/a.git", false));
        assert!(!covered(&["/"], "/srv/git/a.git", false));
        assert!(covered(&[""], "/srv/git/a.git", false));
        assert!(!covered(&["srv"], "/srv/a.git", false));
        assert!(covered(&["/x", "/srv"], "/srv/a.git", false));
        assert!(covered(&[], "/anything", false));
        assert!(covered(&["/srv/a.git"], "/srv/a.git", true));
        assert!(!covered(&["/srv"], "/srv/a.git", true));
    }
}
