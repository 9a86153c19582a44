//! The spawn floor: what serving must cost when there is no daemon.
//!
//! A connection is accepted and handed as stdin and stdout to `git upload-pack`, by the standard library's vfork-like
//! spawn, from a small process. Nothing is read, nothing is checked, nothing is watched. No daemon that starts one service
//! for each connection can be faster.

use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread;

use crate::Result;

/// As many as the load generator ever has clients, so that none waits for a spawner.
const SPAWNERS: usize = 64;

/// Serves `repository` on a port of its own, which it prints, until it is killed.
pub(crate) fn serve(repository: &Path) -> Result<()> {
    let listener = Arc::new(TcpListener::bind(("127.0.0.1", 0))?);
    println!("{}", listener.local_addr()?);
    std::io::stdout().flush()?;
    let repository: Arc<PathBuf> = Arc::new(repository.to_owned());
    let spawners: Vec<_> = (0..SPAWNERS)
        .map(|_| {
            let (listener, repository) = (Arc::clone(&listener), Arc::clone(&repository));
            thread::spawn(move || {
                loop {
                    if let Err(error) =
                        listener.accept().and_then(|(client, _)| hand_over(client, &repository))
                    {
                        eprintln!("floor: {error}");
                    }
                }
            })
        })
        .collect();
    let ended = spawners.into_iter().all(|spawner| spawner.join().is_ok());
    Err(format!("all spawners have ended{}", if ended { "" } else { ", some in a panic" }).into())
}

fn hand_over(client: TcpStream, repository: &Path) -> std::io::Result<()> {
    let output = OwnedFd::from(client.try_clone()?);
    let input = OwnedFd::from(client);
    let mut command = Command::new("git");
    command
        .args(["upload-pack", "--strict", "--timeout=0", "."])
        .current_dir(repository)
        .env("GIT_PROTOCOL", "version=2")
        .stdin(Stdio::from(input))
        .stdout(Stdio::from(output))
        .stderr(Stdio::null());
    let mut service = command.spawn()?;
    // The command holds the client's socket: kept, the client would not see the service close it.
    drop(command);
    service.wait()?;
    Ok(())
}
