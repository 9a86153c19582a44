//! The duties of a first process, as in a container: process 1 inherits every orphan and must wait for
//! it when it ends, and no signal ends it by default.
//!
//! gitd as process 1 forks. The child serves and is like gitd anywhere else. The parent does only this:
//! it waits for whatever ends, passes signals on, and ends as the child has ended. So nothing that waits
//! for a service's own status can be robbed of it.

use std::io;

use crate::sys::child::End;
use crate::sys::descriptor;
use crate::sys::family::{self, Side};
use crate::sys::signal::{self, Signals};

/// All that would end the server elsewhere (contract 15).
const PASSED_ON: [libc::c_int; 7] = [
    libc::SIGTERM,
    libc::SIGINT,
    libc::SIGHUP,
    libc::SIGQUIT,
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGALRM,
];

/// Forks if this is process 1. The child gets its `belongings` back and goes on, as it does where there
/// is nothing to do. The parent lets go of them, and gets the child's end when it is time to end as
/// well. To be called while there is one thread.
pub fn fork_server<T>(belongings: T) -> io::Result<Result<T, End>> {
    if std::process::id() != 1 {
        return Ok(Ok(belongings));
    }
    // A parent's habit of ignoring it would have the kernel reap, and hide the child's end.
    signal::set_default(libc::SIGCHLD);
    let signals = Signals::block(&[&PASSED_ON[..], &[libc::SIGCHLD]].concat())?;
    match family::fork()? {
        Side::Child => {
            drop(signals);
            signal::unblock_all()?;
            Ok(Ok(belongings))
        }
        Side::Parent(child) => {
            // A listening socket kept open here would keep the port.
            drop(belongings);
            keep_house(&signals, child).map(Err)
        }
    }
}

fn keep_house(signals: &Signals, child: u32) -> io::Result<End> {
    loop {
        descriptor::wait_readable(signals, None)?;
        while let Ok(signal) = signals.next() {
            if signal != libc::SIGCHLD {
                // It may have ended just now, which is the next thing to be noticed.
                let _ = family::kill(child, signal);
            }
        }
        // One signal may stand for many ends.
        while let Some((pid, end)) = family::wait_any()? {
            if pid == child {
                return Ok(end);
            }
        }
    }
}
