//! What the kernel asks of a file system in user space, and how it is answered: the messages of /dev/fuse.

use std::ffi::OsStr;
use std::fs::Metadata;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};

pub const LOOKUP: u32 = 1;
pub const FORGET: u32 = 2;
pub const GETATTR: u32 = 3;
pub const READLINK: u32 = 5;
pub const OPEN: u32 = 14;
pub const READ: u32 = 15;
pub const STATFS: u32 = 17;
pub const RELEASE: u32 = 18;
pub const FLUSH: u32 = 25;
pub const INIT: u32 = 26;
pub const OPENDIR: u32 = 27;
pub const READDIR: u32 = 28;
pub const RELEASEDIR: u32 = 29;
pub const ACCESS: u32 = 34;
pub const INTERRUPT: u32 = 36;
pub const BATCH_FORGET: u32 = 42;

/// The largest message of the kernel's, with the most that a write carries.
pub const LONGEST: usize = 4096 + 128 * 1024;

const HEADER: usize = 40;

/// A request, as it was read.
pub struct Request(Vec<u8>);

impl Request {
    pub fn new(message: &[u8]) -> Self {
        assert!(message.len() >= HEADER, "a header of {} bytes", message.len());
        Self(message.to_vec())
    }

    pub fn operation(&self) -> u32 {
        self.u32(4)
    }

    pub fn node(&self) -> u64 {
        self.u64(16)
    }

    /// The thread that asks.
    pub fn thread(&self) -> u32 {
        self.u32(32)
    }

    /// The name in a directory that it is about.
    pub fn name(&self) -> &OsStr {
        OsStr::from_bytes(self.0[HEADER..].split(|byte| *byte == 0).next().unwrap())
    }

    /// Where a read begins, and how much of it there may be.
    pub fn range(&self) -> (u64, usize) {
        (self.u64(HEADER + 8), self.u32(HEADER + 16) as usize)
    }

    /// Whether the kernel waits for no answer.
    pub fn is_a_notice(&self) -> bool {
        matches!(self.operation(), FORGET | BATCH_FORGET | INTERRUPT)
    }

    /// The answer to it: bytes, or the number of an error.
    pub fn answer(&self, result: Result<Vec<u8>, i32>) -> Vec<u8> {
        let (error, body) = match result {
            Ok(body) => (0, body),
            Err(number) => (-number, Vec::new()),
        };
        let mut answer = Message::default();
        answer.u32(16 + u32::try_from(body.len()).unwrap());
        answer.0.extend(error.to_ne_bytes());
        answer.u64(self.u64(8));
        answer.0.extend(body);
        answer.0
    }

    fn u32(&self, at: usize) -> u32 {
        u32::from_ne_bytes(self.0[at..at + 4].try_into().unwrap())
    }

    fn u64(&self, at: usize) -> u64 {
        u64::from_ne_bytes(self.0[at..at + 8].try_into().unwrap())
    }
}

#[derive(Default)]
pub struct Message(pub Vec<u8>);

impl Message {
    fn u32(&mut self, number: u32) {
        self.0.extend(number.to_ne_bytes());
    }

    fn u64(&mut self, number: u64) {
        self.0.extend(number.to_ne_bytes());
    }

    fn zeros(&mut self, count: usize) {
        self.0.resize(self.0.len() + count, 0);
    }

    /// `fuse_init_out` of version 7.31, with nothing that is optional.
    pub fn init() -> Self {
        let mut message = Self::default();
        message.u32(7);
        message.u32(31);
        message.zeros(12);
        // The most that a write carries; the file system takes none.
        message.u32(128 * 1024);
        // Times are in nanoseconds.
        message.u32(1);
        message.zeros(36);
        message
    }

    /// `fuse_entry_out`: a name leads to this node. Nothing of it may be kept, so that each use is asked for.
    pub fn entry(node: u64, found: &Metadata) -> Self {
        let mut message = Self::default();
        message.u64(node);
        message.zeros(32);
        message.attributes(found);
        message
    }

    /// `fuse_attr_out`.
    pub fn attributes_of(found: &Metadata) -> Self {
        let mut message = Self::default();
        message.zeros(16);
        message.attributes(found);
        message
    }

    fn attributes(&mut self, found: &Metadata) {
        for number in [found.ino(), found.size(), found.blocks()] {
            self.u64(number);
        }
        for time in [found.atime(), found.mtime(), found.ctime()] {
            self.u64(time.cast_unsigned());
        }
        self.zeros(12);
        for number in [found.mode(), 1, found.uid(), found.gid(), 0, 4096, 0] {
            self.u32(number);
        }
    }

    /// `fuse_open_out` with no handle.
    pub fn opened() -> Self {
        let mut message = Self::default();
        message.zeros(16);
        message
    }

    /// `fuse_statfs_out` of an empty disk.
    pub fn statistics() -> Self {
        let mut message = Self::default();
        message.zeros(40);
        for number in [4096, 255, 4096] {
            message.u32(number);
        }
        message.zeros(28);
        message
    }

    /// Adds a directory's entry, after which reading goes on at `next`; `false` if it is more than `most` then.
    pub fn directory_entry(
        &mut self,
        name: &OsStr,
        kind: std::fs::FileType,
        next: u64,
        most: usize,
    ) -> bool {
        let length = (24 + name.len()).next_multiple_of(8);
        if self.0.len() + length > most {
            return false;
        }
        let end = self.0.len() + length;
        // No number is known before it is asked for.
        self.u64(u64::MAX);
        self.u64(next);
        self.u32(u32::try_from(name.len()).unwrap());
        let kind = match kind {
            kind if kind.is_dir() => 4,
            kind if kind.is_file() => 8,
            kind if kind.is_symlink() => 10,
            kind if kind.is_fifo() => 1,
            _ => 0,
        };
        self.u32(kind);
        self.0.extend(name.as_bytes());
        self.0.resize(end, 0);
        true
    }
}
