//! A file system that can stop: it shows a directory as it is, until it is told not to answer any more. A process that
//! waits for it then cannot even be killed, as with a hard mount of NFS whose server is gone.
//!
//! It is mounted in a mount namespace of one daemon, so that nothing else on the machine can meet it. Its end, or that
//! of the test's process, aborts it: then all calls that wait fail.

mod wire;

use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

use crate::support::Invocation;
use crate::support::process::wait_until;
pub use wire::{ACCESS, FLUSH, GETATTR, LOOKUP, OPEN, READ, RELEASE};
use wire::{Message, Request};

pub struct Fuse {
    shared: Arc<Shared>,
    /// Closed to wake the server.
    wake: Option<UnixStream>,
    server: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

/// Whether an operation of this thread's is wanted.
type Wanted = Box<dyn Fn(u32, u32) -> bool + Send>;

#[derive(Default)]
struct State {
    /// The first request of this kind is not answered, and nothing after it.
    stop_at: Option<Wanted>,
    stopped: bool,
    ends: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

impl Fuse {
    /// Shows `directory` at `place` to the daemon that this invocation starts, and to no other process.
    pub fn mount(invocation: Invocation, directory: &Path, place: &Path) -> (Self, Invocation) {
        let device = File::options().read(true).write(true).open("/dev/fuse").unwrap();
        let (wake, woken) = UnixStream::pair().unwrap();
        let shared = Arc::<Shared>::default();
        let mut tree = Tree {
            device: device.try_clone().unwrap(),
            shared: Arc::clone(&shared),
            nodes: vec![directory.to_owned()],
        };
        let server = std::thread::spawn(move || tree.serve(&woken));
        let invocation = invocation
            .namespace("--mount")
            .stdin(device)
            .shell(format!(
                "mount -i -t fuse -o fd=0,rootmode=40000,user_id=0,group_id=0 gitd-test {}",
                place.display()
            ))
            .shell("exec </dev/null");
        (Self { shared, wake: Some(wake), server: Some(server) }, invocation)
    }

    /// From the first request on that is as wanted nothing is answered: an operation, and the thread that waits for it.
    pub fn stop_when(&self, wanted: impl Fn(u32, u32) -> bool + Send + 'static) {
        self.shared.lock().stop_at = Some(Box::new(wanted));
    }

    pub fn is_stopped(&self) -> bool {
        self.shared.lock().stopped
    }

    pub fn wait_stopped(&self) {
        wait_until("the file system has stopped", || self.is_stopped());
    }

    /// Answers what was asked, and all that follows.
    pub fn go_on(&self) {
        let mut state = self.shared.lock();
        state.stop_at = None;
        state.stopped = false;
        self.shared.changed.notify_all();
    }
}

impl Drop for Fuse {
    fn drop(&mut self) {
        self.shared.lock().ends = true;
        self.shared.changed.notify_all();
        drop(self.wake.take());
        // A panic of the server has been reported already.
        let _ = self.server.take().map(JoinHandle::join);
    }
}

/// The server's side.
struct Tree {
    device: File,
    shared: Arc<Shared>,
    /// By number, less one: the kernel calls the root 1.
    nodes: Vec<PathBuf>,
}

impl Tree {
    /// Answers until the mount or the test ends.
    fn serve(&mut self, woken: &UnixStream) {
        let mut buffer = vec![0; wire::LONGEST];
        loop {
            let mut both =
                [PollFd::new(&self.device, PollFlags::IN), PollFd::new(woken, PollFlags::IN)];
            match poll(&mut both, None) {
                Err(Errno::INTR) => continue,
                result => result.unwrap(),
            };
            if !both[1].revents().is_empty() {
                return;
            }
            let request = match (&self.device).read(&mut buffer) {
                Ok(length) => Request::new(&buffer[..length]),
                // It was taken back, or nothing is mounted yet.
                Err(error)
                    if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Interrupted) =>
                {
                    continue;
                }
                Err(error) if error.raw_os_error() == Some(Errno::PERM.raw_os_error()) => {
                    std::thread::sleep(Duration::from_millis(1));
                    continue;
                }
                Err(error) if error.raw_os_error() == Some(Errno::NODEV.raw_os_error()) => return,
                Err(error) => panic!("/dev/fuse: {error}"),
            };
            if !self.may_answer(&request) {
                return;
            }
            if !request.is_a_notice() {
                let answer = request.answer(self.result(&request));
                // The process that asked may have been killed.
                let _ = (&self.device).write_all(&answer);
            }
        }
    }

    /// Waits for as long as nothing is answered; `false` at the end.
    fn may_answer(&self, request: &Request) -> bool {
        let mut state = self.shared.lock();
        let asked = (request.operation(), request.thread());
        if state.stop_at.as_ref().is_some_and(|wanted| wanted(asked.0, asked.1)) {
            state.stopped = true;
        }
        while state.stopped && !state.ends {
            state = self.shared.changed.wait(state).unwrap();
        }
        !state.ends
    }

    fn result(&mut self, request: &Request) -> Result<Vec<u8>, i32> {
        self.answer(request)
            .map(|message| message.0)
            .map_err(|error| error.raw_os_error().unwrap_or(Errno::IO.raw_os_error()))
    }

    fn answer(&mut self, request: &Request) -> std::io::Result<Message> {
        if request.operation() == wire::INIT {
            return Ok(Message::init());
        }
        let path = &self.nodes[usize::try_from(request.node()).unwrap() - 1];
        match request.operation() {
            wire::LOOKUP => {
                let path = path.join(request.name());
                let found = fs::symlink_metadata(&path)?;
                Ok(Message::entry(self.number(path), &found))
            }
            wire::GETATTR => Ok(Message::attributes_of(&fs::symlink_metadata(path)?)),
            wire::READLINK => Ok(Message(fs::read_link(path)?.as_os_str().as_bytes().to_vec())),
            wire::READ => {
                let (offset, most) = request.range();
                let mut buffer = vec![0; most];
                let length = File::open(path)?.read_at(&mut buffer, offset)?;
                buffer.truncate(length);
                Ok(Message(buffer))
            }
            wire::READDIR => list(path, request.range()),
            wire::OPEN | wire::OPENDIR => Ok(Message::opened()),
            wire::STATFS => Ok(Message::statistics()),
            wire::ACCESS | wire::FLUSH | wire::RELEASE | wire::RELEASEDIR => Ok(Message::default()),
            _ => Err(Errno::NOSYS.into()),
        }
    }

    fn number(&mut self, path: PathBuf) -> u64 {
        let known = self.nodes.iter().position(|node| *node == path);
        let index = known.unwrap_or_else(|| {
            self.nodes.push(path);
            self.nodes.len() - 1
        });
        index as u64 + 1
    }
}

fn list(directory: &Path, (offset, most): (u64, usize)) -> std::io::Result<Message> {
    let mut message = Message::default();
    let mut entries = fs::read_dir(directory)?.collect::<Result<Vec<_>, _>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for (entry, next) in entries.iter().zip(1..).skip(usize::try_from(offset).unwrap()) {
        if !message.directory_entry(&entry.file_name(), entry.file_type()?, next, most) {
            break;
        }
    }
    Ok(message)
}
