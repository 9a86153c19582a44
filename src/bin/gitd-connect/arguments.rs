//! Parses the command line and the environment variables.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::PathBuf;

/// The text of `--help`, with what users need most first.
pub(crate) const HELP: &str = "\
usage: gitd-connect <host> <port>

Connects git to a git:// server over Multipath TCP, or over TCP where the kernel
has no MPTCP, without the delays that git's small packets meet. Use it for every
git:// URL with

    git config --global core.gitProxy gitd-connect

or for one command with

    GIT_PROXY_COMMAND=gitd-connect git fetch

    <host>       a name, an IPv4 address or an IPv6 address (without brackets)
    <port>       a number, or a name from /etc/services
    -h, --help   print this text
    --version    print the version

GIT_ENABLE_MPTCP=0 in the environment turns MPTCP off. GITD_SOCKET=<path> leads
to the Unix socket of a gitd on this machine instead, whatever the URL's host.
";

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Command {
    /// Connect git to this server.
    Connect(Target),
    /// Print this text and exit.
    Print(String),
}

/// Where to connect to, and how.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) mptcp: bool,
    /// The Unix socket to use instead of the host.
    pub(crate) socket: Option<PathBuf>,
}

/// Parses the arguments (without the program's name) and the values of `GIT_ENABLE_MPTCP` and
/// `GITD_SOCKET`. The error is one line.
pub(crate) fn parse(
    arguments: impl Iterator<Item = OsString>,
    enable_mptcp: Option<&OsStr>,
    socket: Option<&OsStr>,
) -> Result<Command, String> {
    let arguments: Vec<String> =
        arguments.map(|argument| argument.to_string_lossy().into_owned()).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["-h" | "--help"] => Ok(Command::Print(HELP.to_owned())),
        ["--version"] => {
            Ok(Command::Print(format!("gitd-connect {}\n", env!("CARGO_PKG_VERSION"))))
        }
        [host, port] if !host.starts_with('-') => Ok(Command::Connect(Target {
            host: without_brackets(host).to_owned(),
            port: parse_port(port)?,
            mptcp: parse_boolean(enable_mptcp)?,
            // Never from the host: a URL must not lead to a socket of this machine.
            socket: socket.map(PathBuf::from),
        })),
        [option, ..] if option.starts_with('-') => {
            Err(format!("unknown option '{option}'; see gitd-connect --help"))
        }
        _ => Err("usage: gitd-connect <host> <port>; see gitd-connect --help".to_owned()),
    }
}

/// git removes an IPv6 literal's brackets; a user may type them.
fn without_brackets(host: &str) -> &str {
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

fn parse_port(text: &str) -> Result<u16, String> {
    let number = if text.bytes().all(|byte| byte.is_ascii_digit()) {
        text.parse().ok()
    } else {
        service_port(text)
    };
    number.filter(|port| *port != 0).ok_or_else(|| {
        format!("invalid port '{text}': expecting 1 to 65535 or a name from /etc/services")
    })
}

/// The TCP port of a service. git itself only passes numbers, so /etc/services is enough.
fn service_port(name: &str) -> Option<u16> {
    let services = fs::read_to_string("/etc/services").ok()?;
    services.lines().find_map(|line| {
        let mut words = line.split('#').next()?.split_whitespace();
        let (first, port) = (words.next()?, words.next()?.strip_suffix("/tcp")?);
        (first == name || words.any(|alias| alias == name)).then(|| port.parse().ok()).flatten()
    })
}

/// A boolean as git reads it from the environment; unset is true.
fn parse_boolean(value: Option<&OsStr>) -> Result<bool, String> {
    let Some(value) = value else { return Ok(true) };
    let value = value.to_string_lossy();
    match value.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" => Ok(true),
        "false" | "no" | "off" | "" => Ok(false),
        number => match number.parse::<i64>() {
            Ok(number) => Ok(number != 0),
            Err(_) => Err(format!(
                "bad boolean value '{value}' of GIT_ENABLE_MPTCP; set it to 0 or 1, or unset it"
            )),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(arguments: &[&str], enable_mptcp: Option<&str>) -> Result<Command, String> {
        parse(arguments.iter().map(OsString::from), enable_mptcp.map(OsStr::new), None)
    }

    fn target(arguments: [&str; 2], enable_mptcp: Option<&str>) -> (String, u16, bool) {
        match parsed(&arguments, enable_mptcp).unwrap() {
            Command::Connect(Target { host, port, mptcp, .. }) => (host, port, mptcp),
            Command::Print(text) => panic!("printed {text}"),
        }
    }

    #[test]
    fn hosts_and_ports() {
        assert_eq!(target(["example.org", "9418"], None), ("example.org".to_owned(), 9418, true));
        assert_eq!(target(["::1", "1"], None).0, "::1");
        assert_eq!(target(["[fe80::1%eth0]", "65535"], None).0, "fe80::1%eth0");
        for port in ["", "0", "65536", "+1", "-1", " 1", "0x10", "no such service"] {
            let error = parsed(&["h", port], None).unwrap_err();
            assert!(error.starts_with(&format!("invalid port '{port}'")), "{error}");
        }
    }

    #[test]
    fn a_unix_socket_instead() {
        let socket = |host: &str, variable: Option<&str>| {
            let arguments = [host, "9418"].map(OsString::from).into_iter();
            match parse(arguments, None, variable.map(OsStr::new)).unwrap() {
                Command::Connect(target) => target.socket,
                Command::Print(text) => panic!("printed {text}"),
            }
        };
        assert_eq!(socket("h", None), None);
        assert_eq!(socket("h", Some("/a")), Some("/a".into()));
        assert_eq!(socket("unix:/b c", None), None);
        assert_eq!(socket("[unix:/b c]", Some("/a")), Some("/a".into()));
    }

    #[test]
    fn git_booleans() {
        for value in ["0", "00", "false", "No", "OFF", ""] {
            assert!(!target(["h", "1"], Some(value)).2, "{value}");
        }
        for value in ["1", "2", "-1", "true", "Yes", "ON"] {
            assert!(target(["h", "1"], Some(value)).2, "{value}");
        }
        assert!(parsed(&["h", "1"], Some("maybe")).unwrap_err().contains("'maybe'"));
    }

    #[test]
    fn everything_else_is_told_in_one_line() {
        let cases: [&[&str]; 7] = [
            &[],
            &["h"],
            &["h", "1", "x"],
            &["--bogus"],
            &["--help", "x"],
            &["-x", "1"],
            &["-", "1"],
        ];
        for arguments in cases {
            let error = parsed(arguments, None).unwrap_err();
            assert!(error.contains("--help") && !error.contains('\n'), "{error}");
        }
    }

    #[test]
    fn help_shows_the_line_to_type() {
        let Command::Print(text) = parsed(&["--help"], Some("maybe")).unwrap() else { panic!() };
        assert!(
            text.lines()
                .any(|line| line.trim() == "git config --global core.gitProxy gitd-connect")
        );
        assert!(text.lines().all(|line| line.len() <= 80));
    }
}
