//! Writes the steps of a decision down, with what can be found out about each.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::absolute;

use crate::access::hook::Question;
use crate::access::host::Canonical;
use crate::access::step::{Observer, Rule, Step};
use crate::config::Policy;
use crate::daemon::explain::origin::{self, Setting, real_path};
use crate::daemon::explain::report::{Report, Verdict};
use crate::escape::{Escaped, Word};
use crate::git::starter::Starter;
use crate::protocol::service::{Offer, Service};
use crate::repository::{Miss, Repository, diagnose};
use crate::sys::account;
use crate::sys::child::End;
use crate::sys::errno_text;

/// The observer of a decision.
#[derive(Debug)]
pub(super) struct Trace<'a> {
    /// Where the steps are written.
    pub(super) report: &'a mut Report,
    /// What the steps have found.
    pub(super) facts: Facts,
    policy: &'a Policy,
    starter: &'a Starter,
    service: Service,
}

/// What helps to fix a refusal.
#[derive(Debug, Default)]
pub(super) struct Facts {
    /// The path that the request leads to, before suffixes.
    pub(super) path: Vec<u8>,
    /// The rule that has made it.
    pub(super) rule: Option<Rule>,
    /// The git directory, absolute.
    pub(super) directory: Option<Vec<u8>>,
    /// The gitfile or symbolic link that leads there.
    pub(super) names: Vec<Vec<u8>>,
    /// The user that gitd runs as.
    pub(super) uid: u32,
    /// The value that `safe.directory` lacks.
    pub(super) lacking: Vec<u8>,
    /// Every `safe.directory` of the server's configuration.
    pub(super) safe: Vec<Setting>,
    /// Every `daemon.<service>`.
    pub(super) settings: Vec<Setting>,
    /// The repository's configuration file, absolute.
    pub(super) config: Option<Vec<u8>>,
    /// A command that runs the hook as gitd does.
    pub(super) hook: Option<String>,
    /// Why the hook does not start.
    pub(super) hook_error: Option<io::ErrorKind>,
}

impl<'a> Trace<'a> {
    /// An observer that writes to `report`.
    pub(super) fn new(
        report: &'a mut Report,
        policy: &'a Policy,
        starter: &'a Starter,
        service: Service,
    ) -> Self {
        let facts = Facts { uid: starter.uid, ..Facts::default() };
        Trace { report, facts, policy, starter, service }
    }

    fn detail(&mut self, text: String) {
        self.report.detail([text]);
    }

    fn candidate(&mut self, path: &[u8], found: Result<(), Miss>) {
        match found {
            Ok(()) => self.report.begin("candidate", Escaped(path).to_string()),
            Err(miss) => {
                let end = if miss == Miss::Broken { "; git looks no further" } else { "" };
                let why = format!("{}: {}{end}", Escaped(path), diagnosis(path));
                self.report.begin("candidate", why);
                self.report.end(Verdict::No);
            }
        }
    }

    fn ownership(&mut self, repository: &Repository) {
        self.facts.directory = real_path(repository.directory());
        if repository.is_behind_gitfile() {
            self.facts.names.extend(repository.safe_name().ok());
        } else if let Ok(path) = absolute(OsStr::from_bytes(&repository.location))
            && path.is_symlink()
        {
            self.facts.names.push(path.into_os_string().into_vec());
        }
        let names: Vec<_> = repository.owners().iter().map(|&uid| user(uid)).collect();
        let what = if repository.is_behind_gitfile() { "gitfile and repository" } else { "it" };
        let ours = user(self.starter.uid);
        self.report.begin(
            "ownership",
            format!(
                "{what} belong{} to {}; gitd runs as {ours}",
                if names.len() == 1 { "s" } else { "" },
                names.join(" and ")
            ),
        );
        if let Some(sudo) = self.starter.sudo_uid {
            self.detail(format!("SUDO_UID: repositories of {} count as gitd's own", user(sudo)));
        }
    }

    fn safe(&mut self, name: &[u8], is_safe: bool) {
        let contains = if is_safe { "contains" } else { "does not contain" };
        self.detail(format!("safe.directory {contains} {}", Escaped(name)));
        // An older git calls the repository `.` when it serves, and only this value contains that.
        let resolves =
            self.starter.git().resolves_safe_names(&self.starter.spawner).unwrap_or(true);
        self.facts.lacking = if resolves { name.to_vec() } else { b"*".to_vec() };
        self.facts.safe = origin::settings(self.starter, None, "safe.directory");
        self.facts.safe.retain(Setting::is_protected);
        if self.facts.safe.is_empty() {
            self.detail("safe.directory is not set".to_owned());
        }
        for setting in self.facts.safe.clone() {
            self.detail(format!("safe.directory is {setting}"));
        }
    }

    fn list(&mut self, repository: &Repository) {
        let listed: Vec<_> =
            self.policy.directories.iter().map(|directory| Word(directory).to_string()).collect();
        let path = Escaped(&repository.path);
        self.report.begin(
            "list",
            match listed.as_slice() {
                [] => "gitd has no directory list".to_owned(),
                listed => format!("{path}; the list is {}", listed.join(" ")),
            },
        );
    }

    fn export(&mut self, repository: &Repository) {
        let directory = self.facts.directory.clone().unwrap_or_default();
        let directory = Escaped(&directory);
        let text = match (repository.exported().unwrap_or(false), self.policy.export_all) {
            (true, _) => format!("{directory}/git-daemon-export-ok exists"),
            (false, true) => "--export-all".to_owned(),
            (false, false) => format!("no {directory}/git-daemon-export-ok, no --export-all"),
        };
        self.report.begin("export", text);
    }

    fn setting(&mut self, repository: &Repository, service: Service) {
        let key = service.config_key();
        self.report.begin("setting", key.to_owned());
        let directory = self.facts.directory.clone().unwrap_or_default();
        self.facts.config =
            Some(origin::absolute(&directory, &config_file(self.starter, repository)));
        if !self.policy.offers[service].overridable {
            return self.detail("not looked at: --forbid-override".to_owned());
        }
        if self.starter.git().config_may_mention(repository, "daemon") == Ok(false) {
            return self.detail("no configuration file mentions it".to_owned());
        }
        self.facts.settings = origin::settings(self.starter, Some(repository), key);
        for setting in self.facts.settings.clone() {
            self.detail(format!("{key} is {setting}"));
        }
    }

    fn set(&mut self, value: Option<bool>) {
        let Offer { enabled, .. } = self.policy.offers[self.service];
        let service = self.service.name();
        self.report.reword(|key| match (value, enabled) {
            (Some(value), _) => format!("{key} is {value}"),
            (None, true) => format!("{key} is not set; {service} is enabled"),
            (None, false) => format!("{key} is not set; {service} is disabled"),
        });
    }

    fn hook(&mut self, hook: &[u8], question: &Question<'_>) {
        let unknown = Canonical::default();
        let canonical = question.host.canonical().unwrap_or(&unknown);
        let words = [
            question.service.name().as_bytes(),
            &question.repository.path,
            question.host.name(),
            &canonical.name,
            &canonical.address,
            question.host.port(),
        ];
        let words: Vec<_> = words.iter().map(|word| Word(word).to_string()).collect();
        self.report.begin("hook", format!("{} {}", Escaped(hook), words.join(" ")));
        let part = |name: &str, value: &Option<Vec<u8>>| {
            value.as_ref().map(|value| format!(" {name}={}", Word(value))).unwrap_or_default()
        };
        let directory = self.facts.directory.clone().unwrap_or_default();
        let environment =
            part("REMOTE_ADDR", &question.peer.address) + &part("REMOTE_PORT", &question.peer.port);
        let code = [hook, b" \"$@\""].concat();
        let command = format!(
            "cd {} && env GIT_DIR=.{environment} sh -c {} hook {}; echo $?",
            Word(&directory),
            Word(&code),
            words.join(" ")
        );
        self.facts.hook = Some(command);
    }

    fn hook_ended(&mut self, answer: &io::Result<(End, Vec<u8>)>) {
        match answer {
            Err(error) => {
                self.facts.hook_error = Some(error.kind());
                self.detail(format!("cannot be started: {}", errno_text(error)));
            }
            Ok((End::Exited(status), _)) => self.detail(format!("ends with status {status}")),
            Ok((End::Killed(signal), _)) => self.detail(format!("dies of signal {signal}")),
        }
        if let Ok((_, said)) = answer
            && !said.is_empty()
        {
            self.detail(format!("says '{}'", Escaped(said.trim_ascii())));
        }
    }
}

impl Observer for Trace<'_> {
    fn see(&mut self, step: Step<'_>) {
        match step {
            Step::Offer(service, offer) => self.report.begin("service", offered(service, offer)),
            Step::Name(name) => self.report.begin("name", format!("'{}'", Escaped(name))),
            Step::Path(rule, path) => {
                self.facts.path = path.to_vec();
                self.facts.rule = Some(rule);
                self.report.begin("path", format!("{} ({})", Escaped(path), named(rule)));
                let unused = self.policy.interpolated_path.is_some();
                if unused && matches!(rule, Rule::AsRequested | Rule::BasePath) {
                    self.detail("without a host --interpolated-path does not count".to_owned());
                }
            }
            Step::Candidate(path, found) => self.candidate(path, found),
            Step::Ownership(repository) => self.ownership(repository),
            Step::Safe(name, is_safe) => self.safe(name, is_safe),
            Step::List(repository) => self.list(repository),
            Step::Export(repository) => self.export(repository),
            Step::Setting(repository, service) => self.setting(repository, service),
            Step::Set(value) => self.set(value),
            Step::Format(_) => {
                self.report.begin("format", "git reads the repository's configuration".to_owned());
            }
            Step::Hook(hook, question) => self.hook(hook, question),
            Step::HookEnded(answer) => self.hook_ended(answer),
        }
    }
}

fn offered(service: Service, offer: Offer) -> String {
    let (name, key) = (service.name(), service.config_key());
    let enabled = if offer.enabled { "enabled" } else { "disabled" };
    match offer.overridable {
        true => format!("{name} is {enabled}, unless {key} says otherwise"),
        false => format!("{name} is {enabled}, whatever {key} says"),
    }
}

fn named(rule: Rule) -> &'static str {
    match rule {
        Rule::AsRequested => "as requested",
        Rule::BasePath => "--base-path",
        Rule::Relaxed => "--base-path-relaxed: as requested",
        Rule::InterpolatedPath => "--interpolated-path",
        Rule::UserPath => "--user-path",
    }
}

/// Why there is no repository.
fn diagnosis(path: &[u8]) -> String {
    diagnose(path).unwrap_or_else(|shortage| errno_text(&shortage.into()))
}

/// The file as git names it from the repository.
fn config_file(starter: &Starter, repository: &Repository) -> Vec<u8> {
    let arguments = ["rev-parse", "--git-path", "config"];
    let directory = Some(repository.directory());
    let output = starter.git().ask(&starter.spawner, directory, &[("GIT_DIR", ".")], &arguments);
    let said = output.ok().filter(|output| output.status.success()).map(|output| output.stdout);
    let said = said.and_then(|said| Some(said.strip_suffix(b"\n")?.to_vec()));
    said.unwrap_or_else(|| b"config".to_vec())
}

/// `alice (uid 1000)`.
pub(super) fn user(uid: u32) -> String {
    match account::user_of(uid) {
        Ok(Some(user)) => format!("{} (uid {uid})", Escaped(user.name.to_bytes())),
        _ => format!("uid {uid}"),
    }
}
