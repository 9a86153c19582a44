//! `gitd-connect HOST PORT`: the client's counterpart of gitd, for git's `core.gitProxy` and
//! `GIT_PROXY_COMMAND`.
//!
//! git runs it instead of connecting by itself, and talks to it through two pipes. It connects over
//! Multipath TCP if the kernel supports it and over TCP otherwise, avoids delays of small packets,
//! and passes bytes until one side ends.

mod arguments;
mod dial;
mod failure;
mod git;
mod relay;
mod talk;

use std::fmt::Display;
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use arguments::{Command, Target};
use gitd::sys::wait::wait;
use rustix::event::{PollFd, PollFlags};

/// git's own exit status for a wrong command line.
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

/// Prints why there is no connection.
fn fail(why: &dyn Display, status: u8) -> ExitCode {
    complain(why);
    await_request();
    ExitCode::from(status)
}

/// Prints one line, even if the resolver's or the user's text has several. Errors are ignored:
/// without a terminal the exit status must be the same.
fn complain(what: &dyn Display) {
    let line: String =
        what.to_string().chars().map(|c| if c.is_control() { '?' } else { c }).collect();
    let _ = writeln!(io::stderr(), "gitd-connect: {line}");
}

/// If a proxy exits before git has written its request, SIGPIPE kills git, without a message and
/// with 141 instead of git's own error and 128. So wait a moment for the request.
fn await_request() {
    let stdin = io::stdin();
    let _ = wait(&mut [PollFd::new(&stdin, PollFlags::IN)], Some(Duration::from_secs(1)));
}
