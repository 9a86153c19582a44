//! The picture: the same clone through the same loss, by gitd over MPTCP and by git daemon over TCP.

use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::MULTIPATH;
use crate::chart::{Panel, draw_panels};
use crate::lab::{Client, Daemon, Loss, Network, Repository, Server, Transfer};

/// When the first link goes silent.
const LOST_AT: Duration = Duration::from_secs(4);
const END: Duration = Duration::from_secs(16);

pub fn draw(file: &Path) {
    let repository = Repository::of_megabytes(100);
    let panels = [
        panel("gitd over MPTCP", MULTIPATH, Client::Connect, &repository),
        panel("git daemon over TCP", Daemon::Stock, Client::Git, &repository),
    ];
    fs::write(file, draw_panels(&panels, END, LOST_AT)).unwrap();
    eprintln!("written: {}", file.display());
}

fn panel(title: &str, daemon: Daemon, client: Client, repository: &Repository) -> Panel {
    let network = Network::new(&[50, 50]);
    let _server = Server::start(&network.server, daemon, repository.base());
    let transfer = Transfer::clone(&network, client, repository, "10.50.1.1");
    while transfer.elapsed() < LOST_AT {
        std::thread::sleep(LOST_AT.saturating_sub(transfer.elapsed()));
    }
    Loss::Blackhole.lose(&network, network.links[0]);
    let outcome = transfer.finish(END.saturating_sub(LOST_AT));
    let finished = outcome.succeeded.then_some(outcome.duration);
    if finished.is_some() {
        outcome.verify(repository);
    }
    eprintln!("{title}: {finished:?}, {} bytes", outcome.bytes);
    Panel {
        title: title.to_owned(),
        share: outcome.bytes as f64 / repository.pack_bytes() as f64,
        finished,
        samples: outcome.record.samples,
    }
}
