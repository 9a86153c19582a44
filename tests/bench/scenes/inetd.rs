//! One process for each client, as inetd and systemd start them: what a client waits for from the start to the end, and what
//! it costs.

use std::fs;
use std::io::Write;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
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
    // As installed: what a linker has written lies in the page cache in small pieces, and costs more page faults.
    let installed = stage.repositories.base_path.with_extension("gitd");
    fs::write(&installed, fs::read(stage.gitd)?)?;
    fs::set_permissions(&installed, fs::Permissions::from_mode(0o755))?;
    let programs = [git::exec_path()?.join("git-daemon"), installed];
    for (work, repository, bound) in [
        ("--inetd, a refused request", REFUSED, Bound::AtMost(1.0)),
        ("--inetd, v2 ls-remote", SMALL, Bound::AtMost(0.9)),
    ] {
        let mut times = Samples::default();
        let mut cpu = Samples::default();
        alternate(stage.amount(2, 6), &Side::DAEMONS, |_, side| {
            let program = &programs[usize::from(side == Side::Gitd)];
            let before = procfs::reaped_seconds(std::process::id())?;
            for _ in 0..STARTS {
                times[side].push(start(stage, program, repository)?);
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

/// From the start of the process until it has been reaped, in milliseconds.
fn start(stage: &Stage<'_>, program: &Path, repository: &str) -> Result<f64> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let mut client = TcpStream::connect(listener.local_addr()?)?;
    let server = OwnedFd::from(listener.accept()?.0);
    let mut command = Command::new(program);
    command
        .args(["--inetd", "--export-all", "--log-destination=stderr"])
        .arg(format!("--base-path={}", stage.repositories.base_path.display()))
        .stdin(server.try_clone()?)
        .stdout(server)
        .stderr(Stdio::null())
        // A super-server's is small.
        .env_clear()
        .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
        .env("HOME", stage.scratch);
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
