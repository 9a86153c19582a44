//! The first packet of a client, from bytes to a request. Pure but for [`inbound`], which reads the packet.

pub mod inbound;
pub mod pktline;
pub mod request;
pub mod service;
