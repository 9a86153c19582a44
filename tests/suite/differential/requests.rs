//! Generates requests: every rule of their grammar, kept and bent.

use std::fmt::{self, Display, Formatter};

use super::layout::{Text, shown};
use super::pathnames;
use super::settings::Spelling;
use crate::support::random::Random;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    pub command: Text,
    pub pathname: Text,
    /// What stands between the pathname and the first NUL.
    pub line_end: Text,
    /// Everything from the first NUL on.
    pub parameters: Text,
    /// The four bytes in front, if not the true length.
    pub prefix: Option<[u8; 4]>,
    /// How many bytes are sent at all.
    pub cut: Option<usize>,
    /// What is sent along behind the packet.
    pub ahead: Text,
    pub half_close: bool,
}

impl Default for Request {
    fn default() -> Self {
        Self {
            command: b"git-upload-pack ".to_vec(),
            pathname: b"/a".to_vec(),
            line_end: Vec::new(),
            parameters: Vec::new(),
            prefix: None,
            cut: None,
            ahead: Vec::new(),
            half_close: false,
        }
    }
}

impl Request {
    /// What goes over the wire, once `expand` has filled in what the pathname and the parameters leave open.
    pub fn bytes(&self, expand: impl Fn(&[u8]) -> Text) -> Vec<u8> {
        let mut payload =
            [self.command.as_slice(), &self.pathname, &self.line_end, &self.parameters].concat();
        payload = expand(&payload);
        let prefix = self.prefix.unwrap_or_else(|| {
            let length = format!("{:04x}", (payload.len() + 4).min(0xffff));
            length.as_bytes().try_into().unwrap()
        });
        let mut bytes = [prefix.as_slice(), &payload, &self.ahead].concat();
        bytes.truncate(self.cut.unwrap_or(usize::MAX));
        bytes
    }

    /// What stands between the blank and the NUL, less one line feed.
    pub fn pathname_as_understood(&self) -> Text {
        let payload =
            [self.command.as_slice(), &self.pathname, &self.line_end, &self.parameters].concat();
        let line = payload.split(|&byte| byte == 0).next().unwrap_or_default();
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        line.splitn(2, |&byte| byte == b' ').nth(1).unwrap_or_default().to_vec()
    }

    pub fn is_archive(&self) -> bool {
        self.command.starts_with(b"git-upload-archive")
    }

    /// Smaller requests that may show the same.
    pub fn smaller(&self) -> Vec<Self> {
        let usual = Self::default();
        let mut all = vec![
            Self { command: usual.command, ..self.clone() },
            Self { line_end: usual.line_end, ..self.clone() },
            Self { parameters: usual.parameters, ..self.clone() },
            Self { parameters: b"\0host=h\0".to_vec(), ..self.clone() },
            Self { prefix: None, ..self.clone() },
            Self { cut: None, ..self.clone() },
            Self { ahead: usual.ahead, ..self.clone() },
            Self { half_close: false, ..self.clone() },
            Self { pathname: self.pathname[..self.pathname.len() / 2].to_vec(), ..self.clone() },
            Self {
                parameters: self.parameters[..self.parameters.len() / 2].to_vec(),
                ..self.clone()
            },
        ];
        if self.pathname.len() < 300 {
            let without = |at: usize| [&self.pathname[..at], &self.pathname[at + 1..]].concat();
            all.extend(
                (0..self.pathname.len()).map(|at| Self { pathname: without(at), ..self.clone() }),
            );
        }
        all.retain(|smaller| smaller != self);
        all
    }
}

pub fn generate(random: &mut Random, spelling: &Spelling, paths: &[Text]) -> Request {
    let mut request = Request { command: command(random), ..Request::default() };
    request.pathname = pathnames::generate(random, spelling, paths);
    request.line_end = match random.below(20) {
        0..=3 => b"\n".to_vec(),
        4 => random.pick(&[b"\n\n".as_slice(), b" ", b"\r\n", b"\r"]).to_vec(),
        _ => Vec::new(),
    };
    request.parameters = parameters(random, spelling);
    if request.is_archive() {
        request.ahead = b"0012argument HEAD\n0000".to_vec();
    }
    if random.chance(4) {
        frame(random, &mut request);
    }
    request
}

fn command(random: &mut Random) -> Text {
    if random.chance(4) {
        let odd: [&[u8]; 13] = [
            b"git-upload-pack",
            b"git-upload-pack  ",
            b"git-upload-pack\t",
            b"git upload-pack ",
            b"upload-pack ",
            b"GIT-UPLOAD-PACK ",
            b"git-upload-packs ",
            b"git-",
            b"",
            b" git-upload-pack ",
            b"git-upload-pack '",
            b"git-receive-pack\0",
            b"git-fsck ",
        ];
        return random.pick(&odd).to_vec();
    }
    let service = match random.below(10) {
        0..=6 => "upload-pack",
        7..=8 => "receive-pack",
        _ => "upload-archive",
    };
    format!("git-{service} ").into_bytes()
}

fn parameters(random: &mut Random, spelling: &Spelling) -> Text {
    let odd: [&[u8]; 17] = [
        b"\0host",
        b"\0Host=h1\0",
        b"\0HOST=h1\0\0version=2\0",
        b"\0foo=bar\0",
        b"\0host=h1\0version=1\0",
        b"\0host=h1\0\0\0\0version=1\0",
        b"\0\0",
        b"\0\0\0",
        b"\0\nhost=h1\0",
        b"\0host=h1\n\0",
        b"\0host=h1\0host=h2\0",
        b"\0host=h1\0\0host=h2\0",
        b"\0\n",
        b"\0 ",
        b"\0host=\0\0version=2",
        b"\0host=h1\0\n",
        b"\0version=2\0",
    ];
    if random.chance(5) {
        return random.pick(&odd).to_vec();
    }
    let mut text = vec![0];
    if spelling.hosts || random.chance(70) {
        let host = host(random, spelling);
        text = [b"\0host=", host.as_slice(), b"\0"].concat();
    }
    let extra = random.pick(&[
        "",
        "",
        "",
        "\0version=2\0",
        "\0version=1\0",
        "\0version=0\0",
        "\0version=2",
        "\0version=9\0",
        "\0a\0b=c\0version=1\0",
        "\0object-format=sha256\0",
    ]);
    text.extend(extra.as_bytes());
    if text == [0] && random.chance(50) {
        text.clear();
    }
    text
}

fn host(random: &mut Random, spelling: &Spelling) -> Text {
    // An unknown name takes the resolver time, and an IPv6 address is misread by older stock daemons.
    const QUICK: [&str; 9] = [
        "127.0.0.1",
        "127.0.0.1:9418",
        "",
        "127.1",
        "localhost",
        "LocalHost:1",
        "../127.0.0.1",
        "127..0.0.1",
        "[127.0.0.1]:x/y",
    ];
    const ALL: [&[u8]; 30] = [
        b"h1",
        b"h1",
        b"h1",
        b"H1",
        b"h1:9418",
        b"[h1]",
        b"[h1]:99",
        b"[h1",
        b"[h1]x",
        b"h1]",
        b"[]",
        b"[]:",
        b":",
        b":1",
        b"",
        b"::1",
        b"[::1]:1",
        b"../h1",
        b"h1/..",
        b"h1/../out",
        b"..",
        b".",
        b"./h1.",
        b"h..1",
        b".h1",
        b"d",
        b"a:1:2",
        b"\xff",
        b"h1 ",
        b"al\nice",
    ];
    // Names of a resolver that answers at once.
    const KNOWN: [&str; 14] = [
        "h1",
        "H1",
        "upper.example",
        "UPPER.example:1",
        "lower.example",
        "Lower.Example",
        "mixed.example",
        "MIXED.EXAMPLE",
        "climbs.example",
        "dotted.example",
        "slash.example",
        "nobody.example",
        "[h1]",
        "127.0.0.7",
    ];
    if spelling.knows_hosts && random.chance(75) {
        return random.pick(&KNOWN).as_bytes().to_vec();
    }
    match spelling.resolves {
        true => random.pick(&QUICK).as_bytes().to_vec(),
        false => random.pick(&ALL).to_vec(),
    }
}

/// Spoils the packet around the request.
fn frame(random: &mut Random, request: &mut Request) {
    match random.below(6) {
        0..=1 => {
            let odd = [
                b"0000",
                b"0001",
                b"0002",
                b"0003",
                b"0004",
                b"0005",
                b"000g",
                b"+010",
                b" 010",
                b"-001",
                b"0x10",
                b"fff4",
                b"ffff",
                b"FFF3",
                b"GET ",
                b"00\0a",
                b"\xff\xff\xff\xff",
                b"\n\n\n\n",
            ];
            request.prefix = Some(*random.pick(&odd));
            request.half_close = true;
        }
        2..=3 => {
            request.cut = Some(random.below(request.pathname.len() + 30));
            request.half_close = true;
        }
        4 => request.half_close = true,
        _ => {
            request.ahead = random
                .pick(&[b"0000".as_slice(), b"0014command=ls-refs\n0000", b"x", b"0009done\n"])
                .to_vec()
        }
    }
}

impl Display for Request {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let payload =
            [self.command.as_slice(), &self.pathname, &self.line_end, &self.parameters].concat();
        write!(f, "\"{}\"", shown(&payload))?;
        if let Some(prefix) = &self.prefix {
            write!(f, ", length prefix \"{}\"", prefix.escape_ascii())?;
        }
        if let Some(cut) = self.cut {
            write!(f, ", cut after {cut} bytes")?;
        }
        if !self.ahead.is_empty() {
            write!(f, ", sent ahead \"{}\"", self.ahead.escape_ascii())?;
        }
        if self.half_close {
            write!(f, ", half-closed")?;
        }
        Ok(())
    }
}
