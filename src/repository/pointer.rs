//! Parses git's small files: HEAD, `commondir` and gitfiles. No I/O. Parsed byte by byte as git
//! does, because gitd must take for a repository exactly what git does.

/// How many bytes of HEAD count.
pub const MAX_HEAD: usize = 255;

/// A larger file is no gitfile.
pub const MAX_GITFILE: usize = 1 << 20;

/// Whether the text of HEAD names a ref, or an object of either format (contract 39). Text after it
/// is ignored, and the ref or object need not exist.
pub fn head_is_valid(text: &[u8]) -> bool {
    if let Some(target) = text.strip_prefix(b"ref:") {
        let blank = |byte: &&u8| matches!(byte, b' ' | b'\t' | b'\n' | b'\r');
        return target[target.iter().take_while(blank).count()..].starts_with(b"refs/");
    }
    text.len() >= 40 && text[..40].iter().all(u8::is_ascii_hexdigit)
}

/// Whether HEAD, as a symbolic link from git of 2005, names a ref.
pub fn head_link_is_valid(target: &[u8]) -> bool {
    target.starts_with(b"refs/")
}

/// The directory that `commondir` names, absolute or relative to its own; `None` for an empty file,
/// which git refuses.
pub fn common_directory(text: &[u8]) -> Option<&[u8]> {
    if text.is_empty() {
        return None;
    }
    match c_string(without_line_ends(text)) {
        b"" => Some(b"."),
        path => Some(path),
    }
}

/// The directory that a gitfile names, absolute or relative to the gitfile's own. `None` if the
/// text is no gitfile's.
pub fn gitfile_target(text: &[u8]) -> Option<&[u8]> {
    let target =
        without_line_ends(text).strip_prefix(b"gitdir: ").filter(|named| !named.is_empty())?;
    match c_string(target) {
        b"" => Some(b"."),
        path => Some(path),
    }
}

/// The directory of a path's last part, and that part without trailing slashes.
pub fn split_last(path: &[u8]) -> (&[u8], &[u8]) {
    let end = path.iter().rposition(|&byte| byte != b'/').map_or(0, |last| last + 1);
    match path[..end].iter().rposition(|&byte| byte == b'/') {
        Some(slash) => (&path[..=slash], &path[slash + 1..end]),
        None => (b".", &path[..end]),
    }
}

fn without_line_ends(text: &[u8]) -> &[u8] {
    let end = text.iter().rposition(|byte| !matches!(byte, b'\n' | b'\r'));
    &text[..end.map_or(0, |last| last + 1)]
}

/// In git, as in C, a NUL ends a name.
fn c_string(text: &[u8]) -> &[u8] {
    text.split(|&byte| byte == 0).next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads() {
        let id = "0123456789abcdefABCDEF0123456789abcdef01";
        for good in
            ["ref: refs/heads/main\n", "ref:refs/", "ref: \t\n\r refs/../x", id, &format!("{id}x")]
        {
            assert!(head_is_valid(good.as_bytes()), "{good:?}");
        }
        let short = &id[1..];
        for bad in [
            "",
            "\n",
            "ref: heads/x",
            "ref:\x0crefs/x",
            "ref:\x0brefs/x",
            "ref:\0refs/x",
            "REF: refs/x",
            " ref: refs/x",
            short,
            &format!(" {id}"),
            &format!("{short}g"),
        ] {
            assert!(!head_is_valid(bad.as_bytes()), "{bad:?}");
        }
        assert!(head_link_is_valid(b"refs/heads/x"));
        assert!(!head_link_is_valid(b"./refs/heads/x"));
    }

    #[test]
    fn common_directories() {
        let cases: [(&[u8], Option<&[u8]>); 6] = [
            (b"../..\n", Some(b"../..")),
            (b"/srv/a.git\r\n\n", Some(b"/srv/a.git")),
            (b"a b \n", Some(b"a b ")),
            (b"a\0b\n", Some(b"a")),
            (b"\n", Some(b".")),
            (b"", None),
        ];
        for (text, path) in cases {
            assert_eq!(common_directory(text), path, "{}", text.escape_ascii());
        }
    }

    #[test]
    fn last_parts() {
        for (path, directory, last) in [
            ("a", ".", "a"),
            ("a/", ".", "a"),
            ("/a", "/", "a"),
            ("../a//", "../", "a"),
            ("/a/b", "/a/", "b"),
            ("/", ".", ""),
        ] {
            assert_eq!(
                split_last(path.as_bytes()),
                (directory.as_bytes(), last.as_bytes()),
                "{path}"
            );
        }
    }

    #[test]
    fn gitfiles() {
        let cases: [(&[u8], Option<&[u8]>); 13] = [
            (b"gitdir: /srv/a.git\n", Some(b"/srv/a.git")),
            (b"gitdir: /srv/a.git", Some(b"/srv/a.git")),
            (b"gitdir: /srv/a.git\r\n\r\n", Some(b"/srv/a.git")),
            (b"gitdir: a.git\n", Some(b"a.git")),
            (b"gitdir: ../a.git\n", Some(b"../a.git")),
            (b"gitdir: a\nb\n", Some(b"a\nb")),
            (b"gitdir: /a\0b\n", Some(b"/a")),
            (b"gitdir: \0b\n", Some(b".")),
            (b"gitdir: \n", None),
            (b"gitdir:/a\n", None),
            (b"\ngitdir: /a\n", None),
            (b"", None),
            (b"\n", None),
        ];
        for (text, target) in cases {
            assert_eq!(gitfile_target(text), target, "{}", text.escape_ascii());
        }
    }
}
