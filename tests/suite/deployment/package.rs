//! The Debian package: made of the binaries under test, and looked at by lintian.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::support::process::installed;
use crate::support::skip;

/// The output of a command that must succeed.
#[track_caller]
pub fn succeed(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{command:?}: {}\n{text}", output.status);
    text
}

/// The package, without a second build: `--profile dev` takes the programs that cargo has built for the tests.
pub fn package() -> Option<&'static Path> {
    static PACKAGE: OnceLock<PathBuf> = OnceLock::new();
    if installed("cargo-deb").is_none() {
        skip("needs cargo-deb");
        return None;
    }
    Some(PACKAGE.get_or_init(|| {
        let package = Path::new(env!("CARGO_TARGET_TMPDIR")).join("gitd.deb");
        let target = Path::new(env!("CARGO_BIN_EXE_gitd")).ancestors().nth(2).unwrap();
        succeed(
            Command::new("cargo")
                .args(["deb", "--quiet", "--no-build", "--profile", "dev", "--strip", "--output"])
                .arg(&package)
                .current_dir(env!("CARGO_MANIFEST_DIR"))
                .env("CARGO_TARGET_DIR", target)
                .env("SOURCE_DATE_EPOCH", "1700000000"),
        );
        package
    }))
}

#[test]
#[ignore = "builds a package"]
fn what_is_in_it() {
    let Some(package) = package() else { return };
    let list = succeed(Command::new("dpkg-deb").arg("--contents").arg(package));
    for file in [
        "/usr/bin/gitd",
        "/usr/bin/gitd-connect",
        "/usr/share/man/man8/gitd.8.gz",
        "/usr/share/man/man1/gitd-connect.1.gz",
        "/etc/default/gitd",
        "/usr/lib/systemd/system/gitd.service",
        "/usr/lib/systemd/system/gitd.socket",
        "/usr/lib/systemd/system/gitd-inetd.socket",
        "/usr/lib/systemd/system/gitd-inetd@.service",
        "/usr/share/bash-completion/completions/gitd",
        "/usr/share/zsh/vendor-completions/_gitd",
        "/usr/share/fish/vendor_completions.d/gitd.fish",
        "/usr/share/doc/gitd/README.Debian",
        "/usr/share/doc/gitd/README.md",
        "/usr/share/doc/gitd/examples/alerts.yml",
        "/usr/share/doc/gitd/examples/dashboard.json",
        "/usr/share/doc/gitd/examples/push.conf",
    ] {
        assert!(
            list.lines().any(|line| line.ends_with(&format!(" .{file}"))),
            "no {file}:\n{list}"
        );
    }
    assert!(!list.contains("git-core"), "git's own files are git's:\n{list}");
    let depends = succeed(Command::new("dpkg-deb").arg("-f").arg(package).arg("Depends"));
    for name in ["git", "adduser", "libc6"] {
        assert!(depends.split([',', ' ', '\n']).any(|word| word == name), "{depends}");
    }
}

#[test]
#[ignore = "builds a package"]
fn lintian_finds_no_error() {
    if installed("lintian").is_none() {
        return skip("needs lintian");
    }
    let Some(package) = package() else { return };
    // As root it says that it should not be.
    let said = succeed(Command::new("lintian").args(["--fail-on=error"]).arg(package));
    assert!(!said.lines().any(|line| line.starts_with("E:")), "{said}");
}
