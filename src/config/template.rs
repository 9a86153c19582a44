//! `--interpolated-path`: a path with placeholders, parsed once (contract 42).

/// A parsed template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template(Vec<Segment>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Segment {
    Literal(Vec<u8>),
    Value(Placeholder),
}

/// What a template can contain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Placeholder {
    /// `%H`: the host as the client sent it, cleaned.
    Host,
    /// `%CH`: the canonical name of that host.
    CanonicalHost,
    /// `%IP`: its address.
    Address,
    /// `%P`: the port as the client sent it, cleaned.
    Port,
    /// `%D`: the pathname, with its leading slash.
    Directory,
}

impl Placeholder {
    /// No name is a prefix of another, so the order does not matter.
    const NAMES: [(&'static [u8], Placeholder); 5] = [
        (b"H", Placeholder::Host),
        (b"CH", Placeholder::CanonicalHost),
        (b"IP", Placeholder::Address),
        (b"P", Placeholder::Port),
        (b"D", Placeholder::Directory),
    ];
}

impl Template {
    /// Parses a template. `%%` is a percent sign; a percent sign before an unknown name is itself.
    /// Every text is valid.
    pub fn parse(text: &[u8]) -> Self {
        let mut segments = Vec::new();
        let mut literal = Vec::new();
        let mut rest = text;
        while let Some((&byte, tail)) = rest.split_first() {
            rest = tail;
            let placeholder =
                Placeholder::NAMES.iter().find(|(name, _)| byte == b'%' && tail.starts_with(name));
            if let Some((name, placeholder)) = placeholder {
                rest = &tail[name.len()..];
                segments.push(Segment::Literal(std::mem::take(&mut literal)));
                segments.push(Segment::Value(*placeholder));
            } else {
                literal.push(byte);
                if byte == b'%' && tail.first() == Some(&b'%') {
                    rest = &tail[1..];
                }
            }
        }
        segments.push(Segment::Literal(literal));
        Template(segments)
    }

    /// Whether the template needs the resolver.
    pub fn needs_resolver(&self) -> bool {
        self.0.iter().any(|segment| {
            matches!(segment, Segment::Value(Placeholder::CanonicalHost | Placeholder::Address))
        })
    }

    /// The path, with each placeholder replaced by its `value`.
    pub fn fill<'a>(&self, mut value: impl FnMut(Placeholder) -> &'a [u8]) -> Vec<u8> {
        let mut path = Vec::new();
        for segment in &self.0 {
            match segment {
                Segment::Literal(text) => path.extend_from_slice(text),
                Segment::Value(placeholder) => path.extend_from_slice(value(*placeholder)),
            }
        }
        path
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(text: &str) -> String {
        let path = Template::parse(text.as_bytes()).fill(|placeholder| match placeholder {
            Placeholder::Host => b"h",
            Placeholder::CanonicalHost => b"ch",
            Placeholder::Address => b"::1",
            Placeholder::Port => b"99",
            Placeholder::Directory => b"/d",
        });
        String::from_utf8(path).unwrap()
    }

    #[test]
    fn fills() {
        let cases = [
            ("/srv/%H%D", "/srv/h/d"),
            ("/srv/%CH/%IP/%P%D", "/srv/ch/::1/99/d"),
            ("100%%D", "100%D"),
            ("%%%D", "%/d"),
            ("%x%C%I%", "%x%C%I%"),
            ("", ""),
            ("%d%h", "%d%h"),
        ];
        for (template, path) in cases {
            assert_eq!(filled(template), path, "{template}");
        }
    }

    #[test]
    fn only_some_placeholders_need_the_resolver() {
        assert!(!Template::parse(b"/%H/%P/%D/%%CH").needs_resolver());
        assert!(Template::parse(b"/%CH").needs_resolver());
        assert!(Template::parse(b"/%IP").needs_resolver());
    }
}
