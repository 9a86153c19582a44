//! What has happened so far, counted at the end of each connection. No label is a client's to
//! choose: services, outcomes, transports and reasons are lists in the code.
//!
//! The thread that serves clients counts, and another one reads. So all families have their members
//! from the start, and counting takes no lock that the reader could hold.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use crate::log::Reader;
use crate::log::record::{Outcome, Record};
use crate::net::watch::Transport;
use crate::protocol::service::Service;
use crate::server::status::histogram::Histogram;

type Label = (&'static str, &'static str);

/// What is said of a service where there is none.
const NONE: &str = "none";

/// The words of [`Transport`], and what is said where it is unknown.
const TRANSPORTS: [&str; 5] = ["tcp", "mptcp", "mptcp-fallback", "unix", NONE];

/// The words of [`Denial`](crate::access::denial::Denial),
/// [`Malformed`](crate::protocol::request::Malformed) and
/// [`Unread`](crate::protocol::inbound::Unread).
const REASONS: [&str; 24] = [
    "service-not-offered",
    "aliased",
    "user-path",
    "too-long",
    "not-a-repository",
    "foreign-owner",
    "not-listed",
    "not-exported",
    "service-not-enabled",
    "bad-configuration",
    "access-hook",
    "cannot-run-git",
    "exhausted",
    "service-failed",
    "moved",
    "hanging",
    "internal-error",
    "busy",
    "invalid-parameters",
    "invalid-host",
    "unknown-command",
    "hung-up",
    "invalid-length",
    "proxy-header",
];

/// The counters.
#[derive(Debug)]
pub struct Metrics {
    requests: Family<[Label; 3], Counter>,
    refusals: Family<[Label; 1], Counter>,
    sent: Family<[Label; 1], Counter>,
    received: Family<[Label; 1], Counter>,
    cpu: Family<[Label; 1], Counter<f64, AtomicU64>>,
    sessions: Family<[Label; 1], Counter>,
    duration: Histogram,
    first_byte: Histogram,
    queued: Histogram,
    totals: Totals,
}

/// The sums, for the page.
#[derive(Debug, Default)]
struct Totals {
    requests: AtomicU64,
    sent: AtomicU64,
    received: AtomicU64,
}

/// Whether connections end like this, with or without a complete request.
fn matters(outcome: Outcome, asked: bool) -> bool {
    match outcome {
        Outcome::Served | Outcome::Failed | Outcome::Refused | Outcome::Stopped => asked,
        Outcome::Malformed | Outcome::NoRequest | Outcome::Dismissed => !asked,
        Outcome::TimedOut | Outcome::Gone | Outcome::InternalError => true,
    }
}

fn paths(transport: Transport) -> Option<&'static str> {
    match transport {
        Transport::Multipath { paths: 0 | 1 } => Some("1"),
        Transport::Multipath { paths: 2 } => Some("2"),
        Transport::Multipath { paths: 3 } => Some("3"),
        Transport::Multipath { .. } => Some("4+"),
        _ => None,
    }
}

impl Default for Metrics {
    fn default() -> Self {
        let metrics = Metrics {
            requests: Family::default(),
            refusals: Family::default(),
            sent: Family::default(),
            received: Family::default(),
            cpu: Family::default(),
            sessions: Family::default(),
            duration: Histogram::default(),
            first_byte: Histogram::default(),
            queued: Histogram::default(),
            totals: Totals::default(),
        };
        for outcome in Outcome::ALL {
            for transport in TRANSPORTS {
                let member = |service: &'static str| {
                    let labels = request(service, outcome.word(), transport);
                    drop(metrics.requests.get_or_create(&labels));
                };
                // Others can hardly be, and are made if they are.
                if matters(outcome, true) && transport != NONE {
                    Service::ALL.map(Service::name).into_iter().for_each(member);
                }
                if matters(outcome, false) {
                    member(NONE);
                }
            }
        }
        for reason in REASONS {
            drop(metrics.refusals.get_or_create(&[("reason", reason)]));
        }
        for service in Service::ALL.map(Service::name) {
            drop(metrics.sent.get_or_create(&[("service", service)]));
            drop(metrics.received.get_or_create(&[("service", service)]));
            drop(metrics.cpu.get_or_create(&[("service", service)]));
        }
        for paths in ["1", "2", "3", "4+"] {
            drop(metrics.sessions.get_or_create(&[("paths", paths)]));
        }
        metrics
    }
}

fn request(service: &'static str, outcome: &'static str, transport: &'static str) -> [Label; 3] {
    [("service", service), ("outcome", outcome), ("transport", transport)]
}

impl Metrics {
    /// Has `registry` tell the counters.
    pub fn register(&self, registry: &mut Registry) {
        let build = Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("gitd_build", "The version of gitd", build);
        let about = "Connections that have ended";
        registry.register("gitd_requests", about, self.requests.clone());
        let about = "Refused or malformed requests";
        registry.register("gitd_refusals", about, self.refusals.clone());
        let about = "Bytes that clients have acknowledged";
        registry.register("gitd_sent_bytes", about, self.sent.clone());
        let about = "Bytes that clients have sent";
        registry.register("gitd_received_bytes", about, self.received.clone());
        let about = "Processor time of services that have ended";
        registry.register("gitd_service_cpu_seconds", about, self.cpu.clone());
        let about = "Sessions over MPTCP that have ended, by the most paths that they have had";
        registry.register("gitd_mptcp_sessions", about, self.sessions.clone());
        let about = "From accept to the end, of connections with a service";
        registry.register("gitd_session_duration_seconds", about, self.duration.clone());
        let about = "From accept to the service's first byte";
        registry.register("gitd_first_byte_seconds", about, self.first_byte.clone());
        let about = "How long requests have waited for a permit";
        registry.register("gitd_queue_seconds", about, self.queued.clone());
    }

    /// The number of connections that have ended, and the bytes to and from their clients.
    pub fn totals(&self) -> (u64, u64, u64) {
        let Totals { requests, sent, received } = &self.totals;
        (requests.load(Relaxed), sent.load(Relaxed), received.load(Relaxed))
    }
}

impl Reader for super::Status {
    fn closed(&self, record: &Record) {
        self.metrics.count(record);
    }
}

impl Metrics {
    fn count(&self, record: &Record) {
        let service = record.service().map_or(NONE, Service::name);
        let transport = record.transport.map_or(NONE, Transport::word);
        let outcome = record.outcome.word();
        self.requests.get_or_create(&request(service, outcome, transport)).inc();
        self.totals.requests.fetch_add(1, Relaxed);
        if let Some(reason) = record.reason {
            self.refusals.get_or_create(&[("reason", reason)]).inc();
        }
        if let Some(queued) = record.queued {
            self.queued.observe(queued);
        }
        if record.pid.is_none() {
            return;
        }
        self.duration.observe(record.duration);
        if let Some(first_byte) = record.first_byte {
            self.first_byte.observe(first_byte);
        }
        if let Some(bytes) = record.bytes {
            self.sent.get_or_create(&[("service", service)]).inc_by(bytes.sent);
            self.received.get_or_create(&[("service", service)]).inc_by(bytes.received);
            self.totals.sent.fetch_add(bytes.sent, Relaxed);
            self.totals.received.fetch_add(bytes.received, Relaxed);
        }
        if let Some(usage) = record.usage {
            let cpu: Duration = usage.user + usage.system;
            self.cpu.get_or_create(&[("service", service)]).inc_by(cpu.as_secs_f64());
        }
        if let Some(paths) = record.transport.and_then(paths) {
            self.sessions.get_or_create(&[("paths", paths)]).inc();
        }
    }
}
