//! What helps against each refusal: the exact command, option or path.

use std::ffi::OsString;
use std::io::ErrorKind;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use crate::access::denial::Denial;
use crate::config::Policy;
use crate::daemon::explain::missing;
use crate::daemon::explain::origin::{Setting, absolute};
use crate::daemon::explain::report::{Fix, Kind};
use crate::daemon::explain::trace::Facts;
use crate::escape::{Escaped, Word};
use crate::protocol::request::Request;
use crate::sys::account;

impl Fix {
    /// A fix of this kind.
    pub(super) fn new(kind: Kind, text: impl Into<String>) -> Self {
        Fix { kind, text: text.into() }
    }
}

/// What helps, the best first.
pub(super) fn fixes(
    denial: &Denial,
    facts: &Facts,
    policy: &Policy,
    request: &Request,
) -> Vec<Fix> {
    let key = request.service.config_key();
    let enable = || Fix::new(Kind::Option, format!("--enable={}", request.service.name()));
    match denial {
        Denial::ServiceOff(_) => vec![enable()],
        Denial::ServiceOffFor(..) => match facts.settings.last() {
            None => vec![configure(facts.config.as_deref(), key), enable()],
            Some(Setting { file: None, .. }) => {
                vec![Fix::new(Kind::Option, format!("--git-config={key}=true"))]
            }
            Some(setting) if setting.is_its_own() => vec![configure(setting.file.as_deref(), key)],
            Some(_) => vec![configure(facts.config.as_deref(), key)],
        },
        Denial::Aliased(pathname) => vec![Fix::new(Kind::Path, Word(&plain(pathname)).to_string())],
        Denial::UserPath(_) => vec![Fix::new(Kind::Option, "--user-path")],
        Denial::NotARepository { .. } => missing::fixes(facts, policy, request),
        Denial::Foreign { .. } => foreign(facts),
        Denial::NotListed(path) => vec![Fix::new(Kind::Directory, Word(path).to_string())],
        Denial::NotExported { .. } => {
            let directory = facts.directory.as_deref().unwrap_or_default();
            let marker = [directory, b"/git-daemon-export-ok"].concat();
            vec![
                Fix::new(Kind::Command, format!("touch {}", Word(&marker))),
                Fix::new(Kind::Option, "--export-all"),
            ]
        }
        Denial::Config { reason, .. } => complaint(facts, reason, key),
        Denial::Hook { .. } => hook(facts, policy),
        Denial::Moved(url) => vec![Fix::new(
            Kind::Advice,
            format!("gitd serves nothing with --moved-to; clients must use {}", Escaped(url)),
        )],
        Denial::TooLong { .. }
        | Denial::Spawn { .. }
        | Denial::Exhausted { .. }
        | Denial::FailedSilently { .. }
        | Denial::Internal(_)
        | Denial::Hanging(_)
        | Denial::Busy => vec![Fix::new(Kind::Advice, denial.remedy())],
    }
}

/// Sets the variable in a file, where it may have several values.
fn configure(file: Option<&[u8]>, key: &str) -> Fix {
    let file = Word(file.unwrap_or_default());
    Fix::new(Kind::Command, format!("git config --file {file} --replace-all {key} true"))
}

/// The only name that is served for what `pathname` names.
fn plain(pathname: &[u8]) -> Vec<u8> {
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in pathname.split(|&byte| byte == b'/') {
        match part {
            b"" | b"." | b"~" | b"~." | b"~.." => {}
            b".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    let user = pathname.starts_with(b"~") && parts.first().is_some_and(|first| first[0] == b'~');
    let start: &[u8] = if user { b"" } else { b"/" };
    [start, &parts.join(&b'/')].concat()
}

fn foreign(facts: &Facts) -> Vec<Fix> {
    let variable = |name| std::env::var_os(name).map(OsString::into_vec);
    let no_system = variable("GIT_CONFIG_NOSYSTEM").is_some_and(|value| {
        !["", "0", "false", "no", "off"].iter().any(|no| value.eq_ignore_ascii_case(no.as_bytes()))
    });
    // An empty value removes all values before it.
    let is_reset = |scope: &[u8]| {
        facts.safe.iter().any(|one| one.scope == scope && one.value.as_deref() == Some(b""))
    };
    let file = if no_system || is_reset(b"global") {
        let home = || Some([variable("HOME")?, b"/.gitconfig".to_vec()].concat());
        variable("GIT_CONFIG_GLOBAL").or_else(home).map(|file| format!("--file {}", Word(&file)))
    } else {
        let file = variable("GIT_CONFIG_SYSTEM").map(|file| format!("--file {}", Word(&file)));
        Some(file.unwrap_or_else(|| "--system".to_owned()))
    };
    let add = |file| format!("git config {file} --add safe.directory {}", Word(&facts.lacking));
    let file = file.filter(|_| !is_reset(b"command"));
    let owner = owner(facts.uid);
    let mut names = vec![facts.directory.clone().unwrap_or_default()];
    names.extend(facts.names.iter().cloned());
    let names: Vec<_> = names.iter().map(|name| Word(name).to_string()).collect();
    let give = Fix::new(Kind::Command, format!("chown -hR {owner} {}", names.join(" ")));
    let add = file.map(|file| Fix::new(Kind::Command, add(file)));
    match facts.lacking.as_slice() {
        // It makes every repository safe.
        b"*" => [give].into_iter().chain(add).collect(),
        _ => add.into_iter().chain([give]).collect(),
    }
}

/// A user as chown(1) takes it.
pub(super) fn owner(uid: u32) -> String {
    match account::user_of(uid) {
        Ok(Some(user)) => Word(user.name.to_bytes()).to_string(),
        _ => uid.to_string(),
    }
}

/// What git says about a repository's configuration.
pub(super) fn complaint(facts: &Facts, reason: &[u8], key: &str) -> Vec<Fix> {
    let text = String::from_utf8_lossy(reason);
    if text.contains("dubious ownership") {
        return foreign(facts);
    }
    vec![advice(facts, &text, key)]
}

fn advice(facts: &Facts, text: &str, key: &str) -> Fix {
    let between = |from: &str, to: &str| {
        let (_, rest) = text.split_once(from)?;
        Some(rest.split_once(to).map_or(rest, |(part, _)| part).trim_end())
    };
    let directory = facts.directory.as_deref().unwrap_or(b"/");
    if let (Some(line), Some(file)) = (between("bad config line ", " "), between(" in file ", "\n"))
        && line.bytes().all(|byte| byte.is_ascii_digit())
    {
        let file = absolute(directory, file.as_bytes());
        return Fix::new(Kind::Command, format!("sed -i.bak {line}d {}", Word(&file)));
    }
    let quoted = between("' for '", "'").filter(|_| text.contains("bad boolean config value"));
    if let Some(quoted) = quoted {
        let origin = facts.settings.last().filter(|_| quoted == key);
        let file = origin.and_then(|setting| setting.file.clone()).or_else(|| facts.config.clone());
        return configure(file.as_deref(), &Word(quoted.as_bytes()).to_string());
    }
    if text.contains("cannot run git") {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let path = Word(path.as_bytes());
        return Fix::new(Kind::Advice, format!("install git, or change PATH, which is {path}"));
    }
    if text.contains("repo version") || text.contains("repository extension") {
        return Fix::new(Kind::Advice, "the repository needs a newer git than this one");
    }
    Fix::new(Kind::Advice, "fix what git complains of")
}

fn hook(facts: &Facts, policy: &Policy) -> Vec<Fix> {
    let hook = policy.access_hook.as_deref().unwrap_or_default();
    match facts.hook_error {
        Some(ErrorKind::PermissionDenied) => {
            vec![Fix::new(Kind::Command, format!("chmod a+x {}", Word(hook)))]
        }
        Some(_) => vec![Fix::new(Kind::Advice, "is the hook there, and its interpreter?")],
        None => facts.hook.iter().map(|command| Fix::new(Kind::Look, command.clone())).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names() {
        for (pathname, expected) in [
            ("a.git", "/a.git"),
            ("//a/./b//", "/a/b"),
            ("/a/../b", "/b"),
            ("/..", "/"),
            ("", "/"),
            ("~/a", "/a"),
            ("~alice//a", "~alice/a"),
            ("~../a", "/a"),
        ] {
            assert_eq!(plain(pathname.as_bytes()), expected.as_bytes(), "{pathname}");
        }
    }

    #[test]
    fn complaints() {
        let facts = Facts {
            directory: Some(b"/srv/a b".to_vec()),
            config: Some(b"/srv/a b/config".to_vec()),
            ..Facts::default()
        };
        for (said, expected) in [
            ("fatal: bad config line 7 in file ./config", "sed -i.bak 7d '/srv/a b/config'"),
            ("fatal: bad config line 1 in file /etc/gitconfig\n", "sed -i.bak 1d /etc/gitconfig"),
            (
                "fatal: bad boolean config value 'maybe' for 'daemon.uploadpack'",
                "git config --file '/srv/a b/config' --replace-all daemon.uploadpack true",
            ),
            (
                "fatal: Expected git repo version <= 1, found 999",
                "the repository needs a newer git than this one",
            ),
            ("fatal: x", "fix what git complains of"),
        ] {
            assert_eq!(complaint(&facts, said.as_bytes(), "daemon.uploadpack")[0].text, expected);
        }
    }
}
