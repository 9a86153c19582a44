//! Makes a failing case small: leaves out what it can fail without.

use super::layout::Seeds;
use super::requests::Request;
use super::scene::{Scene, Stage};
use super::verdict::{Verdict, judge};

/// How many cases are tried at most; each starts two daemons.
const TRIALS: usize = 600;

pub struct Failure {
    pub scene: Scene,
    pub request: Request,
    pub reason: String,
    pub details: String,
}

/// Tries one case from nothing.
pub fn attempt(scene: &Scene, request: &Request, seeds: &Seeds) -> Option<Failure> {
    let stage = Stage::raise(scene, seeds)?;
    let (stock, gitd) = stage.ask(request);
    match judge(scene, &stage, request, &stock, &gitd) {
        Verdict::Wrong(reason) => Some(Failure {
            scene: scene.clone(),
            request: request.clone(),
            reason,
            details: format!("stock {stock}gitd {gitd}"),
        }),
        _ => None,
    }
}

/// The smallest case that could be found which fails for a reason of the same kind.
pub fn shrink(mut failure: Failure, seeds: &Seeds) -> Failure {
    let kind = |reason: &str| reason.chars().take(20).collect::<String>();
    let wanted = kind(&failure.reason);
    let mut trials = 0;
    'smaller: loop {
        let scenes =
            failure.scene.smaller().into_iter().map(|scene| (scene, failure.request.clone()));
        let requests =
            failure.request.smaller().into_iter().map(|request| (failure.scene.clone(), request));
        for (scene, request) in scenes.chain(requests) {
            trials += 1;
            if trials > TRIALS {
                return failure;
            }
            if let Some(smaller) =
                attempt(&scene, &request, seeds).filter(|smaller| kind(&smaller.reason) == wanted)
            {
                failure = smaller;
                continue 'smaller;
            }
        }
        return failure;
    }
}
