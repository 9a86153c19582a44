//! At home on a server: in test suites and scripts, under systemd, behind Unix sockets, in a package.

mod activation;
mod manager;
mod moved;
mod ports;
mod server;
mod settings;
mod unix_socket;
