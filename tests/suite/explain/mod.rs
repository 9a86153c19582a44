//! `--explain`: it says what the server would do, why, and what fixes it.

mod output;
mod refusals;
mod site;
