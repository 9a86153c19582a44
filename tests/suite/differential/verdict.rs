//! Compares what stock and gitd did with one request. What may differ is named here and in `death`, each with its line
//! of `docs/differences.md`, and matched as narrowly as the two daemons allow.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use gitd::escape::Escaped;

use super::death::{CONFIG, Death};
use super::exchange::{Line, Observation, masked};
use super::requests::Request;
use super::scene::{Scene, Stage};

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The same answer, byte for byte, and the same lines in the log.
    Same,
    /// An intended difference.
    Differs(&'static str),
    Wrong(String),
}

const GENERIC: &[u8] = b"access denied or repository not exported";
/// What an administrator is told to do when git refuses a configuration.
const MEND: &str = "; mend the configuration that git names)";

pub fn judge(
    scene: &Scene,
    stage: &Stage<'_>,
    request: &Request,
    stock: &Observation,
    gitd: &Observation,
) -> Verdict {
    match try_judge(scene, stage, request, stock, gitd) {
        Ok(None) => Verdict::Same,
        Ok(Some(name)) => Verdict::Differs(name),
        Err(reason) => Verdict::Wrong(reason),
    }
}

type Judgement = Result<Option<&'static str>, String>;

fn try_judge(
    scene: &Scene,
    stage: &Stage<'_>,
    request: &Request,
    stock: &Observation,
    gitd: &Observation,
) -> Judgement {
    let wrong = |what: &str| Err(what.to_owned());
    if stock.hung || gitd.hung {
        return wrong("one of them neither answered nor closed");
    }
    if gitd.log.iter().any(|line| has(&line.text, "internal error") || has(&line.text, "panicked"))
    {
        return wrong("gitd broke");
    }
    if gitd.served() && stock.answer != gitd.answer {
        return match stock.served() {
            true => wrong("they serve different things"),
            false => wrong("GITD SERVES WHAT STOCK REFUSES"),
        };
    }
    let root = PathBuf::from(OsString::from_vec(stage.expand(b"$ROOT")));
    let foreign =
        |line: &Line| names_another(line, b"detected dubious ownership in repository at '", &root);
    let misconfigured = |line: &Line| names_another(line, b"'", &root) && has(&line.text, MEND);
    let refused = gitd.refusal().is_some();
    let strict = scene.has_option("--strict-paths");
    if refused && gitd.log.iter().any(|line| strict && foreign(line) || misconfigured(line)) {
        return Ok(Some("another inside"));
    }
    let broken_off = |last: &Line| {
        last.text.starts_with(b"fatal: ")
            && gitd.log.iter().any(|line| has(&line.text, MEND) && has(&line.text, &last.text))
    };
    if refused && stock.log.iter().any(broken_off) {
        // What git says of its configuration it may say in the middle of the first answer.
        return Ok(Some("B6"));
    }
    let unfound = gitd.log.iter().any(|line| has(&line.text, "' failed to start"));
    if refused && unfound && scene.has_odd_path() {
        // Stock runs what it finds in the repository; or `git daemon` finds what gitd does not look for.
        return Ok(Some("no hook in an odd PATH"));
    }
    if stock.served() && !gitd.served() {
        return wrong("stock serves what gitd refuses");
    }
    if request.cut == Some(0) && stock.answer.is_empty() && gitd.answer.is_empty() {
        return Ok(Some("B12"));
    }
    let pathname = stage.expand(&request.pathname_as_understood());
    let informative = scene.is_informative();
    let said = |refusal: &[u8], reason: &[u8]| {
        let reason = if informative { reason } else { GENERIC };
        refusal == [reason, b": ", pathname.as_slice()].concat()
    };
    if gitd.served() {
        return compare_logs(stock, gitd, false).map(|rest| rest.escaped.then_some("B9"));
    }
    let config = |refusal| said(refusal, CONFIG.as_bytes());
    if gitd.log.iter().any(|line| has(&line.text, MEND)) && gitd.refusal().is_some_and(config) {
        // Stock comes across it at another time: before it looks at lists, or only in the service.
        return Ok(Some("B6"));
    }
    let strictly_relaxed = ["--strict-paths", "--base-path=", "--base-path-relaxed"];
    if strictly_relaxed.iter().all(|option| scene.has_option(option))
        && gitd.log.iter().any(|line| has(&line.text, "' does not appear to be a git repository"))
    {
        // Of what does not exist stock asks whose it is, by safe.directory too, before it looks elsewhere.
        return Ok(Some("B15"));
    }
    if stock.answer == gitd.answer {
        let rest = compare_logs(stock, gitd, false)?;
        return Ok(rest.escaped.then_some("B9"));
    }
    let (None, Some(refusal)) = (stock.refusal(), gitd.refusal()) else {
        return wrong("they refuse with different words");
    };
    let death = stock.death();
    if stock.reset && !request.ahead.is_empty() && death.is_none() {
        // The answer that the reset has eaten would have been the same.
        compare_logs(stock, gitd, false)?;
        return Ok(Some("B8"));
    }
    let last_words = death.and_then(|line| line.text.strip_prefix(b"fatal: "));
    let Some(death) = Death::of(last_words, scene) else {
        return wrong("stock is silent without a reason, and gitd is not");
    };
    let rest = compare_logs(stock, gitd, last_words.is_some())?;
    match death.name(|reason| said(refusal, reason), &rest.instead) {
        Some(name) => Ok(Some(name)),
        None => wrong("gitd refuses otherwise than its difference allows"),
    }
}

/// Whether the line is about a repository that has a second one inside, which git finds first.
fn names_another(line: &Line, before: &[u8], root: &Path) -> bool {
    let Some(rest) = line.text.strip_prefix(before) else { return false };
    let path = rest.split(|&byte| byte == b'\'').next().unwrap_or_default();
    root.join(OsStr::from_bytes(path)).join(".git").exists()
}

impl Observation {
    /// The line of a stock daemon that dies: without a pid.
    fn death(&self) -> Option<&Line> {
        self.log.iter().find(|line| !line.signed && line.text.starts_with(b"fatal: "))
    }
}

#[derive(Default)]
struct Rest {
    /// Whether a line differs because gitd escapes what clients send.
    escaped: bool,
    /// gitd's lines in the place of stock's last words.
    instead: Vec<Vec<u8>>,
}

/// Stock's lines must be gitd's, in this order; what gitd adds behind them is for the administrator. With `replaced`,
/// the line with which stock dies is exempt.
fn compare_logs(stock: &Observation, gitd: &Observation, replaced: bool) -> Result<Rest, String> {
    // What stock says beside its verdict, gitd says in the same line or not at all.
    let passing = |line: &&Line| {
        let asides = [
            "warning: ",
            "error: could not expand ",
            "error: cannot run ",
            "error: invalid value for ",
            "fatal: cannot exec '",
        ];
        !line.signed && asides.iter().any(|aside| line.text.starts_with(aside.as_bytes()))
    };
    let mut rest = Rest::default();
    // What gitd says in a line of its own: that the hook refused, why it does not start, and
    // that the client has got no answer.
    let additional = |line: &&Line| {
        has(&line.text, "': access hook refused: ")
            || has(&line.text, "-pack failed before it answered")
            || line.text.starts_with(b"fatal: cannot exec '")
            // They may come so late that they seem to be the first request's.
            || line.text.starts_with(b"Listening on ")
            || line.text.starts_with(b"warning: directory '")
    };
    let mut found = gitd.log.iter().filter(|line| !additional(line)).peekable();
    for line in stock.log.iter().filter(|line| !passing(line)) {
        let last_words = !line.signed && line.text.starts_with(b"fatal: ");
        if last_words && replaced {
            while let Some(line) = found.next_if(|line| !line.text.starts_with(b"Disconnected")) {
                rest.instead.push(masked(without_additions(&line.text)));
            }
            continue;
        }
        let Some(gitd_line) = found.next() else {
            return Err(format!("gitd does not log: {}", line.text.escape_ascii()));
        };
        let bare = without_additions(&gitd_line.text);
        rest.escaped |= bare != line.text;
        if !same(line, bare, last_words) {
            let (gitd, stock) = (gitd_line.text.escape_ascii(), line.text.escape_ascii());
            return Err(format!("gitd logs: {gitd}\nwhere stock logs: {stock}"));
        }
    }
    match found.next() {
        Some(line) => Err(format!("gitd logs more: {}", line.text.escape_ascii())),
        None => Ok(rest),
    }
}

fn same(stock: &Line, gitd: &[u8], last_words: bool) -> bool {
    let expected = shown(&stock.text);
    let expected = expected.as_bytes();
    if let Some(at) = end_of_cut(gitd) {
        return agrees_but_for_cuts(expected, gitd, at, has(&stock.text, " too large: "));
    }
    // Stock cuts what is too long.
    if has(&stock.text, " too large: ") {
        return gitd.starts_with(expected);
    }
    // Of the four bytes that are no length, stock shows those before a NUL.
    let bad_length = b"fatal: protocol error: bad line length character: ";
    if stock.text.starts_with(bad_length) {
        return gitd.starts_with(bad_length);
    }
    if last_words { masked(gitd) == masked(expected) } else { gitd == expected }
}

/// As gitd shows it, however long it is.
fn shown(text: &[u8]) -> String {
    let parts = text.utf8_chunks().flat_map(|chunk| {
        let valid = chunk.valid().chars().map(|character| character.to_string().into_bytes());
        valid.chain(chunk.invalid().iter().map(|&byte| vec![byte]))
    });
    parts.map(|part| Escaped(&part).to_string()).collect()
}

/// Where the first field that gitd has cut goes over into its length, and where that ends.
fn end_of_cut(line: &[u8]) -> Option<(usize, usize)> {
    let (dots, bytes) = (b"...(", b" bytes)");
    let starts = line.windows(dots.len()).enumerate().filter(|(_, window)| window == dots);
    starts.map(|(at, _)| at).find_map(|at| {
        let number = &line[at + dots.len()..];
        let digits = number.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let is_cut = digits > 0 && number[digits..].starts_with(bytes);
        is_cut.then(|| (at, at + dots.len() + digits + bytes.len()))
    })
}

/// Whether the line is the same but for fields that gitd has cut. `open`: stock has cut the last one itself.
fn agrees_but_for_cuts(stock: &[u8], gitd: &[u8], (at, end): (usize, usize), open: bool) -> bool {
    let Some(rest) = stock.strip_prefix(&gitd[..at]) else { return false };
    let gitd = &gitd[end..];
    match end_of_cut(gitd) {
        // The next piece stands somewhere behind what was left out.
        Some(next) => (0..=rest.len())
            .any(|left_out| agrees_but_for_cuts(&rest[left_out..], gitd, next, open)),
        None => open || rest.ends_with(gitd),
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

fn has(text: &[u8], what: impl AsRef<[u8]>) -> bool {
    let what = what.as_ref();
    text.windows(what.len()).any(|window| window == what)
}
