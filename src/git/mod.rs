//! The installed git: its path, the environment of its processes, and its configuration outside
//! repositories. All is determined once.

pub mod starter;

mod files;
mod said;

use std::ffi::{CStr, CString, OsStr, OsString};
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::process::Output;
use std::sync::OnceLock;

use rustix::fs::{Access, CWD};

use crate::git::files::Configuration;
use crate::git::said::Said;
use crate::repository::{COMMON_DIRECTORY, OBJECT_DIRECTORY, Repository, read_config};
use crate::sys::child::Child;
use crate::sys::descriptor;
use crate::sys::process::{Spawn, Spawner};
use crate::sys::shortage::{Shortage, found};

/// Variables that no child inherits from gitd, because their values are about something else (B16).
/// All others reach the services as below a stock daemon, because some of them restrict what is
/// served.
const SCRUBBED: [&str; 10] = [
    // About one client at most.
    "GIT_PROTOCOL",
    "REMOTE_ADDR",
    "REMOTE_PORT",
    // Each child has its own.
    "GIT_DIR",
    // The service manager's messages to gitd.
    "LISTEN_FDS",
    "LISTEN_FDNAMES",
    "LISTEN_PID",
    "NOTIFY_SOCKET",
    "WATCHDOG_PID",
    "WATCHDOG_USEC",
];

/// Variables that the services get, but that must not affect git's answers to gitd: a stock daemon
/// makes these checks itself, without these variables.
const OF_SERVICES: [&str; 13] = [
    // `git config` alone would read this file instead of all others.
    "GIT_CONFIG",
    "GIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_QUARANTINE_PATH",
    "GIT_NAMESPACE",
    "GIT_PREFIX",
    "GIT_SHALLOW_FILE",
    "GIT_GRAFT_FILE",
    "GIT_REPLACE_REF_BASE",
    "GIT_NO_REPLACE_OBJECTS",
    "GIT_IMPLICIT_WORK_TREE",
    "GIT_INTERNAL_SUPER_PREFIX",
];

/// Makes git treat every repository as another user's; git's own tests use it.
pub const DIFFERENT_OWNER: &str = "GIT_TEST_ASSUME_DIFFERENT_OWNER";

/// The installed git.
#[derive(Debug)]
pub struct Git {
    /// The paths to try for `git`: one for each directory of PATH.
    pub candidates: Vec<CString>,
    /// The environment of every child, as `NAME=value`, without variables about one repository or
    /// one client.
    pub environment: Vec<CString>,
    /// The configuration outside repositories; `None` if unknown.
    configuration: OnceLock<Option<Configuration>>,
    /// See [`Git::resolves_safe_names`].
    resolves_safe_names: OnceLock<bool>,
}

impl Git {
    /// Reads this process's environment, and adds `config` to it in command scope. Succeeds without
    /// a usable git too: it may be installed later, and each request checks.
    #[must_use]
    pub fn find(config: &[(Vec<u8>, Vec<u8>)]) -> Self {
        let mut variables: Vec<(OsString, OsString)> = std::env::vars_os()
            .filter(|(name, _)| !SCRUBBED.iter().any(|scrubbed| name == scrubbed))
            .collect();
        append(&mut variables, config);
        let path =
            std::env::var_os("PATH").unwrap_or_else(|| "/usr/local/bin:/bin:/usr/bin".into());
        let mut git = Git {
            candidates: candidates(&path, "git"),
            environment: variables
                .iter()
                .filter_map(|(name, value)| {
                    CString::new([name.as_bytes(), b"=", value.as_bytes()].concat()).ok()
                })
                .collect(),
            configuration: OnceLock::new(),
            resolves_safe_names: OnceLock::new(),
        };
        // Try the file that exists now first, to save each start the search. If it is removed, the
        // search goes on as usual.
        if let Some(found) = git.candidates.iter().position(|file| is_program(file)) {
            git.candidates[..=found].rotate_right(1);
        }
        git
    }

    /// Asks git for its configuration, which pays off for a server with many requests. Without this
    /// it is unknown, and git must be asked about each repository.
    pub fn survey(&self, spawner: &Spawner) {
        self.configuration.get_or_init(|| files::asked(self, spawner));
    }

    /// Whether any configuration that git would read for `repository` may contain `word`, includes
    /// other files, or cannot be known. Section names have only one spelling apart from case, so
    /// `false` is certain and git need not be asked.
    ///
    /// # Errors
    /// A shortage, as below.
    pub fn config_may_mention(
        &self,
        repository: &Repository,
        word: &str,
    ) -> Result<bool, Shortage> {
        let words = [word, "include", "worktreeconfig"];
        let its_own = repository.config()?.is_none_or(|text| contains_any(&text, &words));
        Ok(its_own || self.server_config_may(|text| contains_any(text, &words))?)
    }

    /// The same for the configuration outside repositories, which alone decides about ownership.
    pub fn server_config_may_mention(&self, word: &str) -> Result<bool, Shortage> {
        self.server_config_may(|text| contains_any(text, &[word, "include"]))
    }

    /// Whether `safe.directory` may contain `.`.
    pub fn may_take_here_for_safe(&self) -> Result<bool, Shortage> {
        self.server_config_may(|text| {
            let ends = |byte: Option<&u8>| {
                byte.is_none_or(|byte| !byte.is_ascii_graphic() || b"='\"\\;#".contains(byte))
            };
            let alone = |at: usize| {
                ends(at.checked_sub(1).and_then(|at| text.get(at))) && ends(text.get(at + 1))
            };
            contains_any(text, &["include"])
                || (0..text.len()).any(|at| text[at] == b'.' && alone(at))
        })
    }

    fn server_config_may(&self, mention: impl Fn(&[u8]) -> bool) -> Result<bool, Shortage> {
        let Some(Some(Configuration { files, command })) = self.configuration.get() else {
            return Ok(true);
        };
        if mention(command) {
            return Ok(true);
        }
        for file in files {
            if read_config(CWD, file)?.is_none_or(|text| mention(&text)) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Runs git with more variables, in `directory` or in gitd's working directory, and returns its
    /// output.
    ///
    /// # Errors
    /// When git cannot be started.
    pub fn ask(
        &self,
        spawner: &Spawner,
        directory: Option<BorrowedFd<'_>>,
        variables: &[(&str, &str)],
        arguments: &[impl AsRef<OsStr>],
    ) -> io::Result<Output> {
        let environment = self.environment_without(&OF_SERVICES, variables)?;
        let (child, mut said) = self.start(spawner, directory, &environment, arguments, None)?;
        said.read_while(|_| true)?;
        said.output(child.wait()?)
    }

    /// Starts git as a service in the repository that `arguments` name, from `directory` or gitd's working
    /// directory. While git waits for its client, returns the directory that it has entered. It has
    /// checked the owner before that, and the name may have been changed in between.
    ///
    /// # Errors
    /// When git cannot be started.
    pub fn enter(
        &self,
        spawner: &Spawner,
        directory: Option<BorrowedFd<'_>>,
        variables: &[(&str, &str)],
        arguments: &[impl AsRef<OsStr>],
    ) -> io::Result<(Output, Option<OwnedFd>)> {
        let elsewhere = [OF_SERVICES.as_slice(), &[COMMON_DIRECTORY, OBJECT_DIRECTORY]].concat();
        let environment = self.environment_without(&elsewhere, variables)?;
        let (input, mut client) = io::pipe()?;
        let (child, mut said) =
            self.start(spawner, directory, &environment, arguments, Some(input.as_fd()))?;
        drop(input);
        // A service writes before its client does: packets up to a flush.
        let greets = |answer: &[u8]| answer.ends_with(b"0000");
        said.read_while(|answer| !greets(answer))?;
        let place = greets(&said.texts[0]).then(|| format!("/proc/{}/cwd", child.pid));
        let place = place.and_then(|place| CString::new(place).ok());
        let place = place.map(|place| descriptor::locate(CWD, &place)).transpose();
        // The client asks for nothing. If git has ended, the write fails.
        let _ = client.write_all(b"0000");
        drop(client);
        said.read_while(|_| true)?;
        let output = said.output(child.wait()?)?;
        Ok((output, place?.and_then(Result::ok)))
    }

    /// Finds git as for the services, and uses the spawner, because a hung file system does not
    /// block its other spawns.
    fn start(
        &self,
        spawner: &Spawner,
        directory: Option<BorrowedFd<'_>>,
        environment: &[CString],
        arguments: &[impl AsRef<OsStr>],
        input: Option<BorrowedFd<'_>>,
    ) -> io::Result<(Child, Said)> {
        let arguments: Vec<CString> = arguments
            .iter()
            .map(|argument| CString::new(argument.as_ref().as_bytes()))
            .collect::<Result<_, _>>()?;
        let arguments: Vec<&CStr> =
            [c"git"].into_iter().chain(arguments.iter().map(CString::as_c_str)).collect();
        let environment: Vec<&CStr> = environment.iter().map(CString::as_c_str).collect();
        let (stdout, answer) = io::pipe()?;
        let (stderr, complaints) = io::pipe()?;
        let child = spawner.spawn(&Spawn {
            candidates: &self.candidates,
            arguments: &arguments,
            environment: &environment,
            directory,
            streams: [input, Some(answer.as_fd()), Some(complaints.as_fd())],
            outlives: false,
            niceness: None,
        })?;
        Ok((child, Said::new([stdout, stderr])))
    }

    /// The environment of the services without some variables, and with others.
    fn environment_without(
        &self,
        names: &[&str],
        variables: &[(&str, &str)],
    ) -> io::Result<Vec<CString>> {
        let is = |variable: &CString, name: &str| {
            variable.to_bytes().strip_prefix(name.as_bytes()).is_some_and(|v| v.starts_with(b"="))
        };
        let dropped = |variable: &CString| {
            names
                .iter()
                .chain(variables.iter().map(|(name, _)| name))
                .any(|name| is(variable, name))
        };
        let kept = self.environment.iter().filter(|variable| !dropped(variable)).cloned().map(Ok);
        let more =
            variables.iter().map(|(name, value)| Ok(CString::new(format!("{name}={value}"))?));
        kept.chain(more).collect()
    }

    /// Whether git compares the names of `safe.directory` with the repository's real path, and not
    /// with the name it was called by: since git 2.46. Asked once, and only for a repository of
    /// another user.
    ///
    /// # Errors
    /// A shortage; then the next request asks again.
    pub fn resolves_safe_names(&self, spawner: &Spawner) -> Result<bool, Shortage> {
        if let Some(&known) = self.resolves_safe_names.get() {
            return Ok(known);
        }
        let resolves = self.ask_version(spawner)?.is_none_or(|version| version >= (2, 46));
        Ok(*self.resolves_safe_names.get_or_init(|| resolves))
    }

    /// Major and minor number.
    fn ask_version(&self, spawner: &Spawner) -> Result<Option<(u32, u32)>, Shortage> {
        let output = found(self.ask(spawner, None, &[], &["version"]))?;
        Ok(output.ok().and_then(|output| {
            let text = std::str::from_utf8(&output.stdout).ok()?.strip_prefix("git version ")?;
            let mut numbers = text.trim_end().split('.').map(str::parse);
            Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
        }))
    }
}

/// Adds settings after those in the environment, so that they take precedence. If the environment's
/// number of settings is none, nothing is added: git ends with an error then, and nothing is served.
fn append(variables: &mut Vec<(OsString, OsString)>, config: &[(Vec<u8>, Vec<u8>)]) {
    const COUNT: &str = "GIT_CONFIG_COUNT";
    let count = variables.iter_mut().find(|(name, _)| name == COUNT);
    let before = match &count {
        Some((_, text)) => number_of_settings(text.as_bytes()),
        None => Some(0),
    };
    let Some(before) = before.filter(|_| !config.is_empty()) else { return };
    let after = (before + config.len()).to_string().into();
    match count {
        Some((_, text)) => *text = after,
        None => variables.push((COUNT.into(), after)),
    }
    for (number, (key, value)) in (before..).zip(config) {
        for (kind, text) in [("KEY", key), ("VALUE", value)] {
            let name = OsString::from(format!("GIT_CONFIG_{kind}_{number}"));
            variables.retain(|(taken, _)| *taken != name);
            variables.push((name, OsString::from_vec(text.clone())));
        }
    }
}

/// As git reads it, with strtoul(3), which takes a sign too. It takes at most as many as an int can
/// count.
fn number_of_settings(text: &[u8]) -> Option<usize> {
    if text.is_empty() {
        return Some(0);
    }
    let text = std::str::from_utf8(text).ok()?;
    let text = text.trim_start_matches([' ', '\t', '\n', '\x0b', '\x0c', '\r']);
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let number = digits.parse::<u64>().ok().filter(|_| !digits.starts_with('+'))?;
    let number = if negative { number.wrapping_neg() } else { number };
    usize::try_from(i32::try_from(number).ok()?).ok()
}

/// The files that a search for `name` along `path` tries. Relative directories of `path` are
/// skipped: the search happens inside a repository, whose owner must not choose the program.
fn candidates(path: &OsStr, name: &str) -> Vec<CString> {
    std::env::split_paths(path)
        .filter(|directory| directory.is_absolute())
        .filter_map(|directory| CString::new(directory.join(name).into_os_string().into_vec()).ok())
        .collect()
}

fn is_program(file: &CStr) -> bool {
    let executes = matches!(descriptor::access(CWD, file, Access::EXEC_OK), Ok(Ok(())));
    executes && matches!(descriptor::status(CWD, file), Ok(Ok(found)) if found.kind.is_file())
}

/// Whether `text` contains one of `words`, ignoring case; `words` are in lower case.
fn contains_any(text: &[u8], words: &[&str]) -> bool {
    let lower = text.to_ascii_lowercase();
    words.iter().any(|word| lower.windows(word.len()).any(|window| window == word.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The environment's settings with one more.
    fn with_one_more(count: &str) -> Vec<(String, String)> {
        let own = [("GIT_CONFIG_COUNT", count), ("GIT_CONFIG_KEY_0", "daemon.uploadpack")];
        let mut variables: Vec<(OsString, OsString)> =
            own.iter().map(|(name, value)| (name.into(), value.into())).collect();
        append(&mut variables, &[(b"a.b".to_vec(), b"c".to_vec())]);
        let text = |text: OsString| text.into_string().unwrap();
        variables.into_iter().map(|(name, value)| (text(name), text(value))).collect()
    }

    #[test]
    fn settings_of_the_environment_are_kept() {
        for count in ["1", " 1", "\t+1", "01", "0000001", "-18446744073709551615"] {
            let variables = with_one_more(count);
            let names = ["COUNT", "KEY_0", "KEY_1", "VALUE_1"].map(|n| format!("GIT_CONFIG_{n}"));
            assert!(variables.iter().map(|(name, _)| name).eq(&names), "{count:?}: {variables:?}");
            let values: Vec<_> = variables.iter().map(|(_, value)| value.as_str()).collect();
            assert_eq!(values, ["2", "daemon.uploadpack", "a.b", "c"], "{count:?}");
        }
        assert_eq!(with_one_more("")[0].1, "1");
    }

    #[test]
    fn a_number_that_git_refuses_is_left_to_git() {
        for count in
            ["0x1", "1 ", "-1", "++1", "-+1", "+", " ", "18446744073709551615", "2147483648"]
        {
            assert_eq!(with_one_more(count).len(), 2, "{count:?}");
            assert_eq!(with_one_more(count)[0].1, count);
        }
    }
}
