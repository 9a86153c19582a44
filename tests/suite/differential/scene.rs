//! One layout under one command line, and both daemons on it.

use std::ffi::OsString;
use std::fmt::{self, Display, Formatter};
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use super::configuration;
use super::exchange::{Observation, exchange};
use super::layout::{Builder, Entry, Seeds, Text, open_up, replace};
use super::repositories::{self, Owners};
use super::requests::{self, Request};
use super::settings::{self, HOSTS, PASSWD};
use crate::support::random::Random;
use crate::support::{Daemon, Git, Gitd, Implementation, Invocation, Scratch, Stock};

/// As whom the daemons run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// As the test's own user.
    Oneself,
    /// As another user, which root can arrange.
    Other(u32),
}

/// Everything that a verdict depends on, but the request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scene {
    pub role: Role,
    pub entries: Vec<Entry>,
    pub options: Vec<Text>,
    pub directories: Vec<Text>,
    /// Variables that are set, or are not.
    pub environment: Vec<(String, Option<Text>)>,
}

impl Scene {
    /// A scene, and requests that have something to do with it.
    pub fn generate(random: &mut Random, role: Role, requests: usize) -> (Self, Vec<Request>) {
        let root = rustix::process::geteuid().is_root();
        let daemon = match role {
            Role::Oneself => rustix::process::geteuid().as_raw(),
            Role::Other(uid) => uid,
        };
        let owners = Owners { daemon, can_give: root };
        let (mut entries, paths) = repositories::generate(random, owners);
        let surroundings = configuration::surroundings(random, &paths);
        let settings = settings::generate(random, &paths, root && role == Role::Oneself);
        // Hooks and configuration first: entries of the layout may refer to them, or spoil them.
        entries.splice(0..0, settings.entries.into_iter().chain(surroundings.entries));
        entries.extend(settings.traps);
        let requests =
            (0..requests).map(|_| requests::generate(random, &settings.spelling, &paths)).collect();
        let scene = Self {
            role,
            entries,
            options: settings.options,
            directories: settings.directories,
            environment: [surroundings.environment, settings.environment].concat(),
        };
        (scene, requests)
    }

    pub fn has_option(&self, option: &str) -> bool {
        self.options.iter().any(|given| given.starts_with(option.as_bytes()))
    }

    /// Whether programs are not searched as both daemons do: from nowhere, or in the repository.
    pub fn has_odd_path(&self) -> bool {
        self.environment.iter().any(|(name, value)| {
            let absolute = |part: &[u8]| matches!(part.first(), Some(b'/' | b'$'));
            name == "PATH"
                && value.as_ref().is_none_or(|path| !path.split(|&o| o == b':').all(absolute))
        })
    }

    /// Whether clients hear reasons: the last of the two options counts.
    pub fn is_informative(&self) -> bool {
        let last = self.options.iter().rev().find(|option| option.ends_with(b"informative-errors"));
        last.is_some_and(|option| option == b"--informative-errors")
    }

    /// Smaller scenes that may show the same.
    pub fn smaller(&self) -> Vec<Self> {
        let mut all = Vec::new();
        let chunk = self.entries.len() / 2;
        if chunk > 1 {
            all.push(Self { entries: self.entries[chunk..].to_vec(), ..self.clone() });
            all.push(Self { entries: self.entries[..chunk].to_vec(), ..self.clone() });
        }
        all.extend(
            (0..self.entries.len())
                .map(|at| Self { entries: without(&self.entries, at), ..self.clone() }),
        );
        all.extend(
            (0..self.options.len())
                .map(|at| Self { options: without(&self.options, at), ..self.clone() }),
        );
        all.extend(
            (0..self.directories.len())
                .map(|at| Self { directories: without(&self.directories, at), ..self.clone() }),
        );
        all.extend(
            (0..self.environment.len())
                .map(|at| Self { environment: without(&self.environment, at), ..self.clone() }),
        );
        all
    }
}

fn without<T: Clone>(list: &[T], at: usize) -> Vec<T> {
    [&list[..at], &list[at + 1..]].concat()
}

impl Display for Scene {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if let Role::Other(uid) = self.role {
            writeln!(f, "  as user {uid}, to whom all belongs that is not given to others")?;
        }
        for entry in &self.entries {
            writeln!(f, "  {entry}")?;
        }
        for (name, value) in &self.environment {
            match value {
                Some(value) => writeln!(f, "  {name}={}", value.escape_ascii())?,
                None => writeln!(f, "  unset {name}")?,
            }
        }
        write!(f, "  git daemon")?;
        for argument in self.options.iter().chain(&self.directories) {
            write!(f, " '{}'", argument.escape_ascii())?;
        }
        Ok(())
    }
}

/// A scene made real.
pub struct Site<'a> {
    scene: &'a Scene,
    seeds: &'a Seeds,
    scratch: Scratch,
}

impl Drop for Site<'_> {
    fn drop(&mut self) {
        open_up(self.scratch.root());
    }
}

/// Both daemons on it.
pub struct Stage<'a> {
    stock: Daemon,
    gitd: Daemon,
    // Last, so that it goes when the daemons have gone.
    site: Site<'a>,
}

impl<'a> Stage<'a> {
    /// `None` where stock does not start, as it serves nothing then; gitd may start, and its services will not.
    pub fn raise(scene: &'a Scene, seeds: &'a Seeds) -> Option<Self> {
        let site = Site::build(scene, seeds);
        let start = |implementation| site.invocation(implementation).try_start();
        let stock = start(Stock)?;
        let gitd = start(Gitd).unwrap_or_else(|| panic!("gitd does not start:\n{scene}"));
        Some(Self { stock, gitd, site })
    }

    /// What stock and gitd do with a request.
    pub fn ask(&self, request: &Request) -> (Observation, Observation) {
        let bytes = request.bytes(|text| self.expand(text));
        let ask = |daemon| {
            let archive = request.is_archive();
            // A service waits for more as long as there may be some.
            let asks = request.ahead.is_empty() && !archive;
            let observation = exchange(daemon, &bytes, request.half_close || !asks, asks);
            if archive && observation.served() { observation.by_band() } else { observation }
        };
        let (stock, mut gitd) = (ask(&self.stock), ask(&self.gitd));
        // How much of an answer survives a reset is chance.
        let cut = stock.answer.len().min(gitd.answer.len());
        if stock.reset && gitd.reset && stock.answer[..cut] == gitd.answer[..cut] && cut > 0 {
            gitd.answer.clone_from(&stock.answer);
        }
        (stock, gitd)
    }

    pub fn expand(&self, text: &[u8]) -> Text {
        self.site.expand(text)
    }
}

impl<'a> Site<'a> {
    pub fn build(scene: &'a Scene, seeds: &'a Seeds) -> Self {
        let scratch = Scratch::new();
        let owner = match scene.role {
            Role::Oneself => None,
            Role::Other(uid) => Some(uid),
        };
        Builder::new(scratch.root(), seeds, owner).build(&scene.entries);
        Self { scene, seeds, scratch }
    }

    pub fn expand(&self, text: &[u8]) -> Text {
        self.seeds.expand(text, self.scratch.root())
    }

    pub fn invocation(&self, implementation: Implementation) -> Invocation {
        let expand = |text: &Text| OsString::from_vec(self.expand(text));
        let mut invocation =
            implementation.invoke(&self.scratch).args(self.scene.options.iter().map(expand));
        for directory in &self.scene.directories {
            invocation = invocation.directory(expand(directory));
        }
        for (name, value) in &self.scene.environment {
            invocation = match value {
                // `git daemon` does this for git-daemon, which would not find git otherwise.
                None if implementation == Stock && name == "PATH" => {
                    let exec_path = Git::exec_path().display();
                    invocation.env(name, format!("{exec_path}:/usr/local/bin:/usr/bin:/bin"))
                }
                Some(value) if name == "PATH" => {
                    let path =
                        replace(&expand(value).into_vec(), b"$PATH", Git::server_path().as_bytes());
                    invocation.env(name, OsString::from_vec(path))
                }
                Some(value) => invocation.env(name, expand(value)),
                None => invocation.without_env(name),
            };
        }
        if let Role::Other(uid) = self.scene.role {
            invocation = invocation.user(uid, uid);
        }
        let mut databases = false;
        for (file, name) in [(PASSWD, "passwd"), (HOSTS, "hosts")] {
            if let Ok(text) = fs::read_to_string(self.scratch.root().join(file)) {
                invocation = invocation.etc(name, &text);
                databases = true;
            }
        }
        if databases {
            let files = "passwd: files\ngroup: files\nhosts: files\n";
            invocation = invocation.etc("nsswitch.conf", files);
        }
        invocation
    }
}
