//! What a running process asks of the kernel, and what the kernel shall answer instead.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use rustix::process::Signal;

use super::log::Log;
use super::process::{installed, signal, wait_for, wait_until};
use super::{Scratch, skip};

/// While it lives, system calls are written down.
pub struct Trace {
    strace: Child,
    calls: PathBuf,
}

impl Trace {
    /// With expressions for `strace -e`: of these processes' threads, and of what they start. `None`, and said, where
    /// strace is not there or not allowed to.
    pub fn attach(scratch: &Scratch, pid: u32, expressions: &[&str]) -> Option<Self> {
        if installed("strace").is_none() {
            skip("needs the program strace");
            return None;
        }
        let calls = scratch.root().join("calls");
        let mut strace = Command::new("strace")
            .arg("-f")
            .args(expressions.iter().flat_map(|expression| ["-e", expression]))
            .args(["-p", &pid.to_string(), "-o"])
            .arg(&calls)
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = Log::read(strace.stderr.take().unwrap());
        let trace = Self { strace, calls };
        let mut said = Vec::new();
        wait_until("strace is attached", || {
            said = log.since(0);
            said.iter().any(|line| line.contains("attach"))
        });
        if said.iter().any(|line| line.contains("Operation not permitted")) {
            skip("needs to be allowed to trace a process (kernel.yama.ptrace_scope=0)");
            return None;
        }
        Some(trace)
    }

    /// The calls so far, one a line.
    pub fn calls(&self) -> String {
        fs::read_to_string(&self.calls).unwrap()
    }

    /// All calls there were.
    pub fn end(mut self) -> String {
        signal(self.strace.id(), Signal::INT);
        wait_for(&mut self.strace);
        self.calls()
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        // Without its tracer a process goes on.
        let _ = self.strace.kill();
        let _ = self.strace.wait();
    }
}
