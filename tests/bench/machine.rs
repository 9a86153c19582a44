//! On what the bench ran: the figures mean nothing without it.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread;

use crate::{Result, git};

pub(crate) fn description(arguments: &[String]) -> Result<String> {
    let cores = thread::available_parallelism()?;
    let processors = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let processor = value(&processors, "model name").unwrap_or("an unnamed processor");
    let kernel = first_line("/proc/sys/kernel/osrelease");
    let congestion = first_line("/proc/sys/net/ipv4/tcp_congestion_control");
    let git = git::output(Path::new("/"), &["--version"])?;
    let date = Command::new("date").args(["-u", "+%F"]).output()?;
    let date = String::from_utf8_lossy(&date.stdout);
    let arguments: Vec<&str> =
        arguments.iter().map(String::as_str).filter(|&word| word != "--bench").collect();
    Ok(format!(
        "Measured on {} with `cargo bench -- {}`: {cores} cores of {processor}, Linux {kernel}, {git}, {congestion}, gitd {}.",
        date.trim(),
        arguments.join(" "),
        env!("CARGO_PKG_VERSION"),
    ))
}

fn value<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    text.lines().find(|line| line.starts_with(key))?.split_once(':').map(|(_, value)| value.trim())
}

fn first_line(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}
