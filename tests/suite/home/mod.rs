//! At home on a server: in test suites and scripts, under systemd, behind Unix sockets, in a package.

mod activation;
mod boot;
mod completions;
mod documents;
mod manager;
mod moved;
mod package;
mod ports;
mod server;
mod settings;
mod units;
mod unix_socket;
