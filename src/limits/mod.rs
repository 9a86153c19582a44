//! Bounds on what clients can use: permits for services, descriptors, idle connections, and
//! threads that may hang.

pub mod admission;
pub mod descriptors;
pub mod pending;
pub mod threads;
