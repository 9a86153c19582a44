//! Starting what belongs to the bench, so that nothing outlives it, however it ends.

use std::ffi::OsStr;
use std::process::Command;

/// A command that executes `program`, by way of `through` (which must not fork, so that its pid is the program's), and that
/// the kernel kills when the thread that has started it ends.
pub(crate) fn tied(through: &[String], program: impl AsRef<OsStr>) -> Command {
    let tie = ["setpriv", "--pdeathsig", "KILL"];
    let mut words = through.iter().map(String::as_str).chain(tie);
    let mut command = Command::new(words.next().unwrap_or(tie[0]));
    command.args(words).arg(program);
    command
}
