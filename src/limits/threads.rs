//! Threads that may block: on a slow file system, a resolver, an access hook.
//!
//! tokio's blocking pool has two faults here. It panics when the system has no thread to give, and
//! at its limit new jobs wait behind jobs that hang. Here both cases are errors, which the client
//! can be told.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

use crate::sys::child::has_children;

/// How long a thread waits for more work before it ends.
const IDLE: Duration = Duration::from_secs(10);

type Job = Box<dyn FnOnce() + Send>;

/// A pool of threads that grows while all of them are busy.
#[derive(Debug)]
pub struct Threads {
    most: usize,
    when_busy: WhenBusy,
    shared: Arc<Shared>,
}

/// What happens to a job while all threads are busy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenBusy {
    /// It is refused, because it might wait for ever behind a job that hangs.
    Refuse,
    /// It waits. The caller bounds the number of such jobs and does not depend on their results.
    Wait,
    /// It runs on the caller's thread, which has nothing else to do.
    RunHere,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    work: Condvar,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    idle: usize,
    all: usize,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} of {} threads idle, {} jobs", self.idle, self.all, self.jobs.len())
    }
}

impl Threads {
    /// A pool of at most `most` threads. It starts with none.
    pub fn new(most: usize, when_busy: WhenBusy) -> Self {
        Threads { most, when_busy, shared: Arc::default() }
    }

    /// Runs `work` on a thread. The receiver gets the result, or an error if the job panicked.
    ///
    /// # Errors
    /// When all threads are busy and the pool is at its limit, or the system has no thread to give.
    pub fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> io::Result<oneshot::Receiver<T>> {
        let (sender, receiver) = oneshot::channel();
        let job: Job = Box::new(move || {
            // An error means that the result is no longer wanted.
            let _ = sender.send(work());
        });
        let mut state = self.shared.lock();
        let full = state.all >= self.most;
        if state.idle > state.jobs.len() || (full && self.when_busy == WhenBusy::Wait) {
            state.jobs.push_back(job);
            drop(state);
            self.shared.work.notify_one();
            return Ok(receiver);
        }
        if full && self.when_busy == WhenBusy::RunHere {
            drop(state);
            job();
            return Ok(receiver);
        }
        if full {
            return Err(io::Error::from_raw_os_error(libc::EAGAIN));
        }
        state.all += 1;
        drop(state);
        let shared = Arc::clone(&self.shared);
        let member = Member(shared);
        let thread = std::thread::Builder::new().name("gitd-check".to_owned());
        // On failure the closure is dropped, and the member with it.
        thread.spawn(move || member.work(job))?;
        Ok(receiver)
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A thread's membership in the pool. Dropping it also counts a thread that panicked as gone.
struct Member(Arc<Shared>);

impl Member {
    fn work(self, first: Job) {
        let mut next = Some(first);
        while next.is_some() || has_children() {
            if let Some(job) = next {
                job();
            }
            next = self.wait();
        }
    }

    fn wait(&self) -> Option<Job> {
        let mut state = self.0.lock();
        state.idle += 1;
        let idle = |state: &mut State| state.jobs.is_empty();
        let waited = self.0.work.wait_timeout_while(state, IDLE, idle);
        state = waited.unwrap_or_else(PoisonError::into_inner).0;
        state.idle -= 1;
        state.jobs.pop_front()
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.0.lock().all -= 1;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Instant;

    use tokio::sync::oneshot::error::TryRecvError;

    use super::*;

    /// How long any step may take that nothing blocks.
    const LIMIT: Duration = Duration::from_secs(10);

    /// The result of a job; `None` if it panicked.
    fn result_of<T>(mut job: oneshot::Receiver<T>) -> Option<T> {
        let deadline = Instant::now() + LIMIT;
        loop {
            match job.try_recv() {
                Ok(result) => return Some(result),
                Err(TryRecvError::Closed) => return None,
                Err(TryRecvError::Empty) => assert!(Instant::now() < deadline, "never done"),
            }
            std::thread::yield_now();
        }
    }

    /// Runs `work` as soon as a thread is back in the pool.
    fn run_when_free<T: Send + 'static>(
        threads: &Threads,
        work: impl FnOnce() -> T + Copy + Send + 'static,
    ) -> T {
        let deadline = Instant::now() + LIMIT;
        loop {
            match threads.run(work) {
                Ok(job) => return result_of(job).unwrap(),
                Err(error) => assert_eq!(error.raw_os_error(), Some(libc::EAGAIN)),
            }
            assert!(Instant::now() < deadline, "never free");
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_thread_is_used_again() {
        let threads = Threads::new(1, WhenBusy::Refuse);
        let [first, second] =
            [(); 2].map(|()| run_when_free(&threads, || std::thread::current().id()));
        assert_eq!(first, second);
    }

    #[test]
    fn a_job_that_hangs_delays_no_other() {
        let threads = Threads::new(3, WhenBusy::Refuse);
        let (release, hang) = mpsc::channel::<()>();
        let hanging = threads.run(move || hang.recv()).unwrap();
        for n in 0..10 {
            assert_eq!(run_when_free(&threads, move || n), n);
        }
        release.send(()).unwrap();
        assert_eq!(result_of(hanging), Some(Ok(())));
    }

    /// An idle thread that was given a job may not have started it yet: it must not count as idle
    /// for another.
    #[test]
    fn one_job_for_each_idle_thread() {
        let threads = Threads::new(2, WhenBusy::Refuse);
        // A thread that is slow to take its job.
        *threads.shared.lock() = State { idle: 1, all: 1, ..State::default() };
        let jobs = [1, 2].map(|n| threads.run(move || n).unwrap());
        assert_eq!(threads.shared.lock().all, 2, "a thread of its own for the second job");
        assert_eq!(jobs.map(result_of), [Some(1), Some(2)]);
    }

    #[test]
    fn no_thread_over_the_limit() {
        for when_busy in [WhenBusy::Refuse, WhenBusy::Wait] {
            let threads = Threads::new(2, when_busy);
            let gate = Arc::new(Mutex::new(()));
            let closed = gate.lock().unwrap();
            let job = || {
                let gate = Arc::clone(&gate);
                threads.run(move || drop(gate.lock().unwrap()))
            };
            let jobs = [job().unwrap(), job().unwrap()];
            let third = job();
            assert_eq!(threads.shared.lock().all, 2, "{when_busy:?}");
            drop(closed);
            assert_eq!(jobs.map(result_of), [Some(()); 2]);
            match third {
                Ok(job) => {
                    assert_eq!(when_busy, WhenBusy::Wait);
                    assert_eq!(result_of(job), Some(()));
                }
                Err(error) => {
                    assert_eq!(when_busy, WhenBusy::Refuse);
                    assert_eq!(error.raw_os_error(), Some(libc::EAGAIN));
                }
            }
        }
    }

    #[test]
    fn work_that_may_wait_is_done_later() {
        let threads = Threads::new(1, WhenBusy::Wait);
        let (release, hang) = mpsc::channel::<()>();
        let hanging = threads.run(move || hang.recv()).unwrap();
        let waiting: Vec<_> = (0..100).map(|n| threads.run(move || n).unwrap()).collect();
        release.send(()).unwrap();
        assert_eq!(result_of(hanging), Some(Ok(())));
        let done: Vec<_> = waiting.into_iter().filter_map(result_of).collect();
        assert_eq!(done, (0..100).collect::<Vec<_>>());
    }

    #[test]
    fn a_panic_ends_one_thread_and_frees_its_place() {
        let threads = Threads::new(1, WhenBusy::Refuse);
        assert_eq!(result_of::<()>(threads.run(|| panic!("on purpose")).unwrap()), None);
        assert_eq!(run_when_free(&threads, || 7), 7);
    }
}
