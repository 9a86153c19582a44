//! One connection, judged: what the client got, and what the daemon logged about it.

use super::scratch::label_of;
use super::{Client, Daemon, End, GENERIC, Gitd, Implementation, Packet, Stock};

/// What the client got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The service ran; its first packets up to the flush, as text.
    Served(Vec<String>),
    /// An `ERR` packet with this text.
    Refused(String),
    /// Not a byte.
    Silence,
}

#[derive(Debug)]
pub struct Session {
    pub implementation: Implementation,
    pub verdict: Verdict,
    pub end: End,
    /// The log lines from the connection on up to its `Disconnected`, without pids; the client's address reads `CLIENT`.
    /// Empty if the daemon is not verbose: then nothing tells where the lines of a connection end.
    pub log: Vec<String>,
}

impl Session {
    pub(super) fn run(daemon: &Daemon, request: &[u8]) -> Self {
        let mark = daemon.log.mark();
        let mut client = daemon.connect();
        client.try_send(request);
        let (verdict, end) = judge(&mut client);
        let address = client.address().to_string();
        drop(client);
        let log = if daemon.verbose {
            let lines = daemon.wait_disconnected(mark);
            lines.iter().map(|l| l.replace(&address, "CLIENT")).collect()
        } else {
            Vec::new()
        };
        Self { implementation: daemon.implementation, verdict, end, log }
    }

    /// The repository of this name was served, and its service ended well.
    #[track_caller]
    pub fn assert_served(&self, name: &str) {
        let label = label_of(name);
        match &self.verdict {
            Verdict::Served(lines) if lines.iter().any(|line| line.contains(&label)) => {}
            other => panic!("{name} was not served but: {other:?}\n{:#?}", self.log),
        }
    }

    #[track_caller]
    pub fn assert_refused(&self, text: &str) {
        let expected = Verdict::Refused(text.to_owned());
        assert_eq!(self.verdict, expected, "{:#?}", self.log);
        assert_eq!(self.end, End::Closed);
    }

    #[track_caller]
    pub fn assert_silent(&self) {
        assert_eq!(self.verdict, Verdict::Silence, "{:#?}", self.log);
    }

    /// Stock dies in silence; gitd says that it refuses (B6), without a reason unless it may.
    #[track_caller]
    pub fn assert_died(&self, pathname: &str, informative: bool) {
        match self.implementation {
            Stock => self.assert_silent(),
            Gitd if !informative => self.assert_refused(&format!("{GENERIC}: {pathname}")),
            Gitd => match &self.verdict {
                Verdict::Refused(text) => {
                    assert!(text.ends_with(&format!(": {pathname}")), "{text}");
                    assert!(!text.starts_with(GENERIC), "{text}");
                }
                other => panic!("{other:?}\n{:#?}", self.log),
            },
        }
    }

    /// Exactly these lines, after `Connection from CLIENT` and before the `Disconnected` that fits the verdict.
    #[track_caller]
    pub fn assert_logged(&self, lines: &[&str]) {
        let served = matches!(self.verdict, Verdict::Served(_));
        let last = if served { "Disconnected" } else { "Disconnected (with error)" };
        let mut expected = vec!["Connection from CLIENT"];
        expected.extend(lines);
        expected.push(last);
        assert_eq!(self.log, expected);
    }

    /// Some line is this one.
    #[track_caller]
    pub fn assert_line(&self, line: &str) {
        let found = self.log.iter().any(|l| l == line);
        assert!(found, "no line {line:?} in {:#?}", self.log);
    }
}

fn judge(client: &mut Client) -> (Verdict, End) {
    let first = match client.packet() {
        Packet::Data(first) => first,
        // What a service of an empty repository says.
        Packet::Flush => return (Verdict::Served(Vec::new()), leave(client)),
        Packet::End(end) => return (Verdict::Silence, end),
        other => panic!("{other:?} as the first packet"),
    };
    if let Some(text) = first.strip_prefix(b"ERR ") {
        let text = String::from_utf8_lossy(text).into_owned();
        let (rest, end) = client.rest();
        assert!(rest.is_empty(), "{rest:?} after the ERR packet");
        return (Verdict::Refused(text), end);
    }
    let mut lines = vec![first];
    lines.extend(client.packets_to_flush());
    let lines = lines.iter().map(|line| String::from_utf8_lossy(line).into_owned()).collect();
    (Verdict::Served(lines), leave(client))
}

/// A flush is how a client says that it wants nothing (more).
fn leave(client: &mut Client) -> End {
    client.send("0000");
    client.half_close();
    client.rest().1
}
