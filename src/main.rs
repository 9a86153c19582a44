//! The `gitd` program; see [`gitd::daemon::startup`].

use std::process::ExitCode;

fn main() -> ExitCode {
    gitd::daemon::startup::run(std::env::args_os().skip(1)).carry_out()
}
