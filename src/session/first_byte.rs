//! When a service's first byte left, as exactly as looks at the connection's counters tell.

use std::time::Instant;

use crate::net::watch::Counters;

/// The time of the first byte.
#[derive(Debug)]
pub struct FirstByte {
    /// Until then nothing had left.
    silent: Instant,
    instant: Option<Instant>,
}

impl FirstByte {
    /// Begins with a service that was just started.
    pub fn new(now: Instant) -> Self {
        FirstByte { silent: now, instant: None }
    }

    /// Whether no look has found a byte.
    pub fn is_unknown(&self) -> bool {
        self.instant.is_none()
    }

    /// The time, if there was a byte.
    pub fn instant(&self) -> Option<Instant> {
        self.instant
    }

    /// Takes the counters of now. If bytes have left since the last look, the first one left
    /// between that look and the last sending, of which the kernel knows the time.
    pub fn look(&mut self, now: Instant, seen: &Counters) {
        if !self.is_unknown() {
        } else if seen.answered() {
            let last = now.checked_sub(seen.idle).unwrap_or(self.silent);
            self.instant = Some(last.max(self.silent));
        } else {
            self.silent = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::net::watch::Transport;

    #[test]
    fn it_lies_between_the_last_silence_and_the_last_sending() {
        let began = Instant::now();
        let ms = Duration::from_millis;
        let look = |first: &mut FirstByte, after: u64, sent: u64, idle: u64| {
            let counters = Counters {
                sent,
                received: 0,
                unacknowledged: 0,
                idle: ms(idle),
                transport: Transport::Tcp,
            };
            first.look(began + ms(after), &counters);
            first.instant().map(|instant| (instant - began).as_millis())
        };
        let mut first = FirstByte::new(began);
        assert_eq!(look(&mut first, 25, 0, 500), None);
        assert_eq!(look(&mut first, 50, 9, 10), Some(40));
        assert_eq!(look(&mut first, 75, 99, 0), Some(40), "the first one counts");
        let mut first = FirstByte::new(began);
        look(&mut first, 25, 0, 500);
        assert_eq!(look(&mut first, 50, 9, 500), Some(25), "an earlier sending was not this one's");
        assert_eq!(look(&mut FirstByte::new(began), 3, 9, u64::MAX), Some(0));
    }
}
