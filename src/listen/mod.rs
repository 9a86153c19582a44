//! Sockets to accept from: TCP, MPTCP, Unix, or passed by a service manager.

pub mod activation;
pub mod listener;
pub mod place;
pub mod unix;
