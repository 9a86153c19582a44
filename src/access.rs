//! The decision: may this request be served?
//!
//! [`authorize`] reads top to bottom in the stock daemon's order (contract 31). Its answer is a value:
//! a [`Grant`], without which no git can be started, or a [`Denial`], which knows what to tell the
//! client and what to tell the administrator.

use crate::config::Policy;
use crate::denial::Denial;
use crate::hook::{self, Question};
use crate::host::Host;
use crate::moved;
use crate::ownership;
use crate::path;
use crate::peer::Peer;
use crate::repository::Repository;
use crate::request::Request;
use crate::service::Service;
use crate::starter::Starter;

/// The permission to run one service in one repository. Only [`authorize`] makes it.
#[derive(Debug)]
pub struct Grant {
    service: Service,
    repository: Repository,
}

impl Grant {
    /// The service that may run.
    #[must_use]
    pub fn service(&self) -> Service {
        self.service
    }

    /// The repository in which it may run.
    #[must_use]
    pub fn repository(&self) -> &Repository {
        &self.repository
    }
}

/// Decides about one request. May take as long as the file system, the resolver and the access hook
/// take, so it belongs on a thread that may wait.
///
/// # Errors
/// The [`Denial`] of the first check that failed.
pub fn authorize(
    policy: &Policy,
    starter: &Starter,
    request: &Request,
    peer: &Peer,
) -> Result<Grant, Denial> {
    if let Some(template) = &policy.moved_to {
        return Err(Denial::Moved(moved::url(template, request)));
    }
    let service = request.service;
    let offer = policy.offers[service];
    if !offer.enabled && !offer.overridable {
        return Err(Denial::ServiceOff(service));
    }
    let host = Host::new(request.virtual_host.as_ref());
    let repository = path::enter(policy, &request.pathname, &host)?;
    ownership::check(starter, &repository)?;
    check_listed(policy, &repository)?;
    if !policy.export_all && !repository.exported() {
        return Err(Denial::NotExported(repository.path));
    }
    let enabled = if offer.overridable { ask_config(starter, &repository, service)? } else { None };
    if !enabled.unwrap_or(offer.enabled) {
        return Err(Denial::ServiceOffFor(service, repository.path));
    }
    if let Some(hook) = &policy.access_hook {
        let question = Question { service, repository: &repository, host: &host, peer };
        hook::consult(starter, hook, &question)
            .map_err(|reason| Denial::Hook { path: repository.path.clone(), reason })?;
    }
    Ok(Grant { service, repository })
}

fn check_listed(policy: &Policy, repository: &Repository) -> Result<(), Denial> {
    if path::is_listed(policy, &repository.path) {
        Ok(())
    } else {
        Err(Denial::NotListed(repository.path.clone()))
    }
}

/// What `daemon.<service>` says, if anything (contract 52). git is asked only if its configuration
/// mentions the section.
fn ask_config(
    starter: &Starter,
    repository: &Repository,
    service: Service,
) -> Result<Option<bool>, Denial> {
    if !starter.git.config_may_mention(repository, "daemon") {
        return Ok(None);
    }
    let arguments = ["config", "--type=bool", "--get", service.config_key()];
    let output = starter.git.ask(repository.directory(), &[("GIT_DIR", ".")], &arguments);
    let output = output.map_err(|error| Denial::unaskable(&repository.path, &error))?;
    match (output.status.code(), output.stdout.as_slice()) {
        (Some(0), b"true\n") => Ok(Some(true)),
        (Some(0), b"false\n") => Ok(Some(false)),
        (Some(1), b"") => Ok(None),
        _ => Err(Denial::Config {
            path: repository.path.clone(),
            reason: output.stderr.trim_ascii_end().to_vec(),
        }),
    }
}
