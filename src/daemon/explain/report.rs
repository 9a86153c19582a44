//! An explanation on its way out: lines as they come, or one JSON document at the end.

use std::fmt::{self, Display, Formatter};
use std::io::{self, IsTerminal, Write};

use serde::Serialize;

use crate::log::Format;

/// The version of the JSON document. It grows only when a field changes its meaning or goes.
const VERSION: u32 = 1;

/// The JSON document; gitd(8) says what its fields mean.
#[derive(Debug, Serialize)]
struct Document<'a> {
    version: u32,
    request: &'a Asked,
    steps: &'a [Line],
    served: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    refusal: Option<&'a Refusal>,
}

/// What was asked for.
#[derive(Debug, Serialize)]
pub(super) struct Asked {
    /// The service, without `git-`.
    pub(super) service: &'static str,
    /// The pathname of the request.
    pub(super) pathname: String,
    /// The host of the URL, with its port.
    pub(super) host: Option<String>,
    /// The client's address and port.
    pub(super) client: String,
}

impl Display for Asked {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{} '{}'", self.service, self.pathname)?;
        match &self.host {
            Some(host) => write!(f, ", host '{host}'")?,
            None => f.write_str(", no host")?,
        }
        write!(f, ", from {}", self.client)
    }
}

/// What a step has come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Verdict {
    /// The request passes.
    Ok,
    /// There is nothing here; another step looks elsewhere.
    No,
    /// The request is refused here.
    Refused,
}

/// A step.
#[derive(Debug, Serialize)]
pub(super) struct Line {
    /// Its name, which never changes.
    pub(super) step: &'static str,
    /// What it has come to.
    pub(super) verdict: Verdict,
    /// What was found, for people.
    pub(super) text: String,
    /// More of that.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) details: Vec<String>,
}

/// Why the request is refused, and what follows.
#[derive(Debug, Serialize)]
pub(super) struct Refusal {
    /// The reason in one word.
    pub(super) reason: &'static str,
    /// What the log says.
    pub(super) log: String,
    /// What the client hears; nothing if it gets no answer.
    pub(super) client: Option<String>,
    /// What it would hear with the other setting of `--informative-errors`.
    pub(super) client_otherwise: Option<String>,
    /// Whether `--informative-errors` is set.
    pub(super) informative_errors: bool,
    /// What helps, the best first.
    pub(super) fixes: Vec<Fix>,
}

/// Something that helps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Fix {
    /// What to do with the text.
    pub(super) kind: Kind,
    /// The command, option, directory or path, quoted for a shell; or a sentence.
    pub(super) text: String,
}

/// What to do with a fix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Kind {
    /// Run it in a shell, as the administrator.
    Command,
    /// Add it to gitd's options.
    Option,
    /// Add it to gitd's directories.
    Directory,
    /// Ask for this path.
    Path,
    /// Run it in a shell to see more.
    Look,
    /// Read it.
    Advice,
}

/// The explanation.
#[derive(Debug)]
pub(super) struct Report {
    format: Format,
    colour: bool,
    open: Option<Line>,
    lines: Vec<Line>,
}

impl Report {
    /// Colours are for a terminal, unless `NO_COLOR` is set.
    pub(super) fn new(format: Format) -> Self {
        let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|terminal| terminal == "dumb");
        let colour = io::stdout().is_terminal() && !set("NO_COLOR") && !dumb;
        Report { format, colour, open: None, lines: Vec::new() }
    }

    /// Begins a step. The one before has passed.
    pub(super) fn begin(&mut self, step: &'static str, text: String) {
        self.close();
        self.say(&format!("{step:10} "));
        self.open = Some(Line { step, verdict: Verdict::Ok, text, details: Vec::new() });
    }

    /// More about the step that goes on.
    pub(super) fn detail(&mut self, details: impl IntoIterator<Item = String>) {
        if let Some(line) = &mut self.open {
            line.details.extend(details);
        }
    }

    /// Says something else of the step that goes on.
    pub(super) fn reword(&mut self, reword: impl FnOnce(&str) -> String) {
        if let Some(line) = &mut self.open {
            line.text = reword(&line.text);
        }
    }

    /// The step that goes on has come to this.
    pub(super) fn end(&mut self, verdict: Verdict) {
        if let Some(line) = &mut self.open {
            line.verdict = verdict;
        }
        self.close();
    }

    /// The request is refused, at the step that goes on if it has this name.
    pub(super) fn refuse(&mut self, step: Option<&'static str>, why: String) {
        let goes_on = |open: &Line| step.is_none_or(|step| open.step == step);
        if !self.open.as_ref().is_some_and(goes_on) {
            self.begin(step.unwrap_or("check"), String::new());
        }
        self.reword(|text| match (text, why.as_str()) {
            ("", _) => why,
            (_, "") => text.to_owned(),
            _ => format!("{text}: {why}"),
        });
        self.end(Verdict::Refused);
    }

    /// Says how it ended.
    ///
    /// # Errors
    /// When standard output cannot be written to.
    pub(super) fn finish(mut self, request: &Asked, refusal: Option<&Refusal>) -> io::Result<()> {
        self.close();
        if self.format == Format::Json {
            let served = refusal.is_none();
            let document =
                Document { version: VERSION, request, steps: &self.lines, served, refusal };
            let text = serde_json::to_string_pretty(&document)?;
            return writeln!(io::stdout(), "{text}");
        }
        match refusal {
            None => self.say(&format!("\n{}\n", self.painted(GREEN, "served"))),
            Some(refusal) => self.say_refusal(refusal),
        }
        io::stdout().flush()
    }

    fn say_refusal(&self, refusal: &Refusal) {
        let refused = self.painted(RED, "refused");
        self.say(&format!("\n{refused}: {} ({})\n", refusal.log, refusal.reason));
        match &refusal.client {
            None => self.say("client gets no answer\n"),
            Some(text) => self.say(&format!("client gets ERR {text}\n")),
        }
        if let Some(text) = &refusal.client_otherwise {
            let how = if refusal.informative_errors { "without" } else { "with" };
            self.say(&format!("  {how} --informative-errors: ERR {text}\n"));
        }
        for fix in &refusal.fixes {
            let what = match fix.kind {
                Kind::Command => "to fix it, run",
                Kind::Option => "to fix it, add the option",
                Kind::Directory => "to fix it, add the directory",
                Kind::Path => "to fix it, ask for",
                Kind::Look => "to see more, run",
                Kind::Advice => "note",
            };
            self.say(&format!("{what}\n    {}\n", self.painted(BOLD, &fix.text)));
        }
    }

    fn close(&mut self) {
        let Some(line) = self.open.take() else { return };
        let (colour, word) = match line.verdict {
            Verdict::Ok => (GREEN, "ok     "),
            Verdict::No => (BOLD, "no     "),
            Verdict::Refused => (RED, "REFUSED"),
        };
        self.say(&format!("{} {}\n", self.painted(colour, word), line.text));
        for detail in &line.details {
            self.say(&format!("{:19}{detail}\n", ""));
        }
        self.lines.push(line);
    }

    /// Each piece goes out at once, so that a step that hangs is seen. Nobody may listen any more.
    fn say(&self, text: &str) {
        if self.format != Format::Json {
            let mut stdout = io::stdout();
            let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
        }
    }

    fn painted(&self, colour: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{colour}m{text}\x1b[m") } else { text.to_owned() }
    }
}

const RED: &str = "1;31";
const GREEN: &str = "32";
const BOLD: &str = "1";
