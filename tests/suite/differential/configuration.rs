//! Generates configuration: what a repository, a user and the system can say about daemon and safe directories, well
//! spelt and badly.

use super::layout::{Entry, Text};
use crate::support::random::Random;

const VALUES: [&str; 22] = [
    "true",
    "false",
    "true",
    "false",
    "yes",
    "no",
    "on",
    "OFF",
    "1",
    "0",
    "2",
    "-1",
    "",
    "\"\"",
    "maybe",
    "1k",
    "\"true\"",
    "fal\"se\"",
    "true # really",
    "false;",
    "\\\n false",
    "t\\x",
];
const KEYS: [&str; 5] = ["uploadpack", "receivepack", "uploadarch", "uploadPack", "receive-pack"];

/// What is appended to a repository's config file.
pub fn of_repository(random: &mut Random) -> Text {
    let mut text = match random.below(8) {
        0..=3 => daemon(random),
        4 => include(random),
        5 => format(random),
        6 => broken(random),
        _ => [daemon(random), daemon(random)].concat(),
    };
    if random.chance(10) {
        text = text.replace('\n', "\r\n");
    }
    text.into_bytes()
}

fn daemon(random: &mut Random) -> String {
    let (key, value) = (random.pick(&KEYS), random.pick(&VALUES));
    match random.below(12) {
        0..=4 => format!("[daemon]\n\t{key} = {value}\n"),
        5 => format!("[Daemon] {key}={value}\n"),
        6 => format!("[DAEMON]\n{key}\n"),
        7 => format!("[daemon \"x\"]\n\t{key} = {value}\n"),
        8 => format!("[daemon.x]\n\t{key} = {value}\n"),
        9 => format!("[core]\n\tx = \"[daemon]\n\t{key} = {value}\n"),
        10 => format!("[daemon]\n\t{key} = {value}\n\t{key} = {}\n", random.pick(&VALUES)),
        _ => format!("# [daemon]\n[daemons]\n\t{key} = {value}\n"),
    }
}

fn include(random: &mut Random) -> String {
    let path = random.pick(&[
        "$ROOT/home/included",
        "../../home/included",
        "included",
        "~/included",
        "nowhere",
        "config",
        "",
        "~nosuch/x",
    ]);
    let section = random.pick(&[
        "[include]",
        "[Include]",
        "[include \"x\"]",
        "[includeIf \"gitdir:$ROOT/srv/\"]",
        "[includeIf \"gitdir:a.git\"]",
        "[includeif \"gitdir/i:**/A*\"]",
        "[includeIf \"gitdir:./\"]",
        "[includeIf \"onbranch:is-*\"]",
        "[includeIf \"gitdir:/\"]",
        "[includeIf \"hasconfig:remote.*.url:x\"]",
        "[includeIf \"nonsense:x\"]",
    ]);
    format!("{section}\n\tpath = {path}\n")
}

fn format(random: &mut Random) -> String {
    random
        .pick(&[
            "[core]\n\trepositoryformatversion = 1\n",
            "[core]\n\trepositoryformatversion = 2\n",
            "[core]\n\trepositoryformatversion = 999\n",
            "[core]\n\trepositoryformatversion = x\n",
            "[core]\n\trepositoryformatversion = -1\n",
            "[extensions]\n\tbogus = true\n",
            "[core]\n\trepositoryformatversion = 1\n[extensions]\n\tbogus = true\n",
            "[core]\n\trepositoryformatversion = 1\n[extensions]\n\tnoop = true\n",
            "[core]\n\trepositoryformatversion = 1\n[extensions]\n\tobjectformat = sha256\n",
            "[core]\n\trepositoryformatversion = 1\n[extensions]\n\tobjectformat = md5\n",
            "[core]\n\trepositoryformatversion = 1\n[extensions]\n\trefstorage = files\n",
            "[extensions]\n\tworktreeConfig = true\n",
            "[extensions]\n\tworktreeConfig = maybe\n",
            "[core]\n\tbare = false\n",
            "[core]\n\tbare = maybe\n",
            "[core]\n\tworktree = $ROOT/out\n",
            "[core]\n\tworktree = $ROOT/nowhere\n",
            "[safe]\n\tdirectory = *\n\tbareRepository = explicit\n",
            "[uploadpack]\n\thideRefs = refs/heads\n",
            "[uploadarchive]\n\tallowUnreachable = maybe\n",
            "[receive]\n\tadvertisePushOptions = true\n",
        ])
        .to_owned()
}

fn broken(random: &mut Random) -> String {
    random
        .pick(&[
            "[daemon\n",
            "[daemon]\n\tuploadpack = \"true\n",
            "no section\n",
            "[]\n",
            "[daemon]\n\t= true\n",
            "\u{feff}[daemon]\n",
            "[daemon]\n\tuploadpack = true\0\n",
            "[core]\n\tx = \\q\n",
            "[daemon]\n\tupload_pack = true\n",
            "[dae\\\nmon]\n\tuploadpack = 0\n",
            "[a]\n=\n",
        ])
        .to_owned()
}

/// Files and variables outside of any repository.
pub struct Surroundings {
    pub entries: Vec<Entry>,
    pub environment: Vec<(String, Option<Text>)>,
}

pub fn surroundings(random: &mut Random, paths: &[Text]) -> Surroundings {
    let mut made = Surroundings { entries: Vec::new(), environment: Vec::new() };
    if random.chance(60) {
        let included = match random.chance(80) {
            true => daemon(random),
            false => safe(random, paths),
        };
        made.file("home/included", included);
    }
    for name in ["home/.gitconfig", "home/.config/git/config", "home/system"] {
        if random.chance(20) {
            let text = global(random, paths);
            made.file(name, text);
        }
    }
    if random.chance(20) {
        made.command_scope(random, paths);
    }
    if random.chance(15) {
        made.odd_variable(random);
    }
    made
}

fn global(random: &mut Random, paths: &[Text]) -> String {
    let mut text = String::new();
    for _ in 0..1 + random.below(3) {
        // A stock daemon does not even start where this is broken.
        text += &match random.below(100) {
            0..=59 => safe(random, paths),
            60..=79 => daemon(random),
            80..=98 => include(random),
            _ => broken(random),
        };
    }
    text
}

fn safe(random: &mut Random, paths: &[Text]) -> String {
    format!("[safe]\n\tdirectory = {}\n", safe_value(random, paths))
}

fn safe_value(random: &mut Random, paths: &[Text]) -> String {
    let known = match paths.is_empty() {
        true => "srv/a".to_owned(),
        false => String::from_utf8_lossy(&random.pick(paths)).into_owned(),
    };
    let parent = known.rsplit_once('/').map_or("", |(parent, _)| parent);
    match random.below(14) {
        0..=1 => "*".to_owned(),
        2..=5 => format!("$ROOT/{known}"),
        6 => format!("$ROOT/{known}/"),
        7 => format!("$ROOT/{parent}/*"),
        8 => "$ROOT/*".to_owned(),
        9 => format!("$ROOT/{parent}"),
        10 => format!("$ROOT/{known}/.git"),
        11 => format!("~/../{known}"),
        _ => random
            .pick(&[
                "",
                ".",
                "srv/a",
                "*/",
                "/*",
                "%(prefix)/x",
                "~nosuch/x",
                "$ROOT/srv/../srv/a",
                "**",
                "\"\"",
            ])
            .to_owned(),
    }
}

impl Surroundings {
    fn file(&mut self, path: &str, contents: String) {
        self.entries.push(Entry::File { path: path.into(), contents: contents.into_bytes() });
    }

    fn variable(&mut self, name: &str, value: impl Into<Text>) {
        self.environment.push((name.to_owned(), Some(value.into())));
    }

    /// Configuration from the environment, as `git -c` passes it on.
    fn command_scope(&mut self, random: &mut Random, paths: &[Text]) {
        let (key, value) = match random.below(6) {
            0..=2 => ("safe.directory".to_owned(), safe_value(random, paths)),
            3 => ("include.path".to_owned(), "$ROOT/home/included".to_owned()),
            _ => (format!("Daemon.{}", random.pick(&KEYS)), random.pick(&VALUES).to_owned()),
        };
        if random.chance(25) {
            let value = value.replace('\'', "");
            return self.variable("GIT_CONFIG_PARAMETERS", format!("'{key}'='{value}'"));
        }
        self.variable(
            "GIT_CONFIG_COUNT",
            random.pick(&["1", "1", "1", "1", "1", "1", "1", "1", "0", ""]),
        );
        self.variable("GIT_CONFIG_KEY_0", key);
        self.variable("GIT_CONFIG_VALUE_0", value);
    }

    fn odd_variable(&mut self, random: &mut Random) {
        match random.below(12) {
            0 => self.environment.push(("HOME".to_owned(), None)),
            1 => self.environment.push(("XDG_CONFIG_HOME".to_owned(), None)),
            2 => self.variable("XDG_CONFIG_HOME", "$ROOT/home"),
            3 => self.variable("GIT_CONFIG_GLOBAL", "$ROOT/home/included"),
            4 => self.variable("GIT_CONFIG_GLOBAL", "/dev/null"),
            5 => self.variable("GIT_CONFIG_GLOBAL", ""),
            6 => self.variable("GIT_CONFIG_SYSTEM", "$ROOT/home/included"),
            7 => self.variable("GIT_CONFIG_NOSYSTEM", random.pick(&["1", "0", "", "maybe"])),
            8 => self.variable("GIT_CONFIG", "$ROOT/home/included"),
            9 => self
                .variable("HOME", random.pick(&["", "/", "$ROOT/home/", "home", "$ROOT/nowhere"])),
            10 => self.variable("GIT_CEILING_DIRECTORIES", "$ROOT/srv"),
            _ => self.variable(
                "SUDO_UID",
                random.pick(&[
                    "31003",
                    "31003",
                    " 31003",
                    "+31003",
                    "31003 ",
                    "0",
                    "",
                    "-1",
                    "x",
                    "4294998299",
                    "0x791b",
                    "031003",
                ]),
            ),
        }
    }
}
