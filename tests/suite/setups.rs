//! The set-ups in which git's daemon has always been run, with the programs that run it: the binary is all that changes.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::process::Signal;

use crate::support::invocation::{free_port, run};
use crate::support::process::{alive, children, end, listening, program, signal, wait_until};
use crate::support::scratch::{chmod, chown};
use crate::support::{
    Client, Git, Gitd, Implementation, Scratch, Stock, compliance, needs_root, request,
};

compliance! {
    openbsd_inetd,
    xinetd,
    runit,
    sysvinit,
    behind_git,
}

/// A supervisor, ended with all that it has started.
struct Supervisor(Child);

impl Supervisor {
    fn start(scratch: &Scratch, command: &mut Command) -> Self {
        let child = command
            .env_clear()
            .env("PATH", Git::server_path())
            .env("HOME", scratch.home())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        Self(child.unwrap())
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        end(&mut self.0);
    }
}

/// Lists, clones and is refused.
fn assert_serves(scratch: &Scratch, port: u16) {
    wait_until("it listens", || listening(port));
    let url = format!("git://127.0.0.1:{port}");
    let refs = Git::new(scratch).arg("ls-remote").arg(format!("{url}/repo.git")).ok();
    assert!(refs.contains("refs/heads/is-repo"), "{refs}");
    let _ = fs::remove_dir_all(scratch.root().join("copy"));
    Git::new(scratch).args(["clone", "-q"]).arg(format!("{url}/repo.git")).arg("copy").ok();
    let stderr = Git::new(scratch).arg("ls-remote").arg(format!("{url}/nothing")).fails();
    assert!(stderr.contains("access denied or repository not exported: /nothing"), "{stderr}");
    let mut client = Client::connect(SocketAddr::from(([127, 0, 0, 1], port)));
    client.send(request("upload-pack", "/repo.git"));
    client.half_close();
    assert!(!client.packets_to_flush().is_empty());
}

fn base_path(scratch: &Scratch) -> String {
    format!("--base-path={}", scratch.repos().display())
}

/// `nowait`: a process for each client, on standard input and output.
fn openbsd_inetd(d: Implementation) {
    needs_root!();
    let Some(inetd) = program("inetd", "openbsd-inetd") else { return };
    let scratch = Scratch::new();
    scratch.bare("repo.git");
    let port = free_port();
    let file = scratch.root().join("inetd.conf");
    // It gives its servers an empty environment; only the wrapper tells stock where git is.
    let server = match d {
        Stock => format!("{} git daemon", Git::program().display()),
        Gitd => format!("{} gitd", d.binary().display()),
    };
    let line = format!(
        "127.0.0.1:{port} stream tcp nowait root {server} --inetd --export-all {}\n",
        base_path(&scratch)
    );
    fs::write(&file, line).unwrap();
    let _inetd = Supervisor::start(&scratch, Command::new(inetd).arg("-i").arg(&file));
    assert_serves(&scratch, port);
}

/// The same by a newer superserver, which has its own ideas of an environment.
fn xinetd(d: Implementation) {
    needs_root!();
    let Some(xinetd) = program("xinetd", "xinetd") else { return };
    let scratch = Scratch::new();
    scratch.bare("repo.git");
    let port = free_port();
    let file = scratch.root().join("xinetd.conf");
    fs::write(&file, format!(
        "service git\n{{\n type = UNLISTED\n id = git\n bind = 127.0.0.1\n port = {port}\n socket_type = stream\n\
         protocol = tcp\n wait = no\n user = root\n server = {}\n server_args = --inetd --export-all {}\n disable = no\n\
         log_on_failure += USERID\n}}\n", d.binary().display(), base_path(&scratch))).unwrap();
    let _xinetd = Supervisor::start(
        &scratch,
        Command::new(xinetd)
            .arg("-dontfork")
            .arg("-f")
            .arg(&file)
            .arg("-pidfile")
            .arg(scratch.root().join("xinetd.pid")),
    );
    assert_serves(&scratch, port);
}

/// In the foreground under a supervisor that restarts it, and stops it by SIGTERM.
fn runit(d: Implementation) {
    let Some(runsv) = program("runsv", "runit") else { return };
    let scratch = Scratch::new();
    scratch.bare("repo.git");
    let port = free_port();
    let service = scratch.root().join("service");
    fs::create_dir(&service).unwrap();
    let run = service.join("run");
    fs::write(&run, format!(
        "#!/bin/sh\nexec 2>&1\nexec {} --verbose --listen=127.0.0.1 --port={port} --reuseaddr --export-all {}\n",
        d.binary().display(), base_path(&scratch))).unwrap();
    chmod(&run, 0o755);
    let runsv = Supervisor::start(&scratch, Command::new(runsv).arg(&service));
    assert_serves(&scratch, port);
    let first = children(runsv.0.id());
    signal(first[0], Signal::TERM);
    wait_until("it is started again", || {
        let now = children(runsv.0.id());
        !now.is_empty() && now != first
    });
    assert_serves(&scratch, port);
    let second = children(runsv.0.id())[0];
    fs::write(service.join("supervise/control"), "d").unwrap();
    wait_until("it is down", || !alive(second));
    assert!(!listening(port));
}

/// As a script in /etc/init.d does it: detached, with a user and a pid file.
fn sysvinit(d: Implementation) {
    needs_root!();
    let Some(tool) = program("start-stop-daemon", "dpkg") else { return };
    let scratch = Scratch::new();
    chown(&scratch.bare("repo.git"), uid_of("daemon"));
    let port = free_port();
    let file = scratch.root().join("git-daemon.pid");
    let start_stop = |first: &[&str], rest: &[String]| {
        let mut command = Command::new(&tool);
        command
            .args(first)
            .arg("--pidfile")
            .arg(&file)
            .arg("--exec")
            .arg(d.binary())
            .args(rest)
            .env_clear()
            .env("PATH", Git::server_path())
            .env("HOME", scratch.home());
        run(&mut command)
    };
    let options = [
        "--",
        "--detach",
        "--user=daemon",
        "--group=daemon",
        "--listen=127.0.0.1",
        "--export-all",
        "--reuseaddr",
    ];
    let mut options: Vec<_> = options.map(str::to_owned).into();
    options.extend([
        format!("--port={port}"),
        format!("--pid-file={}", file.display()),
        base_path(&scratch),
    ]);
    let started = start_stop(&["--start", "--oknodo", "--quiet"], &options);
    assert_eq!(started.code(), Some(0), "{started:?}");
    assert_serves(&scratch, port);
    let pid = pid_in(&file);
    assert_eq!(start_stop(&["--status"], &[]).code(), Some(0));
    let stopped = start_stop(&["--stop", "--retry=10", "--quiet"], &[]);
    assert_eq!(stopped.code(), Some(0), "{stopped:?}");
    assert!(!alive(pid));
    assert!(!listening(port));
}

/// `git daemon`, where `git-daemon` in git's exec path is the implementation.
fn behind_git(d: Implementation) {
    let scratch = Scratch::new();
    scratch.bare("repo.git");
    let port = free_port();
    let exec_path = d.exec_path(&scratch);
    let mut command = Command::new(Git::program());
    command
        .args(["daemon", "--listen=127.0.0.1", "--export-all"])
        .arg(format!("--port={port}"))
        .arg(base_path(&scratch));
    let child = command
        .env("GIT_EXEC_PATH", &exec_path)
        .env("HOME", scratch.home())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let _git = Supervisor(child.unwrap());
    assert_serves(&scratch, port);
}

fn pid_in(file: &Path) -> u32 {
    fs::read_to_string(file).unwrap().trim_end().parse().unwrap()
}

fn uid_of(name: &str) -> u32 {
    let passwd = fs::read_to_string("/etc/passwd").unwrap();
    let line = passwd.lines().find(|line| line.split(':').next() == Some(name)).unwrap();
    line.split(':').nth(2).unwrap().parse().unwrap()
}
