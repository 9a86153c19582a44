//! A directory for one test and the repositories in it. Each is a copy of a template that the real git made once, so that
//! hundreds of cases stay cheap; a ref named after the repository tells which of them a daemon served.

use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

use super::Git;
use super::process::end_all_in;

/// A file in every fixture's commit, and what it says.
pub const FILE: (&str, &str) = ("greeting", "hello, world\n");

pub struct Scratch {
    root: TempDir,
}

/// A hook that waits at a gate would wait for ever once the gate is gone with the directory.
impl Drop for Scratch {
    fn drop(&mut self) {
        end_all_in(self.root());
    }
}

impl Scratch {
    pub fn new() -> Self {
        let root = TempDir::new().unwrap();
        let scratch = Self { root };
        // Other users' daemons must be able to get in.
        chmod(scratch.root(), 0o755);
        for directory in [scratch.repos(), scratch.home(), scratch.client_home()] {
            fs::create_dir(directory).unwrap();
        }
        scratch
    }

    pub fn root(&self) -> &Path {
        self.root.path()
    }

    /// Where the repositories are: the usual base path.
    pub fn repos(&self) -> PathBuf {
        self.root().join("srv")
    }

    /// HOME of the daemon.
    pub fn home(&self) -> PathBuf {
        self.root().join("home")
    }

    /// HOME of the clients.
    pub fn client_home(&self) -> PathBuf {
        self.root().join("client")
    }

    /// A path below the repositories.
    pub fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.repos().join(name)
    }

    /// A bare repository.
    pub fn bare(&self, name: impl AsRef<OsStr>) -> PathBuf {
        self.copy_of(&["--object-format=sha1"], name.as_ref())
    }

    pub fn sha256(&self, name: impl AsRef<OsStr>) -> PathBuf {
        self.copy_of(&["--object-format=sha256"], name.as_ref())
    }

    /// A bare repository with the reftable backend; git has it since 2.45.
    pub fn reftable(&self, name: impl AsRef<OsStr>) -> PathBuf {
        self.copy_of(&["--object-format=sha1", "--ref-format=reftable"], name.as_ref())
    }

    /// A repository with a working tree around it; returns the tree.
    pub fn non_bare(&self, name: impl AsRef<OsStr>) -> PathBuf {
        let tree = self.path(name.as_ref());
        fs::create_dir_all(&tree).unwrap();
        let git_directory = self.bare(Path::new(name.as_ref()).join(".git"));
        let config = git_directory.join("config");
        let text = fs::read_to_string(&config).unwrap();
        fs::write(config, text.replace("bare = true", "bare = false")).unwrap();
        fs::write(tree.join(FILE.0), FILE.1).unwrap();
        label(&git_directory, name.as_ref());
        tree
    }

    /// A file that says where the repository is.
    pub fn gitfile(&self, name: impl AsRef<Path>, target: impl AsRef<Path>) -> PathBuf {
        self.file(name, format!("gitdir: {}\n", target.as_ref().display()))
    }

    pub fn symlink(&self, name: impl AsRef<Path>, target: impl AsRef<Path>) -> PathBuf {
        let link = self.path(name);
        fs::create_dir_all(link.parent().unwrap()).unwrap();
        symlink(target, &link).unwrap();
        link
    }

    pub fn file(&self, name: impl AsRef<Path>, contents: impl AsRef<[u8]>) -> PathBuf {
        let file = self.path(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, contents).unwrap();
        file
    }

    pub fn directory(&self, name: impl AsRef<Path>) -> PathBuf {
        let directory = self.path(name);
        fs::create_dir_all(&directory).unwrap();
        directory
    }

    /// An executable script outside of the repositories.
    pub fn script(&self, name: &str, text: &str) -> PathBuf {
        let script = self.root().join(name);
        fs::create_dir_all(script.parent().unwrap()).unwrap();
        let source = script.with_added_extension("source");
        fs::write(&source, text).unwrap();
        install(&source, &script);
        fs::remove_file(source).unwrap();
        script
    }

    /// What a repository asks before it takes a push.
    pub fn pre_receive(&self, repository: &Path, text: &str) {
        let hook = self.script("pre-receive", text);
        fs::create_dir_all(repository.join("hooks")).unwrap();
        fs::rename(hook, repository.join("hooks/pre-receive")).unwrap();
    }

    /// A `git` that runs these lines of shell instead of a service; anything else goes to the real one, `$REAL`. Returns
    /// the directory for PATH.
    pub fn fake_git(&self, service: &str) -> PathBuf {
        let real = Git::program().display();
        let script = format!(
            "#!/bin/sh\nREAL={real}\ncase $1 in\nupload-pack|receive-pack|upload-archive) ;;\n\
             *) exec \"$REAL\" \"$@\" ;;\nesac\n{service}"
        );
        let script = self.script("fake/git", &script);
        script.parent().unwrap().to_owned()
    }

    /// A `git` whose upload-pack leaves the owner to the daemon, as that of git 2.48 and later does, and which runs `before`
    /// when it is asked about a repository. Returns the directory for PATH.
    pub fn trusting_git(&self, before: &str) -> PathBuf {
        let real = Git::program().display();
        let script = format!(
            "#!/bin/sh\ncase $* in\nupload-pack*)\nexport GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=safe.directory \
             GIT_CONFIG_VALUE_0='*' ;;\n*hideRefs*)\n{before}\n;;\nesac\nexec {real} \"$@\"\n"
        );
        let script = self.script("trusting/git", &script);
        script.parent().unwrap().to_owned()
    }

    /// Adds to the daemon's global configuration.
    pub fn global_config(&self, text: &str) {
        append(&self.home().join(".gitconfig"), text);
    }

    fn copy_of(&self, format: &[&str], name: &OsStr) -> PathBuf {
        let repository = self.path(name);
        copy(&template(format), &repository);
        label(&repository, name);
        repository
    }
}

/// Copies an executable, by a process of its own: a file that this one had open for writing might be open still in a child
/// that another thread has just forked, and then it could not be executed ("Text file busy").
pub fn install(from: &Path, to: &Path) {
    let status = Command::new("install").arg("-m755").arg(from).arg(to).status();
    assert!(status.unwrap().success());
}

/// Adds to a repository's config file.
pub fn config(git_directory: &Path, text: &str) {
    append(&git_directory.join("config"), text);
}

/// Marks a git directory as exported.
pub fn export(git_directory: &Path) {
    fs::write(git_directory.join("git-daemon-export-ok"), "").unwrap();
}

pub fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// Gives a tree to another user, symlinks themselves and not what they point to.
pub fn chown(path: &Path, uid: u32) {
    std::os::unix::fs::lchown(path, Some(uid), Some(uid)).unwrap();
    if fs::symlink_metadata(path).unwrap().is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            chown(&entry.unwrap().path(), uid);
        }
    }
}

/// The commit that `main` of a fixture points to.
pub fn head(git_directory: &Path) -> String {
    let loose = fs::read_to_string(git_directory.join("refs/heads/main")).unwrap();
    loose.trim_end().to_owned()
}

/// The name of the branch that tells a fixture from the others.
pub fn label_of(name: impl AsRef<OsStr>) -> String {
    let name = name.as_ref().to_string_lossy();
    let clean = name.trim_end_matches(".git").trim_matches('/');
    let clean: String =
        clean.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    format!("refs/heads/is-{clean}")
}

fn label(git_directory: &Path, name: &OsStr) {
    // A reftable repository has no loose refs; nothing but clients look at those.
    if git_directory.join("refs/heads/main").exists() {
        let commit = fs::read(git_directory.join("refs/heads/main")).unwrap();
        fs::write(git_directory.join(label_of(name)), commit).unwrap();
    }
}

pub fn append(file: &Path, text: &str) {
    let mut file = fs::File::options().append(true).create(true).open(file).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

/// Made once for each git and format, and kept for the next run: built aside, then renamed into place.
fn template(format: &[&str]) -> PathBuf {
    let (major, minor) = Git::version();
    let uid = rustix::process::geteuid();
    let name = format!("template-{major}.{minor}-{uid:?}{}", format.concat());
    let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    if !place.exists() {
        let aside = TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let made = aside.path().join("repository");
        make(&made, format);
        if let Err(error) = fs::rename(&made, &place) {
            assert!(place.exists(), "{error}");
        }
    }
    place
}

fn make(place: &Path, format: &[&str]) {
    let git = || {
        let mut command = Command::new(Git::program());
        command.env("GIT_CONFIG_GLOBAL", "/dev/null");
        command.env("GIT_CONFIG_NOSYSTEM", "1");
        command
    };
    let init = git()
        .args(["init", "--quiet", "--bare", "--template=", "-b", "main"])
        .args(format)
        .arg(place)
        .status();
    assert!(init.unwrap().success());
    let mut import = git()
        .arg("-C")
        .arg(place)
        .args(["fast-import", "--quiet"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let (name, text) = FILE;
    let length = text.len();
    let stream = format!(
        "commit refs/heads/main\ncommitter A U Thor <author@example.com> 1700000000 +0000\n\
         data 5\nfirst\nM 100644 inline {name}\ndata {length}\n{text}\n"
    );
    let mut stdin = import.stdin.take().unwrap();
    stdin.write_all(stream.as_bytes()).unwrap();
    drop(stdin);
    assert!(import.wait().unwrap().success());
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}
