//! Compares what stock and gitd did with one request. What may differ is named here, each with its line of
//! `docs/differences.md`, and matched as narrowly as the two daemons allow.

use super::exchange::{Line, Observation};
use super::requests::Request;
use super::scene::{Scene, Stage};
use gitd::escape::Escaped;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The same answer, octet for octet, and the same lines in the log.
    Same,
    /// An intended difference.
    Differs(&'static str),
    Wrong(String),
}

const GENERIC: &str = "access denied or repository not exported";

pub fn judge(scene: &Scene, stage: &Stage<'_>, request: &Request, stock: &Observation, gitd: &Observation) -> Verdict {
    let wrong = |what: &str| Verdict::Wrong(what.to_owned());
    if stock.hung || gitd.hung {
        return wrong("one of them neither answered nor closed");
    }
    if gitd.log.iter().any(|line| contains(&line.text, "internal error") || contains(&line.text, "panicked")) {
        return wrong("gitd broke");
    }
    if gitd.served() && stock.answer != gitd.answer {
        return wrong(if stock.served() { "they serve different things" } else { "GITD SERVES WHAT STOCK REFUSES" });
    }
    if stock.served() && !gitd.served() {
        return wrong("stock serves what gitd refuses");
    }
    if request.cut == Some(0) && stock.answer.is_empty() && gitd.answer.is_empty() {
        return Verdict::Differs("B12");
    }
    if stock.answer == gitd.answer {
        return compare_logs(stock, gitd, None);
    }
    let informative = scene.options.iter().rev().find(|option| option.ends_with(b"informative-errors"));
    let informative = informative.is_some_and(|option| option == b"--informative-errors");
    let (None, Some(refusal)) = (stock.refusal(), gitd.refusal()) else {
        return wrong("they refuse with different words");
    };
    let pathname = stage.expand(&request.pathname_as_understood());
    let said = |reason: &str| refusal == [reason.as_bytes(), b": ", &pathname].concat();
    if stock.reset && !request.ahead.is_empty() && stock.death().is_none() {
        // The answer that the reset has eaten would have been the same.
        return named("B8", compare_logs(stock, gitd, None));
    }
    let Some(death) = Death::of(stock, scene, stage) else {
        return wrong("stock is silent without a reason, and gitd is not");
    };
    let known = if informative { death.reasons.iter().any(|reason| said(reason)) } else { said(GENERIC) };
    if !known {
        return wrong("gitd refuses with other words than its difference has");
    }
    named(death.name, compare_logs(stock, gitd, Some(&death)))
}

fn named(name: &'static str, verdict: Verdict) -> Verdict {
    if matches!(verdict, Verdict::Wrong(_)) { verdict } else { Verdict::Differs(name) }
}

impl Observation {
    /// The line of a stock daemon that dies: without a pid.
    fn death(&self) -> Option<&Line> {
        self.log.iter().find(|line| !line.signed && line.text.starts_with(b"fatal: "))
    }
}

/// How stock went silent, and what gitd says instead.
struct Death {
    name: &'static str,
    /// What gitd tells a client that may know it.
    reasons: Vec<&'static str>,
    /// Beginnings of the line that gitd has in the place of stock's last words; none if it has the same.
    lines: Vec<Vec<u8>>,
}

const NO_REPOSITORY: &str = "no such repository";
const BAD_CONFIG: &str = "repository has a configuration that git refuses";
const STILLBORN: &str = "server cannot serve this repository";

impl Death {
    fn of(stock: &Observation, scene: &Scene, stage: &Stage<'_>) -> Option<Self> {
        let Some(line) = stock.death() else {
            // The service died; the daemon itself had no objection.
            return Some(Self { name: "B6", reasons: vec![STILLBORN], lines: Vec::new() });
        };
        let text = line.text.strip_prefix(b"fatal: ")?;
        let starts = |starts: &[&str]| starts.iter().any(|start| text.starts_with(start.as_bytes()));
        if let Some(rest) = text.strip_prefix(b"detected dubious ownership in repository at '") {
            // A very long message is cut.
            let path = &rest[..rest.windows(2).position(|end| end == b"'\n").unwrap_or(rest.len())];
            if scene.has_option("--strict-paths") && stage.is_missing(path) {
                return Some(Self { name: "B15", reasons: vec![NO_REPOSITORY], lines: vec![[b"'", path].concat()] });
            }
            let line = [b"detected dubious ownership in repository at '", path].concat();
            return Some(Self { name: "B6", reasons: vec!["repository is owned by another user than the server"], lines: vec![line] });
        }
        let gitfile = ["invalid gitfile format: ", "no path in gitfile: ", "not a git repository: ", "gitfile does not point", "error opening '", "too large to be a .git file"];
        if starts(&gitfile) {
            return Some(Self { name: "B7", reasons: vec![NO_REPOSITORY], lines: vec![b"'".to_vec()] });
        }
        if starts(&["failed to read ", "Invalid path ", "unable to read "]) {
            return Some(Self { name: "B6", reasons: vec![NO_REPOSITORY], lines: vec![b"'".to_vec()] });
        }
        let config = [
            "bad config line ", "bad numeric config value", "bad boolean config value ", "Expected git repo version <= 1", "unknown repository extension", "unable to access '",
            "missing value for", "could not expand include path", "exceeded maximum include depth", "invalid value for", "bogus count", "unknown error occurred while reading",
        ];
        if starts(&config) {
            return Some(Self {
                name: "B6",
                reasons: vec![BAD_CONFIG, STILLBORN, "repository not exported", "service not enabled", NO_REPOSITORY],
                lines: vec![b"'".to_vec(), b"fatal: ".to_vec()],
            });
        }
        None
    }
}

/// Stock's lines must be gitd's, in this order; what gitd adds behind them is for the administrator.
fn compare_logs(stock: &Observation, gitd: &Observation, death: Option<&Death>) -> Verdict {
    // What stock's child says before it becomes the hook, gitd says in one line.
    let passing = |line: &&Line| !line.signed && (line.text.starts_with(b"warning: ") || line.text.starts_with(b"fatal: cannot exec '"));
    let expected: Vec<&Line> = stock.log.iter().filter(|line| !passing(line)).collect();
    let mut escaped = false;
    // Stock does not say that it was the hook who refused.
    let mut found = gitd.log.iter().filter(|line| !contains(&line.text, "': access hook refused: "));
    for line in expected {
        let last_words = !line.signed && line.text.starts_with(b"fatal: ");
        let Some(gitd_line) = found.next() else {
            return Verdict::Wrong(format!("gitd does not log: {}", line.text.escape_ascii()));
        };
        let bare = without_additions(&gitd_line.text);
        let same = match death {
            Some(death) if last_words && !death.lines.is_empty() => {
                let bare = masked(bare);
                death.lines.iter().any(|start| bare.starts_with(&masked(Escaped(start).to_string().as_bytes())))
            }
            _ if last_words => {
                escaped |= bare != line.text;
                masked(bare) == masked(Escaped(&line.text).to_string().as_bytes()) || is_bad_length(&line.text, bare)
            }
            // Stock cuts what is too long, and does not say why a hook does not start.
            _ if line.text.ends_with(b"failed to start") || contains(&line.text, " too large: ") => bare.starts_with(Escaped(&line.text).to_string().as_bytes()),
            _ => {
                escaped |= bare != line.text;
                bare == Escaped(&line.text).to_string().as_bytes()
            }
        };
        if !same {
            return Verdict::Wrong(format!("gitd logs: {}\nwhere stock logs: {}", gitd_line.text.escape_ascii(), line.text.escape_ascii()));
        }
    }
    match found.next() {
        Some(line) => Verdict::Wrong(format!("gitd logs more: {}", line.text.escape_ascii())),
        None if escaped => Verdict::Differs("B9"),
        None => Verdict::Same,
    }
}

/// A line of gitd's without the client and the remedy, or the summary, at its end.
fn without_additions(line: &[u8]) -> &[u8] {
    let find = |what: &[u8]| line.windows(what.len()).rposition(|window| window == what);
    let end = match line.starts_with(b"Disconnected") {
        true => find(b", client CLIENT"),
        false => find(b" (client CLIENT").filter(|_| line.ends_with(b")")),
    };
    &line[..end.unwrap_or(line.len())]
}

/// Stock shows control characters as question marks when it dies, and gitd escapes them.
fn masked(text: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(text);
    let mut masked = String::new();
    let mut rest = text.chars();
    while let Some(character) = rest.next() {
        if character != '\\' {
            masked.push(if character.is_control() { '?' } else { character });
            continue;
        }
        masked.push('?');
        match rest.clone().next() {
            Some('n' | 'r' | 't') => drop(rest.next()),
            Some('x') => drop(rest.nth(2)),
            Some('u') => drop(rest.find(|&end| end == '}')),
            _ => {}
        }
    }
    masked.into_bytes()
}

/// Stock shows the four octets up to a NUL.
fn is_bad_length(stock: &[u8], gitd: &[u8]) -> bool {
    let start = b"fatal: protocol error: bad line length character: ";
    stock.starts_with(start) && gitd.starts_with(start)
}

fn contains(text: &[u8], what: &str) -> bool {
    text.windows(what.len()).any(|window| window == what.as_bytes())
}
