//! Both daemons in the laboratory: two hosts in network namespaces, joined by links of a known rate (`tests/lab`).

use std::path::Path;
use std::time::Duration;

use crate::lab::{Daemon, Network, Server, missing};
use crate::report::Report;
use crate::rounds::PerSide;
use crate::server::Side;
use crate::{Result, procfs, progress};

/// Whether this machine has no laboratory, which the report then says.
pub(crate) fn is_missing(report: &mut Report) -> bool {
    let Some(why) = missing() else { return false };
    let note = format!("**nothing was measured between two hosts:** it {why}");
    progress::say(&note.to_uppercase());
    report.note(note);
    true
}

/// git daemon on TCP, and gitd beside it.
pub(crate) struct Servers {
    servers: PerSide<Option<(Server, usize)>>,
}

impl Servers {
    const STOCK_PORT: u16 = 9418;
    const GITD_PORT: u16 = 9419;

    /// Starts both on the network's server, gitd from the build that is measured.
    pub(crate) fn start(
        network: &Network,
        gitd: &Path,
        kind_of_gitd: Daemon,
        base: &Path,
    ) -> Result<Self> {
        let mut servers = PerSide::default();
        for side in Side::DAEMONS {
            let (daemon, port) = match side {
                Side::Gitd => (kind_of_gitd, Self::GITD_PORT),
                _ => (Daemon::Stock, Self::STOCK_PORT),
            };
            let server = Server::start_build(&network.server, daemon, gitd, base, port);
            let resting = procfs::tree(server.pid())?.len();
            servers[side] = Some((server, resting));
        }
        Ok(Self { servers })
    }

    /// The address and port of a side as they stand in a URL.
    pub(crate) fn host(side: Side) -> String {
        let port = if side == Side::Gitd { Self::GITD_PORT } else { Self::STOCK_PORT };
        format!("10.50.1.1:{port}")
    }

    /// CPU seconds of a side's daemon and of all it has started, once that has ended.
    pub(crate) fn cpu_seconds(&self, side: Side) -> Result<f64> {
        let Some((server, resting)) = &self.servers[side] else { return Ok(0.0) };
        procfs::settle(server.pid(), *resting, Duration::from_secs(20))?;
        procfs::cpu_seconds(server.pid())
    }
}
