//! The bench of gitd: `cargo bench [-- [quick] [--save] [SCENE…]]`.
//!
//! It runs the machine's `git daemon`, gitd and the spawn floor side by side, in alternation, on repositories that it makes,
//! and prints every figure with its goal beside it. It asserts nothing: absolute times belong to the machine, and on a
//! machine that does something else meanwhile so do the ratios. Everything it sends goes to loopback or into network
//! namespaces of its own; every process it starts it ends by its pid.

mod floor;
mod git;
mod load;
mod process;
mod procfs;
mod progress;
mod protocol;
mod report;
mod repositories;
mod rounds;
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
    let repositories = Repositories::prepare()?;
    let scratch = tempfile::tempdir()?;
    let stage = Stage {
        quick: wanted.quick,
        gitd: &wanted.gitd,
        repositories: &repositories,
        scratch: scratch.path(),
    };
    let mut report = Report::default();
    for scene in wanted.scenes {
        progress::say(&format!("scene {}: {}", scene.name, scene.what));
        if let Err(error) = (scene.run)(&stage, &mut report) {
            progress::say(&format!("SCENE {} DID NOT FINISH: {error}", scene.name));
            report.note(format!("**scene {} did not finish:** {error}", scene.name));
        }
    }
    progress::say("done");
    println!("{}", report.text());
    Ok(())
}

/// The command line.
struct Wanted {
    quick: bool,
    /// Another build of gitd may be measured, to compare two of them.
    gitd: PathBuf,
    scenes: Vec<&'static Scene>,
}

impl Wanted {
    /// `None` when only help was wanted.
    fn parse(arguments: &[String]) -> Result<Option<Self>> {
        let mut wanted = Self {
            quick: false,
            gitd: PathBuf::from(env!("CARGO_BIN_EXE_gitd")),
            scenes: Vec::new(),
        };
        for argument in arguments {
            match argument.as_str() {
                // Cargo says so to every bench.
                "--bench" => {}
                "quick" => wanted.quick = true,
                "-h" | "--help" => {
                    println!("cargo bench [-- [quick] [--gitd=PROGRAM] [SCENE…]]\n");
                    for scene in SCENES {
                        println!("  {:10} {}", scene.name, scene.what);
                    }
                    return Ok(None);
                }
                option if option.starts_with("--gitd=") => {
                    wanted.gitd = PathBuf::from(&option["--gitd=".len()..])
                }
                name => match SCENES.iter().find(|scene| scene.name == name) {
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
