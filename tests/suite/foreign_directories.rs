//! Root in directories where another user can write: that user's links, names and swaps must not have root change, give
//! away or remove another user's files.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::process::Signal;

use crate::deployment::server::{Server, gitd, scratch};
use crate::log_lines::Running;
use crate::support::invocation::run;
use crate::support::process::wait_until;
use crate::support::scratch::{chmod, chown};
use crate::support::{DEADLINE, Invocation, Outcome, Scratch, needs_root};

/// The user that owns the directories. The user database of these servers does not have it.
const FOREIGNER: u32 = 31_101;

/// A file of root's that must stay as it is.
struct Victim {
    path: PathBuf,
}

const TEXT: &str = "precious\n";

impl Victim {
    /// On the same file system, so that it can have a second name.
    fn new(scratch: &Scratch) -> Self {
        let directory = scratch.root().join("roots");
        fs::create_dir(&directory).unwrap();
        let path = directory.join("gitd.pid");
        fs::write(&path, TEXT).unwrap();
        chmod(&path, 0o600);
        Self { path }
    }

    #[track_caller]
    fn assert_unharmed(&self) {
        let found = fs::symlink_metadata(&self.path).unwrap();
        assert_eq!((found.uid(), found.mode() & 0o7777), (0, 0o600));
        assert_eq!(fs::read_to_string(&self.path).unwrap(), TEXT);
    }
}

fn foreign(scratch: &Scratch) -> PathBuf {
    let directory = scratch.root().join("foreign");
    fs::create_dir(&directory).unwrap();
    chown(&directory, FOREIGNER);
    directory
}

fn on(scratch: &Scratch, socket: &Path) -> Invocation {
    gitd(scratch).option("--listen", format!("unix:{}", socket.display()))
}

fn any_port(scratch: &Scratch) -> Invocation {
    gitd(scratch).args(["--listen=127.0.0.1", "--port=auto"])
}

/// Runs to its end what waits two seconds after each bind, and meanwhile, as soon as there is a socket, does `swap`.
/// `None` if it serves in the end.
fn swapped_after_bind(
    invocation: Invocation,
    socket: &Path,
    swap: impl FnOnce() + Send + 'static,
) -> Option<Outcome> {
    let socket = socket.to_owned();
    let done = socket.with_file_name("swapped");
    let also_done = done.clone();
    let swapping = std::thread::spawn(move || {
        wait_until("there is a socket, or no server", || {
            fs::symlink_metadata(&socket).is_ok() || also_done.exists()
        });
        if !also_done.exists() {
            swap();
        }
    });
    let mut child = delayed(invocation, "delay_exit").stderr(Stdio::piped()).spawn().unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut text = String::new();
    let mut served = false;
    while !served && stderr.read_line(&mut text).unwrap() > 0 {
        served = text.ends_with("Ready to rumble\n");
    }
    fs::write(done, "").unwrap();
    swapping.join().unwrap();
    if served {
        // strace does not pass SIGTERM on; the traced program ends with it only on request.
        let below = crate::support::process::descendants(child.id());
        below.iter().for_each(|&pid| crate::support::process::signal(pid, Signal::TERM));
    }
    stderr.read_to_string(&mut text).unwrap();
    let status = child.wait().unwrap();
    (!served).then(|| Outcome { status, stdout: String::new(), stderr: text })
}

/// The same command, with two seconds before or after each bind.
fn delayed(invocation: Invocation, when: &str) -> Command {
    let command = invocation.command(&[]);
    let mut strace = Command::new("strace");
    strace
        .args(["-f", "-qq", "-o", "/dev/null", "-e", "trace=bind"])
        .args(["-e", &format!("inject=bind:{when}=2000000"), "--"])
        .arg(command.get_program())
        .args(command.get_args())
        .current_dir(command.get_current_dir().unwrap())
        .env_clear()
        .envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))))
        .stdin(Stdio::null());
    strace
}

/// The owner and the mode are given to the socket alone, whatever has its name when they are given.
#[test]
fn a_socket_that_is_swapped() {
    needs_root!();
    for kind in ["symbolic link", "second name", "file"] {
        for options in [&["--socket-mode=666"][..], &["--socket-owner=daemon:games"]] {
            let scratch = scratch();
            let (directory, victim) = (foreign(&scratch), Victim::new(&scratch));
            let socket = directory.join("Socket");
            let (target, name) = (victim.path.clone(), socket.clone());
            let swap = move || {
                fs::remove_file(&name).unwrap();
                match kind {
                    "symbolic link" => symlink(&target, &name).unwrap(),
                    "second name" => fs::hard_link(&target, &name).unwrap(),
                    _ => fs::write(&name, "").unwrap(),
                }
            };
            let outcome = swapped_after_bind(on(&scratch, &socket).args(options), &socket, swap);
            victim.assert_unharmed();
            if options[0].starts_with("--socket-owner") {
                let log = outcome.expect("it does not start").log();
                let words = format!(
                    "Could not bind to unix:{}: --socket-owner needs a directory where only root can write, and so do \
                     those above it",
                    socket.display()
                );
                assert!(log.contains(&words), "{log:#?}");
            } else {
                assert!(outcome.is_none(), "{outcome:?}");
            }
        }
    }
}

/// Between the look at the directory and the bind, the directory becomes a link to one of root's.
#[test]
fn a_directory_that_is_swapped_before_the_bind() {
    needs_root!();
    let scratch = scratch();
    let directory = foreign(&scratch);
    let socket = directory.join("Socket");
    let (roots, moved) = (scratch.root().join("roots"), scratch.root().join("moved"));
    fs::create_dir(&roots).unwrap();
    let mut command = delayed(on(&scratch, &socket), "delay_enter");
    let mut server = Running(command.stderr(Stdio::piped()).spawn().unwrap());
    wait_until("it holds the directory", || {
        let below = crate::support::process::descendants(server.0.id());
        below.iter().any(|pid| {
            let open = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten();
            open.flatten().any(|fd| fs::read_link(fd.path()).is_ok_and(|held| held == directory))
        })
    });
    fs::rename(&directory, &moved).unwrap();
    symlink(&roots, &directory).unwrap();
    assert_eq!(fs::read_dir(&moved).unwrap().count(), 0, "it was not bound before");
    let mut stderr = BufReader::new(server.0.stderr.take().unwrap());
    let mut text = String::new();
    while !text.ends_with("Ready to rumble\n") && stderr.read_line(&mut text).unwrap() > 0 {}
    let found = |directory: &Path| directory.join("Socket").symlink_metadata().is_ok();
    let found = (found(&roots), found(&moved));
    drop(server);
    assert_eq!(found, (false, true), "{text}");
}

/// Where nothing is given away there is nothing to refuse: the socket has its mode from the beginning, whatever the
/// mask.
#[test]
fn a_socket_in_a_foreign_directory() {
    needs_root!();
    let scratch = scratch();
    let socket = foreign(&scratch).join("Socket");
    // What is left of an earlier one is replaced.
    drop(UnixListener::bind(&socket).unwrap());
    let mut server =
        Server::start(on(&scratch, &socket).arg("--socket-mode=622").shell("umask 077"));
    assert_eq!(crate::support::process::status(server.pid(), "Umask").unwrap(), "0077");
    let found = fs::symlink_metadata(&socket).unwrap();
    assert!(found.file_type().is_socket());
    assert_eq!((found.uid(), found.permissions().mode() & 0o777), (0, 0o622));
    UnixStream::connect(&socket).unwrap();
    let second = on(&scratch, &socket).run();
    assert!(second.stderr.contains("Address already in use"), "{second:?}");
    server.signal(Signal::TERM);
    server.wait();
    assert!(fs::symlink_metadata(&socket).is_err());
}

/// A directory like /tmp, and symbolic links of root's on the way, are as good as one of root's.
#[test]
fn an_owner_in_a_sticky_directory() {
    needs_root!();
    let scratch = scratch();
    let directory = scratch.root().join("sticky");
    fs::create_dir(&directory).unwrap();
    chmod(&directory, 0o1777);
    let link = scratch.root().join("link");
    symlink("sticky/../sticky/.", &link).unwrap();
    let socket = link.join("Socket");
    let _server = Server::start(on(&scratch, &socket).arg("--socket-owner=daemon"));
    assert_ne!(fs::symlink_metadata(&socket).unwrap().uid(), 0);
    // The kernel knows it by the name that the administrator knows.
    let table = fs::read_to_string("/proc/net/unix").unwrap();
    assert!(table.contains(&format!(" {}\n", socket.display())), "{table}");
}

/// A directory that another user has made a link to somewhere.
#[test]
fn a_link_on_the_way() {
    needs_root!();
    let scratch = scratch();
    let (directory, victim) = (foreign(&scratch), Victim::new(&scratch));
    let link = directory.join("link");
    symlink(victim.path.parent().unwrap(), &link).unwrap();
    let words =
        "as root, no symbolic link is followed that another user can make; name where it leads";
    for owner in [FOREIGNER, 0] {
        // In a directory of another user's, root's own link is no better.
        std::os::unix::fs::lchown(&link, Some(owner), Some(owner)).unwrap();
        for option in ["--pid-file", "--port-file"] {
            let outcome = any_port(&scratch).option(option, link.join("gitd.pid")).run();
            assert_eq!(outcome.code(), Some(128));
            let path = link.join("gitd.pid");
            let expected =
                format!("fatal: could not open '{}' for writing: {words}", path.display());
            assert_eq!(outcome.log().last(), Some(&expected));
        }
        let outcome = on(&scratch, &link.join("Socket")).run();
        assert!(outcome.stderr.contains(words), "{outcome:?}");
        assert!(!victim.path.with_file_name("Socket").exists());
        victim.assert_unharmed();
    }
}

/// What is there already, be it by its own name or by the one under which the file is written first.
#[test]
fn a_state_file_that_leads_elsewhere() {
    needs_root!();
    for option in ["--pid-file", "--port-file"] {
        for prepare in [
            "ln -s $VICTIM $FILE",
            "ln -s $VICTIM $FILE.$$",
            "ln $VICTIM $FILE",
            "ln $VICTIM $FILE.$$",
            "ln -s $VICTIM $FILE.$$; ln $VICTIM $FILE",
        ] {
            let scratch = scratch();
            let (directory, victim) = (foreign(&scratch), Victim::new(&scratch));
            let file = directory.join("gitd.pid");
            let mut command = any_port(&scratch)
                .option(option, &file)
                .env("VICTIM", &victim.path)
                .env("FILE", &file)
                .shell(prepare)
                .command(&[]);
            if prepare == "ln -s $VICTIM $FILE" {
                let outcome = run(&mut command);
                assert_eq!(outcome.code(), Some(128), "{outcome:?}");
                let words = "as root, only a plain file is written where another user can choose what is there";
                assert!(outcome.stderr.contains(words), "{outcome:?}");
            } else {
                let mut server = Server::spawn(&mut command);
                let text = fs::read_to_string(&file).unwrap();
                assert!(text.ends_with('\n') && text != TEXT, "{prepare}: {text}");
                victim.assert_unharmed();
                server.signal(Signal::TERM);
                server.wait();
                assert!(fs::symlink_metadata(&file).is_err(), "{prepare}");
            }
            victim.assert_unharmed();
        }
    }
}

/// A pipe without a reader would block root for ever.
#[test]
fn a_pipe_of_another_users() {
    needs_root!();
    let scratch = scratch();
    let pipe = foreign(&scratch).join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let outcome = any_port(&scratch).option("--port-file", &pipe).run();
    assert_eq!(outcome.code(), Some(128), "{outcome:?}");
}

/// Standard output, and a link of root's to a device of root's.
#[test]
fn what_root_has_chosen_is_written_through() {
    needs_root!();
    let scratch = scratch();
    let (link, output) = (scratch.root().join("null"), scratch.root().join("stdout"));
    symlink("/dev/null", &link).unwrap();
    // As /dev/stdout is; that itself is not put at the risk of a server that replaces it.
    symlink("/proc/self/fd/1", &output).unwrap();
    let mut command =
        any_port(&scratch).option("--pid-file", &link).option("--port-file", &output).command(&[]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert!(line.starts_with("127.0.0.1 "), "{line}");
    crate::support::process::signal(child.id(), Signal::TERM);
    wait_until("it ends", || child.try_wait().unwrap().is_some());
    for link in [link, output] {
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    }
    assert!(fs::metadata("/dev/null").unwrap().file_type().is_char_device());
}

/// While the server runs, the directory is swapped for a link to another that has the like in it.
#[test]
fn a_directory_that_is_swapped_before_the_end() {
    needs_root!();
    let scratch = scratch();
    let directory = foreign(&scratch);
    let (file, socket) = (directory.join("gitd.pid"), directory.join("Socket"));
    let mut server = Server::start(on(&scratch, &socket).option("--pid-file", &file));
    let roots = scratch.root().join("roots");
    fs::create_dir(&roots).unwrap();
    fs::copy(&file, roots.join("gitd.pid")).unwrap();
    fs::hard_link(&socket, roots.join("Socket")).unwrap();
    fs::rename(&directory, scratch.root().join("moved")).unwrap();
    symlink(&roots, &directory).unwrap();
    server.signal(Signal::TERM);
    server.wait();
    assert!(roots.join("gitd.pid").exists() && roots.join("Socket").exists());
    assert_eq!(fs::read_dir(scratch.root().join("moved")).unwrap().count(), 0);
}

/// A server that is so busy that it takes no more connections in is a server.
#[test]
fn a_socket_with_a_full_queue_is_not_stolen() {
    let scratch = scratch();
    let path = scratch.root().join("Socket");
    let busy = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None).unwrap();
    busy.bind(&socket2::SockAddr::unix(&path).unwrap()).unwrap();
    busy.listen(1).unwrap();
    let mut waiting = Vec::new();
    let deadline = std::time::Instant::now() + DEADLINE;
    loop {
        assert!(std::time::Instant::now() < deadline, "the queue has no end");
        let client =
            socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None).unwrap();
        client.set_nonblocking(true).unwrap();
        match client.connect(&socket2::SockAddr::unix(&path).unwrap()) {
            Ok(()) => waiting.push(client),
            Err(error) => {
                assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
                break;
            }
        }
    }
    let before = fs::symlink_metadata(&path).unwrap().ino();
    let outcome = on(&scratch, &path).run();
    assert_eq!(outcome.code(), Some(128), "{outcome:?}");
    assert!(outcome.stderr.contains("Address already in use"), "{outcome:?}");
    assert_eq!(fs::symlink_metadata(&path).unwrap().ino(), before);
}

/// With --mptcp gitd asks ip(8), and does so before it drops its privileges: the working directory has no say in which.
#[test]
fn no_program_of_the_working_directory() {
    let scratch = scratch();
    let ran = scratch.root().join("ran");
    scratch.script("bin/ip", &format!("#!/bin/sh\n: >{}\n", ran.display()));
    let invocation = |path: String| {
        any_port(&scratch).arg("--mptcp").cwd(scratch.root().join("bin")).env("PATH", path)
    };
    let usual = crate::support::Git::server_path();
    let usual = usual.to_str().unwrap();
    for path in [format!(":{usual}"), format!(".:{usual}"), format!("../bin:{usual}")] {
        drop(Server::start(invocation(path.clone())));
        assert!(!ran.exists(), "{path}");
    }
    let absolute = scratch.root().join("bin");
    drop(Server::start(invocation(format!("{}:{usual}", absolute.display()))));
    assert!(ran.exists());
}
