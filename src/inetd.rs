//! One client on standard input and output, as inetd and systemd hand it over. The same life as
//! [`crate::connection`], with no runtime to start and nobody to share with.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};

use socket2::{SockRef, Socket};

use crate::access::authorize;
use crate::child::{self, Running};
use crate::config::{Limits, Policy};
use crate::connection::understand;
use crate::denial::Denial;
use crate::event;
use crate::inbound;
use crate::peer::{Origin, Peer};
use crate::starter::Starter;
use crate::summary::Summary;
use crate::sys::process::End;
use crate::sys::socket;
use crate::watch;

/// The status of a refused request, as the stock daemon has it (contract 55).
const REFUSED: u8 = 255;

/// The status of what the stock daemon calls a fatal error.
const DIED: u8 = 128;

/// Serves the one client. Answers with the exit status of the process.
#[must_use]
pub fn serve(policy: &Policy, limits: &Limits, starter: &Starter) -> u8 {
    let started = std::time::Instant::now();
    let (stdin, stdout) = (io::stdin(), io::stdout());
    let (input, output) = (stdin.as_fd(), stdout.as_fd());
    let told = told();
    if told.address.is_some() {
        event::connection(&told);
    }
    let peer = if told.address.is_some() { told.clone() } else { ask(input) };
    prepare(input);
    let request = match inbound::read(input, limits.init_timeout) {
        Ok(payload) => understand(&payload),
        Err(reason) => {
            reason.log(&peer);
            return DIED;
        }
    };
    let request = match request {
        Ok(request) => request,
        Err(reason) => {
            reason.log(&peer);
            return reason.status();
        }
    };
    let running = authorize(policy, starter, &request, &told).and_then(|grant| {
        let extra = request.extra_parameters.as_deref();
        child::start(starter, &grant, &told, extra, (input, output)).map_err(|error| {
            let reason = crate::sys::errno_text(&error);
            Denial::Spawn { service: request.service, reason }
        })
    });
    match running {
        Ok(running) => {
            let pid = running.process.pid;
            let end = attend(running);
            let summary = Summary {
                peer: peer.to_string(),
                request: Some((request.service, request.pathname)),
                duration: started.elapsed(),
                counters: watch::Counters::read(input),
            };
            event::ended(pid, request.service, end, &summary);
            match end {
                Some(End::Exited(status)) => u8::try_from(status).unwrap_or(REFUSED),
                Some(End::Killed(_)) | None => REFUSED,
            }
        }
        Err(denial) => {
            event::denied(&denial, &denial.remedy(), &peer);
            let packet = denial.packet(policy.informative_errors, &request.pathname);
            // The client may be gone already; there is nobody left to tell.
            let _ = io::stdout().write_all(&packet);
            let _ = io::stdout().flush();
            REFUSED
        }
    }
}

/// What the super-server says of the client. The service and the access hook hear this and nothing
/// more (contract 51).
fn told() -> Peer {
    let told = |name| std::env::var(name).ok();
    Peer { address: told("REMOTE_ADDR"), port: told("REMOTE_PORT"), user: None }
}

/// What the socket says of the client, for the log where the super-server said nothing.
fn ask(input: BorrowedFd<'_>) -> Peer {
    let address = SockRef::from(&input).peer_addr().ok().and_then(|address| address.as_socket());
    Peer::from(address.map_or_else(|| Origin::Local(socket::peer_user(input)), Origin::Inet))
}

fn prepare(input: BorrowedFd<'_>) {
    // Standard input may be a pipe or a file; then every option is refused, which is fine.
    if let Ok(socket) = input.try_clone_to_owned().map(Socket::from) {
        watch::prepare(&socket);
        watch::acknowledge(&socket);
    }
}

/// Logs what the service says, then waits for its end. As here nobody else waits, the pipe's end comes
/// first: what the service left behind may still have something to say.
fn attend(running: Running) -> Option<End> {
    let pid = running.process.pid;
    let mut lines = BufReader::new(File::from(running.stderr));
    let mut line = Vec::new();
    while lines.by_ref().take(8192).read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
        event::service_said(pid, line.strip_suffix(b"\n").unwrap_or(&line));
        line.clear();
    }
    running
        .process
        .wait()
        .inspect_err(|error| event::service_lost(pid, &crate::sys::errno_text(error)))
        .ok()
}
