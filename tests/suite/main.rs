//! The test suite.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that cannot go on fails"
)]
#![allow(
    unreachable_pub,
    reason = "nothing is reachable from outside of a test binary"
)]

mod connect;
#[path = "../lab/mod.rs"]
mod lab;
mod multipath;
