//! The Kubernetes manifests of docs/kubernetes, as far as they can be tried without a cluster: each field against the
//! models of the Kubernetes client library, each name against what it names, the arguments with gitd itself.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::invocation::run;
use crate::support::{Gitd, Outcome, Scratch};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/kubernetes");

/// Debian's python has Debian's package; the first one in PATH may be another.
fn check(folder: &Path) -> Outcome {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/suite/proxy/manifests.py");
    run(Command::new("/usr/bin/python3").arg(script).arg(folder).stdin(Stdio::null()))
}

#[test]
fn are_valid() {
    let outcome = check(Path::new(FOLDER));
    let hint = "needs Debian's package python3-kubernetes";
    assert_eq!((outcome.code(), outcome.stderr.as_str()), (Some(0), ""), "{hint}");
    let scratch = Scratch::new();
    scratch.bare("repo.git");
    let args = outcome.stdout.lines().filter(|&argument| argument != "--verbose");
    let daemon = Gitd.serve(&scratch).args(args).start();
    daemon.ask("upload-pack", "/repo.git").assert_served("repo.git");
}

/// What the check is there to find.
#[test]
fn mistakes_are_found() {
    for (file, from, to, complaint) in [
        (
            "gitd.yaml",
            "readinessProbe:",
            "readynessProbe:",
            "V1Container has no field readynessProbe",
        ),
        ("gitd.yaml", "replicas: 3", "replicas: \"3\"", "is no int"),
        ("gitd.yaml", "containerPort: 9418\n", "hostPort: 9418\n", "container_port"),
        ("gitd.yaml", "targetPort: git", "targetPort: gti", "Service: no such port"),
        ("gitd.yaml", "cpu: \"1\"", "cpu: 1", "is no str"),
        ("gitd.yaml", "PeriodSeconds: 630", "PeriodSeconds: 600", "killed before 615 s are over"),
        ("status.yaml", "path: /healthz", "pfad: /healthz", "V1HTTPGetAction has no field pfad"),
        ("status.yaml", "--timeout=600", "--timeout=60", "status.yaml: other arguments"),
        ("monitor.yaml", "interval: 15s", "period: 15s", "ServiceMonitor.spec.endpoints[]"),
        ("monitor.yaml", "    - port: status\n", "    - port: web\n", "monitor: no such port"),
        ("kustomization.yaml", "gitd.yaml", "git.yaml", "there is no git.yaml"),
    ] {
        let copy = Scratch::new();
        for entry in fs::read_dir(FOLDER).unwrap() {
            let entry = entry.unwrap();
            fs::copy(entry.path(), copy.root().join(entry.file_name())).unwrap();
        }
        let text = fs::read_to_string(copy.root().join(file)).unwrap();
        assert!(text.contains(from), "{from}");
        fs::write(copy.root().join(file), text.replacen(from, to, 1)).unwrap();
        let outcome = check(copy.root());
        assert_eq!(outcome.code(), Some(1), "{to}");
        assert!(outcome.stderr.contains(complaint), "{to}: {}", outcome.stderr);
    }
}
