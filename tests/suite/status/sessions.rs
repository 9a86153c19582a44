//! What runs now, as JSON and as a table.

use serde_json::Value;

use super::{Clone, Site, with_large};
use crate::support::process::{children, wait_until};
use crate::support::{Client, request};

#[test]
fn a_running_clone() {
    let site = Site::of(with_large(), |gitd| gitd);
    let clone = Clone::start(&site, "/large.git");
    let session = site.wait_for_state("sending");
    assert_eq!(session["client"], clone.address.to_string());
    assert_eq!(session["address"], "127.0.0.1");
    assert_eq!(session["service"], "upload-pack");
    assert_eq!(session["repository"], "/large.git");
    assert_eq!(session["transport"], "tcp");
    assert_eq!(session["pid"], children(site.daemon.pid())[0]);
    wait_until("its rate and its figures are known", || {
        let sessions = site.sessions();
        let number = |name: &str| sessions[0][name].as_f64().unwrap_or(0.0);
        number("sent_per_second") > 10_000.0
            && number("sent_bytes") > 100_000.0
            && number("received_bytes") > 50.0
            && number("rtt_seconds") > 0.0
            && number("elapsed_seconds") > 1.0
            && number("memory_bytes") > 1e6
    });
    let answer = site.get("/sessions?sort=bytes");
    let table: Vec<_> = answer.body.lines().collect();
    assert!(table[0].starts_with("gitd ") && table[0].contains("serving: 1 running"), "{table:#?}");
    assert!(table[2].starts_with("CLIENT ") && table[2].ends_with(" REPOSITORY"), "{table:#?}");
    assert!(table[3].contains("  upload-pack  sending  "), "{table:#?}");
    assert!(table[3].ends_with("  /large.git"), "{table:#?}");
    // Columns begin where their heads do.
    let at = table[2].find("STATE").unwrap();
    assert!(table[3][at..].starts_with("sending"), "{table:#?}");
    let talkers = site.get("/sessions?by=address&format=json").json();
    assert_eq!(talkers["addresses"][0]["address"], "127.0.0.1");
    assert_eq!(talkers["addresses"][0]["connections"], 1);
    assert!(site.get("/sessions?by=address").body.contains("\n127.0.0.1 "));
    clone.stop();
    wait_until("it is gone", || site.sessions().is_empty());
    let history = site.get("/history").json();
    let sent = history["sent_per_second"].as_array().unwrap();
    assert!(sent.iter().any(|second| second.as_u64().unwrap() > 10_000), "{history}");
}

/// Each state as a client brings it about.
#[test]
fn states() {
    let site = Site::with(|gitd| gitd.arg("--max-connections=1").arg("--enable=receive-pack"));
    let silent = site.daemon.connect();
    wait_until("a client without a request is seen", || {
        site.get("/sessions?format=json").json()["sessions"][0]["state"] == "receiving-request"
    });
    drop(silent);
    let busy = site.daemon.connect().busy();
    site.wait_for_state("waiting-for-client");
    busy.finish();
    wait_until("it is gone", || site.sessions().is_empty());
}

#[test]
fn the_queue() {
    let scratch = crate::support::Scratch::new();
    let hook = scratch.script("hook", "exec sleep 60");
    let site =
        Site::of(scratch, |gitd| gitd.arg("--max-connections=1").option("--access-hook", &hook));
    // A check that hangs gives its permit back, so it counts only for its path.
    let ask = || {
        let mut client = site.daemon.connect();
        client.send(request("upload-pack", "/repo.git"));
        client
    };
    let clients: Vec<Client> = (0..8).map(|_| ask()).collect();
    site.wait_for_state("checking");
    let queued = site.wait_for_state("queued");
    assert_eq!(queued["repository"], "/repo.git");
    wait_until("the gauge says so", || site.metric("gitd_queued_requests") > 0.0);
    drop(clients);
}

/// What a client sends cannot break the JSON or a line of the table, nor drive a terminal.
#[test]
fn hostile_paths() {
    let scratch = crate::support::Scratch::new();
    let hook = scratch.script("hook", "exec sleep 60");
    let site = Site::of(scratch, |gitd| gitd.option("--access-hook", &hook));
    let names = ["repo.git\n\x1b[31mred", "a\"b\\c", "<script>alert(1)</script>", "\u{202e}dlrow"];
    for name in names {
        site.scratch.bare(name);
    }
    let clients: Vec<Client> = names
        .iter()
        .map(|name| {
            let mut client = site.daemon.connect();
            client.send(request("upload-pack", &format!("/{name}")));
            client
        })
        .collect();
    wait_until("all are there", || site.sessions().len() == names.len());
    let shown: Vec<Value> = site.sessions().iter().map(|one| one["repository"].clone()).collect();
    for expected in
        ["/repo.git\\n\\u{1b}[31mred", "/a\"b\\c", "/<script>alert(1)</script>", "/\\u{202e}dlrow"]
    {
        assert!(shown.iter().any(|path| path == expected), "no {expected} in {shown:?}");
    }
    let table = site.get("/sessions").body;
    assert_eq!(table.lines().count(), 3 + names.len(), "{table}");
    assert!(!table.contains('\x1b') && !table.contains('\u{202e}'), "{table}");
    drop(clients);
}
