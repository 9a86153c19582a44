//! gitd: a drop-in replacement for `git daemon`.
//!
//! The folders are in the order of their dependencies: a file uses only its own folder and those
//! above it. `docs/architecture.md` draws the life of one connection through them.

#[allow(unsafe_code)]
pub mod sys;

pub mod escape;
pub mod net;
pub mod protocol;
pub mod log;
pub mod config;
pub mod repository;
pub mod git;
pub mod access;
pub mod limits;
pub mod session;
pub mod listen;
pub mod server;
pub mod daemon;
