//! Processes: one cheap spawn for git's services and the access hook.
//!
//! # Why not `std::process::Command`
//!
//! git's services must ignore SIGTERM (contract 50). `Command` cannot do that without a closure,
//! which turns its vfork-like spawn into a plain fork. And its spawn copies the whole descriptor
//! table, which costs 85 to 90 µs for each 1,000 connected clients. So the child is made by
//! `clone(CLONE_VM | CLONE_VFORK | CLONE_FILES | CLONE_PIDFD)`, after the descriptors that it needs
//! were copied into four reserved low slots. It shares this process's memory and descriptors while
//! the calling thread sleeps. First it takes a private table of only the low descriptors
//! (`close_range(…, CLOSE_RANGE_UNSHARE)`, Linux 5.9). Then it places its streams, closes all other
//! descriptors and executes.
//!
//! # What a spawn waits for
//!
//! `fchdir(2)` and `execve(2)` block on a file system that does not answer, and so does closing a
//! duplicate of a file there. The calling thread blocks too, but no other spawn may. So a spawn has
//! the slots only until its child has a private table, and the child itself releases them. And that
//! table is small: the kernel copies descriptors in multiples of 64, so the first 64 numbers are
//! taken before any file of a repository is opened.
//!
//! A process with one thread and one client does not need this. Its child gets a plain copy of the
//! few open descriptors. None are reserved, because there may be few to be had.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;
use rustix::process::{
    Pid, Resource, Rlimit, Signal, getrlimit, set_parent_process_death_signal, setpgid,
    setpriority_process, setrlimit,
};
use rustix::stdio::{dup2_stderr, dup2_stdin, dup2_stdout};

use super::child::Child;
use super::turn::{Ticket, Turn};
use super::{check, signal};

/// The program to run, and all that the new process starts with.
#[derive(Debug)]
pub struct Spawn<'a> {
    /// The files to try, in order, until one can be executed: the result of a PATH search.
    pub candidates: &'a [CString],
    /// All arguments; the first is the program's name.
    pub arguments: &'a [&'a CStr],
    /// The whole environment, as `NAME=value`.
    pub environment: &'a [&'a CStr],
    /// The working directory, if it is not this process's own; `O_PATH` is enough.
    pub directory: Option<BorrowedFd<'a>>,
    /// Standard input, output and error: this process's own in its place, or a number above those.
    /// `/dev/null` for `None`.
    pub streams: [Option<BorrowedFd<'a>>; 3],
    /// Whether it outlives a daemon that is told to end: it and its descendants ignore SIGTERM from
    /// the first instruction on, and its own process group keeps a terminal's Ctrl-C away.
    pub outlives: bool,
    /// Its niceness, if it is not this process's own.
    pub niceness: Option<i32>,
}

/// Starts processes.
#[derive(Debug)]
pub struct Spawner {
    /// Shared by all threads. `None` in a process with one thread and few descriptors, whose
    /// children get a copy of all of them.
    slots: Option<Slots>,
    /// The limit of open files for new processes; this process's own may have been raised since.
    limit: Rlimit,
}

/// Low descriptors for the next child.
#[derive(Debug)]
struct Slots {
    /// The spawn that uses the slots.
    turn: Turn,
    /// The directory and the three streams.
    reserved: [OwnedFd; 4],
    /// Fills a slot while no child needs it, so that its number stays taken.
    null: OwnedFd,
    /// The other low numbers.
    _taken: Vec<OwnedFd>,
}

/// The bytes of a child's stack until it executes: it makes a dozen system calls and calls nothing
/// deep.
const STACK: usize = 32 * 1024;

/// The alignment of a stack's top; enough for any platform.
const ALIGNMENT: usize = 64;

/// The number of the child's directory until it executes.
const DIRECTORY: RawFd = 3;

/// How many descriptors the kernel copies at least.
const COPIED: RawFd = 64;

/// With a lower limit of open files none are taken in advance.
const FEW: u64 = 256;

/// All memory that the child reads or writes of its parent's.
struct Order<'a> {
    programs: Vec<*const libc::c_char>,
    arguments: Vec<*const libc::c_char>,
    environment: Vec<*const libc::c_char>,
    /// The child's directory and streams.
    sources: [Option<BorrowedFd<'a>>; 4],
    /// Whether there is a directory to go to.
    moves: bool,
    /// The turn that has the slots. The child ends it once its table is private. Without one its
    /// table is private from the beginning.
    turn: Option<(&'a Turn, Ticket)>,
    outlives: bool,
    limit: Rlimit,
    niceness: Option<i32>,
    /// Why a step failed; `None` while none has.
    failure: Option<Errno>,
}

impl Spawner {
    /// For a process with one thread. Also resets SIGCHLD to its default: if the parent left it
    /// ignored, children would vanish before they could be waited for.
    #[must_use]
    pub fn alone() -> Self {
        signal::set_default(libc::SIGCHLD);
        Spawner { slots: None, limit: getrlimit(Resource::Nofile) }
    }

    /// For many threads: reserves the low descriptors, as far as the limit of open files allows.
    /// Call it early, while low numbers are free, and after the standard streams are in place.
    ///
    /// # Errors
    /// When `/dev/null` cannot be opened or descriptors are exhausted.
    pub fn shared() -> io::Result<Self> {
        let mut spawner = Self::alone();
        let null: OwnedFd = File::options().read(true).write(true).open("/dev/null")?.into();
        let reserved = [null.try_clone()?, null.try_clone()?, null.try_clone()?, null.try_clone()?];
        let mut taken = Vec::new();
        while spawner.limit.current.is_none_or(|limit| limit >= FEW) {
            let next = null.try_clone()?;
            if next.as_raw_fd() >= COPIED {
                break;
            }
            taken.push(next);
        }
        spawner.slots = Some(Slots { turn: Turn::default(), reserved, null, _taken: taken });
        Ok(spawner)
    }

    /// Starts a process. The calling thread sleeps until the child executes or fails. Nothing
    /// passed is kept. A directory or a program on a file system that does not answer blocks this
    /// thread, and no other.
    ///
    /// # Errors
    /// Those of `clone(2)`, and the child's error: `ENOENT` and `EACCES` of the last candidate,
    /// `E2BIG`, `ENOEXEC`.
    pub fn spawn(&self, spawn: &Spawn<'_>) -> io::Result<Child> {
        let [input, output, error] = spawn.streams;
        let descriptors = [spawn.directory, input, output, error];
        let Some(slots) = &self.slots else {
            return self.launch(spawn, descriptors, None);
        };
        let ticket = slots.turn.take();
        let sources = slots.reserved.each_ref().map(|slot| Some(slot.as_fd()));
        let turn = Some((&slots.turn, ticket));
        let filled = slots.fill(descriptors);
        let result = filled.and_then(|()| self.launch(spawn, sources, turn));
        // The child has done so already, unless clone failed or the child was killed at once.
        slots.turn.end(ticket);
        slots.empty();
        result
    }

    fn launch(
        &self,
        spawn: &Spawn<'_>,
        sources: [Option<BorrowedFd<'_>>; 4],
        turn: Option<(&Turn, Ticket)>,
    ) -> io::Result<Child> {
        let mut order = Order {
            programs: pointers(spawn.candidates.iter().map(CString::as_c_str)),
            arguments: pointers(spawn.arguments.iter().copied()),
            environment: pointers(spawn.environment.iter().copied()),
            sources,
            moves: spawn.directory.is_some(),
            turn,
            outlives: spawn.outlives,
            limit: self.limit,
            niceness: spawn.niceness,
            failure: None,
        };
        const NONE: RawFd = -1;
        let mut pidfd = NONE;
        let mut flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
        if turn.is_some() {
            flags |= libc::CLONE_FILES | libc::CLONE_PIDFD;
        }
        let mut stack = Vec::<u8>::with_capacity(STACK);
        let top = stack.spare_capacity_mut().as_mut_ptr_range().end;
        let top = top.map_addr(|top| top & !(ALIGNMENT - 1));
        // SAFETY: stack and `order` belong to this call and outlive the child's use, because
        // CLONE_VFORK stops this thread until then; the stack is aligned; `child` never returns
        // here; `pidfd` is writable.
        let pid = unsafe {
            libc::clone(child, top.cast(), flags, (&raw mut order).cast(), &raw mut pidfd)
        };
        let pid = check(pid)?;
        // SAFETY: clone with CLONE_PIDFD left a new descriptor of our own; without, it left NONE.
        let pidfd = (pidfd != NONE).then(|| unsafe { OwnedFd::from_raw_fd(pidfd) });
        // The parent's result of clone is never 0.
        let made = Child::new(Pid::from_raw(pid).ok_or(Errno::SRCH)?, pidfd);
        let Some(failure) = order.failure else { return Ok(made) };
        made.wait()?;
        Err(failure.into())
    }
}

impl Slots {
    fn fill(&self, descriptors: [Option<BorrowedFd<'_>>; 4]) -> io::Result<()> {
        for (slot, fd) in self.reserved.iter().zip(descriptors) {
            duplicate_onto(fd.unwrap_or(self.null.as_fd()), slot)?;
        }
        Ok(())
    }

    /// A duplicate of the client's socket left in a slot would delay its EOF. If the next spawn has
    /// its own descriptors there by now, it empties the slots in turn.
    fn empty(&self) {
        let ticket = self.turn.take();
        for slot in &self.reserved {
            // dup3 onto an open slot needs no new descriptor, so it cannot run out of them.
            let _ = duplicate_onto(self.null.as_fd(), slot);
        }
        self.turn.end(ticket);
    }
}

fn duplicate_onto(fd: BorrowedFd<'_>, slot: &OwnedFd) -> io::Result<()> {
    // SAFETY: the slot is owned by the Spawner, which expects its meaning to change.
    let result = unsafe { libc::dup3(fd.as_raw_fd(), slot.as_raw_fd(), libc::O_CLOEXEC) };
    check(result).map(drop)
}

fn pointers<'a>(strings: impl Iterator<Item = &'a CStr>) -> Vec<*const libc::c_char> {
    strings.map(CStr::as_ptr).chain([std::ptr::null()]).collect()
}

/// The child until it executes another program. It runs in the parent's memory: it may make system
/// calls and write to `order`, and must not allocate, lock or panic. The functions of rustix that
/// are called here make one system call each and touch at most errno.
extern "C" fn child(order: *mut libc::c_void) -> libc::c_int {
    // SAFETY: the pointer is the `Order` of `launch`, whose thread sleeps; no other code uses it.
    let order = unsafe { &mut *order.cast::<Order<'_>>() };
    order.failure = Some(match prepare(order) {
        Ok(()) => execute(order),
        Err(errno) => errno,
    });
    // SAFETY: ends the child at once, without the parent's exit handlers.
    unsafe { libc::_exit(127) }
}

fn prepare(order: &Order<'_>) -> Result<(), Errno> {
    const CLOSE_RANGE_UNSHARE: libc::c_uint = 2;
    let [directory, input, output, error] = order.sources;
    if let Some((turn, ticket)) = order.turn {
        let numbers = order.sources.iter().flatten().map(AsRawFd::as_raw_fd);
        let above = numbers.max().unwrap_or(DIRECTORY).cast_unsigned() + 1;
        // SAFETY: gives this child a private descriptor table; without it the dup2 below would
        // change the parent's, so a failure must end here.
        let private = unsafe {
            libc::syscall(libc::SYS_close_range, above, libc::c_uint::MAX, CLOSE_RANGE_UNSHARE)
        };
        let private = if private == 0 { Ok(()) } else { Err(last_error()) };
        turn.end(ticket);
        private?;
    }
    // The table is private. dup2 also clears close-on-exec on the copy.
    input.map_or_else(|| null(0), dup2_stdin)?;
    output.map_or_else(|| null(1), dup2_stdout)?;
    error.map_or_else(|| null(2), dup2_stderr)?;
    if let Some(directory) = directory.filter(|fd| fd.as_raw_fd() != DIRECTORY) {
        // SAFETY: the table is private, and number 3 is not needed any more.
        done(unsafe { libc::dup3(directory.as_raw_fd(), DIRECTORY, libc::O_CLOEXEC) })?;
    }
    // The calls below may block on a file system, so release other connections' descriptors first.
    // SAFETY: closes descriptors of the private table, which nothing uses any more.
    unsafe { libc::syscall(libc::SYS_close_range, DIRECTORY + 1, libc::c_uint::MAX, 0) };
    if order.moves {
        // SAFETY: CLONE_FS was not asked for, so the working directory is the child's own.
        done(unsafe { libc::fchdir(DIRECTORY) })?;
    }
    if let Some(niceness) = order.niceness {
        // That of the calling thread, which is the child's only one.
        setpriority_process(None, niceness)?;
    }
    if order.outlives {
        // Moves only this child, into a group of its own number.
        let _ = setpgid(None, None);
        // A stopped service must not stay stopped when gitd has died; a running one ignores SIGCONT
        // (prctl(2)).
        let _ = set_parent_process_death_signal(Some(Signal::CONT));
        signal::ignore(libc::SIGTERM);
    } else {
        signal::set_default(libc::SIGTERM);
    }
    // Rust's runtime ignores SIGPIPE, and git must die when its reader is gone. CLONE_SIGHAND was
    // not given, so dispositions are the child's own.
    signal::set_default(libc::SIGPIPE);
    // A limit can always be lowered.
    let _ = setrlimit(Resource::Nofile, order.limit);
    // gitd has no handlers, so none of the parent's code runs here once signals are unblocked.
    let _ = signal::set_mask(libc::SIG_SETMASK, &signal::set_of(&[]));
    Ok(())
}

/// Opens `/dev/null` as a stream. The kernel returns the lowest free number, which is this one.
fn null(stream: RawFd) -> Result<(), Errno> {
    // SAFETY: the table is private to the child, which has no use for the stream.
    unsafe { libc::close(stream) };
    let opened = openat(CWD, c"/dev/null", OFlags::RDWR, Mode::empty())?;
    // A standard stream has no owner.
    let _ = opened.into_raw_fd();
    Ok(())
}

/// Tries the candidates as a shell does: a missing file is skipped; a file that may not be executed
/// is skipped too, but its error is returned in the end. Returns only on failure.
fn execute(order: &Order<'_>) -> Errno {
    let mut reason = Errno::NOENT;
    for &program in &order.programs {
        if program.is_null() {
            break;
        }
        // SAFETY: the program is NUL-terminated, both vectors end with a null pointer, and all of
        // them belong to the sleeping parent.
        unsafe { libc::execve(program, order.arguments.as_ptr(), order.environment.as_ptr()) };
        match last_error() {
            Errno::NOENT | Errno::NOTDIR => {}
            Errno::ACCESS => reason = Errno::ACCESS,
            other => return other,
        }
    }
    reason
}

fn done(result: libc::c_int) -> Result<(), Errno> {
    if result < 0 { Err(last_error()) } else { Ok(()) }
}

/// The child shares the errno of its sleeping parent thread.
fn last_error() -> Errno {
    Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::IO)
}
