//! The page, in a browser.
//!
//! After a change of how it looks: `GITD_WRITE_PICTURE=1 cargo test --test suite status::page::a_clone_from_begin_to_end`
//! makes docs/monitoring.png anew.

use serde_json::{Value, json};

use super::browser::Browser;
use super::{Clone, Site, with_large};
use crate::load::from;
use crate::support::process::wait_until;
use crate::support::request;

/// The cells of the first session with this path, by their labels.
fn row(browser: &mut Browser, path: &str) -> Value {
    browser.value(&format!(
        "(() => {{ for (const row of document.querySelectorAll('#rows tr')) {{
           const cells = Object.fromEntries([...row.cells].map(c => [c.dataset.label, c.textContent]));
           if (cells.Repository === {}) return cells; }} return null; }})()",
        json!(path)
    ))
}

#[test]
fn a_clone_from_begin_to_end() {
    let site = Site::of(with_large(), |gitd| gitd.arg("--max-connections=3"));
    let Some(mut browser) = Browser::start(&site.scratch) else { return };
    browser.size(1280, 800);
    browser.open(&format!("http://{}/", site.status));
    browser.wait("document.getElementById('phase').textContent === 'serving'");
    assert_eq!(browser.text("document.getElementById('rows').textContent"), "Nothing runs.");
    assert_eq!(browser.text("document.getElementById('limit').textContent"), "3");
    let clone = Clone::start(&site, "/large.git");
    let mut cells = Value::Null;
    wait_until("the page shows the clone and its rate", || {
        cells = row(&mut browser, "/large.git");
        cells["State"] == "sending" && cells["Rate"].as_str().unwrap().ends_with("KiB/s")
    });
    assert_eq!(cells["Client"], clone.address.to_string());
    assert_eq!(cells["Service"], "upload-pack");
    assert_eq!(cells["Transport"], "tcp");
    wait_until("the top talker is there", || {
        browser.text("document.querySelector('#talkers').textContent").contains("KiB/s")
    });
    wait_until("the curves are drawn", || {
        let points = "document.querySelector('#chart-sent polyline').getAttribute('points')";
        browser.text(points).split(' ').count() > 5
    });
    let before = cells["Elapsed"].clone();
    wait_until("the page goes on", || row(&mut browser, "/large.git")["Elapsed"] != before);
    if std::env::var_os("GITD_WRITE_PICTURE").is_some() {
        take_picture(&site, &mut browser);
    }
    clone.stop();
    browser.wait("document.getElementById('rows').textContent === 'Nothing runs.'");
    // Neither an error nor anything that the policy has stopped.
    assert!(browser.complaints.is_empty(), "{:#?}", browser.complaints);
}

/// Some more sessions, and ten seconds of them.
fn take_picture(site: &Site, browser: &mut Browser) {
    let work = site.scratch.repos();
    for name in ["linux.git", "website.git"] {
        site.scratch.symlink(name, work.join("large.git"));
    }
    browser.size(1280, 660);
    let clone = |path, last| {
        std::thread::sleep(std::time::Duration::from_secs(6));
        Clone::start_from(site, path, last)
    };
    let more = [clone("/linux.git", 23), clone("/website.git", 7)];
    let waiting = [7, 42].map(|last| {
        let mut client = from(&site.daemon, last);
        client.send(request("upload-pack", "/linux.git"));
        client
    });
    std::thread::sleep(std::time::Duration::from_secs(6));
    let picture = browser.picture();
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/monitoring.png");
    let mut base64 = std::process::Command::new("base64")
        .arg("-d")
        .stdin(std::process::Stdio::piped())
        .stdout(std::fs::File::create(path).unwrap())
        .spawn()
        .unwrap();
    let input = base64.stdin.take().unwrap();
    std::io::Write::write_all(&mut { input }, picture.as_bytes()).unwrap();
    assert!(base64.wait().unwrap().success());
    drop((more, waiting));
}

/// What a client sends is text, whatever it is.
#[test]
fn a_path_stays_text() {
    let scratch = with_large();
    let path = "<script>document.title='x'</script><img src=x onerror=document.title='x'>";
    let name = path.replace('/', "∕");
    scratch.symlink(&name, scratch.repos().join("large.git"));
    let site = Site::of(scratch, |gitd| gitd);
    let Some(mut browser) = Browser::start(&site.scratch) else { return };
    browser.open(&format!("http://{}/", site.status));
    let clone = Clone::start(&site, &format!("/{name}"));
    wait_until("the page shows it", || !row(&mut browser, &format!("/{name}")).is_null());
    assert_eq!(browser.text("document.title"), "gitd");
    assert_eq!(browser.value("document.querySelectorAll('#rows script, #rows img').length"), 0);
    assert!(browser.complaints.is_empty(), "{:#?}", browser.complaints);
    // Not even a script that the page has got from somewhere runs.
    let inject = "(() => { const s = document.createElement('script'); s.textContent = \"document.title='x'\";
                   document.body.append(s); return document.title; })()";
    assert_eq!(browser.text(inject), "gitd");
    clone.stop();
}

/// Tab reaches the controls, Enter uses them, and a phone shows all of it.
#[test]
fn a_keyboard_and_a_phone() {
    let site = Site::of(with_large(), |gitd| gitd);
    let Some(mut browser) = Browser::start(&site.scratch) else { return };
    browser.open(&format!("http://{}/", site.status));
    browser.wait("document.getElementById('phase').textContent === 'serving'");
    let clone = Clone::start(&site, "/large.git");
    wait_until("the page shows the clone", || !row(&mut browser, "/large.git").is_null());
    let mut reached = Vec::new();
    let active = "document.activeElement.dataset.sort || document.activeElement.id || document.activeElement.className";
    for _ in 0..8 {
        browser.press("Tab", 9);
        reached.push(browser.text(active));
        if reached.last().unwrap() == "bytes" {
            browser.press("Enter", 13);
        }
    }
    for control in ["skip", "pause", "sessions", "elapsed", "bytes", "cpu"] {
        assert!(reached.iter().any(|id| id == control), "no {control} in {reached:?}");
    }
    let sorted = "document.querySelector('th[aria-sort] button').dataset.sort";
    assert_eq!(browser.text(sorted), "bytes");
    for (width, height) in [(360, 740), (1280, 800)] {
        browser.size(width, height);
        let wide = browser.value("document.documentElement.scrollWidth").as_u64().unwrap();
        assert!(wide <= u64::from(width), "{wide} of {width}");
    }
    let colour = "getComputedStyle(document.body).backgroundColor";
    let mut colours = Vec::new();
    for scheme in ["light", "dark"] {
        let feature = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        browser.call("Emulation.setEmulatedMedia", feature);
        colours.push(browser.text(colour));
    }
    assert_ne!(colours[0], colours[1]);
    clone.stop();
}

/// The page says when the server is gone, and comes back with it.
#[test]
fn without_an_answer() {
    let mut site = Site::start();
    let Some(mut browser) = Browser::start(&site.scratch) else { return };
    browser.open(&format!("http://{}/", site.status));
    browser.wait("document.getElementById('phase').textContent === 'serving'");
    site.daemon.signal(rustix::process::Signal::TERM);
    site.daemon.wait();
    browser.wait("document.getElementById('phase').textContent === 'no answer'");
    let place = format!("--status={}", site.status);
    let _next = crate::support::Gitd.serve(&site.scratch).arg(&place).start();
    browser.wait("document.getElementById('phase').textContent === 'serving'");
}

/// Nothing comes from elsewhere.
#[test]
fn no_asset_from_elsewhere() {
    let site = Site::start();
    for place in ["/", "/app.js", "/style.css"] {
        let text = site.get(place).body.replace("http://www.w3.org/2000/svg", "");
        assert!(!text.contains("://") && !text.contains("url("), "{place}");
        for inline in [" style=", "<style", "onclick", "innerHTML", "eval(", "javascript:"] {
            assert!(!text.contains(inline), "{place}: {inline}");
        }
    }
}
