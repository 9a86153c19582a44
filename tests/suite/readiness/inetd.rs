//! The same clients where the connection is gitd's standard input and output: each has a gitd of its own, which must
//! end with it.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::process::{Child, Stdio};
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use super::leave::Leave;
use super::line::{Line, Transport};
use super::site::{Verdict, calm, invocation, within};
use super::stage::Stage;
use crate::support::log::Log;
use crate::support::process::{alive, children, cpu_time, end};
use crate::support::{DEADLINE, Scratch};

/// How long a gitd whose client is gone may take: it waits for a refused client for two seconds.
const SOON: Duration = Duration::from_secs(15);

/// What it may work from its start to its end.
const EFFORT: Duration = Duration::from_millis(600);

struct Inetd {
    child: Child,
    log: Log,
}

impl Inetd {
    fn start(scratch: &Scratch, socket: Socket) -> Self {
        let args = ["--inetd", "--log-destination=stderr", "--verbose"].map(str::to_owned);
        let stdout = OwnedFd::from(socket.try_clone().unwrap());
        let mut child = invocation(scratch)
            .command(&args)
            .stdin(OwnedFd::from(socket))
            .stdout(stdout)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        Self { log: Log::read(child.stderr.take().unwrap()), child }
    }

    fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Inetd {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

/// Clients at these stages leave in these ways: see `Site::visit`.
pub fn visit(scratch: &Scratch, transport: Transport, cases: &[(Stage, Leave)]) -> Verdict {
    let mut guests = Vec::new();
    for (stage, leave) in cases {
        let guest = arrive(scratch, *stage, transport);
        let (line, inetd) = guest.map_err(|error| format!("{stage:?} is not reached: {error}"))?;
        guests.push((line, inetd, *leave));
    }
    let mut gitds = Vec::new();
    let mut stayed = Vec::new();
    for (line, inetd, leave) in guests {
        stayed.extend(leave.from(line));
        gitds.push(inetd);
    }
    let pids: Vec<_> = gitds.iter().map(Inetd::pid).collect();
    calm(&pids)?;
    drop(stayed);
    for (inetd, (stage, _)) in gitds.iter().zip(cases) {
        let ended = within(SOON, || !alive(inetd.pid()));
        let work = cpu_time(inetd.pid());
        if !ended || work > EFFORT {
            let log = inetd.log.since(0);
            return Err(format!("{stage:?}: ended: {ended}, after {work:?} of work, {log:?}"));
        }
        let log = inetd.log.since(0).concat();
        if log.contains("panicked") || log.contains("internal error") {
            return Err(format!("{stage:?}: {log}"));
        }
    }
    Ok(())
}

fn arrive(scratch: &Scratch, stage: Stage, transport: Transport) -> io::Result<(Line, Inetd)> {
    let (client, server) = pair(transport, stage.room())?;
    let inetd = Inetd::start(scratch, server);
    let line = Line::new(client, DEADLINE)?;
    stage.reach(&line)?;
    let there = || !stage.has_child() || !children(inetd.pid()).is_empty();
    if within(SOON, there) { Ok((line, inetd)) } else { Err(io::ErrorKind::TimedOut.into()) }
}

/// A client's end and the server's.
fn pair(transport: Transport, room: Option<usize>) -> io::Result<(Socket, Socket)> {
    if transport == Transport::Unix {
        return Socket::pair(Domain::UNIX, Type::STREAM, None);
    }
    let listener = transport.socket()?;
    listener.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())?;
    listener.listen(1)?;
    let client = transport.socket()?;
    if let Some(room) = room {
        client.set_recv_buffer_size(room)?;
    }
    client.connect(&listener.local_addr()?)?;
    Ok((client, listener.accept()?.0))
}
