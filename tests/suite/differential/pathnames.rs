//! Generates pathnames: those of the layout as the command line wants them, with more or less than they need, and bent.

use super::layout::Text;
use super::settings::Spelling;
use crate::support::random::Random;

pub fn generate(random: &mut Random, spelling: &Spelling, paths: &[Text]) -> Text {
    let mut path = match paths.is_empty() || random.chance(5) {
        true => random
            .pick(&[
                "/",
                "/etc/passwd",
                "$ROOT",
                "$ROOT/srv",
                "/nosuch",
                "",
                "/srv",
                "/hook",
                "$ROOT/hook",
                "/d",
                "/out/a",
                "/a",
                "/b.git",
            ])
            .as_bytes()
            .to_vec(),
        false => {
            // Mostly one that the command line can lead to.
            let base = spelling.base.unwrap_or_default().as_bytes();
            let known = (0..3).map(|_| random.pick(paths)).find(|path| path.starts_with(base));
            let known = known.unwrap_or_else(|| random.pick(paths));
            spelt(random, spelling, &known)
        }
    };
    if random.chance(35) {
        path = shortened(&path, random);
    }
    for _ in 0..2 {
        if random.chance(14) {
            path = bent(random, path);
        }
    }
    if spelling.users && random.chance(60) {
        path = user_path(random, paths);
    }
    path
}

/// A path of the layout, as this command line wants it.
fn spelt(random: &mut Random, spelling: &Spelling, path: &[u8]) -> Text {
    let absolute = [b"$ROOT/", path].concat();
    if random.chance(6) {
        return absolute;
    }
    match spelling.base {
        Some(base) => match path.strip_prefix(base.as_bytes()) {
            Some(below) if !spelling.hosts || random.chance(60) => below.to_vec(),
            Some(below) => last_parts(below),
            None => absolute,
        },
        None if spelling.hosts && random.chance(70) => last_parts(path),
        None => absolute,
    }
}

/// What remains for a template that names the directories before it.
fn last_parts(path: &[u8]) -> Text {
    for before in [b"srv/h1".as_slice(), b"/h1", b"srv", b"out", b"/d"] {
        if let Some(rest) = path.strip_prefix(before) {
            return rest.to_vec();
        }
    }
    path.to_vec()
}

/// Without what a search for suffixes would add.
fn shortened(path: &[u8], random: &mut Random) -> Text {
    let path = path.strip_suffix(b"/.git").filter(|_| random.chance(70)).unwrap_or(path);
    path.strip_suffix(b".git").unwrap_or(path).to_vec()
}

fn bent(random: &mut Random, mut path: Text) -> Text {
    let at = random.below(path.len() + 1);
    let insert = |path: &mut Text, what: &[u8]| {
        path.splice(at..at, what.iter().copied());
    };
    match random.below(22) {
        0..=3 => path.push(b'/'),
        4 => path.extend(b"//"),
        5..=6 => path.extend(b".git"),
        7 => path.extend(b"/.git"),
        8 => path.extend(b"/.git/"),
        9 => {
            let end = random.pick(&[
                "/config",
                "/HEAD",
                "/objects",
                "/.",
                "/..",
                "/x",
                ".",
                "..",
                "/...",
                "/refs/..",
                "\n",
                "%00",
                "/worktrees/w",
            ]);
            path.extend(end.as_bytes());
        }
        10 => insert(&mut path, b"/"),
        11 => insert(&mut path, b"./"),
        12 => insert(&mut path, b"../"),
        13 => insert(&mut path, b"/.."),
        14 => {
            let byte = random.pick(&[
                b' ', b'\n', b'\r', b'\t', 0x1b, 0xff, b'\'', b'"', b'\\', b'~', b'%', 0x7f, b'$',
                b'*', b':',
            ]);
            insert(&mut path, &[byte]);
        }
        15 => path.insert(0, random.pick(b" ~/'.\n")),
        16 => path = path.get(1..).unwrap_or_default().to_vec(),
        17 => path = path.to_ascii_uppercase(),
        18 => {
            let length = random.pick(&[200, 256, 4000, 4089, 4090, 4095, 4096, 4097, 8000, 60000]);
            let filler: &[u8] = random.pick(&[b"/x".as_slice(), b"x", b"/"]);
            path.extend(filler.iter().cycle().take(length));
        }
        19 if !path.is_empty() => {
            path.truncate(at);
        }
        20 => insert(&mut path, b"h1/"),
        _ => path.extend(b"/a"),
    }
    path
}

fn user_path(random: &mut Random, paths: &[Text]) -> Text {
    let user = random.pick(&[
        "~alice",
        "~alice",
        "~alice",
        "~bob",
        "~nohome",
        "~nosuch",
        "~",
        "~root",
        "~empty",
        "~slash",
        "~relative",
        "~ALICE",
        "~alice:x",
        "~bare",
        "~bare",
        "~stem",
        "~stem",
        "~stems",
        "~double",
        "~dot",
        "~tree",
        "~tree",
    ]);
    let path = if paths.is_empty() { b"srv/a".to_vec() } else { random.pick(paths) };
    let mut rest = path;
    for before in ["srv/alice/pub", "srv/alice", "srv", "out"] {
        if let Some(below) = rest.strip_prefix(before.as_bytes()) {
            rest = below.to_vec();
            break;
        }
    }
    let below = random.pick(&["", "", "/pub", "/d", "/", "/srv"]);
    if random.chance(25) {
        let end = random.pick(&["", "", "/", ".git", "/.git", "/pub", "//"]);
        return [user.as_bytes(), end.as_bytes()].concat();
    }
    let path = [user.as_bytes(), below.as_bytes(), &rest].concat();
    if random.chance(50) { shortened(&path, random) } else { path }
}
