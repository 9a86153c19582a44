//! Git directories in which something is not as git makes it.

use super::Generator;
use crate::differential::configuration;
use crate::differential::layout::{Entry, Text};

impl Generator<'_> {
    /// Spoils or decorates one thing in a git directory.
    pub(super) fn bend(&mut self, path: &[u8]) {
        match self.random.below(12) {
            0..=2 => self.bend_head(path),
            3..=4 => self.bend_directory(path),
            5..=6 => {
                let text = configuration::of_repository(self.random);
                self.append(path, "config", &text);
            }
            7 => self.bend_config_file(path),
            8 => self.bend_export(path),
            9 => self.common_directory(path),
            10 => self.bend_mode(path),
            _ if self.owners.can_give => self.give(path),
            _ => self.bend_mode(path),
        }
    }

    fn bend_head(&mut self, path: &[u8]) {
        let branch = b"refs/heads/is-00";
        let long = |n| [b"ref:".to_vec(), vec![b' '; n], branch.to_vec()].concat();
        let heads: [Text; 26] = [
            b"ref:refs/heads/is-00".to_vec(),
            b"ref: \t refs/heads/is-00\n".to_vec(),
            b"ref: \n\r refs/x".to_vec(),
            b"ref:\x0crefs/heads/is-00".to_vec(),
            b"ref:\x0brefs/heads/is-00".to_vec(),
            b"ref: refs".to_vec(),
            b"ref: refs/".to_vec(),
            b"ref: heads/is-00".to_vec(),
            b"REF: refs/heads/is-00".to_vec(),
            b" ref: refs/heads/x".to_vec(),
            b"ref: refs/heads/no-such\n".to_vec(),
            b"ref: refs/../config\n".to_vec(),
            b"ref:\0refs/heads/x".to_vec(),
            b"$ID\n".to_vec(),
            b"$ID".to_vec(),
            b"$ID and more\n".to_vec(),
            b"$ID256\n".to_vec(),
            b"\n$ID".to_vec(),
            b"0123456789abcdef0123456789ABCDEF01234567".to_vec(),
            b"0123456789abcdef0123456789abcdef0123456".to_vec(),
            b"0123456789abcdef0123456789abcdef0123456g".to_vec(),
            b"".to_vec(),
            long(240),
            long(241),
            long(242),
            long(5000),
        ];
        let head = self.join(path, "HEAD");
        match self.random.below(10) {
            0 => self.entries.push(Entry::Remove { path: head }),
            1 => {
                self.entries.push(Entry::Remove { path: head.clone() });
                self.entries.push(Entry::Directory { path: head });
            }
            2..=3 => {
                let targets: [&[u8]; 8] = [
                    b"refs/heads/is-00",
                    b"refs/heads/no-such",
                    b"refs/",
                    b"refs",
                    b"./refs/heads/is-00",
                    b"config",
                    b"$ROOT/srv/a/HEAD",
                    b"../HEAD",
                ];
                let target = self.random.pick(&targets).to_vec();
                self.entries.push(Entry::Link { path: head, target });
            }
            4 => self.entries.push(Entry::Mode { path: head, mode: 0 }),
            _ => {
                let contents = self.random.pick(&heads);
                self.entries.push(Entry::File { path: head, contents });
            }
        }
    }

    /// The directories that a git directory must have.
    fn bend_directory(&mut self, path: &[u8]) {
        let name = self.random.pick(&["objects", "refs"]);
        let place = self.join(path, name);
        match self.random.below(6) {
            0 => self.entries.push(Entry::Remove { path: place }),
            1 => self.entries.push(Entry::Mode { path: place, mode: 0 }),
            2 => self.entries.push(Entry::Mode { path: place, mode: 0o644 }),
            3 => {
                self.entries.push(Entry::Remove { path: place.clone() });
                self.entries.push(Entry::File { path: place.clone(), contents: b"x".to_vec() });
                let mode = self.random.pick(&[0o644, 0o755]);
                self.entries.push(Entry::Mode { path: place, mode });
            }
            _ => {
                let target =
                    [b"$ROOT/".to_vec(), self.known(), b"/".to_vec(), name.into()].concat();
                self.entries.push(Entry::Remove { path: place.clone() });
                self.entries.push(Entry::Link { path: place, target });
            }
        }
    }

    fn bend_config_file(&mut self, path: &[u8]) {
        let config = self.join(path, "config");
        match self.random.below(5) {
            0 => self.entries.push(Entry::Remove { path: config }),
            1 => {
                self.entries.push(Entry::Remove { path: config.clone() });
                self.entries.push(Entry::Directory { path: config });
            }
            2 => self.entries.push(Entry::Mode { path: config, mode: 0 }),
            3 => {
                let target = self
                    .random
                    .pick(&[b"../config".as_slice(), b"nowhere", b"config", b"$ROOT/home/included"])
                    .to_vec();
                self.entries.push(Entry::Link { path: config, target });
            }
            _ => {
                let text = configuration::of_repository(self.random);
                self.append(path, "config", &[b"\n".repeat(1 << 20), text].concat());
            }
        }
    }

    fn bend_export(&mut self, path: &[u8]) {
        let export = self.join(path, "git-daemon-export-ok");
        self.entries.push(Entry::Remove { path: export.clone() });
        match self.random.below(5) {
            0 => self.entries.push(Entry::Directory { path: export }),
            1 => self.entries.push(Entry::Link { path: export, target: b"nowhere".to_vec() }),
            2 => self.entries.push(Entry::Link { path: export, target: b"HEAD".to_vec() }),
            3 => {
                self.file(path, "git-daemon-export-ok", b"");
                self.entries.push(Entry::Mode { path: export, mode: 0 });
            }
            _ => self.entries.push(Entry::File {
                path: [path, b"/../git-daemon-export-ok"].concat(),
                contents: Vec::new(),
            }),
        }
    }

    fn common_directory(&mut self, path: &[u8]) {
        let other = self.known();
        let texts: [Text; 10] = [
            b".\n".to_vec(),
            b"../b\n".to_vec(),
            b"..".to_vec(),
            [b"$ROOT/", other.as_slice(), b"\n"].concat(),
            [b"$ROOT/", other.as_slice(), b"\r\n\n"].concat(),
            b"".to_vec(),
            b"\n".to_vec(),
            b"nowhere\n".to_vec(),
            [b"$ROOT/", other.as_slice(), b"\0x"].concat(),
            b"nowhere/either\n".to_vec(),
        ];
        let contents = self.random.pick(&texts);
        let place = self.join(path, "commondir");
        match self.random.below(8) {
            0 => self.entries.push(Entry::Directory { path: place }),
            1 => self.entries.push(Entry::Link { path: place, target: b"nowhere".to_vec() }),
            2 => {
                self.entries.push(Entry::File { path: place.clone(), contents });
                self.entries.push(Entry::Mode { path: place, mode: 0 });
            }
            _ => self.entries.push(Entry::File { path: place, contents }),
        }
    }

    fn bend_mode(&mut self, path: &[u8]) {
        let mode = self.random.pick(&[0, 0o444, 0o555, 0o111, 0o644, 0o700, 0o777]);
        let path = match self.random.chance(30) {
            true => path.rsplitn(2, |&byte| byte == b'/').nth(1).unwrap_or(path).to_vec(),
            false => path.to_vec(),
        };
        self.entries.push(Entry::Mode { path, mode });
    }
}
