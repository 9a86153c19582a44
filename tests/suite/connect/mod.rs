//! `gitd-connect`, the client's half.

mod git;
mod program;
mod support;
