//! Makes hostile bytes safe, and short enough, for one line of the log.

use std::ascii;
use std::char;
use std::fmt::{self, Display, Formatter, Write};

/// The most bytes of a field once escaped. With some three fields a line stays below the limit of
/// the readers of logs ([`crate::log::outlet`]), and the lines of a request below the limit of the
/// queue.
pub const MOST: usize = 1024;

/// The part of that which is kept for the field's length.
const MARK: usize = "...(18446744073709551615 bytes)".len();

/// The most bytes of a [`Piece`], so that all of it is shown. With a service's name before it,
/// syslog does not cut it.
pub const MOST_OF_PIECE: usize = 1000;

/// The longest escape of one byte: `\u{1b}`.
const MOST_OF_BYTE: usize = 6;

/// Shows bytes as text that cannot forge, split or hide a line: control characters, invalid UTF-8
/// and characters that reorder or break text are escaped (`\n`, `\xff`, `\u{202e}`). All others are
/// unchanged, including backslashes and quotes, so that ordinary paths look as in the stock
/// daemon's log (B9). Text longer than [`MOST`] is cut, and its length shown: `/aaaa...(65000
/// bytes)`.
#[derive(Debug, Clone, Copy)]
pub struct Escaped<'a>(pub &'a [u8]);

/// The same for a piece of a service's standard error, at most [`MOST_OF_PIECE`] bytes, which is
/// not cut.
#[derive(Debug, Clone, Copy)]
pub struct Piece<'a>(pub &'a [u8]);

/// The bytes as one word of a shell's command line, whole. Control characters, invalid UTF-8 and
/// characters that reorder text are written as in `$'\\012'`, which bash, ksh and zsh know.
#[derive(Debug, Clone, Copy)]
pub struct Word<'a>(pub &'a [u8]);

impl Display for Word<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"_@%+=:,./-".contains(byte);
        if !self.0.is_empty() && self.0.iter().all(plain) {
            return self.0.iter().try_for_each(|&byte| f.write_char(byte.into()));
        }
        let shown = units(self.0, Unit::of).all(|unit| matches!(unit, Unit::Plain(_)));
        f.write_str(if shown { "'" } else { "$'" })?;
        for chunk in self.0.utf8_chunks() {
            for character in chunk.valid().chars() {
                match (character, shown) {
                    ('\'', true) => f.write_str("'\\''")?,
                    // A shell that does not know this form, such as dash, must not find an end.
                    ('\'' | '\\', false) => write!(f, "\\{:03o}", u32::from(character))?,
                    _ if matches!(Unit::of(character), Unit::Plain(_)) => {
                        f.write_char(character)?
                    }
                    _ => octal(f, character.encode_utf8(&mut [0; 4]).as_bytes())?,
                }
            }
            octal(f, chunk.invalid())?;
        }
        f.write_char('\'')
    }
}

fn octal(f: &mut Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "\\{byte:03o}"))
}

/// The same in a form from which programs can restore the bytes: a backslash is doubled too. Text
/// that would be longer than `most` bytes is cut, and ends in `\...(65000 bytes)`.
#[derive(Debug, Clone, Copy)]
pub struct Reversible<'a> {
    /// The bytes.
    pub bytes: &'a [u8],
    /// The most bytes to show.
    pub most: usize,
}

impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        show(f, self.0, MOST, Unit::of)
    }
}

impl Display for Reversible<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        show(f, self.bytes, self.most, Unit::reversible)
    }
}

impl Display for Piece<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        show(f, self.0, MOST_OF_PIECE * MOST_OF_BYTE, Unit::of)
    }
}

fn show(f: &mut Formatter<'_>, bytes: &[u8], most: usize, unit: fn(char) -> Unit) -> fmt::Result {
    let units = || units(bytes, unit);
    // Each byte is shown as at least one, so a text that is too long already need not be counted.
    let fits = bytes.len() <= most && units().map(|unit| unit.len()).sum::<usize>() <= most;
    // A lone backslash is in no text that can be reversed.
    let backslash = if unit('\\').len() > 1 { "\\" } else { "" };
    let mut room = if fits { most } else { most.saturating_sub(MARK + backslash.len()) };
    for unit in units() {
        match room.checked_sub(unit.len()) {
            Some(rest) => room = rest,
            None => break,
        }
        unit.fmt(f)?;
    }
    if fits {
        return Ok(());
    }
    write!(f, "{backslash}...({} bytes)", bytes.len())
}

/// A character or byte that is shown or omitted whole.
enum Unit {
    Plain(char),
    Backslash,
    Control(char::EscapeDefault),
    Deceptive(char::EscapeUnicode),
    Invalid(ascii::EscapeDefault),
}

fn units(bytes: &[u8], unit: fn(char) -> Unit) -> impl Iterator<Item = Unit> {
    bytes.utf8_chunks().flat_map(move |chunk| {
        let invalid = chunk.invalid().iter();
        let invalid = invalid.map(|&byte| Unit::Invalid(ascii::escape_default(byte)));
        chunk.valid().chars().map(unit).chain(invalid)
    })
}

impl Unit {
    fn of(character: char) -> Self {
        if character.is_ascii_control() {
            Unit::Control(character.escape_default())
        } else if is_deceptive(character) {
            Unit::Deceptive(character.escape_unicode())
        } else {
            Unit::Plain(character)
        }
    }

    fn reversible(character: char) -> Self {
        if character == '\\' { Unit::Backslash } else { Unit::of(character) }
    }

    fn len(&self) -> usize {
        match self {
            Unit::Backslash => 2,
            Unit::Plain(character) => character.len_utf8(),
            Unit::Control(text) => text.len(),
            Unit::Deceptive(text) => text.len(),
            Unit::Invalid(text) => text.len(),
        }
    }
}

impl Display for Unit {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Unit::Plain(character) => f.write_char(*character),
            Unit::Backslash => f.write_str("\\\\"),
            Unit::Control(text) => text.fmt(f),
            Unit::Deceptive(text) => text.fmt(f),
            Unit::Invalid(text) => text.fmt(f),
        }
    }
}

/// C1 controls, line and paragraph separators, and characters that change the direction of text.
fn is_deceptive(character: char) -> bool {
    matches!(
        character,
        '\u{80}'..='\u{9f}'
            | '\u{61c}' | '\u{200e}' | '\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2066}'..='\u{2069}'
            | '\u{feff}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes() {
        let cases: [(&[u8], &str); 7] = [
            (b"/srv/git/it's a \"repo\".git\\", "/srv/git/it's a \"repo\".git\\"),
            ("/dépôt/仓库".as_bytes(), "/dépôt/仓库"),
            (b"a\n[1] Ready to rumble", "a\\n[1] Ready to rumble"),
            (b"\r\t\x1b[31m\x7f\0", "\\r\\t\\u{1b}[31m\\u{7f}\\u{0}"),
            (b"\xff\xc3(\xe2\x82", "\\xff\\xc3(\\xe2\\x82"),
            ("\u{9b}\u{61c}\u{202e}\u{2028}".as_bytes(), "\\u{9b}\\u{61c}\\u{202e}\\u{2028}"),
            (b"", ""),
        ];
        for (bytes, text) in cases {
            assert_eq!(Escaped(bytes).to_string(), text);
        }
    }

    #[test]
    fn words() {
        let cases: [(&[u8], &str); 8] = [
            (b"/srv/git/a-b_c.git", "/srv/git/a-b_c.git"),
            (b"", "''"),
            (b"/srv/a b", "'/srv/a b'"),
            (b"it's \\", "'it'\\''s \\'"),
            ("/dépôt".as_bytes(), "'/dépôt'"),
            (b"~x", "'~x'"),
            (b"a\nb's\\\xff", "$'a\\012b\\047s\\134\\377'"),
            ("\u{202e}x".as_bytes(), "$'\\342\\200\\256x'"),
        ];
        for (bytes, word) in cases {
            assert_eq!(Word(bytes).to_string(), word);
            let echo = format!("printf %s {word}");
            let said = std::process::Command::new("bash").args(["-c", &echo]).output().unwrap();
            assert_eq!(said.stdout, bytes, "{word}");
        }
    }

    /// A shell that does not know `$'...'` takes it for a dollar and a word in quotes.
    #[test]
    fn words_are_words_in_every_shell() {
        for bytes in [b"x\n\\';echo oops #".as_slice(), b"\x1b'$(echo oops)'", b"'\n`echo oops`"] {
            let count = format!("set -- {}; echo $#", Word(bytes));
            for shell in ["sh", "bash"] {
                let said = std::process::Command::new(shell).args(["-c", &count]).output().unwrap();
                assert_eq!(said.stdout, b"1\n", "{shell}: {count}");
            }
        }
    }

    #[test]
    fn what_can_be_reversed() {
        let shown = |bytes: &[u8], most| Reversible { bytes, most }.to_string();
        assert_eq!(shown(b"a\\n\n\xff\\xff\x1b'\"", 99), "a\\\\n\\n\\xff\\\\xff\\u{1b}'\"");
        assert_eq!(shown(&[b'x'; 99], 99), "x".repeat(99));
        assert_eq!(shown(&[b'x'; 100], 42), "xxxxxxxxxx\\...(100 bytes)");
        assert_eq!(shown(&[b'\\'; 60], 99), "\\\\".repeat(33) + "\\...(60 bytes)");
        assert_eq!(shown(&[0xff; 60], 20), "\\...(60 bytes)");
    }

    #[test]
    fn nothing_is_longer_than_a_field() {
        let units: [&[u8]; 6] =
            [b"a", b"\x1b", b"\xff", "\u{9b}".as_bytes(), "\u{202e}".as_bytes(), "仓".as_bytes()];
        for unit in units {
            for count in [1, 170, 171, 256, 341, 1023, 1024, 1025, 65_000] {
                let bytes = unit.repeat(count);
                let shown = Escaped(&bytes).to_string();
                let one = Escaped(unit).to_string();
                assert!(shown.len() <= MOST, "{count} of {one}: {}", shown.len());
                if one.len() * count <= MOST {
                    assert_eq!(shown, one.repeat(count));
                } else {
                    let begun = shown.strip_suffix(&format!("...({} bytes)", bytes.len())).unwrap();
                    assert!(begun.len() > 900 && one.repeat(count).starts_with(begun));
                }
            }
            let bytes = unit.repeat(MOST_OF_PIECE / unit.len());
            assert_eq!(
                Piece(&bytes).to_string(),
                Escaped(unit).to_string().repeat(bytes.len() / unit.len())
            );
            assert!(Piece(&unit.repeat(65_000)).to_string().len() <= 6 * MOST_OF_PIECE);
        }
    }
}
