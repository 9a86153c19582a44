//! Notices when the runtime is stuck, in a loop or in a system call that blocks. All connections
//! are served on one thread, so no other task could notice.
//!
//! The runtime records when it goes to sleep and when it wakes. A separate thread checks that once
//! a second while there is work, and sleeps while the runtime sleeps. When the runtime has neither
//! slept nor answered for [`LIMIT`], the thread logs what each connection was last doing. The
//! runtime itself feeds the service manager's watchdog, so the manager restarts a stuck service.

use std::io;
use std::sync::atomic::Ordering::{Acquire, Release, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, OnceLock};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Handle, Runtime};

use crate::log::event;
use crate::server::activity::Activities;

/// How long the runtime may be busy with one task.
pub const LIMIT: Duration = Duration::from_secs(10);

/// The most tasks that the runtime runs before it polls the accept loop, its first future, and epoll
/// again. More would let connections wait for longer, fewer would ask epoll more often.
pub const TASKS: u32 = 61;

/// How often to check a busy runtime.
const PAUSE: Duration = Duration::from_secs(1);

/// What the watching thread reports.
#[derive(Debug)]
enum News {
    /// The runtime has neither slept nor answered for so long.
    Stuck(Duration),
    /// The runtime goes on, after so long.
    GoesOn(Duration),
}

/// What the runtime has recorded.
#[derive(Debug, Default)]
pub struct Heartbeat {
    /// Whether the runtime sleeps.
    parked: AtomicBool,
    /// Grows when the runtime wakes or answers.
    beats: AtomicU64,
    /// Whether the watching thread sleeps until the runtime wakes.
    asleep: AtomicBool,
    watcher: OnceLock<Thread>,
}

impl Heartbeat {
    /// Builds a single-threaded runtime that records when it sleeps.
    ///
    /// # Errors
    /// When there is no descriptor for its epoll.
    pub fn runtime(self: &Arc<Self>) -> io::Result<Runtime> {
        let (parks, wakes) = (Arc::clone(self), Arc::clone(self));
        Builder::new_current_thread()
            .enable_all()
            .event_interval(TASKS)
            .on_thread_park(move || parks.parked.store(true, SeqCst))
            .on_thread_unpark(move || wakes.wake())
            .build()
    }

    fn wake(&self) {
        self.parked.store(false, SeqCst);
        self.beat();
        if self.asleep.load(SeqCst)
            && let Some(watcher) = self.watcher.get()
        {
            watcher.unpark();
        }
    }

    fn beat(&self) {
        self.beats.fetch_add(1, Release);
    }

    /// Starts the thread that watches `runtime` for the life of the process.
    ///
    /// # Errors
    /// When the system has no thread to give.
    pub fn watch(self: &Arc<Self>, runtime: Handle, activities: Arc<Activities>) -> io::Result<()> {
        let heartbeat = Arc::clone(self);
        let watcher =
            thread::Builder::new().name("gitd-heartbeat".to_owned()).spawn(move || {
                loop {
                    heartbeat.sleep_with_the_runtime();
                    heartbeat.listen(&runtime, (PAUSE, LIMIT), |news| match news {
                        News::Stuck(time) => event::stuck(time, &activities.report()),
                        News::GoesOn(time) => event::goes_on(time),
                    });
                }
            })?;
        // This is called once, so it was not set before.
        let _ = self.watcher.set(watcher.thread().clone());
        Ok(())
    }

    /// Returns when the runtime is awake.
    fn sleep_with_the_runtime(&self) {
        self.asleep.store(true, SeqCst);
        while self.parked.load(SeqCst) {
            thread::park();
        }
        self.asleep.store(false, SeqCst);
    }

    /// Checks after each pause, and reports a runtime that is silent for the limit. Returns when
    /// the runtime has slept for a whole pause.
    fn listen(
        self: &Arc<Self>,
        runtime: &Handle,
        (pause, limit): (Duration, Duration),
        mut tell: impl FnMut(News),
    ) {
        let mut beats = self.beats.load(Acquire);
        let mut silent: Option<Instant> = None;
        let mut told = false;
        loop {
            thread::sleep(pause);
            let before = std::mem::replace(&mut beats, self.beats.load(Acquire));
            if before != beats {
                if let (Some(since), true) = (silent.take(), std::mem::take(&mut told)) {
                    tell(News::GoesOn(since.elapsed()));
                }
                continue;
            }
            if self.parked.load(SeqCst) {
                return;
            }
            match silent {
                // A runtime that always has work never sleeps, so it is asked to answer.
                None => {
                    silent = Some(Instant::now());
                    let heartbeat = Arc::clone(self);
                    runtime.spawn(async move { heartbeat.beat() });
                }
                Some(since) if since.elapsed() >= limit && !told => {
                    told = true;
                    tell(News::Stuck(since.elapsed()));
                }
                Some(_) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use tokio::sync::oneshot;
    use tokio::task::yield_now;

    use super::*;

    const SHORT_PAUSE: Duration = Duration::from_millis(10);
    const SHORT_LIMIT: Duration = Duration::from_secs(1);

    /// Watches a runtime that runs `work` and then sleeps.
    fn listen(work: impl Future<Output = ()> + Send + 'static, tell: impl FnMut(News)) {
        let heartbeat = Arc::new(Heartbeat::default());
        let runtime = heartbeat.runtime().unwrap();
        let handle = runtime.handle().clone();
        let (end, ended) = oneshot::channel::<()>();
        let thread = thread::spawn(move || {
            runtime.block_on(async {
                work.await;
                // The sender is dropped at the end, so this is an error.
                let _ = ended.await;
            });
        });
        heartbeat.listen(&handle, (SHORT_PAUSE, SHORT_LIMIT), tell);
        drop(end);
        thread.join().unwrap();
    }

    /// A runtime that always has work never sleeps, but answers.
    #[test]
    fn a_busy_runtime_is_not_stuck() {
        let busy = async {
            let begun = Instant::now();
            while begun.elapsed() < 2 * SHORT_LIMIT {
                yield_now().await;
            }
        };
        listen(busy, |news| panic!("{news:?}"));
    }

    #[test]
    fn the_first_future_gets_its_turn_among_many_tasks() {
        let runtime = Arc::new(Heartbeat::default()).runtime().unwrap();
        runtime.block_on(async {
            let runs = Arc::new(AtomicU64::new(0));
            for _ in 0..10 * TASKS {
                let runs = Arc::clone(&runs);
                tokio::spawn(async move {
                    loop {
                        runs.fetch_add(1, Release);
                        yield_now().await;
                    }
                });
            }
            for _ in 0..20 {
                let before = runs.load(Acquire);
                yield_now().await;
                let between = runs.load(Acquire) - before;
                assert!((1..=u64::from(TASKS)).contains(&between), "{between} tasks");
            }
        });
    }

    #[test]
    fn a_runtime_that_hangs_is_stuck() {
        let (release, hang) = mpsc::channel();
        let mut told = Vec::new();
        // Until it is reported, or for much too long.
        let hangs = async move {
            let _ = hang.recv_timeout(20 * SHORT_LIMIT);
        };
        listen(hangs, |news| {
            // After the report, the receiver is gone.
            let _ = release.send(());
            told.push(news);
        });
        let [News::Stuck(before), News::GoesOn(after)] = told[..] else { panic!("{told:?}") };
        assert!(SHORT_LIMIT <= before && before <= after, "{told:?}");
    }
}
