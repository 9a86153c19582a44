//! A retired server: the URL to use instead (`--moved-to`).

use crate::config::template::{Placeholder, Template};
use crate::protocol::request::Request;

/// The URL for a request. Host, port and path come from the client. They are percent-encoded except
/// for characters that are plain in a URL, so that they cannot hide or break the line that the user
/// reads.
pub fn url(template: &Template, request: &Request) -> Vec<u8> {
    let (host, port) = request.virtual_host.as_ref().map_or((Vec::new(), Vec::new()), |named| {
        let host = encoded(&named.host, b"-._:");
        // The brackets of an IPv6 address were removed before.
        let host = if host.contains(&b':') { [b"[", host.as_slice(), b"]"].concat() } else { host };
        (host, encoded(&named.port, b""))
    });
    let pathname = encoded(&request.pathname, b"-._~/+,=@:");
    template.fill(|placeholder| match placeholder {
        Placeholder::Host => &host,
        Placeholder::Port => &port,
        Placeholder::Directory => &pathname,
        // These need the name server; the configuration refuses them.
        Placeholder::CanonicalHost | Placeholder::Address => b"",
    })
}

fn encoded(text: &[u8], plain: &[u8]) -> Vec<u8> {
    let mut encoded = Vec::with_capacity(text.len());
    for &byte in text {
        if byte.is_ascii_alphanumeric() || plain.contains(&byte) {
            encoded.push(byte);
        } else {
            encoded.extend(format!("%{byte:02X}").bytes());
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moved(template: &str, request: &[u8]) -> String {
        let request = Request::parse(request).unwrap();
        String::from_utf8(url(&Template::parse(template.as_bytes()), &request)).unwrap()
    }

    #[test]
    fn hostile_bytes_are_encoded() {
        let cases: [(&str, &[u8], &str); 8] = [
            ("https://new%D", b"git-upload-pack /a/b-c_d.git", "https://new/a/b-c_d.git"),
            ("https://%H%D", b"git-upload-pack /a\0host=Old.org\0", "https://old.org/a"),
            ("https://%H:%P%D", b"git-upload-pack /a\0host=[::1]:99\0", "https://[::1]:99/a"),
            ("https://%H%D", b"git-upload-pack /a", "https:///a"),
            ("x%D", b"git-upload-pack /a\n\x1b[31m\xff b", "x/a%0A%1B%5B31m%FF%20b"),
            ("x%D", b"git-upload-pack /100%/?q#f\\'\"<>", "x/100%25/%3Fq%23f%5C%27%22%3C%3E"),
            ("//%H/", b"git-upload-pack /\0host=u@evil/../x y\r\0", "//u%40evil.x%20y%0D/"),
            ("100%%", b"git-receive-pack /a", "100%"),
        ];
        for (template, request, expected) in cases {
            assert_eq!(moved(template, request), expected, "{}", request.escape_ascii());
        }
    }
}
