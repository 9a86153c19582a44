//! `gitd-connect HOST PORT`: the client's half, for git's `core.gitProxy` and `GIT_PROXY_COMMAND`.
//!
//! git runs it instead of connecting by itself and talks to it through two pipes. It connects over Multipath TCP where
//! the kernel has it and over TCP where not, keeps small packets from being delayed, and passes bytes until one side ends.

mod arguments;
mod dial;
mod failure;
mod git;
mod relay;
mod talk;

use std::fmt::Display;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::process::ExitCode;
use std::time::Duration;

use arguments::{Command, Target};
use gitd::sys::wait::{Wait, wait};

/// git's own status for a wrong command line.
const USAGE_STATUS: u8 = 129;

fn main() -> ExitCode {
    let mptcp = std::env::var_os("GIT_ENABLE_MPTCP");
    let socket = std::env::var_os("GITD_SOCKET").filter(|path| !path.is_empty());
    match arguments::parse(std::env::args_os().skip(1), mptcp.as_deref(), socket.as_deref()) {
        Ok(Command::Connect(target)) => connect(target),
        Ok(Command::Print(text)) => match io::stdout().write_all(text.as_bytes()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        },
        Err(wrong) => fail(&wrong, USAGE_STATUS),
    }
}

fn connect(target: Target) -> ExitCode {
    git::while_it_runs(move |git| {
        let connection = match dial::dial(&target) {
            Ok(connection) => connection,
            Err(error) => return fail(&error, 1),
        };
        match relay::relay(connection.socket, git) {
            Ok(()) => ExitCode::SUCCESS,
            Err(lost) => {
                complain(&lost.of(&connection.place));
                ExitCode::FAILURE
            }
        }
    })
    .unwrap_or_else(|error| fail(&format_args!("cannot start: {}", failure::reason(&error)), 1))
}

/// Tells why there is no connection.
fn fail(why: &dyn Display, status: u8) -> ExitCode {
    complain(why);
    await_request();
    ExitCode::from(status)
}

/// One line, whatever the resolver or the user put into it. A terminal that is gone is no reason to fail differently.
fn complain(what: &dyn Display) {
    let line: String =
        what.to_string().chars().map(|c| if c.is_control() { '?' } else { c }).collect();
    let _ = writeln!(io::stderr(), "gitd-connect: {line}");
}

/// A proxy that is gone before git has written its request kills git by SIGPIPE, without a word and with 141 instead
/// of git's own error and 128. So wait, for a moment, until the request is there.
fn await_request() {
    let stdin = io::stdin();
    let _ = wait(&mut [Wait::readable(stdin.as_fd())], Some(Duration::from_secs(1)));
}
