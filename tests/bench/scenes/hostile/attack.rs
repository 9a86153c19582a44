//! An attack under way: threads that each connect, do their worst, and come again when they are sent away.

use std::io::{ErrorKind, Read};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

/// Longer than the second after which TCP tries a full accept queue again.
const PATIENCE: Duration = Duration::from_millis(1200);
/// How soon a thread notices that the attack is over.
const TICK: Duration = Duration::from_millis(50);
/// As little as the kernel lets a client hold, so that an answer stays with the server.
const SMALL_WINDOW: usize = 4096;
const SMALL_SEGMENT: u32 = 536;

/// What the clients of an attack do.
pub(super) struct Tactic {
    pub(super) what: &'static str,
    pub(super) clients: usize,
    /// The time from one connection of a client to its next, at the least.
    pub(super) pace: Duration,
    /// Whether they have hardly room for an answer.
    pub(super) small_window: bool,
    /// All that is done with one connection; it may make more.
    pub(super) act: fn(&Attacker, TcpStream) -> std::io::Result<()>,
}

/// Where the attackers come from.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Addresses {
    One,
    /// One for each.
    Many,
}

/// One client of an attack.
pub(super) struct Attacker {
    server: SocketAddr,
    from: IpAddr,
    small_window: bool,
    over: Arc<AtomicBool>,
    connections: Arc<AtomicUsize>,
    /// Counts its connections.
    pub(super) turn: usize,
}

impl Attacker {
    pub(super) fn connect(&self) -> std::io::Result<TcpStream> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        if self.small_window {
            socket.set_recv_buffer_size(SMALL_WINDOW)?;
            socket.set_tcp_mss(SMALL_SEGMENT)?;
        }
        socket.bind(&SocketAddr::new(self.from, 0).into())?;
        socket.connect_timeout(&self.server.into(), PATIENCE)?;
        self.connections.fetch_add(1, Ordering::Relaxed);
        let stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(TICK))?;
        stream.set_write_timeout(Some(TICK))?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    pub(super) fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    /// Does nothing for a while, if the attack goes on for so long.
    pub(super) fn pause(&self, duration: Duration) {
        let end = Instant::now() + duration;
        while !self.is_over() && Instant::now() < end {
            thread::sleep(TICK.min(end.saturating_duration_since(Instant::now())));
        }
    }

    /// Reads some bytes; an error when the server has closed, or the attack is over.
    pub(super) fn read(&self, stream: &mut TcpStream, buffer: &mut [u8]) -> std::io::Result<usize> {
        while !self.is_over() {
            match stream.read(buffer) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                result => return result,
            }
        }
        Err(ErrorKind::Interrupted.into())
    }

    /// Holds on to the connection for as long as the server does.
    pub(super) fn hold(&self, mut stream: TcpStream) -> std::io::Result<()> {
        let mut buffer = [0; 4096];
        loop {
            self.read(&mut stream, &mut buffer)?;
        }
    }

    fn keep_at_it(mut self, tactic: &Tactic, start: Instant) {
        let mut next = start;
        while !self.is_over() {
            thread::sleep(next.saturating_duration_since(Instant::now()));
            next = (next + tactic.pace).max(Instant::now());
            if let Ok(stream) = self.connect() {
                // That the server ends it is what an attacker has to expect.
                let _ = (tactic.act)(&self, stream);
            }
            self.turn += 1;
        }
    }
}

/// All attackers at work.
pub(super) struct Attack {
    over: Arc<AtomicBool>,
    connections: Arc<AtomicUsize>,
    clients: usize,
    start: Instant,
}

impl Attack {
    pub(super) fn begin(server: SocketAddr, tactic: &'static Tactic, from: Addresses) -> Self {
        let (over, connections) = (Arc::new(AtomicBool::new(false)), Arc::default());
        let start = Instant::now();
        for client in 0..tactic.clients {
            let last = if from == Addresses::One { 1 } else { 1 + client as u8 };
            let attacker = Attacker {
                server,
                from: IpAddr::from([127, 0, 1, last]),
                small_window: tactic.small_window,
                over: Arc::clone(&over),
                connections: Arc::clone(&connections),
                turn: client,
            };
            let first = start + tactic.pace * client as u32 / tactic.clients as u32;
            thread::spawn(move || attacker.keep_at_it(tactic, first));
        }
        Self { over, connections, clients: tactic.clients, start }
    }

    /// Waits until nearly all have come: the last ones may find a full accept queue.
    pub(super) fn wait_until_there(&self) {
        let deadline = Instant::now() + Duration::from_secs(2);
        let enough = self.clients * 9 / 10;
        while self.connections.load(Ordering::Relaxed) < enough && Instant::now() < deadline {
            thread::sleep(TICK);
        }
    }

    /// Says how many connections a second there were. Whoever still waits for a full accept queue ends a second later, by
    /// when the server is gone.
    pub(super) fn end(self) -> f64 {
        self.over.store(true, Ordering::Relaxed);
        self.connections.load(Ordering::Relaxed) as f64 / self.start.elapsed().as_secs_f64()
    }
}
