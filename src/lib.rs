//! gitd: a drop-in replacement for `git daemon`.

#[allow(unsafe_code)]
pub mod sys;

pub mod escape;
pub mod pktline;
pub mod request;
pub mod service;
pub mod template;
