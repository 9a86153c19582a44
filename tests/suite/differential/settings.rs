//! Generates command lines.

use super::layout::{Entry, Text};
use crate::support::random::Random;

/// How requests must be spelt to reach anything.
#[derive(Clone, Copy, Debug, Default)]
pub struct Spelling {
    /// Pathnames are below this directory of the scratch, else absolute.
    pub base: Option<&'static str>,
    pub users: bool,
    /// The host matters.
    pub hosts: bool,
    /// The host is resolved, which must not take long, nor depend on the version of the stock daemon.
    pub resolves: bool,
    /// By a resolver of ours, which knows all names, and more.
    pub knows_hosts: bool,
}

pub struct Settings {
    pub options: Vec<Text>,
    pub directories: Vec<Text>,
    /// Hooks, and the databases of users and hosts.
    pub entries: Vec<Entry>,
    /// What is put into repositories that are there.
    pub traps: Vec<Entry>,
    pub environment: Vec<(String, Option<Text>)>,
    pub spelling: Spelling,
}

/// `databases`: whether the daemons can be shown other users and hosts.
pub fn generate(random: &mut Random, paths: &[Text], databases: bool) -> Settings {
    let mut settings = Settings {
        options: Vec::new(),
        directories: Vec::new(),
        entries: Vec::new(),
        traps: Vec::new(),
        environment: Vec::new(),
        spelling: Spelling::default(),
    };
    settings.paths(random, databases);
    settings.offers(random);
    settings.directories(random, paths);
    if random.chance(75) {
        settings.option("--export-all");
    }
    if random.chance(50) {
        settings.option("--informative-errors");
        if random.chance(5) {
            settings.option("--no-informative-errors");
        }
    }
    if random.chance(20) {
        settings.hook(random, paths);
    }
    if settings.spelling.resolves && databases && random.chance(70) {
        settings.hosts();
    }
    if random.chance(10) {
        settings.option("--timeout=600");
    }
    settings
}

impl Settings {
    fn option(&mut self, option: impl Into<Text>) {
        self.options.push(option.into());
    }

    fn paths(&mut self, random: &mut Random, users: bool) {
        match random.below(20) {
            0..=11 => {
                self.spelling.base = Some("srv");
                let base = random.pick(&[
                    "$ROOT/srv",
                    "$ROOT/srv",
                    "$ROOT/srv",
                    "srv",
                    "$ROOT/srv/",
                    "$ROOT/home/../srv",
                    "$ROOT/./srv",
                ]);
                self.option(format!("--base-path={base}"));
            }
            12 => {
                let base = random.pick(&["/", "$ROOT", "$ROOT/out", ".", "$ROOT/srv/d"]);
                self.option(format!("--base-path={base}"));
            }
            _ => {}
        }
        if random.chance(20) {
            self.option("--base-path-relaxed");
        }
        if random.chance(15) {
            self.template(random);
        }
        if users && random.chance(12) {
            self.users(random);
        }
    }

    fn template(&mut self, random: &mut Random) {
        let template = random.pick(&[
            "$ROOT/srv/%H%D",
            "$ROOT/srv/%H/%D",
            "$ROOT/srv%D",
            "$ROOT/%H%D",
            "$ROOT/srv/%%H%D",
            "$ROOT/srv/%x%D",
            "%D",
            "%H%D",
            "srv/%H%D",
            "$ROOT/srv/%P%D",
            "$ROOT/srv/h%P%D",
            "$ROOT/srv/%H",
            "",
            "$ROOT/srv/%H:%P%D",
            "$ROOT/srv/%CH%D",
            "$ROOT/srv/%IP%D",
            "$ROOT/srv/%D%D%D%D",
            "%",
            "$ROOT/srv/%h%D",
            "~%H%D",
            "~%H/a",
        ]);
        self.spelling.hosts = true;
        self.spelling.resolves |= template.contains("%CH") || template.contains("%IP");
        self.option(format!("--interpolated-path={template}"));
    }

    fn users(&mut self, random: &mut Random) {
        self.spelling.users = true;
        if !random.chance(10) {
            self.option(random.pick(&[
                "--user-path",
                "--user-path=",
                "--user-path=pub",
                "--user-path=pub/",
                "--user-path=/pub",
                "--user-path=../out",
            ]));
        }
        let passwd = "root:x:0:0::/root:/bin/sh\nalice:x:31001:31001::$ROOT/srv/alice:/bin/sh\nbob:x:31002:31002::$ROOT/srv/:/bin/sh\n\
                      nohome:x:31004:31004::/nonexistent:/bin/sh\nempty:x:31005:31005:::/bin/sh\nslash:x:31006:31006::/:/bin/sh\n\
                      relative:x:31007:31007::srv:/bin/sh\nbare:x:31008:31008::$ROOT/srv/a.git/:/bin/sh\n\
                      stem:x:31009:31009::$ROOT/srv/b:/bin/sh\nstems:x:31010:31010::$ROOT/srv/b///:/bin/sh\n\
                      double:x:31011:31011:://$ROOT//srv//a:/bin/sh\ndot:x:31012:31012::.:/bin/sh\n\
                      tree:x:31013:31013::srv/a/:/bin/sh\n";
        self.entries.push(Entry::File { path: PASSWD.into(), contents: passwd.into() });
    }

    /// Names whose canonical spelling is another than that of the directories, or leads out of them.
    fn hosts(&mut self) {
        self.spelling.knows_hosts = true;
        let hosts = "127.0.0.1 localhost\n127.0.0.5 H1 upper.example\n127.0.0.6 h1 lower.example\n127.0.0.7 D Mixed.Example\n\
                     127.0.0.8 ../out climbs.example\n127.0.0.9 .h1. dotted.example\n127.0.0.10 h1/../d slash.example\n";
        self.entries.push(Entry::File { path: HOSTS.into(), contents: hosts.into() });
    }

    /// A name without a slash, and where it may be found.
    fn search(&mut self, random: &mut Random, paths: &[Text]) -> Text {
        let name = random.pick(&[b"myhook".as_slice(), b"my\xffhook"]).to_vec();
        let (first, second) = (random.pick(&["$ROOT/bin", "$ROOT/home", "bin"]), "$ROOT/sbin");
        let scripts =
            ["#!/bin/sh\nexit 0\n", "#!/bin/sh\nexit 1\n", "exit 1\n", "#!/nonexistent\n"];
        let program = |place: &[u8], random: &mut Random| {
            let path = [place, b"/", &name].concat();
            let mode = random.pick(&[0o755, 0o755, 0o755, 0o644, 0o655, 0o700]);
            let contents = random.pick(&scripts).into();
            [Entry::File { path: path.clone(), contents }, Entry::Mode { path, mode }]
        };
        for place in [b"bin".as_slice(), b"sbin", b"home"] {
            if random.chance(50) {
                self.entries.extend(program(place, random));
            }
        }
        for path in paths {
            for below in [b"".as_slice(), b"/bin"] {
                if random.chance(40) {
                    self.traps.extend(program(&[path, below].concat(), random));
                }
            }
        }
        let known = paths.first().map_or("srv/a".into(), |path| String::from_utf8_lossy(path));
        let path = match random.below(12) {
            0 => None,
            1 => Some("$PATH".to_owned()),
            2 => Some(":$PATH".to_owned()),
            3 => Some("$PATH:".to_owned()),
            4 => Some(format!("$ROOT/{known}:$PATH")),
            5 => Some(format!("$PATH:$ROOT/{known}")),
            6 => Some(format!(".:{second}:$PATH")),
            _ => Some(format!("{first}:{second}:$PATH")),
        };
        self.environment.push(("PATH".to_owned(), path.map(String::into_bytes)));
        name
    }

    fn offers(&mut self, random: &mut Random) {
        for service in ["upload-pack", "upload-archive", "receive-pack"] {
            let enabled = if service == "upload-pack" { 15 } else { 60 };
            if random.chance(enabled) {
                self.option(format!("--enable={service}"));
            }
            if random.chance(5) {
                self.option(format!("--disable={service}"));
            }
            if random.chance(15) {
                self.option(format!("--forbid-override={service}"));
            }
            if random.chance(4) {
                self.option(format!("--allow-override={service}"));
            }
        }
    }

    fn directories(&mut self, random: &mut Random, paths: &[Text]) {
        let strict = random.chance(8);
        if strict {
            self.option("--strict-paths");
        }
        if !strict && !random.chance(20) {
            return;
        }
        for _ in 0..1 + random.below(3 + if strict { 4 } else { 0 }) {
            let base = match random.chance(if strict { 10 } else { 40 }) {
                true => random
                    .pick(&[
                        "$ROOT/srv",
                        "$ROOT",
                        "",
                        "/",
                        "$ROOT/srv/",
                        "srv",
                        "$ROOT/out",
                        "$ROOT/srv//",
                        "~alice",
                        "~alice/pub",
                    ])
                    .as_bytes()
                    .to_vec(),
                false if paths.is_empty() => b"$ROOT/srv/a".to_vec(),
                false => [b"$ROOT/", random.pick(paths).as_slice()].concat(),
            };
            let end = random.pick(&["", "", "", "", "/", ".git", "/.git", "/x"]);
            self.directories.push([base, end.into()].concat());
        }
    }

    fn hook(&mut self, random: &mut Random, paths: &[Text]) {
        self.spelling.resolves = true;
        let scripts = [
            "#!/bin/sh\nexit 0\n",
            "#!/bin/sh\necho ignored\n",
            "#!/bin/sh\nexit 1\n",
            "#!/bin/sh\necho \"$#: $*\"; exit 1\n",
            "#!/bin/sh\npwd; env | sort; exit 1\n",
            "#!/bin/sh\nenv | grep -E '^(GIT_|REMOTE_ADDR)' | sort | tr '\\n' ' '; pwd; exit 3\n",
            "#!/bin/sh\nprintf ' \\n\\t two  words \\nmore'; exit 1\n",
            "#!/bin/sh\necho >&2 error; exit 1\n",
            "echo no interpreter; exit 1\n",
            "#!/bin/sh\nkill -9 $$\n",
            "#!/nonexistent\n",
            "#!/bin/sh\ncase $2 in *a*) exit 0;; *) echo \"not $2\"; exit 1; esac\n",
            "#!/bin/sh\nprintf '\\000x'; exit 1\n",
            "#!/bin/sh\nprintf 'a\\r\\nb'; exit 1\n",
            "#!/bin/sh\nkill -TERM $$; exit 1\n",
        ];
        self.entries
            .push(Entry::File { path: b"hook".to_vec(), contents: random.pick(&scripts).into() });
        let mode = if random.chance(95) { 0o755 } else { 0o644 };
        self.entries.push(Entry::Mode { path: b"hook".to_vec(), mode });
        if random.chance(30) {
            let name = self.search(random, paths);
            return self.option([b"--access-hook=", name.as_slice()].concat());
        }
        let command = match random.below(10) {
            0..=6 => "$ROOT/hook",
            _ => random.pick(&[
                "$ROOT/hook ",
                "$ROOT/hook x",
                "true",
                "false",
                "echo a;false",
                "test upload-pack =",
                "nosuchhook",
                "$ROOT",
                "./HEAD",
                "",
            ]),
        };
        self.option(format!("--access-hook={command}"));
    }
}

/// Where the database of hosts is that the daemons shall see.
pub const HOSTS: &str = "hosts";

/// Where the user database is that the daemons shall see.
pub const PASSWD: &str = "passwd";
