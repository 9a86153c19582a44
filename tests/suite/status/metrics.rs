//! `/metrics`, as Prometheus reads it.

use std::io::Write;
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use super::{Site, get};
use crate::support::process::{end, installed, wait_until};
use crate::support::{End, Verdict, skip};

/// Every kind of end is counted, by words of gitd's own.
#[test]
fn what_has_happened() {
    let site = Site::start();
    site.daemon.ask("upload-pack", "/repo.git").assert_served("repo.git");
    for path in ["/nothing", "/nothing/\"}\n", "/also nothing"] {
        assert!(matches!(site.daemon.ask("upload-pack", path).verdict, Verdict::Refused(_)));
    }
    assert!(matches!(site.daemon.ask("receive-pack", "/repo.git").verdict, Verdict::Refused(_)));
    site.daemon.talk("0009hello").assert_silent();
    let mut nothing = site.daemon.connect();
    nothing.half_close();
    assert_eq!(nothing.rest(), (Vec::new(), End::Closed));
    let requests = |service: &str, outcome: &str| {
        let labels = format!("service=\"{service}\",outcome=\"{outcome}\",transport=\"tcp\"");
        site.metric(&format!("gitd_requests_total{{{labels}}}"))
    };
    wait_until("all are counted", || requests("none", "no-request") == 1.0);
    assert_eq!(requests("upload-pack", "served"), 1.0);
    assert_eq!(requests("upload-pack", "refused"), 3.0);
    assert_eq!(requests("receive-pack", "refused"), 1.0);
    assert_eq!(requests("none", "malformed"), 1.0);
    let refusals =
        |reason: &str| site.metric(&format!("gitd_refusals_total{{reason=\"{reason}\"}}"));
    assert_eq!((refusals("not-a-repository"), refusals("unknown-command")), (3.0, 1.0));
    assert_eq!(site.metric("gitd_session_duration_seconds_count"), 1.0);
    assert_eq!(site.metric("gitd_session_duration_seconds_bucket{le=\"+Inf\"}"), 1.0);
    assert_eq!(site.metric("gitd_first_byte_seconds_count"), 1.0);
    assert_eq!(site.metric("gitd_queue_seconds_count"), 5.0);
    assert!(site.metric("gitd_sent_bytes_total{service=\"upload-pack\"}") > 100.0);
    assert!(site.metric("gitd_received_bytes_total{service=\"upload-pack\"}") > 10.0);
    assert!(site.metric("gitd_service_cpu_seconds_total{service=\"upload-pack\"}") > 0.0);
    assert!(site.metric("process_resident_memory_bytes") > 1e6);
    assert!(site.metric("process_open_fds") > 5.0);
    assert!(site.metric("process_start_time_seconds") > 1.6e9);
    assert_eq!(site.metric("gitd_max_connections"), 32.0);
    let build = format!("gitd_build_info{{version=\"{}\"}}", env!("CARGO_PKG_VERSION"));
    assert_eq!(site.metric(&build), 1.0);
}

/// No client adds a series.
#[test]
fn cardinality_is_bounded() {
    let site = Site::start();
    let series = || site.get("/metrics").body.lines().filter(|line| !line.starts_with('#')).count();
    let before = series();
    for n in 0..20 {
        site.daemon.ask("upload-pack", &format!("/nothing-{n}"));
        site.daemon.talk(format!("{:04x}git-{n} /x\0", 4 + format!("git-{n} /x\0").len()));
    }
    assert_eq!(series(), before);
    assert!(before < 400, "{before} series");
    assert!(!site.get("/metrics").body.contains("nothing-"));
}

/// Every reason that the code knows is there before the first refusal.
#[test]
fn all_reasons() {
    let site = Site::start();
    let text = site.get("/metrics").body;
    let mut count = 0;
    for file in ["access/denial.rs", "protocol/request.rs", "protocol/inbound.rs"] {
        let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(file);
        let code = std::fs::read_to_string(file).unwrap();
        let (_, body) = code.split_once("pub fn word(&self)").unwrap();
        let body = body.split("\n    }\n").next().unwrap();
        for word in body.split('"').skip(1).step_by(2) {
            assert!(text.contains(&format!("{{reason=\"{word}\"}} 0\n")), "no {word}");
            count += 1;
        }
    }
    assert!(count > 20, "{count}");
}

#[test]
fn both_formats() {
    let site = Site::start();
    let head = "GET /metrics HTTP/1.1\r\nHost: localhost\r\nAccept: application/openmetrics-text\
                ; version=1.0.0,text/plain;version=0.0.4;q=0.5\r\n\r\n";
    let open = site.ask(head);
    assert!(open.header("content-type").unwrap().starts_with("application/openmetrics-text; "));
    assert!(open.body.ends_with("# EOF\n"));
    assert!(open.body.contains("\n# TYPE gitd_requests counter\n"));
    let plain = site.get("/metrics").body;
    assert!(plain.contains("\n# TYPE gitd_requests_total counter\n") && !plain.contains("# EOF"));
    let series = |text: &str| -> Vec<String> {
        let names = text.lines().filter(|line| !line.starts_with('#'));
        let mut names: Vec<_> =
            names.map(|line| line.rsplit_once(' ').unwrap().0.to_owned()).collect();
        names.sort();
        names
    };
    assert_eq!(series(&open.body), series(&plain));
}

#[test]
fn promtool_has_no_complaint() {
    if installed("promtool").is_none() {
        return skip("needs the program promtool (Debian: prometheus)");
    }
    let site = Site::start();
    site.daemon.ask("upload-pack", "/repo.git").assert_served("repo.git");
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let text = site.get("/metrics").body;
    promtool.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = promtool.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success() && said.is_empty(), "{said}");
}

/// A real Prometheus scrapes gitd and has the figures.
#[test]
fn prometheus_scrapes_it() {
    if installed("prometheus").is_none() {
        return skip("needs the program prometheus");
    }
    let site = Site::start();
    site.daemon.ask("upload-pack", "/repo.git").assert_served("repo.git");
    let directory = site.scratch.root().join("prometheus");
    std::fs::create_dir(&directory).unwrap();
    let config = format!(
        "global: {{scrape_interval: 1s}}\nscrape_configs:\n- job_name: gitd\n  static_configs:\n  - targets: ['{}']\n",
        site.status
    );
    std::fs::write(directory.join("prometheus.yml"), config).unwrap();
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let prometheus = Command::new("prometheus")
        .arg(format!("--config.file={}", directory.join("prometheus.yml").display()))
        .arg(format!("--storage.tsdb.path={}", directory.join("data").display()))
        .arg(format!("--web.listen-address={free}"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let _prometheus = Running(prometheus);
    let query = |query: &str| -> Option<f64> {
        std::net::TcpStream::connect(free).ok()?;
        let head = format!("/api/v1/query?query={query}");
        let answer = close(free, &head)?;
        let value: Value = serde_json::from_str(&answer).ok()?;
        value["data"]["result"][0]["value"][1].as_str()?.parse().ok()
    };
    wait_until("Prometheus has the request", || {
        query("sum(gitd_requests_total%7Boutcome=%22served%22%7D)") == Some(1.0)
    });
    assert_eq!(query("up%7Bjob=%22gitd%22%7D"), Some(1.0));
    assert!(query("process_resident_memory_bytes%7Bjob=%22gitd%22%7D").unwrap() > 1e6);
    wait_until("its histogram is whole", || {
        query("histogram_quantile(0.5,gitd_session_duration_seconds_bucket)").is_some()
    });
}

/// An answer of a server that keeps its connections, read to its end.
fn close(address: std::net::SocketAddr, place: &str) -> Option<String> {
    use std::io::Read;
    let mut stream = std::net::TcpStream::connect(address).ok()?;
    write!(stream, "GET {place} HTTP/1.0\r\nHost: {address}\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer.split_once("\r\n\r\n")?.1.to_owned())
}

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        end(&mut self.0);
    }
}

/// The documentation has every metric, and no other.
#[test]
fn documented() {
    let site = Site::start();
    let text = get(site.status, "/metrics").body;
    let page = super::document("monitoring.md");
    let names =
        text.lines().filter_map(|line| line.strip_prefix("# TYPE gitd_")?.split(' ').next());
    let mut count = 0;
    for name in names {
        assert!(page.contains(&format!("`gitd_{name}`")), "gitd_{name} is not documented");
        count += 1;
    }
    for word in page.split('`').skip(1).step_by(2) {
        if let Some(name) = word.strip_prefix("gitd_") {
            assert!(text.contains(&format!("# TYPE gitd_{name} ")), "there is no gitd_{name}");
        }
    }
    assert!(count > 15, "{count}");
}

/// A client that asks for MPTCP is counted as such, with its paths.
#[test]
fn multipath() {
    let Ok(socket) = socket2::Socket::new(
        socket2::Domain::IPV4,
        socket2::Type::STREAM,
        Some(socket2::Protocol::MPTCP),
    ) else {
        return skip("needs a kernel with Multipath TCP");
    };
    let site = Site::with(|gitd| gitd.arg("--mptcp"));
    socket.connect(&site.daemon.address().into()).unwrap();
    let client = crate::support::Client::from(std::net::TcpStream::from(socket)).busy();
    wait_until("its path is seen", || site.metric("gitd_mptcp_paths") == 1.0);
    let sessions = site.sessions();
    assert_eq!((&sessions[0]["transport"], &sessions[0]["paths"]), (&"mptcp".into(), &1.into()));
    client.finish();
    let ended = "gitd_mptcp_sessions_total{paths=\"1\"}";
    wait_until("it is counted", || site.metric(ended) == 1.0);
    let requests =
        "gitd_requests_total{service=\"upload-pack\",outcome=\"served\",transport=\"mptcp\"}";
    assert_eq!(site.metric(requests), 1.0);
}
