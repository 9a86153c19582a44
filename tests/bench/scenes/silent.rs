//! Clients that connect and say nothing: what they cost, and what they cost a client that does ask.

use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use super::Stage;
use crate::protocol::Writes;
use crate::report::{Bound, Report, Row, number};
use crate::repositories::SMALL;
use crate::rounds::{PerSide, Samples, alternate};
use crate::server::{Server, Side};
use crate::statistics::{Ratio, Summary};
use crate::svg::Chart;
use crate::{Result, load, procfs, progress};

/// What gitd has to hold.
const CLIENTS: usize = 10_000;
/// git daemon has a process for each: ten times as many would take gigabytes, and tell nothing more.
const STOCK_CLIENTS: usize = 1_000;
/// Longer than the scene lasts: no client must be disconnected in it.
const INIT_TIMEOUT: &str = "--init-timeout=300";

pub(crate) fn run(stage: &Stage<'_>, report: &mut Report) -> Result<()> {
    let mut options = vec![INIT_TIMEOUT];
    if stage.gitd_knows("--max-pending")? {
        options.push("--max-pending=20000");
    }
    let mut processes = PerSide::default();
    let mut memory = PerSide::default();
    let mut each = PerSide::default();
    let mut slowdown = PerSide::default();
    let mut p50 = PerSide::default();
    for side in Side::DAEMONS {
        let (clients, options) = match side {
            Side::Gitd => (CLIENTS, &options[..]),
            _ => (STOCK_CLIENTS, &options[..1]),
        };
        let quiet = stage.start_with(side, SMALL, options)?;
        let crowded = stage.start_with(side, SMALL, options)?;
        let empty = crowded.pss_mib()?;
        let crowd = connect(&crowded, clients)?;
        processes[side] = Some(crowded.processes()? as f64);
        let full = crowded.pss_mib()?;
        memory[side] = Some(full);
        each[side] = Some((full - empty) * 1024.0 / clients as f64);
        let name = side.name();
        progress::say(&format!("{name} holds {clients} silent clients in {} MiB", number(full)));
        let (ratio, crowded_p50) = good_client(stage, &quiet, &crowded)?;
        slowdown[side] = ratio;
        p50[side] = Some(crowded_p50);
        drop(crowd);
    }
    let work = format!("{CLIENTS} silent clients (git daemon: {STOCK_CLIENTS})");
    let one = Some(Bound::AtMost(1.0));
    report.row(Row::absolute(&work, "processes", "", processes, one));
    report.row(Row::absolute(&work, "PSS MiB", " MiB", memory, Some(Bound::AtMost(20.0))));
    report.row(Row::absolute(&work, "PSS KiB each", " KiB", each.clone(), None));
    let figure = "a good client's p50 ms";
    let names = "crowded / quiet gitd";
    report.row(Row::compared(
        &work,
        figure,
        p50,
        slowdown[Side::Gitd],
        names,
        Some(Bound::AtMost(1.1)),
    ));
    report.charts.push(Chart {
        name: "silent",
        title: "A silent client: KiB of memory (less is better)".to_owned(),
        groups: vec![("each".to_owned(), each)],
    });
    Ok(())
}

/// Connects, and returns when the server holds all of them.
fn connect(server: &Server, clients: usize) -> Result<Vec<TcpStream>> {
    let mut crowd = Vec::with_capacity(clients);
    for _ in 0..clients {
        crowd.push(TcpStream::connect_timeout(&server.address, Duration::from_secs(10))?);
        if server.side == Side::Stock {
            // It forks for each, and a client that finds its accept queue of five full retries after a second.
            thread::sleep(Duration::from_millis(3));
        }
    }
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let held = match server.side {
            Side::Gitd => procfs::descriptors(server.pid())?,
            _ => server.processes()? - 1,
        };
        // git daemon's accept queue of five may lose some that believe to be connected.
        if held >= clients || (server.side == Side::Stock && held * 100 >= clients * 95) {
            return Ok(crowd);
        }
        if Instant::now() > deadline {
            return Err(
                format!("{} holds {held} of {clients} silent clients", server.side.name()).into()
            );
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// How much longer a client takes at the crowded server, and how long, both by the median.
fn good_client(
    stage: &Stage<'_>,
    quiet: &Server,
    crowded: &Server,
) -> Result<(Option<Ratio>, f64)> {
    let duration = Duration::from_millis(stage.amount(400, 1000));
    let mut samples = [Vec::new(), Vec::new()];
    let mut crowded_latencies = Samples::default();
    // The two servers take the places of two sides, so that they alternate as those do.
    alternate(stage.amount(2, 9), &[Side::Stock, Side::Gitd], |_, place| {
        let server = if place == Side::Stock { quiet } else { crowded };
        let load = load::run(server, SMALL, Writes::Whole, 1, duration)?;
        samples[place as usize].push(Summary::of(&load.latencies).p50);
        crowded_latencies[place].extend(load.latencies);
        Ok(())
    })?;
    let ratio = Ratio::paired(&samples[1], &samples[0]);
    Ok((ratio, Summary::of(&crowded_latencies[Side::Gitd]).p50))
}
