//! gitd: a drop-in replacement for `git daemon`.
//!
//! The modules stand in the order in which they depend on each other: a file uses only files above it.
//! `docs/architecture.md` draws the life of one connection through them.

#[allow(unsafe_code)]
pub mod sys;

pub mod escape;
pub mod pktline;
pub mod service;
pub mod event;
pub mod address;
pub mod peer;
pub mod request;
pub mod template;
pub mod pointer;

pub mod options;
pub mod config;

pub mod name;
pub mod repository;
pub mod git;
pub mod starter;
pub mod denial;
pub mod inquiry;
pub mod host;
pub mod path;
pub mod ownership;
pub mod hook;
pub mod moved;
pub mod access;
pub mod child;

pub mod registered;
pub mod threads;
pub mod watch;
pub mod stderr;
pub mod rest;
pub mod traffic;
pub mod monitor;
pub mod admission;
pub mod work;
pub mod session;
pub mod summary;
pub mod inbound;
pub mod farewell;
pub mod pending;
pub mod activity;
pub mod heartbeat;
pub mod connection;
pub mod inetd;

pub mod place;
pub mod unix;
pub mod listener;
pub mod activation;
pub mod notify;
pub mod server;
pub mod outlet;
pub mod log;
pub mod state_file;
pub mod init;
pub mod startup;
