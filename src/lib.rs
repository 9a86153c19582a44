//! gitd: a drop-in replacement for `git daemon`.

#[allow(unsafe_code)]
pub mod sys;
