//! The steps of a decision, for an observer. Serving uses [`Unobserved`], which costs nothing;
//! `--explain` uses one that writes them down.
//!
//! A step is reported when it begins. What it has found is reported as a step of its own. So the
//! step that was reported last is the one that refuses, or that hangs.

use std::io;

use crate::access::hook::Question;
use crate::protocol::service::{Offer, Service};
use crate::repository::{Miss, Repository};
use crate::sys::child::End;

/// A step of a decision, with what is known when it begins.
#[derive(Debug)]
pub enum Step<'a> {
    /// Does the server offer the service, or may a repository enable it?
    Offer(Service, Offer),
    /// Is the pathname the only one for what it names?
    Name(&'a [u8]),
    /// This rule makes the path to look for.
    Path(Rule, &'a [u8]),
    /// There may be a repository under this path.
    Candidate(&'a [u8], Result<(), Miss>),
    /// Whose repository is it?
    Ownership(&'a Repository),
    /// Whether `safe.directory` contains this name.
    Safe(&'a [u8], bool),
    /// Is the repository in the directory list?
    List(&'a Repository),
    /// Is the repository exported?
    Export(&'a Repository),
    /// Does the configuration enable the service?
    Setting(&'a Repository, Service),
    /// This is what the configuration says.
    Set(Option<bool>),
    /// Does git accept the repository's format and configuration?
    Format(&'a Repository),
    /// What does the access hook say?
    Hook(&'a [u8], &'a Question<'a>),
    /// This is how the hook ended, and what it wrote.
    HookEnded(&'a io::Result<(End, Vec<u8>)>),
}

/// What makes the path to look for out of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// The path as requested.
    AsRequested,
    /// `--base-path`.
    BasePath,
    /// `--base-path-relaxed`: nothing was found below the base path.
    Relaxed,
    /// `--interpolated-path`.
    InterpolatedPath,
    /// `--user-path`.
    UserPath,
}

/// Sees the steps of a decision. It cannot change the decision.
pub trait Observer {
    /// The next step.
    fn see(&mut self, step: Step<'_>);
}

/// Sees nothing.
#[derive(Debug)]
pub struct Unobserved;

impl Observer for Unobserved {
    fn see(&mut self, _: Step<'_>) {}
}
