//! A long wire on a machine whose kernel has no netem: two tun devices, and between them a packet waits.
//!
//! One end stays in this process's network namespace, the other is given to the server's. What the kernel sends into one
//! device comes out of the other half a round trip later, in order and whole: nothing is lost, and there is no limit on
//! the rate. It is written here, and not as a script, because a script's own delays would be among the measured ones.
//!
//! The suite uses it too. This file has the only `unsafe` of both: a tun device is bound to a descriptor by one ioctl, for
//! which neither the standard library nor a crate in use has a safe name.
#![allow(unsafe_code)]

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

/// Takes any packet of the devices' MTU, which is 1500.
const LONGEST_PACKET: usize = 2048;

/// A new tun device called `name`, which lives as long as the file is open.
pub(crate) fn open(name: &str) -> io::Result<File> {
    let device = File::options().read(true).write(true).open("/dev/net/tun")?;
    // struct ifreq: the name, then a union of which TUNSETIFF reads the flags.
    let mut request = [0u8; size_of::<libc::ifreq>()];
    if name.len() >= libc::IFNAMSIZ {
        return Err(io::Error::other(format!("'{name}' is too long for a device")));
    }
    request[..name.len()].copy_from_slice(name.as_bytes());
    let flags = libc::IFF_TUN | libc::IFF_NO_PI;
    request[libc::IFNAMSIZ..libc::IFNAMSIZ + 2].copy_from_slice(&(flags as u16).to_ne_bytes());
    // SAFETY: the descriptor is open, and TUNSETIFF reads and writes one struct ifreq, which is what `request` has room for.
    let outcome =
        unsafe { libc::ioctl(device.as_raw_fd(), libc::TUNSETIFF as _, request.as_mut_ptr()) };
    if outcome < 0 {
        let error = io::Error::last_os_error();
        return Err(io::Error::other(format!("no tun device: {error}")));
    }
    Ok(device)
}

/// Carries packets both ways until the devices are deleted, each for `delay`.
pub(crate) fn carry(one: &File, other: &File, delay: Duration) -> io::Result<()> {
    one_way(one.try_clone()?, other.try_clone()?, delay);
    one_way(other.try_clone()?, one.try_clone()?, delay);
    Ok(())
}

/// One thread reads at once and notes when a packet is due; the other writes it then.
fn one_way(mut from: File, mut to: File, delay: Duration) {
    let (sender, receiver) = mpsc::channel::<(Instant, Vec<u8>)>();
    thread::spawn(move || {
        let mut packet = [0; LONGEST_PACKET];
        while let Ok(length) = from.read(&mut packet) {
            if sender.send((Instant::now() + delay, packet[..length].to_vec())).is_err() {
                break;
            }
        }
    });
    thread::spawn(move || {
        for (due, packet) in receiver {
            thread::sleep(due.saturating_duration_since(Instant::now()));
            // A device that is not up yet refuses a packet, as a wire would lose it.
            let _ = to.write(&packet);
        }
    });
}
