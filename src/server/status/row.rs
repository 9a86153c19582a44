//! One connection, as the administrator sees it.

use std::time::Instant;

use serde::Serialize;

use crate::escape::Escaped;
use crate::net::peer::{Origin, Peer};
use crate::net::watch::Transport;
use crate::protocol::service::Service;
use crate::server::activity::{Activity, Stage};
use crate::server::status::processes::Usage;
use crate::session::live::Doing;

/// From so many bytes a second on, a session sends or receives. Progress messages are less.
const MOVES: u64 = 4096;

/// Bytes a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rates {
    /// To the client.
    pub sent: u64,
    /// From the client.
    pub received: u64,
}

/// What a connection is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Its request has not arrived.
    ReceivingRequest,
    /// It waits for a permit.
    Queued,
    /// Its request is checked.
    Checking,
    /// Service and client agree on what to send.
    Negotiating,
    /// The service puts a pack together.
    PreparingPack,
    /// Bytes go to the client.
    Sending,
    /// Bytes come from the client.
    Receiving,
    /// What the client has pushed is checked and stored, or hooks run.
    Storing,
    /// The client has to read or send something.
    WaitingForClient,
    /// It is told a refusal, or closes.
    Ending,
}

/// One connection. Words of clients are escaped for a terminal, and cut.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    /// Its number; each connection of a server has another one.
    pub id: u64,
    /// The client, with its port.
    pub client: String,
    /// The client's address or user.
    pub address: String,
    /// The service, once the request is there.
    pub service: Option<&'static str>,
    /// The repository as asked for.
    pub repository: Option<String>,
    /// What it is doing.
    pub state: State,
    /// Since it was accepted.
    pub elapsed_seconds: f64,
    /// Bytes to the client. `None` where the kernel counts none.
    pub sent_bytes: Option<u64>,
    /// Bytes from the client.
    pub received_bytes: Option<u64>,
    /// Bytes to the client, a second.
    pub sent_per_second: Option<u64>,
    /// Bytes from the client, a second.
    pub received_per_second: Option<u64>,
    /// The round-trip time of the first path.
    pub rtt_seconds: Option<f64>,
    /// `tcp`, `mptcp`, `mptcp-fallback` or `unix`.
    pub transport: Option<&'static str>,
    /// The number of paths over MPTCP.
    pub paths: Option<u8>,
    /// The service's process.
    pub pid: Option<u32>,
    /// Processor time of the service and its children.
    pub cpu_seconds: Option<f64>,
    /// Their memory.
    pub memory_bytes: Option<u64>,
}

impl Row {
    /// A connection at `now`. `rests` says that its processes have used no processor time lately.
    pub fn new(
        number: u64,
        activity: &Activity,
        now: Instant,
        rates: Option<Rates>,
        usage: Option<Usage>,
        rests: bool,
    ) -> Self {
        let request = activity.request();
        let live = activity.live();
        let moved = live.and_then(|live| live.moved());
        let doing = match live {
            Some(live) if live.has_ended() => None,
            live => live.map(|live| live.doing()),
        };
        let service = request.map(|request| request.service);
        let peer = Peer::from(activity.origin());
        let known = match activity.origin() {
            Origin::Local(_) => Some(Transport::Unix),
            Origin::Inet(_) => None,
        };
        let transport = moved.map(|moved| moved.transport).or(known);
        Row {
            id: number,
            address: match &peer.address {
                Some(address) => Escaped(address).to_string(),
                None => peer.to_string(),
            },
            client: peer.to_string(),
            service: service.map(Service::name),
            repository: request.map(|request| Escaped(&request.pathname).to_string()),
            state: state(activity.stage(), service, doing, rates, usage, rests),
            elapsed_seconds: tenths(now.saturating_duration_since(activity.accepted).as_secs_f64()),
            sent_bytes: moved.map(|moved| moved.sent),
            received_bytes: moved.map(|moved| moved.received),
            sent_per_second: rates.map(|rates| rates.sent),
            received_per_second: rates.map(|rates| rates.received),
            rtt_seconds: moved.and_then(|moved| Some(moved.round_trip?.as_secs_f64())),
            transport: transport.map(Transport::word),
            paths: match transport {
                Some(Transport::Multipath { paths }) => Some(paths),
                _ => None,
            },
            pid: live.map(|live| live.pid()),
            cpu_seconds: usage.map(|usage| usage.cpu.as_secs_f64()),
            memory_bytes: usage.map(|usage| usage.memory),
        }
    }
}

fn tenths(seconds: f64) -> f64 {
    (seconds * 10.0).round() / 10.0
}

fn state(
    stage: Stage,
    service: Option<Service>,
    doing: Option<Doing>,
    rates: Option<Rates>,
    usage: Option<Usage>,
    rests: bool,
) -> State {
    match stage {
        Stage::Reading => return State::ReceivingRequest,
        Stage::Queued => return State::Queued,
        Stage::Checking => return State::Checking,
        Stage::Refusing => return State::Ending,
        Stage::Watching(_) => {}
    }
    let moves = |rate: fn(&Rates) -> u64| rates.as_ref().map_or(0, rate) >= MOVES;
    let has_children = usage.is_some_and(|usage| usage.processes > 1);
    match doing {
        None => State::Ending,
        Some(Doing::Held) => State::Queued,
        Some(Doing::Waits) => State::WaitingForClient,
        _ if moves(|rates| rates.sent) => State::Sending,
        _ if moves(|rates| rates.received) => State::Receiving,
        _ if rests => State::WaitingForClient,
        _ if has_children && service == Some(Service::ReceivePack) => State::Storing,
        _ if has_children => State::PreparingPack,
        _ => State::Negotiating,
    }
}

impl State {
    /// It in words.
    pub fn words(self) -> &'static str {
        match self {
            State::ReceivingRequest => "receiving request",
            State::Queued => "queued",
            State::Checking => "checking",
            State::Negotiating => "negotiating",
            State::PreparingPack => "preparing a pack",
            State::Sending => "sending",
            State::Receiving => "receiving",
            State::Storing => "storing a push",
            State::WaitingForClient => "waiting for client",
            State::Ending => "ending",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn states() {
        let watching = Stage::Watching(7);
        let fetch = Some(Service::UploadPack);
        let push = Some(Service::ReceivePack);
        let rates = |sent, received| Some(Rates { sent, received });
        let usage = |processes| Some(Usage { cpu: Duration::ZERO, memory: 0, processes });
        let works = Some(Doing::Works);
        let cases = [
            ((Stage::Reading, None, None, None, None, false), State::ReceivingRequest),
            ((Stage::Queued, fetch, None, None, None, false), State::Queued),
            ((Stage::Checking, fetch, None, None, None, false), State::Checking),
            ((Stage::Refusing, fetch, works, None, None, false), State::Ending),
            ((watching, fetch, None, rates(9999, 0), None, false), State::Ending),
            ((watching, fetch, Some(Doing::Held), None, usage(1), true), State::Queued),
            (
                (watching, fetch, Some(Doing::Waits), rates(9999, 0), None, false),
                State::WaitingForClient,
            ),
            ((watching, fetch, works, rates(4096, 0), usage(2), true), State::Sending),
            ((watching, push, works, rates(0, 4096), usage(2), false), State::Receiving),
            ((watching, push, works, rates(0, 4095), usage(2), false), State::Storing),
            ((watching, fetch, works, rates(4095, 0), usage(2), false), State::PreparingPack),
            ((watching, fetch, works, None, usage(2), true), State::WaitingForClient),
            ((watching, fetch, works, None, usage(1), false), State::Negotiating),
            ((watching, fetch, Some(Doing::Unknown), None, None, false), State::Negotiating),
        ];
        for ((stage, service, doing, rates, usage, rests), expected) in cases {
            let found = state(stage, service, doing, rates, usage, rests);
            assert_eq!(found, expected, "{stage:?} {service:?} {doing:?} {rates:?} {usage:?}");
            let json = serde_json::to_string(&found).unwrap();
            assert!(!json.contains(' ') && !found.words().is_empty());
        }
    }
}
