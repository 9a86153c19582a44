//! Load, abuse and faults: gitd keeps serving, loses nothing, and comes back by itself. Only loopback sees the traffic,
//! and every flood has an end.

mod admission;
mod drain;
mod ended;
mod faults;
mod first_process;
mod gone;
mod lack;
mod log;
pub(crate) mod noise;
mod pending;
mod permits;
mod rest;
mod restart;
mod slow;
mod soak;
mod stopped;
mod stuck;
mod unix;

use std::net::{IpAddr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::Command;

use crate::support::process::{children, descriptors, idle, status, wait_until, write_to_reader};
use crate::support::{Client, Daemon, End, Packet, Scratch, pkt, request};

/// A client with one of loopback's sixteen million addresses.
pub(crate) fn from(daemon: &Daemon, last: u8) -> Client {
    connect_from(daemon, IpAddr::from([127, 0, 1, last]))
}

fn connect_from(daemon: &Daemon, address: IpAddr) -> Client {
    let local = SocketAddr::new(address, 0);
    let socket =
        socket2::Socket::new(socket2::Domain::for_address(local), socket2::Type::STREAM, None)
            .unwrap();
    socket.bind(&local.into()).unwrap();
    socket.connect(&daemon.address().into()).unwrap();
    Client::from(TcpStream::from(socket))
}

/// Drops all that goes to this address, in the network namespace of the caller.
fn cut_off(client: IpAddr) {
    nft(&format!(
        "add table ip t; add chain ip t c {{ type filter hook output priority 0; }}; \
         add rule ip t c ip daddr {client} drop"
    ));
}

/// Ends what [`cut_off`] has begun.
fn let_through() {
    nft("delete table ip t");
}

fn nft(rules: &str) {
    assert!(Command::new("nft").arg(rules).status().unwrap().success());
}

/// Services that work until their gate opens: each is about to make a pack, and its hook reads from a named pipe.
struct Gates(PathBuf);

impl Gates {
    /// For every daemon that is started afterwards.
    fn set_up(scratch: &Scratch) -> Self {
        let gates = scratch.directory("gates");
        let script =
            format!("#!/bin/sh\nread go <'{}'/$REMOTE_ADDR\nexec \"$@\"\n", gates.display());
        let hook = scratch.script("pack", &script);
        scratch.global_config(&format!("[uploadpack] packObjectsHook = {}\n", hook.display()));
        Self(gates)
    }

    /// The gate of one address; made when it is first asked for.
    fn gate(&self, last: u8) -> PathBuf {
        let gate = self.0.join(format!("127.0.1.{last}"));
        match rustix::fs::mkfifoat(rustix::fs::CWD, &gate, rustix::fs::Mode::RWXU) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => gate,
            Err(error) => panic!("{error}"),
        }
    }

    /// One service at most for each address.
    fn keep(&self, daemon: &Daemon, last: u8) -> Kept {
        let gate = self.gate(last);
        let mut client = from(daemon, last);
        ask_for_all(&mut client, "/repo.git");
        Kept { gate, client }
    }
}

/// Asks for a clone, up to the first byte of the pack.
fn ask_for_all(client: &mut Client, pathname: &str) {
    client.send(request("upload-pack", pathname));
    let refs = client.packets_to_flush();
    let head = String::from_utf8_lossy(&refs[0])[..40].to_owned();
    let want = pkt(format!("want {head} no-progress\n"));
    client.send([want, b"0000".to_vec(), pkt("done\n")].concat());
    assert_eq!(client.packet(), Packet::Data(b"NAK\n".to_vec()));
}

/// A client whose service is at work.
struct Kept {
    gate: PathBuf,
    client: Client,
}

impl Kept {
    /// Opens the gate, and takes what was asked for.
    fn finish(mut self) {
        write_to_reader(&self.gate, "\n");
        let (pack, end) = self.client.rest();
        assert!(pack.starts_with(b"PACK") && end == End::Closed);
        std::fs::remove_file(self.gate).unwrap();
    }
}

/// Sends a request, and waits until gitd has read it.
fn asking(daemon: &Daemon, last: u8, pathname: &str) -> Client {
    let mark = daemon.log.mark();
    let mut client = from(daemon, last);
    client.send(request("upload-pack", pathname));
    daemon.log.wait(mark, |line| line.starts_with("Request "));
    client
}

/// Is it served now?
fn is_served(daemon: &Daemon) {
    daemon.ask("upload-pack", "/repo.git").assert_served("repo.git");
}

/// The client's request for `/repo.git` has waited in vain.
#[track_caller]
fn assert_busy(client: &mut Client) {
    let answer = b"ERR server is busy, try again later: /repo.git".to_vec();
    assert_eq!(client.packet(), Packet::Data(answer));
}

/// One of a process's sizes, in KiB.
fn kilobytes(pid: u32, field: &str) -> u64 {
    let size = status(pid, field).unwrap();
    size.split(' ').next().unwrap().parse().unwrap()
}

/// The resources that must be the same after a fault or a flood.
#[derive(Debug, Clone, Copy)]
struct Resources {
    descriptors: usize,
    kilobytes: u64,
}

impl Resources {
    /// Once all services have ended and gitd has nothing to do.
    fn of(daemon: &Daemon) -> Self {
        let pid = daemon.pid();
        wait_until("all services have ended", || children(pid).is_empty());
        // On a busy machine gitd may not have had its turn yet, and steady descriptors alone say nothing.
        let mut last = 0;
        wait_until("gitd is idle and its descriptors are steady", || {
            let waits = idle(pid);
            std::mem::replace(&mut last, descriptors(pid)) == last && waits && idle(pid)
        });
        Self { descriptors: last, kilobytes: kilobytes(pid, "RssAnon") }
    }

    /// No descriptor more, no process, and no more memory than the allocator may keep for later.
    #[track_caller]
    fn assert_back(self, daemon: &Daemon) {
        let pid = daemon.pid();
        wait_until("all services have ended", || children(pid).is_empty());
        wait_until("no descriptor is left over", || descriptors(pid) <= self.descriptors);
        let now = Self::of(daemon);
        assert!(now.kilobytes <= self.kilobytes + 4096, "{now:?} after {self:?}");
    }
}
