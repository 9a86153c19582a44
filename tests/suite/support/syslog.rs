//! A daemon whose syslog(3) is ours: it runs in a mount namespace with a /dev of its own, where `log` is a socket of the
//! test. Works whether or not the machine has a /dev/log, and needs nothing but `unshare` and `mount`.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::time::Instant;

use super::log::bare;
use super::scratch::chmod;
use super::{DEADLINE, Invocation, Scratch};

pub struct Syslog {
    socket: UnixDatagram,
    device_directory: PathBuf,
}

/// A message as syslogd would file it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    pub facility: u8,
    pub severity: u8,
    /// `git-daemon[123]`
    pub tag: String,
    /// Without what gitd says more than stock: see [`bare`].
    pub text: String,
}

impl Syslog {
    pub fn new(scratch: &Scratch) -> Self {
        let device_directory = scratch.root().join("dev");
        fs::create_dir(&device_directory).unwrap();
        for device in ["null", "zero", "urandom"] {
            fs::write(device_directory.join(device), "").unwrap();
        }
        for (name, target) in [("fd", "/proc/self/fd"), ("stderr", "/proc/self/fd/2")] {
            std::os::unix::fs::symlink(target, device_directory.join(name)).unwrap();
        }
        let path = device_directory.join("log");
        let socket = UnixDatagram::bind(&path).unwrap();
        chmod(&path, 0o666);
        Self { socket, device_directory }
    }

    /// The invocation with this as its syslog.
    pub fn of(&self, invocation: Invocation) -> Invocation {
        let ours = self.device_directory.display();
        let mut invocation = invocation.namespace("--mount");
        for device in ["null", "zero", "urandom"] {
            invocation = invocation.shell(format!("mount --bind /dev/{device} {ours}/{device}"));
        }
        invocation.shell(format!("mount --rbind {ours} /dev"))
    }

    /// The next message; not those in which only gitd says where it listens.
    pub fn next(&self) -> Message {
        self.socket.set_read_timeout(Some(DEADLINE)).unwrap();
        let mut buffer = vec![0; 65536];
        loop {
            let length = self.socket.recv(&mut buffer).expect("a message to syslog");
            let message = Message::parse(&buffer[..length]);
            if !message.text.starts_with("Listening on ") {
                return message;
            }
        }
    }

    /// What has arrived and was not read yet, as it was sent.
    pub fn so_far(&self) -> Vec<String> {
        self.socket.set_nonblocking(true).unwrap();
        let mut buffer = vec![0; 65536];
        let mut messages = Vec::new();
        while let Ok(length) = self.socket.recv(&mut buffer) {
            messages.push(String::from_utf8_lossy(&buffer[..length]).into_owned());
        }
        self.socket.set_nonblocking(false).unwrap();
        messages
    }

    /// All messages up to the first wanted one.
    pub fn wait(&self, wanted: impl Fn(&Message) -> bool) -> Vec<Message> {
        let deadline = Instant::now() + DEADLINE;
        let mut messages = Vec::new();
        while Instant::now() < deadline {
            let message = self.next();
            let found = wanted(&message);
            messages.push(message);
            if found {
                return messages;
            }
        }
        panic!("not the awaited message: {messages:#?}");
    }
}

impl Message {
    /// `<PRI>Mon dd hh:mm:ss TAG: TEXT`, the form of RFC 3164 that syslog(3) writes.
    fn parse(bytes: &[u8]) -> Self {
        let text = String::from_utf8_lossy(bytes);
        let text = text.trim_end_matches(['\n', '\0']);
        let (priority, rest) = text
            .strip_prefix('<')
            .and_then(|rest| rest.split_once('>'))
            .unwrap_or_else(|| panic!("no priority in {text:?}"));
        let priority: u8 = priority.parse().unwrap();
        let (_, rest) = rest.split_at_checked("Mon dd hh:mm:ss ".len()).unwrap();
        let (tag, text) = rest.split_once(": ").unwrap();
        Self {
            facility: priority >> 3,
            severity: priority & 7,
            tag: tag.to_owned(),
            text: bare(text).to_owned(),
        }
    }
}
