//! Starts git, the only process per connection, and reports how it ended.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::process::Signal;

use crate::access::Grant;
use crate::git::starter::Starter;
use crate::net::peer::Peer;
use crate::protocol::service::Service;
use crate::sys::child::{Child, End, Usage};
use crate::sys::process::Spawn;

/// A running service.
#[derive(Debug)]
pub struct Running {
    /// The process. It must be reaped.
    pub process: Child,
    /// Its standard error. It ends when the process and all its descendants have closed it.
    pub stderr: OwnedFd,
    /// The repository's path, as it was found.
    pub repository: Vec<u8>,
}

/// Starts the granted service with the client's connection as its standard input and output
/// (contract 50). `input` and `output` stay open here and may be the same; they must be blocking.
pub fn start(
    starter: &Starter,
    grant: &Grant,
    peer: &Peer,
    extra_parameters: Option<&[u8]>,
    (input, output): (BorrowedFd<'_>, BorrowedFd<'_>),
) -> io::Result<Running> {
    let (stderr, writer) = io::pipe()?;
    let environment = starter.environment(peer, extra_parameters)?;
    let environment: Vec<&CStr> = environment.iter().map(AsRef::as_ref).collect();
    let timeout = CString::new(format!("--timeout={}", starter.timeout))?;
    let arguments: &[&CStr] = match grant.service() {
        Service::UploadPack => &[c"git", c"upload-pack", c"--strict", &timeout, c"."],
        Service::UploadArchive => &[c"git", c"upload-archive", c"."],
        Service::ReceivePack => &[c"git", c"receive-pack", c"."],
    };
    let process = starter.spawner.spawn(&Spawn {
        candidates: &starter.git().candidates,
        arguments,
        environment: &environment,
        directory: Some(grant.repository().directory()),
        streams: [Some(input), Some(output), Some(writer.as_fd())],
        outlives: true,
        niceness: starter.niceness,
    })?;
    let repository = grant.repository().path.clone();
    Ok(Running { process, stderr: stderr.into(), repository })
}

/// How the service ended, and what it has used; `None` while it runs. Reaps it. `forced` says that
/// gitd has ended it.
///
/// When upload-pack or upload-archive fails, for instance because its client is gone, its children
/// go on without a purpose and without a permit: git would end pack-objects by SIGTERM, but below
/// gitd that is ignored. Processes that receive-pack leaves behind may be intended by its hooks.
/// But if gitd has ended receive-pack, its hooks end too, or they would exceed every limit.
pub fn ended(process: &Child, service: Service, forced: bool) -> io::Result<Option<(End, Usage)>> {
    let Some(end) = process.look()? else { return Ok(None) };
    if forced {
        process.signal_group(Signal::KILL);
    } else if !end.success() && service != Service::ReceivePack {
        process.signal_group(Signal::HUP);
    }
    process.reap()
}
