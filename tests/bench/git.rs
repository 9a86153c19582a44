//! The real git client, and git as a tool to make repositories: free of the user's configuration, silent, timed.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::Result;
use crate::load::milliseconds;

/// Nothing of the user's or the machine's configuration may speed one run up or slow it down.
pub(crate) fn clean_environment(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|name| name.starts_with("GIT_")) {
            command.env_remove(name);
        }
    }
    command
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("LC_ALL", "C");
}

pub(crate) fn exec_path() -> Result<PathBuf> {
    Ok(PathBuf::from(output(Path::new("/"), &["--exec-path"])?))
}

fn command(directory: &Path, arguments: &[&str]) -> Command {
    command_through(&[], directory, arguments)
}

/// git, run by another program if there is one.
fn command_through(through: &[&str], directory: &Path, arguments: &[&str]) -> Command {
    let line = [through, &["git"], arguments].concat();
    let mut command = Command::new(line[0]);
    clean_environment(&mut command);
    command.args(&line[1..]).current_dir(directory).stdin(Stdio::null());
    for (name, value) in [("AUTHOR", "Bench"), ("COMMITTER", "Bench")] {
        command
            .env(format!("GIT_{name}_NAME"), value)
            .env(format!("GIT_{name}_EMAIL"), "bench@localhost");
    }
    command
}

/// Runs git and returns what it prints.
pub(crate) fn output(directory: &Path, arguments: &[&str]) -> Result<String> {
    let output = command(directory, arguments).output()?;
    if !output.status.success() {
        return Err(failure(arguments, &String::from_utf8_lossy(&output.stderr)).into());
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
}

/// Starts git with pipes for stdin and stdout.
pub(crate) fn piped(directory: &Path, arguments: &[&str]) -> Command {
    let mut command = command(directory, arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    command
}

/// Runs git and says how many milliseconds it took.
pub(crate) fn timed(directory: &Path, arguments: &[&str]) -> Result<f64> {
    timed_through(&[], directory, arguments)
}

/// The same by another program, which runs git.
pub(crate) fn timed_through(through: &[&str], directory: &Path, arguments: &[&str]) -> Result<f64> {
    let mut command = command_through(through, directory, arguments);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let start = Instant::now();
    let status = command.status()?;
    let elapsed = milliseconds(start.elapsed());
    if status.success() { Ok(elapsed) } else { Err(failure(arguments, &status.to_string()).into()) }
}

fn failure(arguments: &[&str], reason: &str) -> String {
    format!("git {}: {}", arguments.join(" "), reason.trim())
}
