//! From a URL or a path to the request that git's client would send.

use thiserror::Error;

use crate::protocol::service::Service;

/// The beginning of the only URLs that gitd serves.
const SCHEME: &[u8] = b"git://";

/// What a client asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Target {
    /// Host and port as in the URL; `None` for a path.
    pub(super) host: Option<Vec<u8>>,
    /// The pathname of the request.
    pub(super) pathname: Vec<u8>,
}

/// Why nothing can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(super) enum NoTarget {
    /// A URL of another protocol.
    #[error("--explain takes a git:// URL or a path")]
    Scheme,
    /// A URL that ends after the host.
    #[error("--explain: the URL has no path")]
    NoPath,
}

impl Target {
    /// Parses a URL as git's client does, or takes a path as it is.
    ///
    /// # Errors
    /// [`NoTarget`].
    pub(super) fn parse(text: &[u8]) -> Result<Self, NoTarget> {
        let Some(rest) = text.strip_prefix(SCHEME) else {
            let is_url = text.windows(3).any(|window| window == b"://");
            let path = Target { host: None, pathname: text.to_vec() };
            return if is_url { Err(NoTarget::Scheme) } else { Ok(path) };
        };
        let rest = decoded(rest);
        let slash = rest.iter().position(|&byte| byte == b'/').ok_or(NoTarget::NoPath)?;
        let (host, path) = rest.split_at(slash);
        // The client sends `~user/repo` for `/~user/repo`.
        let path = if path.starts_with(b"/~") { &path[1..] } else { path };
        Ok(Target { host: Some(host.to_vec()), pathname: path.to_vec() })
    }

    /// The payload of the request packet, as git's client makes it.
    pub(super) fn payload(&self, service: Service) -> Vec<u8> {
        let command = format!("git-{} ", service.name());
        let mut payload = [command.as_bytes(), &self.pathname, b"\0"].concat();
        if let Some(host) = &self.host {
            payload.extend([b"host=", host.as_slice(), b"\0"].concat());
        }
        // Only fetches have a version 2.
        if service == Service::UploadPack {
            payload.extend(b"\0version=2\0");
        }
        payload
    }
}

/// Each `%` with two hex digits becomes a byte. NUL cannot be sent and stays as it is.
fn decoded(text: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        let code =
            tail.get(..2).filter(|code| byte == b'%' && code.iter().all(u8::is_ascii_hexdigit));
        let code = code.and_then(|code| std::str::from_utf8(code).ok());
        match code.and_then(|code| u8::from_str_radix(code, 16).ok()) {
            Some(decoded) if decoded != 0 => {
                plain.push(decoded);
                rest = &tail[2..];
            }
            _ => plain.push(byte),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_and_paths() {
        let cases: [(&str, Option<&str>, &str); 9] = [
            ("git://Host/a.git", Some("Host"), "/a.git"),
            ("git://host:99/", Some("host:99"), "/"),
            ("git://[::1]:99/a b", Some("[::1]:99"), "/a b"),
            ("git://host/~alice/x", Some("host"), "~alice/x"),
            ("git://host/%7Ealice/100%/%2", Some("host"), "~alice/100%/%2"),
            ("git:///a", Some(""), "/a"),
            ("git://h/a%00%2f", Some("h"), "/a%00/"),
            ("/a%20", None, "/a%20"),
            ("", None, ""),
        ];
        for (text, host, pathname) in cases {
            let target = Target::parse(text.as_bytes()).unwrap();
            assert_eq!(target.host.as_deref(), host.map(str::as_bytes), "{text}");
            assert_eq!(target.pathname, pathname.as_bytes(), "{text}");
        }
        assert_eq!(Target::parse(b"https://host/a"), Err(NoTarget::Scheme));
        assert_eq!(Target::parse(b"git://host"), Err(NoTarget::NoPath));
    }

    #[test]
    fn payloads() {
        let payload = |text: &[u8], service| Target::parse(text).unwrap().payload(service);
        let fetch = b"git-upload-pack /a\0host=h\0\0version=2\0";
        assert_eq!(payload(b"git://h/a", Service::UploadPack), fetch);
        assert_eq!(payload(b"git://h/a", Service::ReceivePack), b"git-receive-pack /a\0host=h\0");
        assert_eq!(payload(b"/a", Service::UploadArchive), b"git-upload-archive /a\0");
    }
}
