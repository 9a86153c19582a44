//! The access hook: the administrator's own program, run last for every request (contract 56 to
//! 59).

use std::ffi::{CStr, CString, OsStr};
use std::io::{self, PipeReader, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use crate::access::host::Host;
use crate::access::step::{Observer, Step};
use crate::git::starter::Starter;
use crate::log::event;
use crate::net::peer::Peer;
use crate::protocol::service::Service;
use crate::repository::Repository;
use crate::sys::child::{Child, End};
use crate::sys::descriptor;
use crate::sys::process::Spawn;
use crate::sys::shortage::{Found, found};

/// The most bytes of a hook's output that are kept; a packet cannot carry more.
const MAX_ANSWER: usize = 65516;

/// What a hook is told.
#[derive(Debug)]
pub struct Question<'a> {
    /// The service that the client requests.
    pub service: Service,
    /// The repository that was found.
    pub repository: &'a Repository,
    /// The client's virtual host.
    pub host: &'a Host<'a>,
    /// The client.
    pub peer: &'a Peer,
}

/// Runs the hook and waits for its verdict without a limit: hooks are used to fetch before serving.
/// The inner error holds the message for the client.
///
/// # Errors
/// A shortage.
pub fn consult(
    starter: &Starter,
    hook: &[u8],
    question: &Question<'_>,
    observer: &mut impl Observer,
) -> Found<(), Vec<u8>> {
    observer.see(Step::Hook(hook, question));
    let answer = found(run(starter, hook, question))?;
    observer.see(Step::HookEnded(&answer));
    let (end, said) = match answer {
        Ok(answer) => answer,
        Err(error) => {
            event::hook_failed(hook, &crate::sys::errno_text(&error));
            return Ok(Err(b"service rejected".to_vec()));
        }
    };
    match end {
        End::Exited(0) => return Ok(Ok(())),
        End::Exited(_) => {}
        End::Killed(signal) => event::hook_killed(hook, signal),
    }
    Ok(Err(first_line(&said)))
}

/// The client's message from a hook's output (contract 58). As everywhere in git, a NUL ends it.
fn first_line(said: &[u8]) -> Vec<u8> {
    match said.trim_ascii_start() {
        b"" => b"service rejected".to_vec(),
        said => {
            let end = said.iter().position(|byte| matches!(byte, b'\n' | 0));
            said[..end.unwrap_or(said.len())].to_vec()
        }
    }
}

fn run(starter: &Starter, hook: &[u8], question: &Question<'_>) -> io::Result<(End, Vec<u8>)> {
    let (reader, writer) = io::pipe()?;
    let child = start(starter, hook, question, writer.as_fd())?;
    // The pipe ends when its last writer is closed, so close this one.
    drop(writer);
    let said = read_answer(reader);
    Ok((child.wait()?, said?))
}

fn start(
    starter: &Starter,
    hook: &[u8],
    question: &Question<'_>,
    answer: BorrowedFd<'_>,
) -> io::Result<Child> {
    let arguments = arguments(question)?;
    let hook = CString::new(hook)?;
    let environment = starter.environment(question.peer, None)?;
    let environment: Vec<&CStr> = environment.iter().map(AsRef::as_ref).collect();
    let spawn = |candidates: &[CString], leading: &[&CStr]| {
        let rest = arguments.iter().map(CString::as_c_str);
        let arguments: Vec<&CStr> = leading.iter().copied().chain(rest).collect();
        starter.spawner.spawn(&Spawn {
            candidates,
            arguments: &arguments,
            environment: &environment,
            directory: Some(question.repository.directory()),
            streams: [None, Some(answer), None],
            outlives: false,
            niceness: None,
        })
    };
    let shell = [c"/bin/sh".to_owned()];
    if is_shell_code(hook.to_bytes()) {
        let code = CString::new([hook.to_bytes(), b" \"$@\""].concat())?;
        return spawn(&shell, &[c"sh", c"-c", &code, &hook]);
    }
    let program = [program(&hook, question.repository)?];
    match spawn(&program, &[&hook]) {
        // A script without `#!`: run it with the shell, as execvp(3) does.
        Err(error) if error.raw_os_error() == Some(libc::ENOEXEC) => {
            spawn(&shell, &[c"sh", &program[0]])
        }
        result => result,
    }
}

/// The characters for which a shell is needed.
fn is_shell_code(hook: &[u8]) -> bool {
    hook.iter().any(|byte| b"|&;<>()$`\\\"' \t\n*?[#~=%".contains(byte))
}

/// The program for a hook's name: without a slash the first in PATH, found as the stock daemon
/// finds it. If it cannot be started, no other is tried: a later one may allow what the first would
/// refuse.
///
/// A relative directory in PATH is relative to the repository, whose owner must not choose the
/// program. A program found there is an error: it is not run, and not skipped, because the stock
/// daemon would have run it.
fn program(hook: &CString, repository: &Repository) -> io::Result<CString> {
    let name = OsStr::from_bytes(hook.to_bytes());
    if hook.to_bytes().contains(&b'/') {
        return Ok(hook.clone());
    }
    let missing = || io::Error::from_raw_os_error(libc::ENOENT);
    let path = std::env::var_os("PATH").ok_or_else(missing)?;
    for directory in std::env::split_paths(&path) {
        let file = CString::new(directory.join(name).into_os_string().into_vec())?;
        let found = descriptor::status(repository.directory(), &file)?;
        if found.is_ok_and(|found| found.kind.is_file() && found.owner_executes()) {
            return if directory.is_absolute() { Ok(file) } else { Err(missing()) };
        }
    }
    Err(missing())
}

fn arguments(question: &Question<'_>) -> io::Result<[CString; 6]> {
    let canonical = question.host.canonical()?;
    Ok([
        CString::new(question.service.name())?,
        CString::new(question.repository.path.as_slice())?,
        CString::new(question.host.name())?,
        CString::new(canonical.name.as_slice())?,
        CString::new(canonical.address.as_slice())?,
        CString::new(question.host.port())?,
    ])
}

/// Reads to the end and keeps at most what a packet can carry, so that a hook with much output
/// costs no memory.
fn read_answer(mut pipe: PipeReader) -> io::Result<Vec<u8>> {
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        match pipe.read(&mut buffer) {
            Ok(0) => return Ok(answer),
            Ok(read) => {
                answer.extend_from_slice(&buffer[..read]);
                // Leading white space does not count, so it must not use up the limit.
                let blank = answer.len() - answer.trim_ascii_start().len();
                answer.drain(..blank);
                answer.truncate(MAX_ANSWER);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{first_line, is_shell_code};

    #[test]
    fn the_first_line_is_the_reason() {
        let cases: [(&[u8], &[u8]); 6] = [
            (b"", b"service rejected"),
            (b" \n\t\n", b"service rejected"),
            (b"\n no such  branch \nmore", b"no such  branch "),
            (b"no", b"no"),
            (b"a\0b\n", b"a"),
            (b"\0b\n", b""),
        ];
        for (said, reason) in cases {
            assert_eq!(first_line(said), reason, "{}", said.escape_ascii());
        }
    }

    #[test]
    fn shell_code_is_recognised() {
        for code in ["echo x", "a;b", "$X", "a|b", "~/hook", "a=b", "x\ty", "a'b", "*", "a#"] {
            assert!(is_shell_code(code.as_bytes()), "{code}");
        }
        for file in ["/usr/bin/hook", "hook", "./a-b_c.d", "a,b", "a@b", "a{b}", "a^b!"] {
            assert!(!is_shell_code(file.as_bytes()), "{file}");
        }
    }
}
