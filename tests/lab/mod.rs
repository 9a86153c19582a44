//! The laboratory: two hosts in network namespaces of their own, joined by one or more links whose rate is known, which
//! can be lost in every way a link is lost, and a repository to clone over them while every link's bytes are counted.
//!
//! Needs root or user namespaces, and the Debian packages iproute2, nftables, mptcpize and util-linux. Nothing that it
//! makes has a name outside: a laboratory ends with the process that made it, however that ends.

#![allow(dead_code, unused_imports, reason = "the suite and the bench each use their part")]

mod clone;
mod daemon;
mod host;
mod loss;
mod network;
mod repository;
mod sampler;

pub use clone::{Client, Outcome, Transfer};
pub use daemon::{Daemon, Server};
pub use host::{missing, succeed};
pub use loss::Loss;
pub use network::{Network, middlebox, take_turn};
pub use repository::{Repository, git, isolate};
pub use sampler::Sample;
