//! The client's first packet, from bytes to a request, and the header that a load balancer sends
//! before it. Without I/O except for [`inbound`], which reads the packet.

pub mod inbound;
pub mod pktline;
pub mod proxy;
pub mod request;
pub mod service;
