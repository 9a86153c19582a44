//! A request to a server, explained, asked, and fixed.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::process::Command;

use serde_json::Value;

use crate::support::{Gitd, Invocation, Outcome, Scratch, Verdict, pkt};

/// What is asked of which server.
#[derive(Clone, Copy)]
pub struct Case {
    /// Makes what is on disk.
    pub lay: fn(&Scratch),
    pub serve: fn(&Scratch) -> Invocation,
    pub service: &'static str,
    pub path: &'static str,
}

/// A case made real, and the fixes that were applied to it.
pub struct Site {
    pub scratch: Scratch,
    serve: fn(&Scratch) -> Invocation,
    service: &'static str,
    pub path: String,
    more: Vec<String>,
    directories: Vec<String>,
}

/// An explanation.
pub struct Explained {
    pub outcome: Outcome,
    pub document: Value,
}

impl Case {
    pub fn build(&self) -> Site {
        let scratch = Scratch::new();
        (self.lay)(&scratch);
        let path = self.path.to_owned();
        let (more, directories) = (Vec::new(), Vec::new());
        Site { scratch, serve: self.serve, service: self.service, path, more, directories }
    }
}

impl Site {
    fn server(&self) -> Invocation {
        let server = (self.serve)(&self.scratch).args(&self.more);
        self.directories.iter().fold(server, Invocation::directory)
    }

    pub fn run(&self, format: &str) -> Outcome {
        self.server()
            .args([
                format!("--explain={}", self.path),
                format!("--explain-service={}", self.service),
                format!("--log-format={format}"),
            ])
            .run()
    }

    pub fn explain(&self) -> Explained {
        let outcome = self.run("json");
        assert_eq!(outcome.stderr, "");
        let document = serde_json::from_str(&outcome.stdout).expect("a JSON document");
        Explained { outcome, document }
    }

    /// What the server itself answers: the text of its ERR packet, if it refuses.
    pub fn ask(&self) -> Result<(), String> {
        let daemon = self.server().start();
        let url = self.path.strip_prefix("git://").and_then(|rest| rest.split_once('/'));
        let payload = match url {
            Some((host, path)) => format!("git-{} /{path}\0host={host}\0", self.service),
            None => format!("git-{} {}\0", self.service, self.path),
        };
        match daemon.talk(pkt(payload)).verdict {
            Verdict::Served(_) => Ok(()),
            Verdict::Refused(text) => Err(text),
            Verdict::Silence => panic!("the server says nothing"),
        }
    }

    /// Does what a fix says.
    pub fn apply(&mut self, fix: &Value) {
        let text = fix["text"].as_str().unwrap();
        match fix["kind"].as_str().unwrap() {
            "command" => drop(self.output_of(text)),
            "option" => self.more.push(words(text)),
            "directory" => self.directories.push(words(text)),
            "path" => self.path = words(text),
            other => panic!("{other} is no fix: {text}"),
        }
    }

    /// Runs a line of shell in the server's environment, as the administrator.
    pub fn output_of(&self, line: &str) -> String {
        let server = (self.serve)(&self.scratch).command(&[]);
        let mut shell = Command::new("bash");
        shell.args(["-c", line]).current_dir("/").env_clear();
        shell.envs(server.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let output = shell.output().unwrap();
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }
}

impl Explained {
    pub fn served(&self) -> bool {
        let served = self.document["served"].as_bool().unwrap();
        assert_eq!(self.outcome.code(), Some(if served { 0 } else { 1 }));
        assert_eq!(self.document.get("refusal").is_none(), served);
        served
    }

    pub fn refusal(&self, field: &str) -> &str {
        self.document["refusal"][field].as_str().unwrap_or_default()
    }

    pub fn fixes(&self) -> Vec<Value> {
        self.document["refusal"]["fixes"].as_array().cloned().unwrap_or_default()
    }

    /// The steps of this name.
    pub fn steps(&self, name: &str) -> Vec<&Value> {
        let steps = self.document["steps"].as_array().unwrap();
        steps.iter().filter(|step| step["step"] == name).collect()
    }

    /// The name of the step that refuses: the last one, and no other.
    pub fn refused_at(&self) -> &str {
        let steps = self.document["steps"].as_array().unwrap();
        let (last, others) = steps.split_last().unwrap();
        assert!(others.iter().all(|step| step["verdict"] != "refused"), "{steps:#?}");
        assert_eq!(last["verdict"], "refused", "{steps:#?}");
        last["step"].as_str().unwrap()
    }
}

/// A shell's idea of a word.
fn words(text: &str) -> String {
    let echo = format!("printf %s {text}");
    let output = Command::new("bash").args(["-c", &echo]).output().unwrap();
    OsString::from_vec(output.stdout).into_string().unwrap()
}

/// The usual server, whose repositories are not exported.
pub fn plain(scratch: &Scratch) -> Invocation {
    Gitd.invoke(scratch).base_path().quiet()
}

/// The same, exported.
pub fn exported(scratch: &Scratch) -> Invocation {
    plain(scratch).arg("--export-all")
}
