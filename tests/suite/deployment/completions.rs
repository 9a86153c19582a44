//! `docs/completions/`: made from `--help`, and tried in the shells.
//!
//! After a change of the options: `GITD_WRITE_COMPLETIONS=1 cargo test --test suite deployment::completions`.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::package::succeed;
use crate::support::process::installed;
use crate::support::skip;

/// An option as `--help` has it.
struct Opt {
    /// `--port`
    name: String,
    /// `n`, if it has a value.
    value: Option<String>,
    /// Whether it may stand without its value.
    optional: bool,
    help: String,
}

/// What a value may be.
enum Kind {
    Words(&'static str),
    Files,
    Users,
    Groups,
    Any,
}

impl Opt {
    fn kind(&self) -> Kind {
        match (self.name.as_str(), self.value.as_deref().unwrap_or_default()) {
            ("--port", _) => Kind::Words("auto"),
            ("--mptcp", _) => Kind::Words("require"),
            (_, "service") => Kind::Words("upload-pack upload-archive receive-pack"),
            (_, "where") => Kind::Words("stderr syslog none"),
            (_, "format") => Kind::Words("plain json journal"),
            (_, "path" | "file" | "command") => Kind::Files,
            (_, "user") => Kind::Users,
            (_, "group") => Kind::Groups,
            _ => Kind::Any,
        }
    }

    /// The ways to write its beginning.
    fn words(&self) -> Vec<String> {
        match (&self.value, self.optional) {
            (None, _) => vec![self.name.clone()],
            (Some(_), false) => vec![format!("{}=", self.name)],
            (Some(_), true) => vec![self.name.clone(), format!("{}=", self.name)],
        }
    }
}

fn options() -> Vec<Opt> {
    let help = Command::new(env!("CARGO_BIN_EXE_gitd")).arg("--help").output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let mut lines = help.lines().peekable();
    let mut options = Vec::new();
    while let Some(line) = lines.next() {
        let Some(at) = line.find("--").filter(|_| line.starts_with("  ")) else { continue };
        let (spelling, mut help) = line[at..].split_once("  ").unwrap_or((&line[at..], ""));
        if help.is_empty() {
            help = lines.next().unwrap();
        }
        let end = spelling.find(['=', '[']).unwrap_or(spelling.len());
        let value = spelling.split_once('<').map(|(_, rest)| rest.split('>').next().unwrap());
        options.push(Opt {
            name: spelling[..end].to_owned(),
            value: value.map(str::to_owned),
            optional: spelling.contains('['),
            help: help.trim().to_owned(),
        });
    }
    assert!(options.len() > 30, "{}", options.len());
    options
}

const HEAD: &str = "made from gitd --help; see tests/suite/deployment/completions.rs";

fn bash(options: &[Opt]) -> String {
    let mut values = String::new();
    for option in options {
        let choice = match option.kind() {
            Kind::Words(words) => format!("-W '{words}'"),
            Kind::Files => "-f".to_owned(),
            Kind::Users => "-u".to_owned(),
            Kind::Groups => "-g".to_owned(),
            Kind::Any => continue,
        };
        writeln!(values, "        {}) choice=({choice}) ;;", option.name).unwrap();
    }
    let words: Vec<_> = options.iter().flat_map(Opt::words).collect();
    let words = words.join(" ");
    format!(
        "# bash completion for gitd and gitd-connect; {HEAD}

_gitd() {{
    local word=${{COMP_WORDS[COMP_CWORD]}} name= choice=()
    # The equals sign is a word of its own here.
    if [[ $word == = ]]; then
        name=${{COMP_WORDS[COMP_CWORD - 1]}} word=
    elif ((COMP_CWORD > 1)) && [[ ${{COMP_WORDS[COMP_CWORD - 1]}} == = ]]; then
        name=${{COMP_WORDS[COMP_CWORD - 2]}}
    fi
    case $name in
        '') if [[ $word == -* ]]; then choice=(-W '{words}'); else choice=(-d); fi ;;
{values}        *) return ;;
    esac
    mapfile -t COMPREPLY < <(compgen \"${{choice[@]}}\" -- \"$word\")
    if [[ ${{choice[0]}} == -[fd] ]]; then compopt -o filenames 2>/dev/null; fi
    if [[ ${{COMPREPLY[*]}} == *= ]]; then compopt -o nospace 2>/dev/null; fi
}}
complete -F _gitd gitd
complete -A hostname -W '--help --version' gitd-connect
"
    )
}

fn zsh(options: &[Opt]) -> String {
    let mut lines = String::new();
    for option in options {
        let help = option.help.replace(['[', ']', '\'', ':'], "");
        let Some(value) = &option.value else {
            writeln!(lines, "    '{}[{help}]' \\", option.name).unwrap();
            continue;
        };
        let action = match option.kind() {
            Kind::Words(words) => format!("({words})"),
            Kind::Files => "_files".to_owned(),
            Kind::Users => "_users".to_owned(),
            Kind::Groups => "_groups".to_owned(),
            Kind::Any => " ".to_owned(),
        };
        let value = value.replace(':', " ");
        let optional = if option.optional { "::" } else { ":" };
        writeln!(lines, "    '*{}=-[{help}]{optional}{value}:{action}' \\", option.name).unwrap();
    }
    format!(
        "#compdef gitd gitd-connect
# zsh completion for gitd and gitd-connect; {HEAD}

if [[ $service == gitd-connect ]]; then
    _arguments '--help[Print a summary]' '--version[Print the version]' ':host:_hosts' ':port:(9418)'
    return
fi

_arguments -S \\
{lines}    '*:directory:_files -/'
"
    )
}

fn fish(options: &[Opt]) -> String {
    let mut lines = String::new();
    for option in options {
        let help = option.help.replace('\'', "\\'");
        let value = match (&option.value, option.kind()) {
            (None, _) => "",
            (_, Kind::Words(words)) => &format!(" -x -a '{words}'"),
            (_, Kind::Files) => " -r -F",
            (_, Kind::Users) => " -x -a '(__fish_complete_users)'",
            (_, Kind::Groups) => " -x -a '(__fish_complete_groups)'",
            (_, Kind::Any) => " -x",
        };
        let name = option.name.trim_start_matches('-');
        writeln!(lines, "complete -c gitd -l {name}{value} -d '{help}'").unwrap();
    }
    format!(
        "# fish completion for gitd and gitd-connect; {HEAD}

complete -c gitd -f -a '(__fish_complete_directories)'
{lines}complete -c gitd-connect -f -a '(__fish_print_hostnames)'
complete -c gitd-connect -l help -d 'Print a summary'
complete -c gitd-connect -l version -d 'Print the version'
"
    )
}

fn place(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/completions").join(name)
}

#[test]
fn completions_match_the_parser() {
    let options = options();
    for (name, text) in
        [("gitd.bash", bash(&options)), ("_gitd", zsh(&options)), ("gitd.fish", fish(&options))]
    {
        if std::env::var_os("GITD_WRITE_COMPLETIONS").is_some() {
            fs::write(place(name), &text).unwrap();
        }
        let stored = fs::read_to_string(place(name)).unwrap_or_default();
        assert!(stored == text, "docs/completions/{name} is out of date; see this file's head");
    }
}

#[test]
fn in_bash() {
    // The words as readline splits them, and what is offered for the last of them.
    for (words, offered) in [
        ("gitd --po", "--port= --port-file="),
        ("gitd --mp", "--mptcp --mptcp="),
        ("gitd --port =", "auto"),
        ("gitd --enable = u", "upload-pack upload-archive"),
        ("gitd --log-destination = s", "stderr syslog"),
        ("gitd --verbose --user = roo", "root"),
        ("gitd --base-path = /et", "/etc"),
        ("gitd --nice =", ""),
        ("gitd --log-format = j", "json journal"),
        ("gitd --explain-service = up", "upload-pack upload-archive"),
        ("gitd /et", "/etc"),
    ] {
        let script = format!(
            "source {}; COMP_WORDS=({words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); _gitd; echo \"${{COMPREPLY[*]}}\"",
            place("gitd.bash").display()
        );
        let said = succeed(Command::new("bash").args(["--norc", "-c", &script]));
        assert_eq!(said.trim_end(), offered, "{words}");
    }
}

#[test]
fn in_fish() {
    if installed("fish").is_none() {
        return skip("needs fish");
    }
    for (line, offered) in [
        ("gitd --require", "--require-all-listeners"),
        ("gitd --enable=rec", "--enable=receive-pack"),
        ("gitd --port=", "--port=auto"),
        ("gitd-connect --v", "--version"),
    ] {
        let script = format!("source {}; complete -C '{line}'", place("gitd.fish").display());
        let mut fish = Command::new("fish");
        let said = succeed(fish.args(["--no-config", "-c", &script]));
        let first: Vec<_> = said.lines().filter_map(|line| line.split('\t').next()).collect();
        assert_eq!(first, [offered], "{line}: {said}");
    }
}

#[test]
fn in_zsh() {
    if installed("zsh").is_none() {
        return skip("needs zsh");
    }
    // What zsh's own function is asked to complete, word by word as zsh reads the file.
    let script = format!(
        "service=gitd; _arguments() {{ print -rl -- \"$@\" }}; source {}",
        place("_gitd").display()
    );
    let said = succeed(Command::new("zsh").args(["-f", "-c", &script]));
    for option in options() {
        let beginning = match option.value {
            Some(_) => format!("*{}=-[", option.name),
            None => format!("{}[", option.name),
        };
        assert!(said.lines().any(|line| line.starts_with(&beginning)), "{beginning}: {said}");
    }
    assert!(said.contains(":service:(upload-pack upload-archive receive-pack)\n"), "{said}");
}
