//! The set-ups in which `git daemon` has always been run, tried for real: under two inetds, under runit, from a script
//! of sysvinit, and behind the command `git daemon`. What works for stock works for gitd by changing a program's name.

use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::Signal;

use crate::clients::assert_clone;
use crate::support::invocation::{free_port, run};
use crate::support::process::{
    alive, children, installed, listeners, signal, wait_for, wait_until,
};
use crate::support::scratch::{chown, export, install};
use crate::support::syslog::Syslog;
use crate::support::{
    GENERIC, Git, Gitd, Implementation, Invocation, Outcome, Scratch, Stock, compliance,
    needs_root, skip,
};

compliance! {
    openbsd_inetd,
    xinetd,
    runit,
    sysvinit,
    git_daemon,
}

/// The user of all of them. Every system has it, and it owns nothing of its own.
const NOBODY: (&str, u32) = ("nobody", 65534);

/// Where the program is in PATH; without it, the test ends.
macro_rules! needs_program {
    ($name:literal) => {
        match installed($name) {
            Some(program) => program.display().to_string(),
            None => return skip(concat!("needs the program ", $name)),
        }
    };
}

/// A machine with one exported repository, one that is not, and a git daemon to be run by something else.
struct Machine {
    scratch: Scratch,
    syslog: Syslog,
    address: Ipv4Addr,
    port: u16,
    program: PathBuf,
    implementation: Implementation,
}

impl Machine {
    /// Its repositories belong to the user nobody. Nothing but the set-up under test listens on `address`.
    fn of_nobody(implementation: Implementation, address: [u8; 4]) -> Self {
        let machine = Self::new(implementation, address);
        chown(&machine.scratch.repos(), NOBODY.1);
        machine
    }

    fn new(implementation: Implementation, address: [u8; 4]) -> Self {
        let scratch = Scratch::new();
        export(&scratch.bare("repo.git"));
        scratch.bare("private.git");
        let syslog = Syslog::new(&scratch);
        let program = scratch.root().join("git-daemon");
        // A build directory need not be reachable for others than its owner.
        if implementation == Gitd {
            install(&implementation.binary(), &program);
        } else {
            symlink(implementation.binary(), &program).unwrap();
        }
        Self {
            scratch,
            syslog,
            address: address.into(),
            port: free_port(),
            program,
            implementation,
        }
    }

    /// Not verbose: a syslog socket without a reader has room for a dozen messages.
    fn options(&self) -> String {
        format!("--base-path={}", self.scratch.repos().display())
    }

    fn listen(&self) -> String {
        format!("--reuseaddr --listen={} --port={}", self.address, self.port)
    }

    /// A command of the administrator's, with the test's syslog.
    fn shell(&self, line: &str) -> Invocation {
        let invocation = self.implementation.invoke(&self.scratch);
        self.syslog.of(invocation).shell(format!("exec {line}"))
    }

    fn run(&self, line: &str) -> Outcome {
        self.shell(line).run()
    }

    fn start(&self, line: &str) -> Started {
        let mut command = self.shell(line).command(&[]);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let mut started = Started(command.spawn().unwrap());
        wait_until("it listens", || {
            assert_eq!(started.0.try_wait().unwrap(), None, "{line} has ended");
            // An inetd that cannot bind logs it and goes on.
            let said = self.syslog.so_far();
            assert!(!said.iter().any(|line| line.contains("bind")), "{line}: {said:#?}");
            self.listening()
        });
        started
    }

    fn url(&self, pathname: &str) -> String {
        format!("git://{}:{}{pathname}", self.address, self.port)
    }

    /// Clones an exported repository, and is refused one that is not exported.
    fn assert_serves(&self) {
        let git = || Git::new(&self.scratch);
        let _ = fs::remove_dir_all(self.scratch.root().join("copy"));
        git().args(["clone", "--quiet", &self.url("/repo.git"), "copy"]).ok();
        assert_clone(&self.scratch, "copy");
        for (arguments, pathname) in [
            (&["ls-remote"][..], "/private.git"),
            (&["ls-remote"], "/nothing"),
            (&["-C", "copy", "push"], "/repo.git"),
        ] {
            let said = git().args(arguments).arg(self.url(pathname)).fails();
            assert!(said.contains(&format!("{GENERIC}: {pathname}")), "{arguments:?}: {said}");
        }
    }

    fn listening(&self) -> bool {
        let ours = format!("{:08X}", u32::from_ne_bytes(self.address.octets()));
        listeners(self.port).contains(&ours)
    }

    fn assert_gone(&self) {
        wait_until("the port is free", || !self.listening());
    }
}

/// A process that a test ends by its own pid.
struct Started(Child);

impl Started {
    fn end(&mut self) {
        signal(self.0.id(), Signal::TERM);
        wait_for(&mut self.0);
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn openbsd_inetd(d: Implementation) {
    needs_root!();
    let inetd = needs_program!("inetd");
    let machine = Machine::of_nobody(d, [127, 61, 0, 1]);
    let (address, port, program) = (machine.address, machine.port, machine.program.display());
    let file = machine.scratch.root().join("inetd.conf");
    let (user, options) = (NOBODY.0, machine.options());
    // This inetd takes PATH away; stock finds no git then, unless git itself has called it.
    let command = match d {
        Stock => format!("{} git daemon", Git::program().display()),
        Gitd => format!("{program} gitd"),
    };
    let line = format!("{address}:{port} stream tcp nowait {user} {command} --inetd {options}\n");
    fs::write(&file, line).unwrap();
    let mut inetd = machine.start(&format!("{inetd} -i {}", file.display()));
    machine.assert_serves();
    assert_refusal_in_syslog(&machine);
    inetd.end();
    machine.assert_gone();
}

fn xinetd(d: Implementation) {
    needs_root!();
    let xinetd = needs_program!("xinetd");
    let machine = Machine::of_nobody(d, [127, 61, 0, 2]);
    let file = machine.scratch.root().join("xinetd.conf");
    let service = format!(
        "service git\n{{\n\ttype = UNLISTED\n\tsocket_type = stream\n\tprotocol = tcp\n\twait = no\n\
         \tbind = {}\n\tport = {}\n\tuser = {}\n\tserver = {}\n\tserver_args = --inetd {}\n}}\n",
        machine.address,
        machine.port,
        NOBODY.0,
        machine.program.display(),
        machine.options(),
    );
    fs::write(&file, service).unwrap();
    let mut xinetd = machine.start(&format!("{xinetd} -dontfork -f {}", file.display()));
    machine.assert_serves();
    assert_refusal_in_syslog(&machine);
    xinetd.end();
    machine.assert_gone();
}

fn assert_refusal_in_syslog(machine: &Machine) {
    let repository = machine.scratch.path("private.git");
    let text = format!("'{}': repository not exported.", repository.display());
    let messages = machine.syslog.wait(|message| message.text == text);
    assert!(messages.last().unwrap().tag.starts_with("git-daemon["), "{messages:#?}");
}

fn runit(d: Implementation) {
    needs_root!();
    let runsv = needs_program!("runsv");
    let machine = Machine::of_nobody(d, [127, 61, 0, 3]);
    let service = machine.scratch.root().join("service");
    let run = format!(
        "#!/bin/sh\nexec 2>&1\nexec chpst -u {} {} --verbose {} {}\n",
        NOBODY.0,
        machine.program.display(),
        machine.options(),
        machine.listen(),
    );
    machine.scratch.script("service/run", &run);
    machine.scratch.script("service/log/run", "#!/bin/sh\nexec svlogd .\n");
    let sv = |what: &str| {
        let service = service.display();
        let outcome = run_to_end(&["sh", "-c", &format!("sv -w 20 {what} {service}")]);
        assert_eq!(outcome.code(), Some(0), "{outcome:?}");
        outcome.stdout
    };
    let mut runsv = machine.start(&format!("{runsv} {}", service.display()));
    machine.assert_serves();
    assert!(sv("stop").starts_with("ok: down:"));
    machine.assert_gone();
    assert!(sv("start").starts_with("ok: run:"));
    wait_until("it listens", || machine.listening());
    machine.assert_serves();
    assert!(sv("stop").starts_with("ok: down:"));
    machine.assert_gone();
    runsv.end();
    let log = fs::read_to_string(service.join("log/current")).unwrap();
    assert_eq!(log.matches("Ready to rumble").count(), 2, "{log}");
    assert_eq!(log.matches("private.git': repository not exported.").count(), 2, "{log}");
}

fn run_to_end(line: &[&str]) -> Outcome {
    run(Command::new(line[0]).args(&line[1..]).stdin(Stdio::null()))
}

/// As Debian's init script does it: the name of the process and the pid file say which one it is.
fn sysvinit(d: Implementation) {
    needs_root!();
    let start_stop_daemon = needs_program!("start-stop-daemon");
    let machine = Machine::of_nobody(d, [127, 61, 0, 4]);
    let file = machine.scratch.root().join("git-daemon.pid");
    let control = |what: &str, rest: &str| {
        let which = format!("--quiet --pidfile {} --name git-daemon", file.display());
        machine.run(&format!("{start_stop_daemon} {what} {which} {rest}"))
    };
    let start = format!(
        "--startas {} -- --detach --user={} --pid-file={} {} {}",
        machine.program.display(),
        NOBODY.0,
        file.display(),
        machine.options(),
        machine.listen(),
    );
    for _ in 0..2 {
        assert_eq!(control("--start", &start).code(), Some(0));
        wait_until("it listens", || machine.listening());
        let daemon = Detached::of(&file);
        assert_eq!(control("--status", "").code(), Some(0));
        machine.assert_serves();
        assert_refusal_in_syslog(&machine);
        assert_eq!(control("--start", &start).code(), Some(1), "it runs already");
        assert_eq!(control("--stop", "--retry=TERM/20").code(), Some(0));
        machine.assert_gone();
        assert!(!alive(daemon.0));
        // nobody may not remove root's file, so it is still there, as stock's always is.
        assert_ne!(control("--status", "").code(), Some(0));
    }
}

/// A daemon that has left for the background.
struct Detached(u32);

impl Detached {
    fn of(file: &Path) -> Self {
        wait_until("the pid file is there", || file.exists());
        Self(fs::read_to_string(file).unwrap().trim_end().parse().unwrap())
    }
}

impl Drop for Detached {
    fn drop(&mut self) {
        if alive(self.0) {
            signal(self.0, Signal::KILL);
        }
    }
}

/// The command of everybody's notes and unit files, with gitd as the program behind it.
fn git_daemon(d: Implementation) {
    let machine = Machine::new(d, [127, 61, 0, 5]);
    let exec_path = d.exec_path(&machine.scratch);
    let line = format!("git daemon {} {}", machine.listen(), machine.options());
    let mut command = Git::of_server(&machine.scratch)
        .env("GIT_EXEC_PATH", exec_path)
        .args(line.split(' ').skip(1))
        .into_command();
    let mut wrapper = Started(command.stderr(Stdio::null()).spawn().unwrap());
    wait_until("it listens", || machine.listening());
    machine.assert_serves();
    let inner = children(wrapper.0.id());
    wrapper.end();
    machine.assert_gone();
    wait_until("the daemon has gone too", || inner.iter().all(|pid| !alive(*pid)));
}
