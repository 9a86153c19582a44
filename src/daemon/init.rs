//! The duties of process 1, as in a container: it inherits every orphan and must reap it, and no
//! signal ends it by default.
//!
//! As process 1 gitd forks. The child serves like gitd anywhere else. The parent only reaps, passes
//! signals on, and ends as the child has ended. So it never reaps a service, whose status the child
//! needs.

use std::io;

use rustix::process::{Pid, Signal, kill_process};

use crate::sys::child::End;
use crate::sys::family::{self, Side};
use crate::sys::signal::{self, Signals};
use crate::sys::wait::wait_readable;

/// The signals that would end the server elsewhere (contract 15).
const PASSED_ON: [libc::c_int; 7] = [
    libc::SIGTERM,
    libc::SIGINT,
    libc::SIGHUP,
    libc::SIGQUIT,
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGALRM,
];

/// Forks if this is process 1. The child gets `belongings` back and goes on, and so does any other
/// process. The parent drops `belongings`, and returns the child's status once the child has ended.
/// Must be called while the process has one thread.
pub fn fork_server<T>(belongings: T) -> io::Result<Result<T, End>> {
    if std::process::id() != 1 {
        return Ok(Ok(belongings));
    }
    // If SIGCHLD is ignored, the kernel reaps the child and its status is lost.
    signal::set_default(libc::SIGCHLD);
    let signals = Signals::block(&[&PASSED_ON[..], &[libc::SIGCHLD]].concat())?;
    match family::fork()? {
        Side::Child => {
            drop(signals);
            signal::unblock_all()?;
            Ok(Ok(belongings))
        }
        Side::Parent(child) => {
            // A listening socket that stays open here would keep the port.
            drop(belongings);
            reap_until_it_ends(&signals, child).map(Err)
        }
    }
}

fn reap_until_it_ends(signals: &Signals, child: Pid) -> io::Result<End> {
    loop {
        wait_readable(signals, None)?;
        while let Ok(signal) = signals.next() {
            let passed_on =
                Signal::from_named_raw(signal).filter(|&signal| signal != Signal::CHILD);
            if let Some(signal) = passed_on {
                // An error means that the child has just ended, which is noticed next.
                let _ = kill_process(child, signal);
            }
        }
        // One SIGCHLD may stand for several ended processes.
        while let Some((pid, end)) = family::wait_any()? {
            if pid == child {
                return Ok(end);
            }
        }
    }
}
