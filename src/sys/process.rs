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
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use super::child::Child;
use super::limit::Descriptors;
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
    pub niceness: Option<libc::c_int>,
}

/// Starts processes.
#[derive(Debug)]
pub struct Spawner {
    /// Shared by all threads. `None` in a process with one thread and few descriptors, whose
    /// children get a copy of all of them.
    slots: Option<Slots>,
    /// The limit of open files for new processes; this process's own may have been raised since.
    limit: Option<Descriptors>,
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

const NONE: RawFd = -1;

/// How many descriptors the kernel copies at least.
const COPIED: RawFd = 64;

/// With a lower limit of open files none are taken in advance.
const FEW: libc::rlim_t = 256;

/// All memory that the child reads or writes of its parent's.
struct Order {
    programs: Vec<*const libc::c_char>,
    arguments: Vec<*const libc::c_char>,
    environment: Vec<*const libc::c_char>,
    /// The child's directory and streams; [`NONE`] where there is none.
    sources: [RawFd; 4],
    /// Whether there is a directory to go to.
    moves: bool,
    /// The turn that has the slots. The child ends it once its table is private. Without one its
    /// table is private from the beginning.
    turn: Option<(*const Turn, Ticket)>,
    outlives: bool,
    limit: Option<Descriptors>,
    niceness: Option<libc::c_int>,
    /// The errno of the step that failed; 0 while none has.
    errno: libc::c_int,
}

impl Spawner {
    /// For a process with one thread. Also resets SIGCHLD to its default: if the parent left it
    /// ignored, children would vanish before they could be waited for.
    #[must_use]
    pub fn alone() -> Self {
        signal::set_default(libc::SIGCHLD);
        Spawner { slots: None, limit: Descriptors::current().ok() }
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
        while spawner.limit.is_some_and(|limit| limit.soft >= FEW) {
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
            let sources = descriptors.map(|fd| fd.map_or(NONE, |fd| fd.as_raw_fd()));
            return self.launch(spawn, sources, None);
        };
        let ticket = slots.turn.take();
        let sources = slots.reserved.each_ref().map(AsRawFd::as_raw_fd);
        let turn = Some((&raw const slots.turn, ticket));
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
        sources: [RawFd; 4],
        turn: Option<(*const Turn, Ticket)>,
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
            errno: 0,
        };
        let mut pidfd: libc::c_int = NONE;
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
        let made = Child::new(pid.cast_unsigned(), pidfd);
        if order.errno == 0 {
            return Ok(made);
        }
        made.wait()?;
        Err(io::Error::from_raw_os_error(order.errno))
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
/// calls and write to `order`, and must not allocate, lock or panic.
extern "C" fn child(order: *mut libc::c_void) -> libc::c_int {
    // SAFETY: the pointer is the `Order` of `launch`, whose thread sleeps; no other code uses it.
    let order = unsafe { &mut *order.cast::<Order>() };
    order.errno = become_program(order);
    // SAFETY: ends the child at once, without the parent's exit handlers.
    unsafe { libc::_exit(127) }
}

/// Returns only on failure, with the errno.
fn become_program(order: &Order) -> libc::c_int {
    const CLOSE_RANGE_UNSHARE: libc::c_uint = 2;
    const DIRECTORY: RawFd = 3;
    let [directory, streams @ ..] = order.sources;
    if let Some((turn, ticket)) = order.turn {
        let above = order.sources.into_iter().max().unwrap_or(DIRECTORY).cast_unsigned() + 1;
        // SAFETY: gives this child a private descriptor table; without it the dup2 below would
        // change the parent's, so a failure must end here.
        let private = unsafe {
            libc::syscall(libc::SYS_close_range, above, libc::c_uint::MAX, CLOSE_RANGE_UNSHARE)
        };
        let failed = (private != 0).then(errno);
        // SAFETY: the Spawner outlives the call that its thread sleeps in.
        unsafe { &*turn }.end(ticket);
        if let Some(errno) = failed {
            return errno;
        }
    }
    for (fd, stream) in streams.into_iter().zip(0..) {
        // SAFETY: the table is private; dup2 also clears close-on-exec on the copy.
        let placed = if fd == NONE { null(stream) } else { unsafe { libc::dup2(fd, stream) } };
        if placed < 0 {
            return errno();
        }
    }
    let moved = match directory {
        DIRECTORY | NONE => DIRECTORY,
        // SAFETY: the table is private, and number 3 is not needed any more.
        _ => unsafe { libc::dup3(directory, DIRECTORY, libc::O_CLOEXEC) },
    };
    if moved < 0 {
        return errno();
    }
    // The calls below may block on a file system, so release other connections' descriptors first.
    // SAFETY: closes descriptors of the private table, which nothing uses any more.
    unsafe { libc::syscall(libc::SYS_close_range, DIRECTORY + 1, libc::c_uint::MAX, 0) };
    // SAFETY: CLONE_FS was not asked for, so the working directory is the child's own.
    if order.moves && unsafe { libc::fchdir(DIRECTORY) } != 0 {
        return errno();
    }
    if let Some(niceness) = order.niceness {
        // SAFETY: changes a number of the calling thread, which is the child's only one.
        if unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, niceness) } != 0 {
            return errno();
        }
    }
    if order.outlives {
        // SAFETY: moves only this child, into a group of its own number.
        unsafe { libc::setpgid(0, 0) };
        // A stopped service must not stay stopped when gitd has died; a running one ignores SIGCONT
        // (prctl(2)).
        // SAFETY: sets a number of the calling process.
        unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGCONT) };
    }
    let sigterm = if order.outlives { libc::SIG_IGN } else { libc::SIG_DFL };
    // SAFETY: CLONE_SIGHAND was not given, so dispositions are the child's own; no code installed.
    unsafe { libc::signal(libc::SIGTERM, sigterm) };
    // SAFETY: as above; Rust's runtime ignores SIGPIPE, and git must die when its reader is gone.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
    if let Some(limit) = order.limit {
        // A limit can always be lowered.
        let _ = limit.set();
    }
    // gitd has no handlers, so none of the parent's code runs here once signals are unblocked.
    let _ = signal::set_mask(libc::SIG_SETMASK, &signal::set_of(&[]));
    execute(order)
}

/// Opens `/dev/null` as a stream. The kernel returns the lowest free number, which is this one.
fn null(stream: RawFd) -> RawFd {
    // SAFETY: the table is private to the child, which has no use for the stream.
    unsafe { libc::close(stream) };
    // SAFETY: the path is a static NUL-terminated string.
    unsafe { libc::open(c"/dev/null".as_ptr(), libc::O_RDWR) }
}

/// Tries the candidates as a shell does: a missing file is skipped; a file that may not be executed
/// is skipped too, but its error is returned in the end.
fn execute(order: &Order) -> libc::c_int {
    let mut reason = libc::ENOENT;
    for &program in &order.programs {
        if program.is_null() {
            break;
        }
        // SAFETY: the program is NUL-terminated, both vectors end with a null pointer, and all of
        // them belong to the sleeping parent.
        unsafe { libc::execve(program, order.arguments.as_ptr(), order.environment.as_ptr()) };
        match errno() {
            libc::ENOENT | libc::ENOTDIR => {}
            libc::EACCES => reason = libc::EACCES,
            other => return other,
        }
    }
    reason
}

fn errno() -> libc::c_int {
    // The child shares the errno of its sleeping parent thread.
    io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO)
}
