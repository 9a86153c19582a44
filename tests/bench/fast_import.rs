//! Making history: a stream for `git fast-import`, and what is written into it.

use std::io::{BufWriter, Write};
use std::path::Path;
use std::process::{ChildStdin, Stdio};

use crate::{Result, git};

/// Adds to a repository what `contents` streams.
pub(crate) fn import(
    path: &Path,
    contents: impl FnOnce(&mut Stream) -> std::io::Result<()>,
) -> Result<()> {
    // Noise is stored as it is, and all of it in a pack, as in a repository that has been collected.
    let settings = ["core.bigFileThreshold=512k", "core.compression=1", "fastimport.unpackLimit=1"];
    let mut arguments: Vec<&str> = settings.iter().flat_map(|setting| ["-c", setting]).collect();
    arguments.extend(["fast-import", "--quiet"]);
    let mut import = git::piped(path, &arguments).stdout(Stdio::null()).spawn()?;
    if let Some(stdin) = import.stdin.take() {
        let mut stream = Stream(BufWriter::with_capacity(1 << 20, stdin));
        contents(&mut stream)?;
        stream.0.flush()?;
    }
    if !import.wait()?.success() {
        return Err(format!("git fast-import failed in {}", path.display()).into());
    }
    Ok(())
}

/// A fast-import stream.
pub(crate) struct Stream(BufWriter<ChildStdin>);

impl Stream {
    pub(crate) fn commit(
        &mut self,
        branch: &str,
        number: usize,
        path: &str,
        contents: &[u8],
    ) -> std::io::Result<()> {
        let when = 1_700_000_000 + number * 60;
        let message = format!("change number {number}\n");
        write!(
            self.0,
            "commit refs/heads/{branch}\ncommitter Bench <bench@localhost> {when} +0000\n"
        )?;
        write!(self.0, "data {}\n{message}", message.len())?;
        write!(self.0, "M 100644 inline {path}\ndata {}\n", contents.len())?;
        self.0.write_all(contents)?;
        writeln!(self.0)
    }

    pub(crate) fn reference(&mut self, name: &str, branch: &str) -> std::io::Result<()> {
        write!(self.0, "reset refs/{name}\nfrom refs/heads/{branch}\n\n")
    }
}

pub(crate) fn text(seed: usize, lines: usize) -> Vec<u8> {
    let mut noise = Noise(seed as u64 + 1);
    (0..lines)
        .flat_map(|_| format!("{:016x} {:016x}\n", noise.next(), noise.next()).into_bytes())
        .collect()
}

/// xorshift64: the same noise in every run, and none that zlib could shrink.
pub(crate) struct Noise(pub(crate) u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub(crate) fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length / 8).flat_map(|_| self.next().to_le_bytes()).collect()
    }
}
