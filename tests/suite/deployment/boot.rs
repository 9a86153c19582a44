//! The package on a Debian that systemd has booted, in a container: see `trial.sh`.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tempfile::TempDir;

use super::package::{package, succeed};
use crate::support::process::{installed, signal};
use crate::support::scratch::chmod;
use crate::support::{needs_root, skip};

/// Booting, and all that the trial does.
const LIMIT: Duration = Duration::from_secs(240);

const PACKAGES: &str = "systemd-sysv,dbus,git,adduser";

/// Runs the trial, and starts when the system is up.
const UNIT: &str = "[Unit]
After=multi-user.target
[Service]
Type=oneshot
ExecStart=/trial/trial.sh
StandardOutput=append:/trial/transcript
StandardError=append:/trial/transcript
ExecStopPost=/usr/bin/systemctl --no-block poweroff
";

#[test]
#[ignore = "boots a system"]
fn bookworm() {
    try_on("bookworm");
}

/// Its systemd knows SocketProtocol=mptcp.
#[test]
#[ignore = "boots a system"]
fn trixie() {
    try_on("trixie");
}

fn try_on(suite: &str) {
    needs_root!();
    for program in ["debootstrap", "systemd-nspawn"] {
        if installed(program).is_none() {
            return skip(&format!("needs {program}"));
        }
    }
    let Some(package) = package() else { return };
    let (root, packages) = debian(suite);
    let shared = TempDir::new().unwrap();
    let trial = shared.path();
    fs::copy(package, trial.join("gitd.deb")).unwrap();
    fs::copy(archive(&packages, "git_"), trial.join("git.deb")).unwrap();
    fs::write(trial.join("trial.sh"), include_str!("trial.sh")).unwrap();
    chmod(&trial.join("trial.sh"), 0o755);
    fs::write(trial.join("trial.service"), UNIT).unwrap();
    let console = trial.join("console");
    let status = {
        // Both would have the one cgroup of this process for their own: systemd in the one removes gitd.service's while
        // systemd in the other puts a process into it.
        static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
        let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        boot(&root, trial, &console)
    };
    let transcript = fs::read_to_string(trial.join("transcript")).unwrap_or_default();
    // Past the harness's capture: what was tried is part of the suite's output.
    let _ = writeln!(std::io::stderr(), "--- gitd's package on {suite}\n{transcript}---");
    assert!(
        transcript.ends_with("all is well\n"),
        "{status:?}\n{transcript}\n{}",
        String::from_utf8_lossy(&fs::read(console).unwrap_or_default())
    );
}

/// A root directory and the packages it was made of; made once, and kept for the next run.
fn debian(suite: &str) -> (PathBuf, PathBuf) {
    let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("debian-{suite}"));
    let (root, packages) = (place.join("root"), place.join("packages"));
    if !place.exists() {
        let aside = TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let aside = aside.keep();
        fs::create_dir(aside.join("packages")).unwrap();
        succeed(
            Command::new("debootstrap")
                .args(["--variant=minbase", &format!("--include={PACKAGES}")])
                .arg(format!("--cache-dir={}", aside.join("packages").display()))
                .arg(suite)
                .arg(aside.join("root")),
        );
        fs::rename(aside, &place).unwrap();
    }
    (root, packages)
}

/// The file of a package in a directory of many.
fn archive(packages: &Path, beginning: &str) -> PathBuf {
    let files = fs::read_dir(packages).unwrap().map(|entry| entry.unwrap());
    files
        .filter(|file| file.file_name().to_string_lossy().starts_with(beginning))
        .map(|file| file.path())
        .next()
        .unwrap()
}

/// Boots it over a layer that takes what is written, all in a mount namespace that goes when it ends.
fn boot(root: &Path, trial: &Path, console: &Path) -> ExitStatus {
    let script = "set -e
        mkdir \"$2/layer\" && mount -t tmpfs layer \"$2/layer\"
        cd \"$2/layer\" && mkdir upper work root
        mount -t overlay -o \"lowerdir=$1,upperdir=upper,workdir=work\" overlay root
        exec systemd-nspawn --quiet --kill-signal=SIGKILL --register=no --keep-unit --directory=root --machine=\"$3\" --private-network \
            --console=pipe --bind=\"$2:/trial\" --bind-ro=\"$2/trial.service:/etc/systemd/system/trial.service\" \
            --boot systemd.unified_cgroup_hierarchy=0 SYSTEMD_CGROUP_ENABLE_LEGACY_FORCE=1 \
            systemd.wants=trial.service";
    let machine = trial.file_name().unwrap().to_string_lossy().replace('.', "gitd-trial-");
    let output = fs::File::create(console).unwrap();
    let mut child = Command::new("unshare")
        .args(["--mount", "sh", "-c", script, "sh"])
        .args([root, trial])
        .arg(&machine)
        .stdin(Stdio::null())
        .stdout(output.try_clone().unwrap())
        .stderr(output)
        .spawn()
        .unwrap();
    let status = wait(&mut child);
    // nspawn leaves it where /run is a directory of the disk.
    let _ = fs::remove_dir(Path::new("/run/systemd/nspawn/propagate").join(machine));
    status
}

fn wait(child: &mut Child) -> ExitStatus {
    let deadline = Instant::now() + LIMIT;
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        if Instant::now() > deadline {
            // nspawn passes it on to the container's first process as what --kill-signal says. Killed itself, it could leave
            // the container behind.
            signal(child.id(), Signal::TERM);
            return child.wait().unwrap();
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}
