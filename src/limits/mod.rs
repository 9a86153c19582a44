//! Bounds on what clients can use: permits for services, idle connections, and threads that may
//! hang.

pub mod admission;
pub mod pending;
pub mod threads;
