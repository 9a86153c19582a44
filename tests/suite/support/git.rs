//! The gits under test. The services, the stock daemon and what makes repositories come from one installation, the server's:
//! `$GITD_TEST_GIT` or the first `git` in PATH. Clients are of the same, or `$GITD_TEST_CLIENT_GIT`.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

use super::Scratch;
use super::process::output;

struct Installation {
    program: PathBuf,
    exec_path: PathBuf,
    version: (u32, u32),
}

/// A git command, with a home of its own so that it never sees the daemon's configuration.
pub struct Git {
    command: Command,
}

impl Git {
    /// The server's.
    pub fn program() -> &'static Path {
        &server().program
    }

    pub fn exec_path() -> &'static Path {
        &server().exec_path
    }

    /// Major and minor of the server's, for expectations that depend on it.
    pub fn version() -> (u32, u32) {
        server().version
    }

    pub fn client_program() -> &'static Path {
        &client().program
    }

    pub fn client_version() -> (u32, u32) {
        client().version
    }

    /// What `git daemon` sets PATH to before it runs `git-daemon`: the exec path first.
    pub fn server_path() -> OsString {
        path_with(&[Self::exec_path(), Self::program().parent().unwrap()])
    }

    /// A client's command in the scratch directory.
    pub fn new(scratch: &Scratch) -> Self {
        Self::of(client(), scratch)
    }

    /// A command of the server's git: for what the server's administrator does.
    pub fn of_server(scratch: &Scratch) -> Self {
        Self::of(server(), scratch)
    }

    fn of(installation: &Installation, scratch: &Scratch) -> Self {
        let program = &installation.program;
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("PATH", path_with(&[program.parent().unwrap()]))
            .env("HOME", scratch.client_home())
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("LC_ALL", "C")
            .current_dir(scratch.root())
            .stdin(Stdio::null());
        for role in ["AUTHOR", "COMMITTER"] {
            command
                .env(format!("GIT_{role}_NAME"), "A U Thor")
                .env(format!("GIT_{role}_EMAIL"), "author@example.com")
                .env(format!("GIT_{role}_DATE"), "1700000000 +0000");
        }
        // A file:// or path remote in a fixture may belong to another user on purpose.
        command.args(["-c", "safe.directory=*", "-c", "advice.detachedHead=false"]);
        Self { command }
    }

    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.command.arg(arg);
        self
    }

    pub fn args<S: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.command.args(args);
        self
    }

    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    pub fn protocol(self, version: u32) -> Self {
        self.arg("-c").arg(format!("protocol.version={version}"))
    }

    pub fn cwd(mut self, directory: impl AsRef<Path>) -> Self {
        self.command.current_dir(directory);
        self
    }

    /// Runs it, whatever comes of it.
    pub fn output(mut self) -> Output {
        output(&mut self.command)
    }

    /// Runs it and demands success; its trimmed standard output.
    pub fn ok(mut self) -> String {
        let output = output(&mut self.command);
        assert!(
            output.status.success(),
            "{:?}: {}\n{}",
            self.command,
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
    }

    /// Runs it and demands failure; its standard error.
    pub fn fails(mut self) -> String {
        let output = output(&mut self.command);
        assert!(
            !output.status.success(),
            "{:?} succeeded:\n{}",
            self.command,
            String::from_utf8_lossy(&output.stdout)
        );
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    /// The command itself, for a test that needs more than its outcome.
    pub fn into_command(self) -> Command {
        self.command
    }
}

fn server() -> &'static Installation {
    static SERVER: OnceLock<Installation> = OnceLock::new();
    SERVER.get_or_init(|| match std::env::var_os("GITD_TEST_GIT") {
        Some(program) => Installation::at(program.into()),
        None => Installation::at(first_in_path("git")),
    })
}

fn client() -> &'static Installation {
    static CLIENT: OnceLock<Option<Installation>> = OnceLock::new();
    let other = || std::env::var_os("GITD_TEST_CLIENT_GIT").map(|p| Installation::at(p.into()));
    CLIENT.get_or_init(other).as_ref().unwrap_or_else(|| server())
}

impl Installation {
    fn at(program: PathBuf) -> Self {
        let ask = |argument: &str| {
            let output = Command::new(&program).arg(argument).output();
            String::from_utf8(output.expect("git runs").stdout).unwrap()
        };
        let version = ask("--version");
        let mut numbers = version.split([' ', '.']).filter_map(|part| part.trim_end().parse().ok());
        Self {
            exec_path: PathBuf::from(ask("--exec-path").trim_end()),
            version: (numbers.next().unwrap(), numbers.next().unwrap()),
            program,
        }
    }
}

fn first_in_path(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap();
    std::env::split_paths(&path)
        .map(|directory| directory.join(name))
        .find(|program| program.is_file())
        .expect("git is in PATH")
}

fn path_with(first: &[&Path]) -> OsString {
    let system = ["/usr/local/bin", "/usr/bin", "/bin", "/usr/sbin", "/sbin"];
    std::env::join_paths(first.iter().copied().chain(system.map(Path::new))).unwrap()
}
