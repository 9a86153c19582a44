//! Generates what lies on disk: repositories that are well, that are not, and that are only names for others.

mod spoiled;

use super::configuration;
use super::layout::{COMMITS, Entry, Text};
use crate::support::random::Random;

/// Users that own nothing of the daemon's.
pub const STRANGER: u32 = 31_003;

/// Names are few, so that suffixes meet: `a`, `a.git`, `a/.git` and `a.git/.git` are tried for one request.
const NAMES: [&str; 9] =
    ["a", "b", "a.git", "b.git", "a/.git", "a.git/.git", "b/.git", "c", "c.git"];
const RARE_NAMES: [&[u8]; 10] = [
    b"with blank.git",
    b"it's.git",
    b"\xc3\xbc.git",
    b"\xff\xfe",
    b".hid",
    b"...",
    b"a..b",
    b"Aa.git",
    b"x.git.git",
    b"$HOME",
];
const PLACES: [&str; 8] = ["srv", "srv", "srv", "srv", "srv/d", "srv/h1", "srv/alice/pub", "out"];

/// The owners that entries may have.
#[derive(Clone, Copy, Debug)]
pub struct Owners {
    /// The daemon's user.
    pub daemon: u32,
    /// Whether files can be given to others.
    pub can_give: bool,
}

pub struct Generator<'a> {
    random: &'a mut Random,
    owners: Owners,
    entries: Vec<Entry>,
    /// Where something was put: what requests, links and gitfiles may name.
    paths: Vec<Text>,
    commit: usize,
}

/// Entries, and the paths that have something to do with them.
pub fn generate(random: &mut Random, owners: Owners) -> (Vec<Entry>, Vec<Text>) {
    let mut generator =
        Generator { random, owners, entries: Vec::new(), paths: Vec::new(), commit: 0 };
    for _ in 0..4 + generator.random.below(9) {
        generator.node();
    }
    (generator.entries, generator.paths)
}

impl Generator<'_> {
    fn node(&mut self) {
        let path = self.fresh();
        match self.random.below(20) {
            0..=7 => self.repository(&path),
            8..=12 => {
                self.repository(&path);
                for _ in 0..1 + self.random.below(2) {
                    self.bend(&path);
                }
            }
            13..=14 => self.gitfile(&path),
            15..=16 => self.link(&path),
            17..=18 => self.worktree(&path),
            _ => self.thing(&path),
        }
        self.paths.push(path);
    }

    /// A path for something new, which may be below or instead of something old.
    fn fresh(&mut self) -> Text {
        if self.random.chance(10) && !self.paths.is_empty() {
            let old = self.known();
            let below: &[u8] =
                self.random.pick(&[b"/.git".as_slice(), b"/x.git", b".git", b"/objects/y"]);
            return [old, below.to_vec()].concat();
        }
        let place = self.random.pick(&PLACES);
        let name = match self.random.chance(8) {
            true => self.random.pick(&RARE_NAMES).to_vec(),
            false => self.random.pick(&NAMES).as_bytes().to_vec(),
        };
        [place.as_bytes(), b"/", &name].concat()
    }

    fn known(&mut self) -> Text {
        match self.paths.is_empty() {
            true => b"srv/nothing".to_vec(),
            false => self.random.pick(&self.paths),
        }
    }

    fn repository(&mut self, path: &[u8]) {
        let sha256 = self.random.chance(5);
        self.entries.push(Entry::Repository { path: path.to_vec(), commit: self.commit, sha256 });
        self.commit = (self.commit + 1) % COMMITS;
        if self.random.chance(60) {
            self.file(path, "git-daemon-export-ok", b"");
        }
        if self.random.chance(25) {
            let text = configuration::of_repository(self.random);
            self.append(path, "config", &text);
        }
        if self.owners.can_give && self.random.chance(12) {
            self.give(path);
        }
    }

    fn give(&mut self, path: &[u8]) {
        let uid = self.random.pick(&[STRANGER, STRANGER, 0, self.owners.daemon]);
        let whole = self.random.chance(50);
        self.entries.push(Entry::Owner { path: path.to_vec(), uid, whole });
    }

    fn gitfile(&mut self, path: &[u8]) {
        let target = self.known();
        let absolute = [b"gitdir: $ROOT/", target.as_slice()].concat();
        let name = target.rsplit(|&byte| byte == b'/').next().unwrap_or_default().to_vec();
        let with = |before: &[u8], end: &[u8]| [before, absolute.as_slice(), end].concat();
        let texts: [Text; 22] = [
            with(b"", b"\n"),
            with(b"", b"\n"),
            with(b"", b""),
            with(b"", b"\r\n"),
            with(b"", b"\n\n\r\n"),
            with(b"", b"/\n"),
            with(b"", b" \n"),
            with(b"", b"\nmore\n"),
            with(b"", b"\0more\n"),
            with(b" ", b"\n"),
            with(b"\n", b"\n"),
            with(b"", &b"\n".repeat(5000)),
            with(b"", &b"\n".repeat(1 << 20)),
            [b"gitdir: ", name.as_slice(), b"\n"].concat(),
            [b"gitdir: ../", name.as_slice(), b"\n"].concat(),
            [b"gitdir: ./", name.as_slice()].concat(),
            b"gitdir: nowhere\n".to_vec(),
            b"gitdir: \n".to_vec(),
            b"gitdir: ".to_vec(),
            b"gitdir:$ROOT/srv/a\n".to_vec(),
            b"hello, world\n".to_vec(),
            b"".to_vec(),
        ];
        let contents = self.random.pick(&texts);
        self.entries.push(Entry::File { path: path.to_vec(), contents });
        if self.random.chance(5) {
            self.entries.push(Entry::Mode { path: path.to_vec(), mode: 0 });
        }
        if self.owners.can_give && self.random.chance(15) {
            self.give(path);
        }
    }

    fn link(&mut self, path: &[u8]) {
        let other = self.known();
        let targets: [Text; 7] = [
            [b"$ROOT/", other.as_slice()].concat(),
            [b"$ROOT/", other.as_slice()].concat(),
            [b"$ROOT/", other.as_slice(), b"/"].concat(),
            b"a.git".to_vec(),
            b"../out/a".to_vec(),
            b"nowhere".to_vec(),
            path.to_vec(),
        ];
        let target = self.random.pick(&targets);
        self.entries.push(Entry::Link { path: path.to_vec(), target });
        if self.owners.can_give && self.random.chance(15) {
            self.give(path);
        }
    }

    /// What `git worktree add` makes of a repository that is there already.
    fn worktree(&mut self, path: &[u8]) {
        let main = self.known();
        let private = [main.as_slice(), b"/worktrees/w"].concat();
        let text = |text: &str, contents: &[u8]| Entry::File {
            path: [private.as_slice(), b"/", text.as_bytes()].concat(),
            contents: contents.to_vec(),
        };
        self.entries.push(text("HEAD", b"$ID\n"));
        self.entries.push(text("commondir", b"../..\n"));
        self.entries.push(text("gitdir", &[b"$ROOT/", path, b"/.git\n"].concat()));
        if self.random.chance(50) {
            self.entries.push(text("git-daemon-export-ok", b""));
        }
        if self.random.chance(30) {
            let config = configuration::of_repository(self.random);
            self.entries.push(text("config.worktree", &config));
            self.append(&main, "config", b"[extensions]\n\tworktreeConfig = true\n");
        }
        let gitfile = Entry::File {
            path: self.join(path, ".git"),
            contents: [b"gitdir: $ROOT/", private.as_slice(), b"\n"].concat(),
        };
        self.entries.push(gitfile);
        if self.owners.can_give && self.random.chance(25) {
            let which = self.random.pick(&[path.to_vec(), private.clone(), main]);
            self.give(&which);
        }
        self.paths.push(private);
    }

    fn thing(&mut self, path: &[u8]) {
        let path = path.to_vec();
        self.entries.push(match self.random.below(3) {
            0 => Entry::Directory { path },
            1 => Entry::Socket { path },
            _ => Entry::File { path, contents: b"plain\n".to_vec() },
        });
    }

    fn file(&mut self, path: &[u8], name: &str, contents: &[u8]) {
        self.entries.push(Entry::File { path: self.join(path, name), contents: contents.to_vec() });
    }

    fn append(&mut self, path: &[u8], name: &str, contents: &[u8]) {
        self.entries
            .push(Entry::Append { path: self.join(path, name), contents: contents.to_vec() });
    }

    fn join(&self, path: &[u8], name: &str) -> Text {
        [path, b"/", name.as_bytes()].concat()
    }
}
