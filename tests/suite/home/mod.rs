//! At home on a server: in test suites and scripts, under systemd, behind Unix sockets, in a package.

mod activation;
mod boot;
mod manager;
mod moved;
mod package;
mod ports;
mod server;
mod settings;
mod unix_socket;
