//! From a request to its answer: which place was asked for, and whether the client may ask.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use hyper::header::{ACCEPT, HOST, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use tokio::runtime::Handle;

use crate::net::address::Address;
use crate::server::shared::{Phase, Shared};
use crate::server::status::exposition::to_prometheus;
use crate::server::status::gauges::Gauges;
use crate::server::status::health::Health;
use crate::server::status::observer::{Observer, Sample};
use crate::server::status::sessions::{self, By, Sort};

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";
const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What a browser may do with the page: load its own two files, and ask this server.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The files of the page, by their places.
const PAGE: [(&str, &str, &str); 3] = [
    ("/", "text/html; charset=utf-8", include_str!("page/index.html")),
    ("/app.js", "text/javascript; charset=utf-8", include_str!("page/app.js")),
    ("/style.css", "text/css; charset=utf-8", include_str!("page/style.css")),
];

/// All that answers need.
pub struct Answerer {
    shared: Arc<Shared>,
    registry: Registry,
    health: Health,
    observer: Mutex<Observer>,
    /// Whether only this machine can reach the socket by TCP.
    local: bool,
}

impl Answerer {
    /// Answers about the server whose connections share `shared`. `local` if only this machine can
    /// reach it by TCP.
    pub fn new(shared: Arc<Shared>, listening: Vec<Address>, server: Handle, local: bool) -> Self {
        let mut registry = Registry::default();
        if let Some(status) = &shared.status {
            status.metrics.register(&mut registry);
        }
        registry.register_collector(Box::new(Gauges::new(Arc::clone(&shared))));
        Answerer {
            health: Health::new(listening, server),
            observer: Mutex::new(Observer::new(Arc::clone(&shared))),
            shared,
            registry,
            local,
        }
    }

    /// Takes note of the server's state, once a second.
    pub fn observe(&self) {
        self.with_observer(Observer::tick);
    }

    fn with_observer<T>(&self, work: impl FnOnce(&mut Observer) -> T) -> T {
        work(&mut self.observer.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Answers one request.
    pub async fn answer<B>(&self, request: &Request<B>) -> Response<String> {
        let mut response = self.choose(request).await;
        let headers = response.headers_mut();
        for (name, value) in [
            ("content-security-policy", POLICY),
            ("x-content-type-options", "nosniff"),
            ("referrer-policy", "no-referrer"),
            ("cache-control", "no-store"),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        response
    }

    async fn choose<B>(&self, request: &Request<B>) -> Response<String> {
        let mut hosts = request.headers().get_all(HOST).iter().map(HeaderValue::as_bytes);
        if self.local && !hosts.all(is_ours) {
            return plain(StatusCode::FORBIDDEN, "this name is not this server's\n");
        }
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let mut refusal = plain(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n");
            refusal.headers_mut().insert("allow", HeaderValue::from_static("GET, HEAD"));
            return refusal;
        }
        let query = Query(request.uri().query().unwrap_or_default());
        let accept = request.headers().get(ACCEPT).and_then(|accept| accept.to_str().ok());
        let accepts = |kind| accept.is_some_and(|accept| accept.contains(kind));
        match request.uri().path() {
            "/metrics" => self.metrics(accepts("application/openmetrics-text")),
            "/healthz" => self.health().await,
            "/readyz" => self.readiness(),
            "/sessions" => self.sessions(query, accepts(JSON)),
            "/history" => self.with_observer(|observer| json(&observer.history())),
            path => match PAGE.iter().find(|(place, ..)| *place == path) {
                Some((_, kind, text)) => typed(StatusCode::OK, kind, (*text).to_owned()),
                None => plain(
                    StatusCode::NOT_FOUND,
                    "try /, /metrics, /healthz, /readyz or /sessions\n",
                ),
            },
        }
    }

    fn metrics(&self, open: bool) -> Response<String> {
        let mut text = String::new();
        if encode(&mut text, &self.registry).is_err() {
            return plain(StatusCode::INTERNAL_SERVER_ERROR, "metrics cannot be written\n");
        }
        match open {
            true => typed(StatusCode::OK, OPENMETRICS, text),
            false => typed(StatusCode::OK, PROMETHEUS, to_prometheus(&text)),
        }
    }

    fn phase(&self) -> Phase {
        *self.shared.phase.borrow()
    }

    /// While the server drains, it refuses connections by design, so its runtime is asked instead.
    async fn health(&self) -> Response<String> {
        let draining = self.phase() != Phase::Serving;
        match self.health.ask(self.shared.status.as_deref(), draining).await {
            Ok(what) => plain(StatusCode::OK, &format!("{what}\n")),
            Err(why) => plain(StatusCode::SERVICE_UNAVAILABLE, &format!("{why}\n")),
        }
    }

    fn readiness(&self) -> Response<String> {
        match self.phase() {
            Phase::Serving => plain(StatusCode::OK, "ready\n"),
            _ => plain(StatusCode::SERVICE_UNAVAILABLE, "draining\n"),
        }
    }

    fn sessions(&self, query: Query<'_>, accepts_json: bool) -> Response<String> {
        let sort = match query.get("sort").map(Sort::from_name) {
            None => Sort::default(),
            Some(Some(sort)) => sort,
            Some(None) => return plain(StatusCode::BAD_REQUEST, "sort=elapsed, bytes or cpu\n"),
        };
        let by = match query.get("by") {
            None => By::Session,
            Some("address") => By::Address,
            Some(_) => return plain(StatusCode::BAD_REQUEST, "by=address\n"),
        };
        let wants_json = match query.get("format") {
            None => accepts_json,
            Some("json") => true,
            Some("text") => false,
            Some(_) => return plain(StatusCode::BAD_REQUEST, "format=json or text\n"),
        };
        let sample: Arc<Sample> = self.with_observer(Observer::look);
        let list = sessions::List::new(&sample, sort, by);
        if wants_json { json(&list) } else { typed(StatusCode::OK, TEXT, list.table()) }
    }
}

/// A request's query: `name=value`, none of which needs escapes.
#[derive(Clone, Copy)]
struct Query<'a>(&'a str);

impl<'a> Query<'a> {
    fn get(self, name: &str) -> Option<&'a str> {
        self.0.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
    }
}

/// Whether a request's `Host` can be meant for a server on loopback. A page of any site can lead
/// its own name to this address (DNS rebinding) and then read the answers; it cannot choose the name
/// `localhost` or a number.
fn is_ours(host: &[u8]) -> bool {
    let Ok(host) = std::str::from_utf8(host) else { return false };
    let bare = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((inner, rest)) if rest.is_empty() || rest.starts_with(':') => inner,
        Some(_) => return false,
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    bare.is_empty() || bare.eq_ignore_ascii_case("localhost") || bare.parse::<IpAddr>().is_ok()
}

fn json(value: &impl serde::Serialize) -> Response<String> {
    match serde_json::to_string(value) {
        Ok(text) => typed(StatusCode::OK, JSON, text + "\n"),
        Err(_) => plain(StatusCode::INTERNAL_SERVER_ERROR, "this cannot be written as JSON\n"),
    }
}

fn plain(status: StatusCode, text: &str) -> Response<String> {
    typed(status, TEXT, text.to_owned())
}

fn typed(status: StatusCode, kind: &'static str, body: String) -> Response<String> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert("content-type", HeaderValue::from_static(kind));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_that_no_page_can_have() {
        for ours in
            ["localhost", "LocalHost:9419", "127.0.0.1:9419", "[::1]:9419", "[::1]", "10.0.0.1", ""]
        {
            assert!(is_ours(ours.as_bytes()), "{ours}");
        }
        for foreign in [
            "git.example.org",
            "evil.example:9419",
            "localhost.evil.example",
            "127.0.0.1.x",
            "[::1]x",
        ] {
            assert!(!is_ours(foreign.as_bytes()), "{foreign}");
        }
        assert!(!is_ours(b"\xff"));
    }

    #[test]
    fn queries() {
        let query = Query("sort=cpu&by=address&sorted=x");
        assert_eq!(query.get("sort"), Some("cpu"));
        assert_eq!(query.get("by"), Some("address"));
        assert_eq!(query.get("form"), None);
        assert_eq!(Query("").get("sort"), None);
    }
}
