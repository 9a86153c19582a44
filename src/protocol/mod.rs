//! The client's first packet, from bytes to a request. Without I/O except for [`inbound`], which
//! reads the packet.

pub mod inbound;
pub mod pktline;
pub mod request;
pub mod service;
