//! What a session does at each event: tells the connection, the permit and the looks at the
//! service's processes of one another.

use std::future::pending;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tokio::sync::oneshot;

use crate::limits::admission::{Holding, Permit};
use crate::limits::threads::Threads;
use crate::session::monitor::{Monitor, Watched};
use crate::session::rest::{self, Activity, Observation};
use crate::session::stderr::Stderr;
use crate::session::work::Work;

/// How long a look at a service's processes may take before the service counts as working. The
/// kernel blocks reads of `/proc/PID/syscall` while the process executes a program, for as long as
/// the program's file system takes.
const HANGING: Duration = Duration::from_secs(1);

/// A look at the service's processes that is under way, and since when.
type Look = Option<(Instant, oneshot::Receiver<Observation>)>;

/// A session's state.
#[derive(Debug)]
pub(super) struct Watcher<'a> {
    pub(super) monitor: Monitor,
    pub(super) work: Work<'a>,
    pub(super) observation: Look,
    pid: u32,
    /// Whether the last look at the connection asks for one at the processes.
    wanted: bool,
    /// Whether the service was stopped when the last event had been dealt with.
    was_stopped: bool,
    /// Whether no look has followed the last stop yet.
    unverified: bool,
}

impl<'a> Watcher<'a> {
    pub(super) fn new(monitor: Monitor, work: Work<'a>, pid: u32) -> Self {
        let was_stopped = work.is_stopped();
        Watcher {
            monitor,
            work,
            observation: None,
            pid,
            wanted: false,
            was_stopped,
            unverified: false,
        }
    }

    /// Tells other threads what the session does. Call it before each wait.
    pub(super) fn tell(&self) {
        self.monitor.tell(self.work.is_held());
    }

    /// The socket has reported an event, or that a direction has ended.
    pub(super) fn arrived(&mut self, closed: bool) {
        self.monitor.arrived(Instant::now(), closed);
        if self.work.is_stopped() && self.monitor.has_input() && self.work.claim() {
            self.monitor.traffic.go_on(Instant::now());
        }
    }

    /// The permit has come for which the service waits.
    pub(super) fn permitted(&mut self, permit: Permit) {
        self.work.go_on(permit);
        self.monitor.traffic.go_on(Instant::now());
    }

    /// A look at the service's processes has this result.
    pub(super) fn observed(&mut self, seen: Observation) {
        self.monitor.traffic.observed(Instant::now(), seen);
        if self.work.is_stopped() && !seen.reads {
            self.work.undo_stop();
        } else {
            self.follow();
        }
    }

    /// It is time to look at the connection.
    pub(super) fn look(&mut self, stderr: &mut Stderr) {
        let now = Instant::now();
        if self.work.is_held() {
            if self.work.insist(now) {
                self.monitor.traffic.go_on(now);
            } else {
                self.monitor.traffic.postpone(now);
            }
            return;
        }
        match self.monitor.look(now) {
            None => stderr.listen(),
            Some(signal) => self.work.end(signal),
        }
        if self.observation.as_ref().is_some_and(|(since, _)| now - *since >= HANGING) {
            self.monitor.traffic.observed(now, Observation::WORKS);
            self.work.undo_stop();
        }
        let stopped = self.work.is_stopped();
        // If it is unknown, bytes have moved: another process has continued the service.
        let unknown = self.monitor.traffic.activity(now) == Activity::Unknown;
        if stopped && (unknown || self.monitor.has_input()) && self.work.claim() {
            self.monitor.traffic.go_on(now);
        }
        self.follow();
        let scarce = self.work.is_scarce() && !stopped;
        self.wanted = self.monitor.traffic.wants_observation(now, scarce);
    }

    /// The server ends, and the service with it.
    pub(super) fn end(&mut self) {
        self.monitor.shut_down(Instant::now());
        self.work.end(Signal::HUP);
    }

    /// Begins a look at the service's processes, if one is needed. Call it after each event.
    ///
    /// Between the look and the stop that it led to, the service may have left its read. So another
    /// look follows each stop.
    pub(super) fn observe(&mut self, observers: &Threads) {
        let stopped = self.work.is_stopped();
        self.unverified = stopped && (self.unverified || !self.was_stopped);
        self.was_stopped = stopped;
        let wanted = std::mem::take(&mut self.wanted) || self.unverified;
        if !wanted || self.observation.is_some() {
            return;
        }
        let pid = self.pid;
        let observe = if self.unverified { rest::observe_stopped } else { rest::observe };
        let observed = observers.run(move || observe(pid)).ok();
        self.observation = observed.map(|receiver| (Instant::now(), receiver));
        self.unverified &= self.observation.is_none();
    }

    /// The service has ended and was reaped. Releases the connection.
    pub(super) fn finish(self) -> Watched {
        self.work.ended();
        self.monitor.finish(Instant::now())
    }

    /// A service needs a permit while it works, and none while it waits for its client.
    fn follow(&mut self) {
        match self.monitor.traffic.activity(Instant::now()) {
            Activity::Works => drop(self.work.claim()),
            Activity::Waits { reads, light: true } => self.work.rest(Holding::Light, reads),
            Activity::Waits { reads, light: false } => self.work.rest(Holding::Heavy, reads),
            Activity::Unknown => {}
        }
    }
}

/// Waits for the result of a look at the service's processes, if one is under way.
pub(super) async fn observed(look: &mut Look) -> Observation {
    let Some((_, receiver)) = look else { return pending().await };
    let seen = receiver.await;
    *look = None;
    // A look that failed has seen nothing.
    seen.unwrap_or(Observation::WORKS)
}
