//! gitd: a drop-in replacement for `git daemon`.
//!
//! The modules stand in the order in which they depend on each other: a file uses only files above it.
//! `docs/architecture.md` draws the life of one connection through them.

#[allow(unsafe_code)]
pub mod sys;

pub mod escape;
pub mod pktline;
pub mod service;
pub mod request;
pub mod template;

pub mod options;
pub mod config;
