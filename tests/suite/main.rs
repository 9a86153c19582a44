//! The test suite: what a client, an administrator, a reader of the log and a service see.
//!
//! The contract, docs/contract.md, is what stock git's daemon does: a case of a `compliance!` block runs on the machine's
//! `git daemon`, which proves the expectation, and on gitd, which must meet it.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]
#![allow(unreachable_pub, reason = "nothing is reachable from outside of a test binary")]

mod support;

#[path = "../lab/mod.rs"]
mod lab;

mod architecture;
mod base_path;
mod improvements;
mod lifecycle;
mod chaos;
mod clients;
mod clients_push;
mod command_line;
mod connect;
mod corpus;
mod differential;
mod documents;
mod enabled;
mod environment;
mod explain;
mod far;
mod foreign_directories;
mod formats;
mod gitfiles;
mod deployment;
mod hook;
mod hook_search;
mod inetd;
mod inetd_limits;
mod inetd_questions;
mod inherited;
mod interpolation;
mod limits;
mod listening;
mod load;
mod log_fields;
mod log_lines;
mod log_readers;
mod logging;
mod multipath;
mod numbers;
mod order;
mod ownership;
mod packet;
mod paths;
mod pid_file;
mod privileges;
mod prompt;
mod proxy;
mod readiness;
mod request;
mod services;
mod setups;
mod signals;
mod status;
mod strict;
mod swapped;
mod syslog;
mod user_path;
mod worktrees;
