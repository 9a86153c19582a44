//! The state that every start of a process needs, determined once when privileges are dropped.

use std::borrow::Cow;
use std::ffi::{CStr, CString};
use std::io;
use std::sync::OnceLock;

use rustix::process::{geteuid, getpriority_process};

use crate::config::GitSettings;
use crate::git::Git;
use crate::net::peer::Peer;
use crate::sys::process::Spawner;

/// The state that every start of a process needs.
#[derive(Debug)]
pub struct Starter {
    /// Starts processes.
    pub spawner: Spawner,
    git: OnceLock<Git>,
    settings: GitSettings,
    /// The user that gitd runs as.
    pub uid: u32,
    /// The user that started gitd as root with sudo (contract 45).
    pub sudo_uid: Option<u32>,
    /// The niceness of services, if it is not gitd's own.
    pub niceness: Option<i32>,
    /// The value of upload-pack's `--timeout`, in seconds; 0 for none.
    pub timeout: u64,
}

impl Starter {
    /// Must be called after privileges are dropped, because it reads gitd's user.
    pub fn new(spawner: Spawner, settings: GitSettings, timeout: u64) -> Self {
        let uid = geteuid().as_raw();
        // Parsed as git does: leading blanks are ignored, and of a larger number the lower 32 bits
        // count.
        let number = |text: String| Some(text.trim_ascii_start().parse::<u64>().ok()? as u32);
        let sudo_uid = std::env::var("SUDO_UID").ok().and_then(number);
        let own_niceness = || getpriority_process(None).unwrap_or(0);
        let niceness = (settings.nice > 0).then(|| own_niceness() + i32::from(settings.nice));
        Starter {
            git: OnceLock::new(),
            settings,
            spawner,
            uid,
            sudo_uid: sudo_uid.filter(|_| uid == 0),
            niceness,
            timeout,
        }
    }

    /// Asks git once what each request would need.
    pub fn survey(self) -> Self {
        self.git().survey(&self.spawner);
        self
    }

    /// The installed git. Looked for when first needed, because many clients are refused without
    /// it.
    pub fn git(&self) -> &Git {
        self.git.get_or_init(|| Git::find(&self.settings.config))
    }

    /// The environment of a child: the server's own and the client's variables (contract 50, 51).
    ///
    /// # Errors
    /// When a value contains a NUL byte.
    pub fn environment(
        &self,
        peer: &Peer,
        extra_parameters: Option<&[u8]>,
    ) -> io::Result<Vec<Cow<'_, CStr>>> {
        let client = [
            ("REMOTE_ADDR=", peer.address.as_deref()),
            ("REMOTE_PORT=", peer.port.as_deref()),
            ("GIT_PROTOCOL=", extra_parameters),
        ];
        let mut environment: Vec<Cow<'_, CStr>> =
            self.git().environment.iter().map(|variable| Cow::from(variable.as_c_str())).collect();
        environment.push(Cow::from(c"GIT_DIR=."));
        for (name, value) in client {
            if let Some(value) = value {
                environment.push(CString::new([name.as_bytes(), value].concat())?.into());
            }
        }
        Ok(environment)
    }
}
