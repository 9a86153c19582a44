//! One process for each client, as inetd and systemd start them: what a client waits for from the start to the end, and what
//! it costs.

use std::io::Write;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use super::Stage;
use crate::load::milliseconds;
use crate::protocol::{self, Writes};
use crate::report::{Bound, Report, Row, number};
use crate::repositories::SMALL;
use crate::rounds::{Samples, alternate};
use crate::server::Side;
use crate::statistics::median;
use crate::{Result, git, procfs, progress};

/// The kernel counts the time of processes that have ended in hundredths of a second: many at once are counted well.
const STARTS: usize = 100;

const REFUSED: &str = "nothing.git";

pub(crate) fn run(stage: &Stage<'_>, report: &mut Report) -> Result<()> {
    for (work, repository, bound) in [
        ("--inetd, a refused request", REFUSED, Bound::AtMost(1.0)),
        ("--inetd, v2 ls-remote", SMALL, Bound::AtMost(0.9)),
    ] {
        let mut times = Samples::default();
        let mut cpu = Samples::default();
        alternate(stage.amount(2, 6), &Side::DAEMONS, |_, side| {
            let program = program(stage, side)?;
            let before = procfs::reaped_seconds(std::process::id())?;
            for _ in 0..STARTS {
                times[side].push(start(&program, &stage.repositories.base_path, repository)?);
            }
            let used = procfs::reaped_seconds(std::process::id())? - before;
            cpu[side].push(used * 1000.0 / STARTS as f64);
            Ok(())
        })?;
        for side in Side::DAEMONS {
            let (time, cpu) = (number(median(&times[side])), number(median(&cpu[side])));
            progress::say(&format!("{work}, {}: {time} ms, CPU {cpu} ms", side.name()));
        }
        let sides = (Side::Gitd, Side::Stock);
        report.row(Row::ratio(work, "ms", &times, sides, Some(bound)));
        report.row(Row::ratio(work, "CPU ms", &cpu, sides, Some(bound)));
        report.distribution(work, "ms", &times);
    }
    Ok(())
}

fn program(stage: &Stage<'_>, side: Side) -> Result<PathBuf> {
    match side {
        Side::Stock => Ok(git::exec_path()?.join("git-daemon")),
        _ => Ok(stage.gitd.to_owned()),
    }
}

/// From the start of the process until it has been reaped, in milliseconds.
fn start(program: &Path, base_path: &Path, repository: &str) -> Result<f64> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let mut client = TcpStream::connect(listener.local_addr()?)?;
    let server = OwnedFd::from(listener.accept()?.0);
    let mut command = Command::new(program);
    command
        .args(["--inetd", "--export-all", "--log-destination=stderr"])
        .arg(format!("--base-path={}", base_path.display()))
        .stdin(server.try_clone()?)
        .stdout(server)
        .stderr(Stdio::null());
    git::clean_environment(&mut command);
    let begun = Instant::now();
    let mut child = command.spawn()?;
    // It holds the server's end, and the client waits for that to be closed.
    drop(command);
    let request = format!("git-upload-pack /{repository}\0host=localhost\0\0version=2\0");
    write!(client, "{:04x}{request}", request.len() + 4)?;
    if repository == REFUSED {
        protocol::read_to_end(&mut client)?;
    } else {
        protocol::list(&mut client, Writes::Whole)?;
    }
    drop(client);
    child.wait()?;
    Ok(milliseconds(begun.elapsed()))
}
