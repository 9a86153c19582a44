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
    /// The configuration files outside repositories; `None` if unknown.
    config_files: OnceLock<Option<Vec<CString>>>,
    /// The configuration that comes from the environment, as text.
    command_config: Vec<u8>,
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
            config_files: OnceLock::new(),
            resolves_safe_names: OnceLock::new(),
            command_config: variables
                .iter()
                .filter(|(name, _)| name.as_bytes().starts_with(b"GIT_CONFIG_"))
                .flat_map(|(_, value)| [value.as_bytes(), b"\n"].concat())
                .collect(),
        };
        // Try the file that exists now first, to save each start the search. If it is removed, the
        // search goes on as usual.
        if let Some(found) = git.candidates.iter().position(|file| is_program(file)) {
            git.candidates[..=found].rotate_right(1);
        }
        git
    }

    /// Asks git for its configuration files, which pays off for a server with many requests.
    /// Without this the files are known only if the environment names them; otherwise git must be
    /// asked about each repository.
    pub fn survey(&self, spawner: &Spawner) {
        self.config_files.get_or_init(|| files::asked(self, spawner));
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
        let Some(files) = self.config_files()? else { return Ok(true) };
        if mention(&self.command_config) {
            return Ok(true);
        }
        for file in files {
            if read_config(CWD, file)?.is_none_or(|text| mention(&text)) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn config_files(&self) -> Result<Option<&[CString]>, Shortage> {
        if self.config_files.get().is_none() {
            let variable = |name: &str| std::env::var_os(name);
            let program = self.candidates.first();
            let named = program.map(|program| files::named(program, variable)).transpose()?;
            self.config_files.get_or_init(|| named.flatten());
        }
        Ok(self.config_files.get().and_then(Option::as_deref))
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

/// Adds settings after those in the environment, so that they take precedence.
fn append(variables: &mut Vec<(OsString, OsString)>, config: &[(Vec<u8>, Vec<u8>)]) {
    const COUNT: &str = "GIT_CONFIG_COUNT";
    if config.is_empty() {
        return;
    }
    let place = variables.iter().position(|(name, _)| name == COUNT);
    let before = place.map(|place| variables.swap_remove(place).1);
    let before: usize = before.and_then(|text| text.to_str()?.parse().ok()).unwrap_or(0);
    variables.push((COUNT.into(), (before + config.len()).to_string().into()));
    for (number, (key, value)) in (before..).zip(config) {
        for (kind, text) in [("KEY", key), ("VALUE", value)] {
            let name = OsString::from(format!("GIT_CONFIG_{kind}_{number}"));
            variables.retain(|(taken, _)| *taken != name);
            variables.push((name, OsString::from_vec(text.clone())));
        }
    }
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
