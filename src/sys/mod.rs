//! The only door to libc, and the only place for `unsafe`.

pub mod wait;
