//! The `gitd` program; see [`gitd::startup`].

use std::process::ExitCode;

fn main() -> ExitCode {
    gitd::startup::run(std::env::args_os().skip(1)).carry_out()
}
