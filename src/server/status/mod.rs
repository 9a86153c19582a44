//! `--status`: metrics, health and what runs now, for the administrator, over HTTP.
//!
//! A thread of its own answers, with a runtime of its own, so that no reader delays a client. What
//! it tells it takes from counters ([`metrics`]), from each connection's [`Activity`] and session,
//! and from `/proc`, which only this thread reads. Connections, bytes and time are bounded
//! ([`http`]).
//!
//! [`Activity`]: crate::server::activity::Activity

pub mod answer;
pub mod door;
pub mod exposition;
pub mod gauges;
pub mod health;
pub mod histogram;
pub mod http;
pub mod metrics;
pub mod observer;
pub mod processes;
pub mod row;
pub mod sessions;

use std::sync::Arc;

use crate::log;
use crate::server::status::health::Probe;
use crate::server::status::metrics::Metrics;

/// What the server records for [`http`] to tell.
#[derive(Debug, Default)]
pub struct Status {
    /// What has happened so far.
    pub metrics: Metrics,
    /// gitd's own requests.
    pub probe: Probe,
}

impl Status {
    /// Begins to record.
    #[must_use]
    pub fn start() -> Arc<Self> {
        let status = Arc::new(Status::default());
        log::add_reader(Arc::clone(&status) as Arc<dyn log::Reader>);
        status
    }
}
