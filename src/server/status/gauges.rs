//! Metrics that are read when they are asked for: what is there now, and what gitd itself uses.

use std::fmt;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeCounterValue, EncodeGaugeValue, NoLabelSet,
};
use prometheus_client::metrics::MetricType;

use crate::net::watch::Transport;
use crate::server::shared::{Phase, Shared};
use crate::server::status::observer::MOST;
use crate::server::status::processes;

/// Reads the server's state for each scrape.
#[derive(Debug)]
pub struct Gauges {
    shared: Arc<Shared>,
    /// In seconds since 1970.
    started: f64,
}

impl Gauges {
    /// The state of the server whose connections share `shared`, and that starts now.
    pub fn new(shared: Arc<Shared>) -> Self {
        let started = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Gauges { shared, started: started.as_secs_f64() }
    }
}

impl Collector for Gauges {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut writer = Writer(encoder);
        let Shared { admission, pending, activities, limits, phase, .. } = &*self.shared;
        let (running, idle, queued) = admission.census();
        writer.gauge("gitd_running_sessions", "Sessions whose service works.", running as u64)?;
        writer.gauge(
            "gitd_idle_sessions",
            "Sessions whose service waits for its client.",
            idle as u64,
        )?;
        writer.gauge("gitd_queued_requests", "Requests that wait for a permit.", queued as u64)?;
        let pending = pending.count() as u64;
        writer.gauge(
            "gitd_pending_clients",
            "Clients without a request, or told a refusal.",
            pending,
        )?;
        writer.gauge("gitd_connections", "Open connections.", activities.count() as u64)?;
        if let Some(most) = limits.max_connections {
            let most = most.get() as u64;
            writer.gauge("gitd_max_connections", "The limit of running sessions.", most)?;
        }
        if let Some(most) = limits.max_queue {
            writer.gauge("gitd_max_queue", "The limit of queued requests.", most as u64)?;
        }
        writer.gauge("gitd_mptcp_paths", "Paths of running sessions over MPTCP.", self.paths())?;
        let draining = u64::from(*phase.borrow() != Phase::Serving);
        writer.gauge("gitd_draining", "Whether the server stops: 1 if so.", draining)?;
        self.process(&mut writer)
    }
}

impl Gauges {
    fn paths(&self) -> u64 {
        let moved = self.shared.activities.list(MOST);
        let moved = moved.iter().filter_map(|(_, activity)| activity.live()?.moved());
        moved
            .map(|moved| match moved.transport {
                Transport::Multipath { paths } => u64::from(paths),
                _ => 0,
            })
            .sum()
    }

    fn process(&self, writer: &mut Writer<'_>) -> fmt::Result {
        let own = processes::own();
        let cpu = own.cpu.as_secs_f64();
        writer.counter("process_cpu_seconds", "Processor time of gitd itself.", cpu)?;
        writer.gauge("process_resident_memory_bytes", "Memory of gitd itself.", own.memory)?;
        let space = own.address_space;
        writer.gauge("process_virtual_memory_bytes", "Address space of gitd itself.", space)?;
        writer.gauge("process_open_fds", "Open descriptors.", own.descriptors)?;
        if let Some(most) = own.most_descriptors {
            writer.gauge("process_max_fds", "The limit of open descriptors.", most)?;
        }
        writer.gauge("process_threads", "Threads.", own.threads)?;
        let about = "When gitd began to serve, in seconds since 1970.";
        writer.gauge("process_start_time_seconds", about, self.started)
    }
}

struct Writer<'a>(DescriptorEncoder<'a>);

impl Writer<'_> {
    fn gauge(&mut self, name: &str, help: &str, value: impl EncodeGaugeValue) -> fmt::Result {
        let mut encoder = self.0.encode_descriptor(name, help, None, MetricType::Gauge)?;
        encoder.encode_gauge(&value)
    }

    fn counter(&mut self, name: &str, help: &str, value: impl EncodeCounterValue) -> fmt::Result {
        let mut encoder = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        encoder.encode_counter::<NoLabelSet, _, f64>(&value, None)
    }
}
