//! What Multipath TCP gives, measured in the laboratory: `cargo bench --bench lab [-- [--save] [--rounds=N] [SCENE…]]`.
//!
//! Each scene prints its table when it ends; `--save` puts all tables into `docs/benchmarks.md`. The scene `picture` draws
//! `docs/mptcp.svg`. Nothing here asserts a time; the suite's `multipath` tests do, where physics sets it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a measurement that cannot go on fails"
)]
#![allow(unreachable_pub, reason = "nothing is reachable from outside of a bench")]

#[path = "mod.rs"]
mod lab;

mod chart;
mod picture;
mod scenes;
mod table;

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use lab::Daemon;
use table::Table;

/// The daemon that is measured.
const MULTIPATH: Daemon = Daemon::Gitd;

const BEGIN: &str = "<!-- written by `cargo bench --bench lab -- --save`: begin -->";
const END: &str = "<!-- written by `cargo bench --bench lab -- --save`: end -->";

type Scene = fn(usize) -> Table;

const SCENES: [(&str, Scene); 7] = [
    // Its clones take long and differ little.
    ("throughput", |rounds| scenes::throughput::run(rounds.div_ceil(2))),
    ("loss", scenes::loss::run),
    ("outage", scenes::outage::run),
    ("minute", |rounds| scenes::outage::goal(2 * rounds)),
    ("fallback", scenes::fallback::run),
    ("cost", scenes::cost::run),
    ("fleet", scenes::fleet::run),
];

fn main() -> ExitCode {
    let mut save = false;
    let mut rounds = 10;
    let mut wanted = Vec::new();
    for argument in std::env::args().skip(1).filter(|argument| argument != "--bench") {
        match argument.split_once('=') {
            None if argument == "--save" => save = true,
            Some(("--rounds", number)) => rounds = number.parse().expect("a number of rounds"),
            None if is_scene(&argument) => wanted.push(argument),
            _ => {
                println!("cargo bench --bench lab [-- [--save] [--rounds=N] [SCENE…]]");
                let names = SCENES.map(|(name, _)| name).join(" ");
                println!("scenes: {names} picture; without one, all but picture");
                return ExitCode::from(2);
            }
        }
    }
    if let Some(why) = lab::missing() {
        eprintln!("cannot measure: {why}");
        return ExitCode::FAILURE;
    }
    if wanted.iter().any(|name| name == "picture") {
        picture::draw(&docs().join("mptcp.svg"));
    }
    let mut tables = String::new();
    for (name, scene) in SCENES {
        if wanted.is_empty() || wanted.iter().any(|wanted| wanted == name) {
            let table = scene(rounds).text();
            println!("\n{table}");
            tables.push_str(&table);
            tables.push('\n');
        }
    }
    if save && !tables.is_empty() {
        write_section(&docs().join("benchmarks.md"), tables.trim_end());
    }
    ExitCode::SUCCESS
}

fn is_scene(name: &str) -> bool {
    name == "picture" || SCENES.iter().any(|(scene, _)| *scene == name)
}

fn docs() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs")
}

/// Between the markers; all around them is prose, which stays.
fn write_section(page: &Path, section: &str) {
    let text = fs::read_to_string(page).expect("docs/benchmarks.md");
    let (before, rest) = text.split_once(BEGIN).expect("the first marker of the laboratory");
    let (_, after) = rest.split_once(END).expect("the second marker of the laboratory");
    fs::write(page, format!("{before}{BEGIN}\n\n{section}\n\n{END}{after}")).unwrap();
    eprintln!("written: {}", page.display());
}
