//! Connections: addresses, socket options, counters, and readiness.

pub mod address;
pub mod peer;
pub mod registered;
pub mod watch;
