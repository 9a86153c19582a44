//! The decision: may this request be served?
//!
//! [`decide`] checks in the stock daemon's order (contract 31). The result is a value: a [`Grant`],
//! without which git cannot be started, or a [`Denial`], which has the messages for the client and
//! the administrator.

pub mod denial;
pub mod host;
pub mod hook;
pub mod inquiry;
pub mod moved;
pub mod ownership;
pub mod path;
pub mod step;

use crate::access::denial::{Denial, Refusal};
use crate::access::hook::Question;
use crate::access::host::Host;
use crate::access::step::{Observer, Step, Unobserved};
use crate::config::Policy;
use crate::git::starter::Starter;
use crate::net::peer::Peer;
use crate::protocol::request::Request;
use crate::protocol::service::Service;
use crate::repository::Repository;

/// The permission to run one service in one repository. Only [`authorize`] makes it.
#[derive(Debug)]
pub struct Grant {
    service: Service,
    repository: Repository,
}

impl Grant {
    /// The service that may run.
    pub fn service(&self) -> Service {
        self.service
    }

    /// The repository in which it may run.
    pub fn repository(&self) -> &Repository {
        &self.repository
    }
}

/// Decides about one request. May take as long as the file system, the resolver and the access
/// hook, so call it on a thread that may block.
///
/// # Errors
/// The [`Denial`] of the first check that failed; [`Denial::Exhausted`] if the system ran out of a
/// resource before that.
pub fn authorize(
    policy: &Policy,
    starter: &Starter,
    request: &Request,
    peer: &Peer,
) -> Result<Grant, Denial> {
    authorize_observed(policy, starter, request, peer, &mut Unobserved)
}

/// The same, with an observer of the steps.
///
/// # Errors
/// As [`authorize`].
pub fn authorize_observed(
    policy: &Policy,
    starter: &Starter,
    request: &Request,
    peer: &Peer,
    observer: &mut impl Observer,
) -> Result<Grant, Denial> {
    let decision = decide(policy, starter, request, peer, observer);
    decision.map_err(|refusal| refusal.into_denial(request.service))
}

fn decide(
    policy: &Policy,
    starter: &Starter,
    request: &Request,
    peer: &Peer,
    observer: &mut impl Observer,
) -> Result<Grant, Refusal> {
    if let Some(template) = &policy.moved_to {
        return Err(Denial::Moved(moved::url(template, request)).into());
    }
    let service = request.service;
    let offer = policy.offers[service];
    observer.see(Step::Offer(service, offer));
    if !offer.enabled && !offer.overridable {
        return Err(Denial::ServiceOff(service).into());
    }
    let host = Host::new(request.virtual_host.as_ref());
    let repository = path::enter(policy, &request.pathname, &host, observer)?;
    ownership::check(starter, &repository, observer)?;
    observer.see(Step::List(&repository));
    check_listed(policy, &repository)?;
    observer.see(Step::Export(&repository));
    if !policy.export_all && !repository.exported()? {
        let Repository { path, location, .. } = repository;
        return Err(Denial::NotExported { path, location }.into());
    }
    observer.see(Step::Setting(&repository, service));
    let enabled = if offer.overridable {
        inquiry::service_enabled(starter, &repository, service)?
    } else {
        None
    };
    observer.see(Step::Set(enabled));
    if !enabled.unwrap_or(offer.enabled) {
        return Err(Denial::ServiceOffFor(service, repository.path).into());
    }
    let finds_out_itself = match service {
        Service::UploadPack => true,
        // receive-pack would enter the `.git` inside, and never see what was checked here.
        Service::ReceivePack => !repository.contains_dot_git()?,
        // upload-archive writes to the client first.
        Service::UploadArchive => false,
    };
    if !finds_out_itself || policy.access_hook.is_some() {
        observer.see(Step::Format(&repository));
        inquiry::check_format(starter, &repository)?;
    }
    if let Some(hook) = &policy.access_hook {
        let question = Question { service, repository: &repository, host: &host, peer };
        hook::consult(starter, hook, &question, observer)?
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
