//! What holds of everything that the pure parts make of hostile bytes, whatever those are. The fuzz targets look for bytes
//! of which it does not, and the suite tries those of the corpus.

use gitd::config::template::{Placeholder, Template};
use gitd::escape::{self, Escaped};
use gitd::protocol::inbound::{Packet, Unread};
use gitd::protocol::pktline::{self, PREFIX};
use gitd::protocol::proxy::{self, Header, Introduction, Progress};
use gitd::protocol::request::{Fields, Request, VirtualHost};
use gitd::repository::pointer;

/// A packet that comes in pieces is the packet that comes at once, and nothing behind it is touched. The first byte says
/// how large the pieces are.
pub fn packet(bytes: &[u8]) {
    let Some((&step, stream)) = bytes.split_first() else { return };
    let (in_pieces, used) = feed(stream, usize::from(step) + 1);
    assert_eq!((in_pieces.as_deref().ok(), used), (feed(stream, 70_000).0.as_deref().ok(), used));
    let prefix = stream.get(..PREFIX).map(|prefix| pktline::announced(prefix.try_into().unwrap()));
    match (prefix, &in_pieces) {
        (Some(Ok(length)), Ok(payload)) => {
            assert_eq!(payload.as_slice(), &stream[PREFIX..PREFIX + length]);
            assert_eq!(used, PREFIX + length);
        }
        (Some(Ok(length)), Err(Unread::HungUp)) => assert!(stream.len() < PREFIX + length),
        (Some(Err(expected)), Err(Unread::Length(found))) => assert_eq!(*found, expected),
        (None, Err(Unread::HungUp)) => assert!(!stream.is_empty()),
        (None, Err(Unread::Nothing)) => assert!(stream.is_empty()),
        (prefix, result) => panic!("{prefix:?} leads to {result:?}"),
    }
}

/// A PROXY header that comes in pieces is the one that comes at once, is never longer than it may be, and nothing behind it
/// is taken. The first byte says how large the pieces are.
pub fn proxy(bytes: &[u8]) {
    let Some((&step, stream)) = bytes.split_first() else { return };
    let (whole, taken) = introduce(stream, 70_000);
    let (in_pieces, taken_in_pieces) = introduce(stream, usize::from(step) + 1);
    match (whole, in_pieces) {
        (Ok(whole), Ok(in_pieces)) => {
            assert_eq!((whole, whole.length), (in_pieces, taken));
            assert_eq!(proxy::parse(&stream[..taken]), Ok(Progress::Complete(whole)));
            let most = if stream.starts_with(b"P") { 107 } else { 16 + 4096 };
            assert!(taken == taken_in_pieces && taken <= most && proxy::begins(&stream[..4]));
            for end in 0..taken {
                assert!(matches!(proxy::parse(&stream[..end]), Ok(Progress::Need(1..))));
            }
        }
        (Err(whole), Err(in_pieces)) => {
            assert_eq!(whole.to_string(), in_pieces.to_string());
            assert_plain(&whole.to_string());
        }
        (whole, in_pieces) => panic!("{whole:?}, but {in_pieces:?} in pieces of {step}"),
    }
}

fn introduce(stream: &[u8], step: usize) -> (Result<Introduction, Unread>, usize) {
    let mut header = Header::default();
    let mut taken = 0;
    loop {
        let room = header.room();
        assert!(!room.is_empty() && room.len() <= 4096 + 16);
        let seen = room.len().min(step).min(stream.len() - taken);
        room[..seen].copy_from_slice(&stream[taken..taken + seen]);
        let own = match header.own(seen) {
            Ok(own) => own.len(),
            Err(malformed) => return (Err(malformed.into()), taken),
        };
        assert!(own <= seen && (own > 0) == (seen > 0));
        taken += own;
        match header.advance(own) {
            Ok(Progress::Need(_)) => {}
            Ok(Progress::Complete(introduction)) => return (Ok(introduction), taken),
            Err(reason) => return (Err(reason), taken),
        }
    }
}

fn feed(stream: &[u8], step: usize) -> (Result<Vec<u8>, Unread>, usize) {
    let mut packet = Packet::default();
    let mut used = 0;
    loop {
        if let Some(payload) = packet.complete() {
            return (Ok(payload), used);
        }
        let room = packet.room();
        assert!(!room.is_empty(), "a packet that wants nothing is complete");
        let take = room.len().min(step).min(stream.len() - used);
        room[..take].copy_from_slice(&stream[used..used + take]);
        used += take;
        if let Err(reason) = packet.advance(take) {
            return (Err(reason), used);
        }
    }
}

/// A request has its parts from the packet, and nothing in them that could end one of them.
pub fn request(payload: &[u8]) {
    let line = payload.split(|&byte| byte == 0).next().unwrap();
    assert_eq!(Fields::split(payload).line, line.strip_suffix(b"\n").unwrap_or(line));
    let request = match Request::parse(payload) {
        Ok(request) => request,
        Err(malformed) => return assert_plain(&malformed.to_string()),
    };
    let command = format!("git-{} ", request.service.name());
    let pathname = line.strip_prefix(command.as_bytes()).unwrap();
    assert_eq!(request.pathname, pathname.strip_suffix(b"\n").unwrap_or(pathname));
    if let Some(extra) = &request.extra_parameters {
        assert!(!extra.is_empty() && !extra.contains(&0));
    }
    if let Some(host) = &request.virtual_host {
        assert_clean(host);
        assert!(!host.host.contains(&0) && !host.port.contains(&0));
    }
    // What was understood can be said again, and is understood alike.
    let mut again = [command.as_bytes(), &request.pathname, b"\n\0"].concat();
    if let Some(host) = request.virtual_host.as_ref().filter(|host| !host.host.contains(&b']')) {
        again.extend([b"host=[", host.host.as_slice(), b"]:", &host.port, b"\0"].concat());
    }
    if let Some(extra) = &request.extra_parameters {
        again.extend([b"\0", extra.as_slice(), b"\0"].concat());
    }
    let again = Request::parse(&again).unwrap();
    assert_eq!(
        (&again.pathname, &again.extra_parameters),
        (&request.pathname, &request.extra_parameters)
    );
    assert!(again.virtual_host.is_none() || again.virtual_host == request.virtual_host);
}

/// Neither part of a host can climb out of a path, and cleaning finds nothing left to do.
pub fn host(value: &[u8]) {
    match VirtualHost::parse(value) {
        Ok(host) => {
            assert_clean(&host);
            let again = [host.host.as_slice(), b":", &host.port].concat();
            if !host.host.starts_with(b"[") && !host.port.contains(&b':') {
                assert_eq!(VirtualHost::parse(&again), Ok(host));
            }
        }
        Err(malformed) => assert!(value.starts_with(b"["), "{malformed}"),
    }
}

fn assert_clean(host: &VirtualHost) {
    assert!(!host.host.iter().any(u8::is_ascii_uppercase));
    for part in [&host.host, &host.port] {
        assert!(!part.contains(&b'/'));
        assert!(!part.starts_with(b".") && !part.ends_with(b"."));
        assert!(!part.windows(2).any(|pair| pair == b".."));
    }
}

/// A template does what one that is read from left to right does; and values are not templates.
pub fn template(text: &[u8]) {
    let template = Template::parse(text);
    let mut resolves = false;
    let filled = template.fill(|placeholder| {
        let (name, needs_resolver) = value(placeholder);
        resolves |= needs_resolver;
        name
    });
    assert_eq!(template.needs_resolver(), resolves);
    let mut expected = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let (length, bytes) = match rest {
            [b'%', b'%', ..] => (2, b"%".as_slice()),
            [b'%', b'H', ..] => (2, value(Placeholder::Host).0),
            [b'%', b'C', b'H', ..] => (3, value(Placeholder::CanonicalHost).0),
            [b'%', b'I', b'P', ..] => (3, value(Placeholder::Address).0),
            [b'%', b'P', ..] => (2, value(Placeholder::Port).0),
            [b'%', b'D', ..] => (2, value(Placeholder::Directory).0),
            _ => (1, &rest[..1]),
        };
        expected.extend_from_slice(bytes);
        rest = &rest[length..];
    }
    assert_eq!(filled, expected);
}

/// What stands for a placeholder, and whether the resolver must know it.
fn value(placeholder: Placeholder) -> (&'static [u8], bool) {
    match placeholder {
        Placeholder::Host => (b"%D", false),
        Placeholder::CanonicalHost => (b"canonical", true),
        Placeholder::Address => (b"::1", true),
        Placeholder::Port => (b"%", false),
        Placeholder::Directory => (b"/%H", false),
    }
}

/// What HEAD, `commondir` and gitfiles name is a name for the system, and line ends behind it do not change it.
pub fn pointer(text: &[u8]) {
    let with_line_ends = [text, b"\r\n\n"].concat();
    let target = pointer::gitfile_target(text);
    if let Some(target) = target {
        assert!(text.starts_with(b"gitdir: "));
        assert!(!target.is_empty() && !target.contains(&0));
        let named = &text[b"gitdir: ".len()..];
        assert!(named.starts_with(target) || named.starts_with(b"\0"));
    }
    assert_eq!(pointer::gitfile_target(&with_line_ends), target);

    let common = pointer::common_directory(text);
    assert_eq!(common.is_none(), text.is_empty());
    if let Some(common) = common {
        assert!(!common.is_empty() && !common.contains(&0));
        assert_eq!(pointer::common_directory(&with_line_ends), Some(common));
        let (directory, last) = pointer::split_last(common);
        assert!(!directory.is_empty() && !last.contains(&b'/'));
        if directory != b"." {
            assert!(common.starts_with(&[directory, last].concat()));
        }
    }
    if pointer::head_is_valid(text) {
        let named = text.strip_prefix(b"ref:").map(<[u8]>::trim_ascii_start);
        assert!(named.map_or(text.len() >= 40, |named| named.starts_with(b"refs/")));
        assert!(pointer::head_is_valid(&with_line_ends), "what follows does not matter");
    }
    assert!(!pointer::head_link_is_valid(text) || text.starts_with(b"refs/"));
}

/// Nothing that a client sends can break a line of the log, and what it is told is one packet.
pub fn log(text: &[u8]) {
    let shown = Escaped(text).to_string();
    assert_plain(&shown);
    assert!(shown.len() <= escape::MOST);
    if text.iter().all(|byte| matches!(byte, b' '..=b'~')) && text.len() <= escape::MOST {
        assert_eq!(shown.as_bytes(), text);
    }
    let packet = pktline::refusal(b"no such repository", text);
    let (prefix, payload) = packet.split_first_chunk::<PREFIX>().unwrap();
    assert_eq!(pktline::announced(*prefix), Ok(payload.len()));
    let told = payload.strip_prefix(b"ERR no such repository: ").unwrap();
    assert!(text.starts_with(told) && (told == text || text.len() > 60_000));
}

fn assert_plain(text: &str) {
    let breaks = |character: char| {
        character.is_control()
            || matches!(character, '\u{61c}' | '\u{200e}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    assert!(!text.contains(breaks), "{text:?}");
}
