//! Readers that stall.

use std::io::Write;
use std::net::TcpStream;

use super::Site;
use crate::support::process::{descriptors, wait_until};

/// A thousand connections that say nothing, say half, or do not read: git's clients and the next reader are served, and
/// nothing of them is left.
#[test]
fn a_thousand_connections() {
    let site = Site::start();
    site.daemon.ask("upload-pack", "/repo.git").assert_served("repo.git");
    assert_eq!(site.get("/readyz").status, 200);
    let before = descriptors(site.daemon.pid());
    let mut stalled = Vec::new();
    for n in 0..1000 {
        let mut stream = TcpStream::connect(site.status).unwrap();
        // Some of them were closed in favour of others.
        let _ = match n % 3 {
            0 => Ok(()),
            1 => stream.write_all(b"GET / HT"),
            _ => stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n"),
        };
        stalled.push(stream);
        if n % 100 == 0 {
            site.daemon.ask("upload-pack", "/repo.git").assert_served("repo.git");
            assert_eq!(site.get("/healthz").status, 200, "after {n}");
        }
    }
    let most = descriptors(site.daemon.pid());
    assert!(most < before + 40, "{most} descriptors, {before} before");
    assert!(site.get("/metrics").body.contains("gitd_requests_total"));
    assert_eq!(site.sessions().len(), 0);
    drop(stalled);
    wait_until("they are gone", || descriptors(site.daemon.pid()) <= before + 2);
}
