//! The transcripts of `docs/troubleshooting.md`: every command is run, on a machine made for it, and says what the page says.
//!
//! After a change of the output: `GITD_WRITE_TRANSCRIPTS=1 cargo test --test suite documents::transcripts`.

use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use super::{path, read};
use crate::support::invocation::run;
use crate::support::{Git, needs_root};

const PAGE: &str = "docs/troubleshooting.md";

/// What stands before each command's output.
const MARK: &str = "-- the next command --";

/// Another /srv, /root and configuration, and two users, for the shell's own eyes.
const MACHINE: &str = r#"
set -e
umask 022
system=$(dirname "$(git var GIT_CONFIG_SYSTEM)")
copy=$(mktemp -d)
mount -t tmpfs -o mode=755 tmpfs "$copy"
cp -a /etc/. "$copy"
mount --move "$copy" /etc
rmdir "$copy"
for directory in /srv /root "$system"; do
    if [ -d "$directory" ] && [ "$directory" != /etc ]; then
        mount -t tmpfs -o mode=755 tmpfs "$directory"
    fi
done
rm -f "$(git var GIT_CONFIG_SYSTEM)"
printf '%s\n' root:x:0:0::/root:/bin/bash alice:x:1000:1000::/home/alice:/bin/bash \
    git:x:998:998::/srv/git:/usr/sbin/nologin >/etc/passwd
printf '%s\n' root:x:0: alice:x:1000: git:x:998: >/etc/group
printf '%s\n' 'passwd: files' 'group: files' 'hosts: files' >/etc/nsswitch.conf
echo 127.0.0.1 localhost >/etc/hosts
mkdir /srv/git
chown git: /srv/git
set +e
cd /
"#;

#[test]
fn transcripts() {
    needs_root!();
    let page = read(PAGE);
    let (mut written, mut count) = (String::new(), 0);
    let mut before = "";
    let mut rest = page.as_str();
    while let Some((text, block)) = rest.split_once("```console\n") {
        if let Some((_, comment)) = text.rsplit_once("<!-- before: ") {
            before = comment.split_once(" -->").unwrap().0;
        }
        let (block, after) = block.split_once("```\n").unwrap();
        let commands: Vec<_> = block.lines().filter_map(|line| line.strip_prefix("$ ")).collect();
        let mut found = String::new();
        for (command, said) in commands.iter().zip(play(before, &commands)) {
            write!(found, "$ {command}\n{said}").unwrap();
        }
        if std::env::var_os("GITD_WRITE_TRANSCRIPTS").is_none() {
            assert!(found == block, "it is:\n{found}\nand the page says:\n{block}");
        }
        write!(written, "{text}```console\n{found}```\n").unwrap();
        rest = after;
        count += 1;
    }
    assert_eq!(count, 10);
    if std::env::var_os("GITD_WRITE_TRANSCRIPTS").is_some() {
        fs::write(path(PAGE), written + rest).unwrap();
    }
}

/// What each command says.
fn play(before: &str, commands: &[&str]) -> Vec<String> {
    let mut script = format!("{MACHINE}{{ {before}; }} >/dev/null || exit 1\n");
    for command in commands {
        write!(script, "echo '{MARK}'\n{command}\n").unwrap();
    }
    let gitd = Path::new(env!("CARGO_BIN_EXE_gitd")).parent().unwrap();
    let git = Git::program().parent().unwrap();
    let system = ["/usr/bin", "/bin", "/usr/sbin", "/sbin"].map(Path::new);
    let path = std::env::join_paths([gitd, git].into_iter().chain(system));
    let mut shell = Command::new("unshare");
    shell.args(["--mount", "bash", "-c", &script]).stdin(Stdio::null());
    shell.env_clear().env("PATH", path.unwrap()).env("LC_ALL", "C");
    let outcome = run(&mut shell);
    assert_eq!(outcome.stderr, "", "{}", outcome.stdout);
    // Which git it is, and where it is configured, is the machine's affair.
    let program = Git::program();
    let system = Command::new(program).args(["var", "GIT_CONFIG_SYSTEM"]).output().unwrap().stdout;
    let system = String::from_utf8(system).unwrap();
    let stdout = outcome.stdout.replace(program.to_str().unwrap(), "/usr/bin/git");
    let stdout = stdout.replace(system.trim_end(), "/etc/gitconfig");
    let mark = format!("{MARK}\n");
    let mut said = stdout.split(&mark).map(str::to_owned);
    assert_eq!(said.next().as_deref(), Some(""));
    let said: Vec<_> = said.collect();
    assert_eq!(said.len(), commands.len(), "{said:#?}");
    said
}
