//! One host: a network namespace (and a mount namespace, for its own /etc/hosts) that lives as long as this value.

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};

/// A namespace held open by a process that ends when our end of its pipe is closed, by us or by our death.
#[derive(Debug)]
pub struct Host {
    anchor: Child,
    enter: Vec<String>,
}

impl Host {
    /// A new host; `beside` another one, in the same user namespace, when we are not root.
    pub fn new(beside: Option<&Self>) -> Self {
        let root = is_root();
        let mut unshare = match beside {
            _ if root => words("unshare --net --mount"),
            None => words("unshare --user --map-root-user --net --mount"),
            Some(other) => {
                let pid = other.anchor.id();
                words(&format!(
                    "nsenter --target {pid} --user --preserve-credentials unshare --net --mount"
                ))
            }
        };
        let mut anchor =
            unshare.arg("cat").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        // An echo proves that the namespaces are there.
        anchor.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
        BufReader::new(anchor.stdout.as_mut().unwrap()).read_line(&mut String::new()).unwrap();
        let user = if root { "" } else { "--user --preserve-credentials " };
        let enter = format!("nsenter --target {} {user}--net --mount", anchor.id());
        let enter = enter.split(' ').map(str::to_owned).collect();
        let host = Self { anchor, enter };
        host.run("ip link set lo up");
        host
    }

    /// A process of this host, by which its namespace is known.
    pub fn pid(&self) -> u32 {
        self.anchor.id()
    }

    /// A program to be run on this host.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(&self.enter[0]);
        command.args(&self.enter[1..]).arg("--").arg(program);
        command.env("LC_ALL", "C");
        command
    }

    /// Runs a line of blank-separated words, which must succeed, and returns what it printed.
    #[track_caller]
    pub fn run(&self, line: &str) -> String {
        let (program, arguments) = line.split_once(' ').unwrap();
        succeed(self.command(program).args(arguments.split(' ')))
    }

    /// Runs a line that may fail; says whether it did not.
    pub fn try_run(&self, line: &str) -> bool {
        let (program, arguments) = line.split_once(' ').unwrap();
        let output = self.command(program).args(arguments.split(' ')).output().unwrap();
        output.status.success()
    }

    /// Sets `key=value` of the kernel.
    #[track_caller]
    pub fn sysctl(&self, setting: &str) {
        self.run(&format!("sysctl -qw {setting}"));
    }

    /// The processes of this host but for the one that holds it open.
    fn processes(&self) -> Vec<String> {
        let namespace = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/net")).ok();
        let anchor = self.pid().to_string();
        let Some(ours) = namespace(&anchor) else { return Vec::new() };
        fs::read_dir("/proc")
            .into_iter()
            .flatten()
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter(|pid| *pid != anchor && namespace(pid).as_ref() == Some(&ours))
            .collect()
    }

    /// Does a process with this word in its command line run on this host?
    pub fn runs(&self, word: &str) -> bool {
        let command_line =
            |pid: &String| fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        self.processes()
            .iter()
            .any(|pid| String::from_utf8_lossy(&command_line(pid)).contains(word))
    }

    /// A counter of the kernel's MPTCP, as `nstat` names it without its prefix; 0 if this kernel has none of that name.
    pub fn mptcp_counter(&self, name: &str) -> u64 {
        self.counter("MPTcpExt: ", name)
    }

    /// How many ACKs have waited until their timer ran out: each has kept a peer waiting that long.
    pub fn delayed_acks(&self) -> u64 {
        self.counter("TcpExt: ", "DelayedACKs")
    }

    fn counter(&self, group: &str, name: &str) -> u64 {
        let table = fs::read_to_string(format!("/proc/{}/net/netstat", self.pid())).unwrap();
        let mut rows = table.lines().filter_map(|row| row.strip_prefix(group));
        let (names, values) = (rows.next().unwrap(), rows.next().unwrap());
        let mut pairs = names.split(' ').zip(values.split(' '));
        pairs.find(|pair| pair.0 == name).map_or(0, |pair| pair.1.parse().unwrap())
    }

    /// Loads nftables rules.
    #[track_caller]
    pub fn nft(&self, rules: &str) {
        succeed(self.command("nft").arg(rules));
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // A stock service whose client has vanished would hold the namespace for minutes, and ignores SIGTERM.
        let rest = self.processes();
        if !rest.is_empty() {
            let _ = Command::new("kill").arg("-9").args(rest).stderr(Stdio::null()).status();
        }
        drop(self.anchor.stdin.take());
        let _ = self.anchor.wait();
    }
}

/// What this machine lacks for a laboratory, if anything.
pub fn missing() -> Option<String> {
    let tools = ["ip", "tc", "nft", "nsenter", "unshare", "sysctl", "mount", "mptcpize"];
    let runs = |program: &str, argument: &str| {
        let mut command = Command::new(program);
        command.arg(argument).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok()
    };
    if let Some(tool) = tools.into_iter().find(|tool| !runs(tool, "--help")) {
        return Some(format!(
            "needs {tool} (Debian: iproute2 nftables util-linux procps mptcpize)"
        ));
    }
    if fs::read_to_string("/proc/sys/net/mptcp/enabled").is_ok_and(|text| text.trim() == "1") {
        let mut namespace = words("unshare --user --map-root-user --net --mount true");
        let allowed = is_root() || namespace.status().is_ok_and(|status| status.success());
        (!allowed).then(|| "needs root, or user namespaces".to_owned())
    } else {
        Some("needs a kernel with MPTCP, switched on (net.mptcp.enabled=1)".to_owned())
    }
}

fn is_root() -> bool {
    succeed(Command::new("id").arg("-u")).trim() == "0"
}

fn words(line: &str) -> Command {
    let mut words = line.split(' ');
    let mut command = Command::new(words.next().unwrap());
    command.args(words);
    command
}

#[track_caller]
pub fn succeed(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {error}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}
