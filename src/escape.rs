//! Hostile bytes made safe for one line of a log.

use std::fmt::{self, Display, Formatter, Write};

/// Shows bytes as text in which nobody can forge, split or hide a line: control characters, invalid
/// UTF-8 and the characters that reorder or break text are escaped (`\n`, `\xff`, `\u{202e}`).
/// Everything else is shown as it is, backslashes and quotes included, so that ordinary paths stand
/// in the log as the stock daemon writes them (B9).
#[derive(Debug, Clone, Copy)]
pub struct Escaped<'a>(pub &'a [u8]);

impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for chunk in self.0.utf8_chunks() {
            for character in chunk.valid().chars() {
                if character.is_ascii_control() {
                    write!(f, "{}", character.escape_default())?;
                } else if is_deceptive(character) {
                    write!(f, "{}", character.escape_unicode())?;
                } else {
                    f.write_char(character)?;
                }
            }
            write!(f, "{}", chunk.invalid().escape_ascii())?;
        }
        Ok(())
    }
}

/// C1 controls, line and paragraph separators, and what changes the direction of writing.
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
    use super::Escaped;

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
}
