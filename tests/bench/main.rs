//! The bench of gitd: `cargo bench [-- [quick] [--save] [SCENE…]]`.
//!
//! It runs the machine's `git daemon`, gitd and the spawn floor side by side, in alternation, on repositories that it makes,
//! and prints every figure with its goal beside it. It asserts nothing: absolute times belong to the machine, and on a
//! machine that does something else meanwhile so do the ratios. Everything it sends goes to loopback or into network
//! namespaces of its own; every process it starts it ends by its pid.

mod fast_import;
mod floor;
mod git;
#[path = "../lab/mod.rs"]
#[allow(
    unreachable_pub,
    clippy::unwrap_used,
    reason = "a laboratory that cannot be built ends the bench"
)]
mod lab;
mod laboratory;
mod load;
mod machine;
mod process;
mod procfs;
mod progress;
mod protocol;
mod report;
mod repositories;
mod rounds;
mod save;
mod scenes;
mod server;
mod statistics;
mod svg;
mod trace;
mod tun;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use report::Report;
use repositories::Repositories;
use scenes::{SCENES, Scene, Stage};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let outcome = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["@floor", repository] => floor::serve(Path::new(repository)),
        ["@wire", milliseconds, rounds, gitd, base_path, scratch] => {
            let [gitd, base_path, scratch] = [gitd, base_path, scratch].map(Path::new);
            progress::start();
            scenes::wire::inside(milliseconds, rounds, gitd, base_path, scratch)
        }
        _ => bench(&arguments),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn bench(arguments: &[String]) -> Result<()> {
    let Some(wanted) = Wanted::parse(arguments)? else {
        return Ok(());
    };
    progress::start();
    progress::say(&machine::description(arguments)?);
    let repositories = Repositories::prepare()?;
    let reports: Result<Vec<Report>> =
        (1..=wanted.runs).map(|run| one_run(&wanted, run, &repositories)).collect();
    if wanted.save {
        save::save(&reports?, arguments)?;
    }
    Ok(())
}

fn one_run(wanted: &Wanted, run: usize, repositories: &Repositories) -> Result<Report> {
    let scratch = scratch()?;
    let stage =
        Stage { quick: wanted.quick, gitd: &wanted.gitd, repositories, scratch: scratch.path() };
    let mut report = Report::default();
    for scene in &wanted.scenes {
        progress::say(&format!("run {run}, scene {}: {}", scene.name, scene.what));
        if let Err(error) = (scene.run)(&stage, &mut report) {
            progress::say(&format!("SCENE {} DID NOT FINISH: {error}", scene.name));
            report.note(format!("**scene {} did not finish:** {error}", scene.name));
        }
    }
    progress::say(&format!("run {run} done"));
    println!("{}", report.text());
    Ok(report)
}

/// In memory where there is such a place: a clone on a disk takes as long as the disk likes.
fn scratch() -> Result<tempfile::TempDir> {
    let memory = Path::new("/dev/shm");
    Ok(if memory.is_dir() { tempfile::tempdir_in(memory)? } else { tempfile::tempdir()? })
}

/// The command line.
struct Wanted {
    quick: bool,
    save: bool,
    runs: usize,
    /// Another build of gitd may be measured, to compare two of them.
    gitd: PathBuf,
    scenes: Vec<&'static Scene>,
}

impl Wanted {
    /// `None` when only help was wanted.
    fn parse(arguments: &[String]) -> Result<Option<Self>> {
        let gitd = PathBuf::from(env!("CARGO_BIN_EXE_gitd"));
        let mut wanted = Self { quick: false, save: false, runs: 1, gitd, scenes: Vec::new() };
        for argument in arguments {
            match argument.split_once('=').unwrap_or((argument, "")) {
                // Cargo says so to every bench.
                ("--bench", _) => {}
                ("quick", _) => wanted.quick = true,
                ("--save", _) => wanted.save = true,
                ("--runs", runs) => wanted.runs = runs.parse()?,
                ("--gitd", program) => wanted.gitd = PathBuf::from(program),
                ("-h" | "--help", _) => {
                    help();
                    return Ok(None);
                }
                (name, _) => match SCENES.iter().find(|scene| scene.name == name) {
                    Some(scene) => wanted.scenes.push(scene),
                    None => return Err(format!("no scene '{name}'; --help names them").into()),
                },
            }
        }
        if wanted.scenes.is_empty() {
            wanted.scenes.extend(SCENES);
        }
        Ok(Some(wanted))
    }
}

fn help() {
    println!("cargo bench [-- [quick] [--save] [--runs=N] [--gitd=PROGRAM] [SCENE…]]\n");
    println!("  quick       fewer rounds: all scenes within 90 seconds");
    println!("  --save      write the tables and charts into docs/");
    println!("  --runs=N    do it all N times");
    println!("  --gitd=…    measure another build of gitd\n");
    for scene in SCENES {
        println!("  {:11} {}", scene.name, scene.what);
    }
}
