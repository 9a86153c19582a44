//! The ways in which stock ends a well-formed request in silence, and what gitd says instead (B6, B7, B15).

use gitd::escape::Escaped;

use super::exchange::masked;
use super::scene::Scene;

/// Stock's end, and gitd's answers that go with it.
pub struct Death(Vec<Answer>);

/// What gitd tells a client that may know it, and what its log has beside it.
struct Answer {
    /// The difference.
    name: &'static str,
    reason: &'static [u8],
    line: Vec<u8>,
}

const NOT_A_REPOSITORY: (&str, &str) =
    ("no such repository", "' does not appear to be a git repository");
const FOREIGN: (&str, &str) = (
    "repository is owned by another user than the server",
    "detected dubious ownership in repository at '",
);
/// git's own words, from the service or because gitd has asked.
const SERVICE: &str = "git cannot serve this repository";
pub const CONFIG: &str = "repository has a configuration that git refuses";
/// gitd has git read the configuration later than stock, if at all: other refusals come first.
const BEFORE_CONFIG: [(&str, &str); 5] = [
    NOT_A_REPOSITORY,
    FOREIGN,
    ("no such repository", "': not in directory list"),
    ("repository not exported", "': repository not exported."),
    ("service not enabled", "': service not enabled for '"),
];

const GITFILE: [&str; 6] = [
    "invalid gitfile format: ",
    "no path in gitfile: ",
    "not a git repository: ",
    "gitfile does not point to a valid repository: ",
    "error opening '",
    "too large to be a .git file: ",
];
const COMMON_DIRECTORY: [&str; 2] = ["failed to read ", "Invalid path '"];
const CONFIGURATION: [&str; 13] = [
    "unknown error occurred while reading the configuration files",
    "bad config line ",
    "bad numeric config value ",
    "bad boolean config value ",
    "Expected git repo version <= 1, found ",
    "unknown repository extension",
    "unable to access '",
    "unable to read config file '",
    "missing value for '",
    "could not expand include path '",
    "exceeded maximum include depth ",
    "invalid value for '",
    "failed to expand user dir in: '",
];

impl Death {
    /// `last_words`: what stock said when it died itself, else its service did.
    pub fn of(last_words: Option<&[u8]>, scene: &Scene) -> Option<Self> {
        let Some(text) = last_words else {
            return Some(Self::new("B6", &[(SERVICE, "")]));
        };
        let starts =
            |starts: &[&str]| starts.iter().any(|start| text.starts_with(start.as_bytes()));
        if let Some(rest) = text.strip_prefix(FOREIGN.1.as_bytes()) {
            // A very long message is cut.
            let end = rest.windows(2).position(|end| end == b"'\n").unwrap_or(rest.len());
            let mut death = Self::new("B6", &[FOREIGN]);
            death.0[0].line.extend(escaped(&rest[..end]));
            if scene.has_option("--strict-paths") {
                // Stock asks whose it is before it asks whether it is anything.
                death.0.extend(Self::new("B15", &[NOT_A_REPOSITORY]).0);
            }
            return Some(death);
        }
        if starts(&GITFILE) {
            return Some(Self::new("B7", &[NOT_A_REPOSITORY]));
        }
        if starts(&COMMON_DIRECTORY) {
            return Some(Self::new("B6", &[NOT_A_REPOSITORY]));
        }
        if starts(&CONFIGURATION) {
            let first = escaped(text.split(|&byte| byte == b'\n').next()?);
            let mut death = Self::new("B6", &[(CONFIG, ""), (SERVICE, "fatal: ")]);
            death.0[0].line = first;
            death.0.extend(Self::new("B6", &BEFORE_CONFIG).0);
            return Some(death);
        }
        None
    }

    fn new(name: &'static str, answers: &[(&'static str, &str)]) -> Self {
        let answer = |&(reason, line): &(&'static str, &str)| Answer {
            name,
            reason: reason.as_bytes(),
            line: line.into(),
        };
        Self(answers.iter().map(answer).collect())
    }

    /// The name of the difference by which gitd may say this to a client, having logged these lines
    /// where stock has its last words.
    pub fn name(&self, said: impl Fn(&[u8]) -> bool, logged: &[Vec<u8>]) -> Option<&'static str> {
        let fits = |answer: &&Answer| {
            let part = &answer.line;
            let has = |line: &Vec<u8>| line.windows(part.len()).any(|window| window == part);
            said(answer.reason) && (part.is_empty() || logged.iter().any(has))
        };
        self.0.iter().find(fits).map(|answer| answer.name)
    }
}

/// As gitd shows it, with a question mark for whatever either daemon does not show as it is.
fn escaped(text: &[u8]) -> Vec<u8> {
    masked(Escaped(text).to_string().as_bytes())
}
