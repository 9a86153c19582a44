//! The installed git: where it is, the environment its processes start from, and what its
//! configuration could say. All of it is found once, at start.

use std::ffi::{CStr, CString, OsStr, OsString};
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::process::CommandExt;
use std::process::{ChildStdout, Command, Output, Stdio};

use crate::repository::{COMMON_DIRECTORY, OBJECT_DIRECTORY, Repository, read_config};
use crate::sys::descriptor::{self, Access, Base, Kind};

/// Variables that no child gets from gitd's own environment, as they would be about something else (B16).
/// All others reach the services as those of a stock daemon do, for some of them narrow what is served.
const SCRUBBED: [&str; 10] = [
    // Of one client, if at all.
    "GIT_PROTOCOL",
    "REMOTE_ADDR",
    "REMOTE_PORT",
    // Each child has its own.
    "GIT_DIR",
    // What the service manager tells gitd is for gitd.
    "LISTEN_FDS",
    "LISTEN_FDNAMES",
    "LISTEN_PID",
    "NOTIFY_SOCKET",
    "WATCHDOG_PID",
    "WATCHDOG_USEC",
];

/// Variables that the services get, but that must not change what git answers when gitd asks: a stock
/// daemon looks at the same things itself, and does not heed them there.
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

/// Makes git take every repository for one of another user; there to test git itself.
pub const DIFFERENT_OWNER: &str = "GIT_TEST_ASSUME_DIFFERENT_OWNER";

/// The installed git.
#[derive(Debug)]
pub struct Git {
    /// Where `git` may be: one file for each directory of PATH.
    pub candidates: Vec<CString>,
    /// The environment of every child, as `NAME=value`, without what concerns one repository or
    /// one client.
    pub environment: Vec<CString>,
    /// The configuration files outside repositories; `None` when git did not tell.
    config_files: Option<Vec<CString>>,
    /// The text of configuration that comes from the environment.
    command_config: Vec<u8>,
    /// Whether the names of `safe.directory` are compared with where a repository is, and not with how it
    /// was called: since git 2.46.
    pub resolves_safe_names: bool,
}

impl Git {
    /// Looks at this process's environment, adds `config` to it in command scope, and asks git where its
    /// configuration is. Without a usable git this succeeds too: it may be installed later, and each
    /// request will tell.
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
            config_files: None,
            resolves_safe_names: true,
            command_config: variables
                .iter()
                .filter(|(name, _)| name.as_bytes().starts_with(b"GIT_CONFIG_"))
                .flat_map(|(_, value)| [value.as_bytes(), b"\n"].concat())
                .collect(),
        };
        // The one that is there now is tried first, so that each start spares the others. If it goes
        // away, the search goes on as usual.
        if let Some(found) = git.candidates.iter().position(|file| is_program(file)) {
            git.candidates[..=found].rotate_right(1);
        }
        git.config_files = git.ask_config_files();
        git.resolves_safe_names = git.ask_version().is_none_or(|version| version >= (2, 46));
        git
    }

    /// Whether any configuration that git would read for `repository` may mention one of `words`, or
    /// includes other files, or cannot be known. As section names cannot be spelt in another way than
    /// letter by letter, a `false` is certain, and there is nothing to ask git.
    #[must_use]
    pub fn config_may_mention(&self, repository: &Repository, word: &str) -> bool {
        let words = [word, "include", "worktreeconfig"];
        repository.config().is_none_or(|text| contains_any(&text, &words))
            || self.server_config_may(|text| contains_any(text, &words))
    }

    /// The same about the configuration outside repositories, which is all that decides about
    /// ownership.
    #[must_use]
    pub fn server_config_may_mention(&self, word: &str) -> bool {
        self.server_config_may(|text| contains_any(text, &[word, "include"]))
    }

    /// Whether `.` may be among the names of `safe.directory`.
    #[must_use]
    pub fn may_take_here_for_safe(&self) -> bool {
        self.server_config_may(|text| {
            let ends = |octet: Option<&u8>| {
                octet.is_none_or(|octet| !octet.is_ascii_graphic() || b"='\"\\;#".contains(octet))
            };
            let alone = |at: usize| {
                ends(at.checked_sub(1).and_then(|at| text.get(at))) && ends(text.get(at + 1))
            };
            contains_any(text, &["include"])
                || (0..text.len()).any(|at| text[at] == b'.' && alone(at))
        })
    }

    fn server_config_may(&self, mention: impl Fn(&[u8]) -> bool) -> bool {
        let Some(files) = &self.config_files else { return true };
        mention(&self.command_config)
            || files.iter().any(|file| {
                read_config(Base::WorkingDirectory, file).is_none_or(|text| mention(&text))
            })
    }

    /// Runs git with more variables, in `directory` or where gitd runs, and gathers what it says.
    ///
    /// # Errors
    /// When git cannot be started.
    pub fn ask(
        &self,
        directory: Option<BorrowedFd<'_>>,
        variables: &[(&str, &str)],
        arguments: &[impl AsRef<OsStr>],
    ) -> io::Result<Output> {
        let mut command = self.command(arguments)?;
        command.envs(variables.iter().copied());
        if let Some(directory) = directory {
            // The descriptor is inherited until exec, so its name holds for the new process too.
            command.current_dir(format!("/proc/self/fd/{}", directory.as_raw_fd()));
        }
        command.output()
    }

    /// Has git enter a repository by `name`, from `directory` or where gitd runs, as a service that waits for
    /// its client; and looks where git is by then. It has looked at the owner before, and it may have been
    /// led elsewhere.
    ///
    /// # Errors
    /// When git cannot be started.
    pub fn enter(
        &self,
        directory: Option<BorrowedFd<'_>>,
        variables: &[(&str, &str)],
        arguments: &[impl AsRef<OsStr>],
    ) -> io::Result<(Output, Option<OwnedFd>)> {
        let mut command = self.command(arguments)?;
        for elsewhere in [COMMON_DIRECTORY, OBJECT_DIRECTORY] {
            command.env_remove(elsewhere);
        }
        command.envs(variables.iter().copied());
        if let Some(directory) = directory {
            command.current_dir(format!("/proc/self/fd/{}", directory.as_raw_fd()));
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn()?;
        let (client, answer, complaints) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take());
        // It may complain more than a pipe holds, before it answers.
        let complaints = std::thread::Builder::new().spawn(|| read_to_end(complaints))?;
        let place = answer.filter(greets).and_then(|_| {
            let place = CString::new(format!("/proc/{}/cwd", child.id())).ok()?;
            descriptor::locate(Base::WorkingDirectory, &place).ok()
        });
        // A client that wants nothing.
        if let Some(mut client) = client {
            let _ = client.write_all(b"0000");
        }
        let status = child.wait()?;
        let stderr = complaints.join().unwrap_or_default();
        Ok((Output { status, stdout: Vec::new(), stderr }, place))
    }

    /// The search is the one that finds the services' git: `Command`'s own would follow relative directories of PATH
    /// into the repository, and knows other places where there is no PATH.
    fn command(&self, arguments: &[impl AsRef<OsStr>]) -> io::Result<Command> {
        let program = self.candidates.iter().find(|file| is_program(file));
        let program = program.ok_or_else(|| io::Error::from_raw_os_error(libc::ENOENT))?;
        let mut command = Command::new(OsStr::from_bytes(program.to_bytes()));
        command.arg0("git").args(arguments).env_clear().stdin(Stdio::null());
        for variable in &self.environment {
            let variable = variable.to_bytes();
            // A name may begin with an equals sign, but is never empty.
            if let Some(equals) = variable.iter().skip(1).position(|&octet| octet == b'=') {
                let (name, value) = variable.split_at(equals + 1);
                command.env(OsStr::from_bytes(name), OsStr::from_bytes(&value[1..]));
            }
        }
        for variable in OF_SERVICES {
            command.env_remove(variable);
        }
        Ok(command)
    }

    /// Major and minor number.
    fn ask_version(&self) -> Option<(u32, u32)> {
        let output = self.command(&["version"]).ok()?.output().ok()?;
        let text = std::str::from_utf8(&output.stdout).ok()?.strip_prefix("git version ")?;
        let mut numbers = text.trim_end().split('.').map(str::parse);
        Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
    }

    /// `git var` names the files since git 2.41; of older versions everything must be asked.
    fn ask_config_files(&self) -> Option<Vec<CString>> {
        let mut files = Vec::new();
        for variable in ["GIT_CONFIG_SYSTEM", "GIT_CONFIG_GLOBAL"] {
            let output = self.command(&["var", variable]).ok()?.output().ok()?;
            match (output.status.code(), output.stderr.is_empty()) {
                (Some(0), _) => files.extend(
                    output
                        .stdout
                        .split(|&octet| octet == b'\n')
                        .filter(|path| !path.is_empty())
                        .filter_map(|path| CString::new(path).ok()),
                ),
                // Silence with status 1 means that there is no such file (GIT_CONFIG_NOSYSTEM).
                (Some(1), true) => {}
                _ => return None,
            }
        }
        // A relative name is another file in each repository.
        files.iter().all(|file| file.as_bytes().starts_with(b"/")).then_some(files)
    }
}

/// Whether a service sends what it sends before its client speaks: packets up to a flush.
fn greets(answer: &ChildStdout) -> bool {
    let mut said = Vec::new();
    let mut buffer = [0; 1024];
    while let Ok(read @ 1..) = descriptor::read(answer, &mut buffer) {
        said.extend_from_slice(&buffer[..read]);
        if said.ends_with(b"0000") {
            return true;
        }
    }
    false
}

fn read_to_end(stream: Option<impl Read>) -> Vec<u8> {
    let mut text = Vec::new();
    if let Some(mut stream) = stream {
        let _ = stream.read_to_end(&mut text);
    }
    text
}

/// Adds settings behind those that are in the environment already, where they count more.
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

/// The files that a search for `name` along `path` would try. Relative directories of `path` are
/// passed over: the search happens inside a repository, whose owner must not choose the program.
fn candidates(path: &OsStr, name: &str) -> Vec<CString> {
    std::env::split_paths(path)
        .filter(|directory| directory.is_absolute())
        .filter_map(|directory| CString::new(directory.join(name).into_os_string().into_vec()).ok())
        .collect()
}

fn is_program(file: &CStr) -> bool {
    let base = Base::WorkingDirectory;
    descriptor::access(base, file, Access::Execute).is_ok()
        && descriptor::status(base, file, true).is_ok_and(|found| found.kind == Kind::Regular)
}

/// Whether `text` contains one of `words`, which are in lower case, in any case.
fn contains_any(text: &[u8], words: &[&str]) -> bool {
    let lower = text.to_ascii_lowercase();
    words.iter().any(|word| lower.windows(word.len()).any(|window| window == word.as_bytes()))
}
