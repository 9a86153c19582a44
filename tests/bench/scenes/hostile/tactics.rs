//! What attackers do: hold what they get without a request, hold a service that they asked for, or come in a flood.

use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;

use socket2::SockRef;

use super::attack::{Attacker, Tactic};
use crate::repositories::{MANY_REFERENCES, SMALL};

/// More than the 32 connections that both daemons serve at once.
const HOLDERS: usize = 40;
/// Attackers that hold a service come again at once when it is ended.
const AGAIN: Duration = Duration::from_millis(200);
const SECOND: Duration = Duration::from_secs(1);

const fn holders(what: &'static str, act: fn(&Attacker, TcpStream) -> Outcome) -> Tactic {
    Tactic { what, clients: HOLDERS, pace: AGAIN, small_window: true, act }
}

/// So many connections a second by so many clients.
const fn flood(
    what: &'static str,
    a_second: u32,
    clients: usize,
    act: fn(&Attacker, TcpStream) -> Outcome,
) -> Tactic {
    let pace = Duration::from_micros(1_000_000 * clients as u64 / a_second as u64);
    Tactic { what, clients, pace, small_window: false, act }
}

type Outcome = std::io::Result<()>;

pub(super) static A_BYTE_A_SECOND: Tactic =
    holders("40 send a byte a second of their request", |attacker, mut stream| {
        for byte in request("upload-pack", SMALL) {
            stream.write_all(&[byte])?;
            attacker.pause(SECOND);
        }
        attacker.hold(stream)
    });

pub(super) static HALF_OPEN: Tactic =
    holders("40 send half of their request", |attacker, mut stream| {
        let whole = request("upload-pack", SMALL);
        stream.write_all(&whole[..whole.len() / 2])?;
        attacker.hold(stream)
    });

pub(super) static SILENT: Tactic = holders("40 say nothing", Attacker::hold);

pub(super) static SLOW_READERS: Tactic =
    holders("40 read 1 kB/s of 10,000 references", |attacker, mut stream| {
        stream.write_all(&request("upload-pack", MANY_REFERENCES))?;
        loop {
            attacker.read(&mut stream, &mut [0; 1000])?;
            attacker.pause(SECOND);
        }
    });

/// A client that does not read does not see that it was cut either: it comes again now and then.
pub(super) static NEVER_READ: Tactic =
    holders("40 ask and never read the answer", |attacker, stream| {
        let mut held = Vec::new();
        let mut next = stream;
        loop {
            next.write_all(&request("upload-pack", MANY_REFERENCES))?;
            held.push(next);
            attacker.pause(Duration::from_secs(2));
            if attacker.is_over() {
                return Ok(());
            }
            next = attacker.connect()?;
        }
    });

/// receive-pack has been told what is to come and waits for the pack; nothing is stored before that has begun.
pub(super) static STALLED_PUSHES: Tactic = holders("40 pushes stall", |attacker, mut stream| {
    stream.write_all(&request("receive-pack", SMALL))?;
    listen_to_flush(attacker, &mut stream)?;
    let update = format!("{:040} {:040x} refs/heads/stalled\0report-status", 0, u128::MAX);
    stream.write_all(format!("{:04x}{update}0000PACK", update.len() + 4).as_bytes())?;
    attacker.hold(stream)
});

pub(super) static A_THOUSAND_CLOSE: Tactic =
    flood("1,000 connect and close a second", 1_000, 50, |_, _| Ok(()));

pub(super) static FIVE_THOUSAND_CLOSE: Tactic =
    flood("5,000 connect and close a second", 5_000, 50, |_, _| Ok(()));

pub(super) static GONE_AT_EVERY_STAGE: Tactic =
    flood("100 a second vanish at every stage", 100, 20, |attacker, stream| {
        let stage = attacker.turn % 8;
        leave_at(stage, attacker, &stream)?;
        if stage % 2 == 1 {
            // Without a word: the kernel resets the connection.
            SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
        }
        Ok(())
    });

pub(super) static A_THOUSAND_AT_ONCE: Tactic =
    flood("1,000 requests at once from one address", 1_000_000, 50, |attacker, stream| {
        let mut streams = vec![stream];
        while streams.len() < 20 && !attacker.is_over() {
            streams.extend(attacker.connect());
        }
        for stream in &mut streams {
            // In version 0 the flush ends the session: a good request, but for the number of its kind.
            stream.write_all(&request("upload-pack", SMALL))?;
            stream.write_all(b"0000")?;
        }
        for stream in streams {
            let _ = attacker.hold(stream);
        }
        Ok(())
    });

/// Goes on until a client of this stage leaves.
fn leave_at(stage: usize, attacker: &Attacker, mut stream: &TcpStream) -> Outcome {
    let upload = request("upload-pack", MANY_REFERENCES);
    match stage {
        0 | 1 => Ok(()),
        2 => stream.write_all(&upload[..2]),
        3 => stream.write_all(&upload[..upload.len() / 2]),
        4 | 5 => stream.write_all(&upload),
        6 => {
            stream.write_all(&upload)?;
            attacker.read(&mut stream.try_clone()?, &mut [0; 1000]).map(drop)
        }
        _ => {
            stream.write_all(&request("receive-pack", SMALL))?;
            listen_to_flush(attacker, &mut stream.try_clone()?)
        }
    }
}

fn listen_to_flush(attacker: &Attacker, stream: &mut TcpStream) -> Outcome {
    let mut heard = Vec::new();
    let mut buffer = [0; 4096];
    while !heard.ends_with(b"0000") {
        let read = attacker.read(stream, &mut buffer)?;
        heard.extend_from_slice(&buffer[..read]);
    }
    Ok(())
}

/// A request for protocol version 0, in which the whole list of references is sent unasked.
fn request(service: &str, repository: &str) -> Vec<u8> {
    let text = format!("git-{service} /{repository}\0host=localhost\0");
    format!("{:04x}{text}", text.len() + 4).into_bytes()
}
