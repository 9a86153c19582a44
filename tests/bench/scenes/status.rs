//! What `--status` costs those who clone: the rate of small requests with a scrape and the page's question each second, and
//! with a thousand connections that stall, each beside the rate without `--status`.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use super::Stage;
use crate::Result;
use crate::load;
use crate::progress;
use crate::protocol::Writes;
use crate::report::Report;
use crate::repositories::SMALL;
use crate::server::{Server, Side};
use crate::statistics::Summary;

const CLIENTS: usize = 8;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Readers {
    None,
    Asking,
    Stalling,
}

pub(crate) fn run(stage: &Stage<'_>, report: &mut Report) -> Result<()> {
    let free = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let option = format!("--status={free}");
    let plain = stage.start_with(Side::Gitd, SMALL, &["--max-connections=32"])?;
    let told = stage.start_with(Side::Gitd, SMALL, &["--max-connections=32", &option])?;
    let cases = [Readers::None, Readers::Asking, Readers::Stalling];
    let mut rates: [Vec<f64>; 3] = Default::default();
    let duration = Duration::from_millis(stage.amount(1000, 3000));
    let rounds = stage.amount(3, 15);
    for server in [&plain, &told] {
        load::run(server, SMALL, Writes::Whole, CLIENTS, Duration::from_millis(300))?;
    }
    for round in 0..rounds {
        for turn in 0..cases.len() {
            let index = (round + turn) % cases.len();
            let server = if cases[index] == Readers::None { &plain } else { &told };
            rates[index].push(measure(server, cases[index], free, duration)?);
        }
        progress::say(&format!(
            "round {}: without {:.0}, read {:.0}, stalled {:.0} req/s",
            round + 1,
            rates[0][round],
            rates[1][round],
            rates[2][round]
        ));
    }
    for (index, what) in [(1, "a scrape and the page each second"), (2, "1,000 that stall")] {
        let ratios: Vec<f64> = rates[index].iter().zip(&rates[0]).map(|(a, b)| a / b).collect();
        report.note(format!(
            "--status, {CLIENTS} clients, {what}: {:.3} of the requests/s without (median of {rounds} rounds; goal: \
             at least 0.98)",
            Summary::of(&ratios).p50
        ));
    }
    Ok(())
}

fn measure(
    server: &Server,
    readers: Readers,
    status: SocketAddr,
    duration: Duration,
) -> Result<f64> {
    let done = AtomicBool::new(false);
    let mut stalled = Vec::new();
    if readers == Readers::Stalling {
        for _ in 0..1000 {
            let mut stream = TcpStream::connect(status)?;
            // It may be closed already, in favour of a later one.
            let _ = stream.write_all(b"GET / HTTP/1.1\r\n");
            stalled.push(stream);
        }
    }
    thread::scope(|scope| {
        if readers == Readers::Asking {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    for place in ["/metrics", "/sessions?format=json&sort=elapsed"] {
                        let _ = get(status, place);
                    }
                    thread::park_timeout(Duration::from_secs(1));
                }
            });
        }
        let load = load::run(server, SMALL, Writes::Whole, CLIENTS, duration);
        done.store(true, Ordering::Relaxed);
        load.map(|load| load.requests_per_second)
    })
}

fn get(status: SocketAddr, place: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(status)?;
    write!(stream, "GET {place} HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}
