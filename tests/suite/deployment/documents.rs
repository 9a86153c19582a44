//! The examples of `docs/testing-with-gitd.md` and `docs/container.md` work.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::package::succeed;
use super::server::scratch;
use crate::support::process::installed;
use crate::support::{DEADLINE, Git, Scratch, skip};

/// The code of one language in a page.
fn code(page: &str, language: &str) -> String {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(page);
    let text = fs::read_to_string(page).unwrap();
    let (_, code) = text.split_once(&format!("```{language}\n")).unwrap();
    code.split_once("```").unwrap().0.to_owned()
}

/// Runs a program beside `repo.git`, with gitd in its PATH; the clone must be there after.
fn run(scratch: &Scratch, mut command: Command) {
    let mut path =
        PathBuf::from(env!("CARGO_BIN_EXE_gitd")).parent().unwrap().as_os_str().to_owned();
    path.push(":");
    path.push(Git::server_path());
    path.push(":");
    path.push(std::env::var_os("PATH").unwrap());
    command.env("PATH", path).env("HOME", scratch.home()).current_dir(scratch.repos());
    succeed(command.stdin(Stdio::null()));
    let clone = Git::new(scratch).cwd(scratch.path("copy")).args(["rev-parse", "HEAD"]).ok();
    assert_eq!(clone, crate::support::scratch::head(&scratch.path("repo.git")));
    assert!(!scratch.path("ports").exists());
}

/// `timeout` ends a script that waits for a server in vain.
fn limited(program: &str) -> Command {
    let mut command = Command::new("timeout");
    command.args([&DEADLINE.as_secs().to_string(), program]);
    command
}

#[test]
fn shell() {
    let scratch = scratch();
    let code = code("testing-with-gitd.md", "sh");
    assert_eq!(code.lines().count(), 5);
    let mut sh = limited("sh");
    sh.args(["-ec", &format!("{code}wait $gitd || true\n")]);
    run(&scratch, sh);
}

/// The second line ends a script whose server cannot start.
#[test]
fn shell_when_gitd_fails() {
    let scratch = scratch();
    let code =
        code("testing-with-gitd.md", "sh").replace("--base-path=.", "--base-path=/nonexistent");
    let bin = Path::new(env!("CARGO_BIN_EXE_gitd")).parent().unwrap();
    let mut sh = limited("sh");
    let path = format!("{}:/usr/bin:/bin", bin.display());
    let status = sh.args(["-ec", &code]).env("PATH", path).current_dir(scratch.repos()).status();
    assert_eq!(status.unwrap().code(), Some(1));
}

#[test]
fn python() {
    if installed("python3").is_none() {
        return skip("needs python3");
    }
    let scratch = scratch();
    let mut python = limited("python3");
    python.args(["-c", &code("testing-with-gitd.md", "python")]);
    run(&scratch, python);
}

#[test]
fn rust() {
    let scratch = scratch();
    let code = code("testing-with-gitd.md", "rust");
    let source = scratch.root().join("main.rs");
    let uses = "use std::io::{BufRead, BufReader};\nuse std::process::{Command, Stdio};\n";
    fs::write(&source, format!("{uses}fn main() -> std::io::Result<()> {{\n{code}Ok(())\n}}\n"))
        .unwrap();
    let program = scratch.root().join("main");
    let rustc = Path::new(env!("CARGO")).with_file_name("rustc");
    succeed(Command::new(rustc).args(["--edition=2024", "-o"]).arg(&program).arg(&source));
    run(&scratch, limited(program.to_str().unwrap()));
}

/// The page's commands need a container engine, so only gitd's command line is tried.
#[test]
fn the_containers_command_line() {
    let dockerfile = code("container.md", "dockerfile");
    let list = |instruction: &str| {
        let line = dockerfile.lines().find_map(|line| line.strip_prefix(instruction)).unwrap();
        let words = line.trim().trim_matches(['[', ']']).split(", ");
        words.map(|word| word.trim_matches('"').to_owned()).collect::<Vec<_>>()
    };
    let scratch = scratch();
    let arguments = [&list("ENTRYPOINT")[1..], &list("CMD")].concat();
    let base = format!("--base-path={}", scratch.repos().display());
    let arguments = arguments.iter().map(|argument| match argument.starts_with("--base-path=") {
        true => base.as_str(),
        false => argument,
    });
    let more = ["--listen=127.0.0.1", "--port=auto", "--export-all"];
    let invocation = crate::support::Gitd.invoke(&scratch).args(arguments).args(more);
    let server = super::server::Server::start(invocation);
    super::server::assert_serves(server.addresses(1)[0]);
    let toolchain = concat!(env!("CARGO_MANIFEST_DIR"), "/rust-toolchain.toml");
    let image = dockerfile.lines().next().unwrap().split([':', '-']).nth(1).unwrap();
    assert!(fs::read_to_string(toolchain).unwrap().contains(&format!("\"{image}.")));
}
