//! A lock that another process may release: a child that shares this process's memory, while the
//! thread that made it sleeps.

use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use rustix::thread::futex::{self, Flags};

/// The holder of the lock: 0 for none, else the number of its turn.
#[derive(Debug, Default)]
pub(super) struct Turn {
    holder: AtomicU32,
    last: AtomicU32,
}

/// The number of a turn, which is not reused for a long time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ticket(u32);

impl Turn {
    /// Waits for the lock.
    pub(super) fn take(&self) -> Ticket {
        let ticket = match self.last.fetch_add(1, Relaxed).wrapping_add(1) {
            0 => Ticket(u32::MAX),
            number => Ticket(number),
        };
        loop {
            match self.holder.compare_exchange(0, ticket.0, Acquire, Relaxed) {
                Ok(_) => return ticket,
                Err(holder) => self.wait(holder),
            }
        }
    }

    /// Ends a turn, if it has not ended yet. Makes one system call and touches nothing else, so a
    /// child that shares the memory may call it.
    pub(super) fn end(&self, ticket: Ticket) {
        if self.holder.compare_exchange(ticket.0, 0, Release, Relaxed).is_ok() {
            // Cannot fail: the number's address is valid.
            let _ = futex::wake(&self.holder, Flags::PRIVATE, 1);
        }
    }

    fn wait(&self, holder: u32) {
        // The result does not matter, because the caller checks again.
        let _ = futex::wait(&self.holder, Flags::PRIVATE, holder, None);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::sync::mpsc::{RecvTimeoutError, channel};
    use std::time::{Duration, Instant};

    use super::*;

    /// Runs a test that would wait for ever if a turn did not end.
    fn in_time(test: impl FnOnce() + Send + 'static) {
        let (done, finished) = channel();
        let thread = std::thread::spawn(move || {
            test();
            done.send(()).unwrap();
        });
        match finished.recv_timeout(Duration::from_secs(20)) {
            Err(RecvTimeoutError::Timeout) => panic!("a turn has not ended"),
            _ => thread.join().unwrap(),
        }
    }

    #[test]
    fn one_at_a_time() {
        in_time(|| {
            let (turn, inside, total) = (Turn::default(), AtomicUsize::new(0), AtomicUsize::new(0));
            std::thread::scope(|scope| {
                for _ in 0..8 {
                    scope.spawn(|| {
                        for _ in 0..1000 {
                            let ticket = turn.take();
                            assert_eq!(inside.fetch_add(1, Relaxed), 0);
                            total.fetch_add(1, Relaxed);
                            inside.fetch_sub(1, Relaxed);
                            turn.end(ticket);
                        }
                    });
                }
            });
            assert_eq!(total.into_inner(), 8000);
        });
    }

    #[test]
    fn a_turn_ends_once() {
        in_time(|| {
            let turn = Turn::default();
            let first = turn.take();
            turn.end(first);
            let second = turn.take();
            // Too late: another turn has begun, and must not end.
            turn.end(first);
            let deadline = Instant::now() + Duration::from_millis(50);
            std::thread::scope(|scope| {
                let third = scope.spawn(|| turn.take());
                while Instant::now() < deadline {
                    assert!(!third.is_finished());
                    std::thread::yield_now();
                }
                turn.end(second);
                assert_ne!(third.join().unwrap(), second);
            });
        });
    }
}
