//! What helps where no repository was found.

use std::ffi::OsStr;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::access::step::Rule;
use crate::config::Policy;
use crate::daemon::explain::fix::owner;
use crate::daemon::explain::report::{Fix, Kind};
use crate::daemon::explain::trace::Facts;
use crate::escape::Word;
use crate::protocol::request::Request;
use crate::repository::{Repository, stem};

/// The entries that make a directory a git directory.
const PARTS: [&str; 3] = ["HEAD", "objects", "refs"];

/// What helps, the best first.
pub(super) fn fixes(facts: &Facts, policy: &Policy, request: &Request) -> Vec<Fix> {
    let found = |path: &[u8]| Repository::search(path, |_, _| {}).ok();
    let pathname = &request.pathname;
    // The base path is written twice.
    if let Some(base) = &policy.base_path
        && let Some(rest) = pathname.strip_prefix(stem(base))
        && rest.starts_with(b"/")
        && found(&[base, rest].concat()).is_some()
    {
        return vec![Fix::new(Kind::Path, Word(rest).to_string())];
    }
    if policy.strict_paths
        && let Some(repository) = found(&facts.path)
        && let Some(suffix) = repository.path.strip_prefix(stem(&facts.path))
    {
        let exact = [stem(pathname), suffix].concat();
        return vec![Fix::new(Kind::Path, Word(&exact).to_string())];
    }
    if facts.rule == Some(Rule::UserPath) && facts.path.starts_with(b"~") {
        return vec![Fix::new(Kind::Advice, "is there such a user, with a repository there?")];
    }
    let path = match facts.rule {
        // The base path was tried first, and that is where the repository belongs.
        Some(Rule::Relaxed) => [policy.base_path.as_deref().unwrap_or_default(), pathname].concat(),
        _ => facts.path.clone(),
    };
    let Ok(path) = std::path::absolute(Path::new(OsStr::from_bytes(stem(&path)))) else {
        return Vec::new();
    };
    vec![denied(&path).unwrap_or_else(|| spoiled(&path, facts.uid))]
}

/// gitd's user may not reach the path.
fn denied(path: &Path) -> Option<Fix> {
    let mut ancestors: Vec<&Path> = path.ancestors().collect();
    ancestors.reverse();
    let is_denied = |path: &Path| {
        fs::symlink_metadata(path).is_err_and(|error| error.kind() == ErrorKind::PermissionDenied)
    };
    let at = ancestors.iter().position(|ancestor| is_denied(ancestor))?;
    Some(command("chmod a+x", ancestors[at.checked_sub(1)?]))
}

/// There is no repository, or something in it is missing.
fn spoiled(path: &Path, uid: u32) -> Fix {
    let inner = path.join(".git");
    let dotted =
        |path: &Path| PathBuf::from([path.as_os_str(), OsStr::new(".git")].join(OsStr::new("")));
    let places = [inner.clone(), path.to_owned(), dotted(path).join(".git"), dotted(path)];
    if let Some(file) = places.iter().find(|place| place.is_file()) {
        return Fix::new(
            Kind::Advice,
            format!(
                "{} is a file, and does not lead to a git directory",
                Word(file.as_os_str().as_bytes())
            ),
        );
    }
    let has = |place: &Path, part: &str| fs::symlink_metadata(place.join(part));
    let closed = |place: &&PathBuf| {
        PARTS.iter().any(|part| {
            has(place, part).is_err_and(|error| error.kind() == ErrorKind::PermissionDenied)
        }) || fs::File::open(place.join("HEAD"))
            .is_err_and(|error| error.kind() == ErrorKind::PermissionDenied)
    };
    let reached = |place: &&PathBuf| fs::symlink_metadata(place).is_ok();
    if let Some(place) = places.iter().filter(reached).find(closed) {
        return command("chmod -R a+rX", place);
    }
    let begun = places.iter().find(|place| PARTS.iter().any(|part| has(place, part).is_ok()));
    let Some(place) = begun else { return make(path, uid) };
    if has(place, "HEAD").is_ok() && PARTS.iter().all(|part| has(place, part).is_ok()) {
        let head = place.join("HEAD");
        return command("echo 'ref: refs/heads/main' >", &head);
    }
    // git makes what is missing, and leaves what is there.
    let init = match place.file_name() == Some(OsStr::new(".git")) {
        true => command("git init", place.parent().unwrap_or(place)),
        false => command("git init --bare", place),
    };
    let place = Word(place.as_os_str().as_bytes());
    Fix { text: format!("{} && chown -R --reference={place} {place}", init.text), ..init }
}

fn make(path: &Path, uid: u32) -> Fix {
    let is_used = fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_some());
    match is_used {
        true => {
            Fix::new(Kind::Advice, "the directory holds other things; ask for a repository in it")
        }
        false => {
            let init = command("git init --bare", path);
            // Who runs the command is not the user that must own the repository.
            let own = match uid {
                0 => String::new(),
                uid => format!(" && chown -R {} {}", owner(uid), Word(path.as_os_str().as_bytes())),
            };
            Fix { text: init.text + &own, ..init }
        }
    }
}

fn command(what: &str, path: &Path) -> Fix {
    Fix::new(Kind::Command, format!("{what} {}", Word(path.as_os_str().as_bytes())))
}
