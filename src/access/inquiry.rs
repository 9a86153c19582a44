//! Questions about a repository's configuration that only git can answer: whether
//! `daemon.<service>` is set, and whether the configuration is valid. git is asked only if the
//! answer can change the outcome: one more process per request would halve the speed.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::process::Output;

use crate::access::denial::{Denial, Refusal};
use crate::git::starter::Starter;
use crate::protocol::service::Service;
use crate::repository::Repository;

/// The value of `daemon.<service>`, if it is set (contract 52).
///
/// # Errors
/// [`Denial::Config`], when git cannot be asked or does not accept its configuration.
pub fn service_enabled(
    starter: &Starter,
    repository: &Repository,
    service: Service,
) -> Result<Option<bool>, Refusal> {
    if !starter.git().config_may_mention(repository, "daemon")? {
        return Ok(None);
    }
    let key = service.config_key();
    let output = ask_inside(starter, repository, &[], &["config", "--type=bool", "--get", key])?;
    let answer = match boolean(&output) {
        Some(answer) => Some(answer),
        None if output.status.code() == Some(1) && output.stdout.is_empty() => None,
        None => Some(
            last_value(starter, repository, key)?
                .ok_or_else(|| Denial::refused_by_git(&repository.path, &output))?,
        ),
    };
    // `git config` only warns of files that every other command refuses.
    if !output.stderr.is_empty() {
        let check = ask_inside(starter, repository, &[], &["rev-parse", "--git-dir"])?;
        if !check.status.success() {
            return Err(Denial::refused_by_git(&repository.path, &check).into());
        }
    }
    Ok(answer)
}

/// The last value of `key` as a boolean; `None` if it is not one. `git config` fails for an earlier
/// value that is no boolean, which other commands ignore.
fn last_value(
    starter: &Starter,
    repository: &Repository,
    key: &str,
) -> Result<Option<bool>, Refusal> {
    let pattern = format!("^{}$", key.replace('.', "[.]"));
    let arguments = ["config", "--null", "--get-regexp", &pattern];
    let all = ask_inside(starter, repository, &[], &arguments)?.stdout;
    let last = all.strip_suffix(b"\0").unwrap_or(&all).rsplit(|&byte| byte == 0).next();
    let Some(value) = last.and_then(|last| last.strip_prefix(key.as_bytes())) else {
        return Ok(None);
    };
    // A variable without a value is true.
    let Some(value) = value.strip_prefix(b"\n") else { return Ok(Some(true)) };
    let setting = [b"gitd.value=", value].concat();
    let arguments = [
        "-c".as_ref(),
        OsStr::from_bytes(&setting),
        "config".as_ref(),
        "--type=bool".as_ref(),
        "--get".as_ref(),
        "gitd.value".as_ref(),
    ];
    Ok(boolean(&ask_inside(starter, repository, &[], &arguments)?))
}

/// Refuses a repository whose own configuration or format git does not accept (contract 49).
///
/// # Errors
/// [`Denial::Config`], also when git cannot be asked.
pub fn check_format(starter: &Starter, repository: &Repository) -> Result<(), Refusal> {
    let its_own = [("GIT_CONFIG_GLOBAL", "/dev/null"), ("GIT_CONFIG_NOSYSTEM", "1")];
    let output = ask_inside(starter, repository, &its_own, &["rev-parse", "--git-dir"])?;
    if output.status.success() {
        Ok(())
    } else {
        Err(Denial::refused_by_git(&repository.path, &output).into())
    }
}

fn boolean(output: &Output) -> Option<bool> {
    match output.stdout.as_slice() {
        b"true\n" if output.status.success() => Some(true),
        b"false\n" if output.status.success() => Some(false),
        _ => None,
    }
}

fn ask_inside(
    starter: &Starter,
    repository: &Repository,
    variables: &[(&str, &str)],
    arguments: &[impl AsRef<OsStr>],
) -> Result<Output, Refusal> {
    let variables = [variables, &[("GIT_DIR", ".")]].concat();
    let output =
        starter.git().ask(&starter.spawner, Some(repository.directory()), &variables, arguments);
    output.map_err(|error| Refusal::unaskable(&repository.path, &error))
}
