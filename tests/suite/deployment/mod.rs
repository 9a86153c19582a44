//! At home on a server: in test suites and scripts, under systemd, behind Unix sockets, in a package.

pub mod activation;
mod boot;
mod completions;
mod documents;
mod manager;
mod moved;
mod package;
mod ports;
pub mod server;
mod settings;
mod units;
mod unix_socket;
