//! `--explain` says what gitd does: for generated scenes and requests, the verdict is the same, and so are the words that
//! the client gets.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use gitd::escape::Escaped;
use serde_json::Value;

use super::exchange::{Observation, exchange};
use super::layout::{Seeds, Text};
use super::requests::Request;
use super::scene::{Role, Scene, Site};
use super::{UNPRIVILEGED, from_environment};
use crate::support::random::Random;
use crate::support::{Daemon, Gitd, Outcome, Scratch};

const SCENES: u64 = 40;
const REQUESTS: usize = 12;

#[test]
fn agrees() {
    let seed = from_environment("GITD_DIFFERENCE_SEED").unwrap_or(20_261_121);
    let scenes = from_environment("GITD_DIFFERENCE_SCENES").unwrap_or(SCENES);
    let scratch = Scratch::new();
    let seeds = Seeds::make(&scratch);
    let mut tally = BTreeMap::<String, usize>::new();
    for number in 0..scenes {
        let mut random = Random::of(seed, number);
        let other = number % 2 == 1 && rustix::process::geteuid().is_root();
        let role = if other { Role::Other(UNPRIVILEGED) } else { Role::Oneself };
        let (scene, requests) = Scene::generate(&mut random, role, REQUESTS);
        let site = Site::build(&scene, &seeds);
        let Some(daemon) = site.invocation(Gitd).try_start() else { continue };
        for question in requests.iter().filter_map(|request| Question::of(request, &site)) {
            let explanation = question.explain(&site);
            let observation = question.ask(&daemon);
            let details = format!(
                "scene {number} of seed {seed}\n{scene}\n  target {}\n{observation}{}{}",
                question.target.escape_ascii(),
                explanation.stdout,
                explanation.stderr
            );
            let document: Value = serde_json::from_str(&explanation.stdout).expect(&details);
            let answer = document["refusal"]["client"].as_str();
            match observation.refusal() {
                Some(text) => assert_eq!(answer, Some(&*Escaped(text).to_string()), "{details}"),
                // Nothing at all is for malformed requests.
                None if observation.answer.is_empty() => {
                    assert_eq!(document["refusal"]["reason"], "malformed", "{details}");
                }
                None => assert_eq!(document["served"], true, "{details}"),
            }
            let reason = document["refusal"]["reason"].as_str().unwrap_or("served");
            *tally.entry(reason.to_owned()).or_default() += 1;
        }
    }
    println!("{tally:?}");
    if scenes >= SCENES {
        assert!(tally.len() >= 8 && tally["served"] > 20, "{tally:?}");
    }
}

/// A request that a URL or a path can stand for.
struct Question {
    service: &'static str,
    target: Text,
    bytes: Vec<u8>,
}

impl Question {
    fn of(request: &Request, site: &Site) -> Option<Self> {
        let service = ["upload-pack", "receive-pack", "upload-archive"]
            .into_iter()
            .find(|service| request.command == format!("git-{service} ").as_bytes())?;
        if request.prefix.is_some() || request.cut.is_some() {
            return None;
        }
        let pathname = site.expand(&[request.pathname.as_slice(), &request.line_end].concat());
        let host = request.parameters.strip_prefix(b"\0host=");
        let host = host.map(|rest| rest.split(|&byte| byte == 0).next().unwrap_or_default());
        let target = match host {
            None if pathname.windows(3).any(|window| window == b"://") => return None,
            None => pathname.clone(),
            Some(host) => url(host, &pathname)?,
        };
        if target.contains(&0) {
            return None;
        }
        let mut payload = [request.command.as_slice(), &pathname, b"\0"].concat();
        if let Some(host) = host {
            payload.extend([b"host=", host, b"\0"].concat());
        }
        if service == "upload-pack" {
            payload.extend(b"\0version=2\0");
        }
        let mut bytes = format!("{:04x}", payload.len() + 4).into_bytes();
        bytes.extend(payload);
        if service == "upload-archive" {
            bytes.extend(b"0012argument HEAD\n0000");
        }
        // What no packet and no argument can hold.
        (bytes.len() < 60_000).then_some(Question { service, target, bytes })
    }

    fn explain(&self, site: &Site) -> Outcome {
        let target = [b"--explain=", self.target.as_slice()].concat();
        site.invocation(Gitd)
            .arg(OsString::from_vec(target))
            .args([format!("--explain-service={}", self.service)])
            .arg("--log-format=json")
            .run()
    }

    fn ask(&self, daemon: &Daemon) -> Observation {
        let archive = self.service == "upload-archive";
        exchange(daemon, &self.bytes, archive, !archive)
    }
}

/// A URL for which git's client sends exactly these; there may be none.
fn url(host: &[u8], pathname: &[u8]) -> Option<Text> {
    if host.contains(&b'/') || !matches!(pathname.first(), Some(b'/' | b'~')) {
        return None;
    }
    if pathname.starts_with(b"/~") {
        return None;
    }
    let slash: &[u8] = if pathname[0] == b'~' { b"/" } else { b"" };
    let mut url = b"git://".to_vec();
    for &byte in host.iter().chain(slash).chain(pathname) {
        match byte {
            b'/' | b'~' | b'[' | b']' | b':' | b'.' | b'-' => url.push(byte),
            _ if byte.is_ascii_alphanumeric() => url.push(byte),
            _ => url.extend(format!("%{byte:02x}").bytes()),
        }
    }
    Some(url)
}
