//! From the command line to a running server, and back to an exit status.

pub mod background;
pub mod explain;
pub mod init;
pub mod prepared;
pub mod startup;
pub mod state_file;
