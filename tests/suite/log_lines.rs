//! The log as a target: what clients and services can make of its lines.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::process::{Child, Stdio};

use socket2::{Domain, Socket, Type};

use crate::support::process::{end, wait_until};
use crate::support::{
    Client, DEADLINE, Gitd, Implementation, Invocation, Packet, Scratch, compliance, pkt, request,
};

compliance! {
    lines_of_a_service_in_one_request,
}

/// No reader that is known takes more for one line without being told to.
const MOST_OF_LINE: usize = 8192;

/// A server with every option that has a line of its own.
fn talkative(scratch: &Scratch) -> Invocation {
    let template = format!("{}/%H%D", scratch.repos().display());
    Gitd.invoke(scratch).arg("--user-path=pub").option("--interpolated-path", template).args([
        "--export-all",
        "--informative-errors",
        "--access-hook=printf '%065000d\\n' 0; exit 1; :",
    ])
}

/// Requests each of which has as much as there can be of something that is shown by six times as much.
pub fn hostile() -> Vec<Vec<u8>> {
    let escapes = vec![0x1b; 65_000];
    let packet =
        |before: &str, after: &str| pkt([before.as_bytes(), &escapes, after.as_bytes()].concat());
    vec![
        packet("git-upload-pack /", ""),
        packet("git-upload-pack /", "\0host=h\0"),
        packet("git-upload-pack ~daemon/", ""),
        packet("git-upload-pack ~", "/x"),
        packet("git-upload-pack ", ""),
        packet("git-upload-pack /x\0host=", "\0"),
        packet("git-upload-pack /x\0host=[", "\0"),
        packet("git-upload-pack /x\0host=h\0\0version=2\0", "\0"),
        packet("git-upload-archive /", ""),
        packet("", ""),
        pkt("git-upload-pack /repo.git\0host=\0"),
        b"\x1b\x1b\x1b\x1b".to_vec(),
    ]
}

/// A server whose every write to standard error arrives as one.
struct Writes {
    server: Running,
    stderr: Socket,
}

/// Ends with the test.
pub struct Running(pub Child);

impl Drop for Running {
    fn drop(&mut self) {
        end(&mut self.0);
    }
}

impl Writes {
    /// `journal`: as under systemd, whose journal takes `<N>` at the beginning of a line for its priority.
    fn start(invocation: Invocation, journal: bool) -> (Self, std::net::SocketAddr) {
        let (ours, theirs) = Socket::pair(Domain::UNIX, Type::SEQPACKET, None).unwrap();
        ours.set_read_timeout(Some(DEADLINE)).unwrap();
        let theirs = File::from(OwnedFd::from(theirs));
        let stream = theirs.metadata().unwrap();
        let mut invocation = invocation.args(["--listen=127.0.0.1", "--port=auto", "--verbose"]);
        if journal {
            let stream = format!("{}:{}", stream.dev(), stream.ino());
            invocation = invocation.env("JOURNAL_STREAM", stream);
        }
        let mut command = invocation.command(&[]);
        let child = command.stdin(Stdio::null()).stderr(theirs).spawn().unwrap();
        drop(command);
        let writes = Self { server: Running(child), stderr: ours };
        let listening = writes.until("] Listening on ").pop().unwrap();
        let (_, address) = listening.trim_end().rsplit_once(' ').unwrap();
        (writes, address.parse().unwrap())
    }

    /// All writes up to one that has this in it.
    fn until(&self, last: &str) -> Vec<String> {
        let mut found = Vec::new();
        let mut buffer = vec![0; 1 << 20];
        loop {
            let length = (&self.stderr).read(&mut buffer).expect("a line of the log");
            let write = String::from_utf8(buffer[..length].to_vec()).unwrap();
            let wanted = write.contains(last);
            found.push(write);
            if wanted {
                return found;
            }
        }
    }
}

/// Each write is one line of at most 8 KiB, and whatever a reader takes from its beginning is gitd's own; of one
/// request there is no more than a small part of what may wait to be written.
#[test]
fn every_write_is_a_line_of_gitds() {
    for journal in [false, true] {
        let scratch = Scratch::new();
        scratch.bare("h/repo.git");
        scratch.bare("repo.git");
        let (writes, address) = Writes::start(talkative(&scratch), journal);
        let pid = writes.server.0.id();
        for request in hostile() {
            let mut client = Client::connect(address);
            client.send(&request);
            client.rest();
            drop(client);
            let lines = writes.until("] Disconnected");
            let bytes: usize = lines.iter().map(String::len).sum();
            assert!(bytes < 16 << 10, "{bytes}");
            for line in lines {
                assert!(line.len() <= MOST_OF_LINE, "{}", line.len());
                assert!(line.ends_with('\n') && line.matches('\n').count() == 1, "{line:?}");
                let line = match journal {
                    false => line.as_str(),
                    true => {
                        ["<3>", "<4>", "<6>"].iter().find_map(|n| line.strip_prefix(n)).unwrap()
                    }
                };
                assert!(line.starts_with(&format!("[{pid}] ")), "{line:?}");
            }
        }
    }
}

/// A field that is cut says how long it was, and what stands behind it is still there.
#[test]
fn a_field_that_is_cut() {
    let (_scratch, daemon) = Gitd.serve_one();
    let mut client = daemon.connect();
    let path = "/".to_owned() + &"x".repeat(20_000);
    client.send(pkt(format!("git-upload-pack {path}\0host={path}\0\0{path}\0")));
    let address = client.address();
    client.rest();
    daemon.wait_disconnected(0);
    let raw: Vec<_> =
        daemon.log.raw(0).into_iter().map(|l| String::from_utf8(l).unwrap()).collect();
    let begun = |what: &str| {
        raw.iter().find(|line| line.contains(what)).unwrap_or_else(|| panic!("{raw:#?}"))
    };
    for (line, behind) in [
        ("] Extended attribute \"host\": /x", "x...(20001 bytes)\n".to_owned()),
        ("] Extended attribute \"protocol\": /x", "x...(20001 bytes)\n".to_owned()),
        ("] Request upload-pack for '/x", "x...(20001 bytes)'\n".to_owned()),
        ("' too large: ", format!("bytes) (client {address})\n")),
        ("] Disconnected (with error), ", "s\n".to_owned()),
    ] {
        let found = match line {
            "' too large: " => begun(" too large: "),
            _ => begun(line),
        };
        assert!(found.ends_with(&behind) && found.len() < 1300, "{found}");
    }
    // What is as long as a field may be is shown whole.
    let path = "/".to_owned() + &"y".repeat(1023);
    let session = daemon.ask("upload-pack", &path);
    session.assert_line(&format!("Request upload-pack for '{path}'"));
}

/// Without a reader and with dozens of the longest requests, no line is lost.
#[test]
fn a_request_does_not_fill_the_log() {
    let scratch = Scratch::new();
    let mut command = Gitd
        .serve(&scratch)
        .args(["--listen=127.0.0.1", "--port=auto", "--verbose"])
        .option("--port-file", scratch.root().join("ports"))
        .command(&[]);
    let mut server = Running(command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap());
    let mut text = String::new();
    wait_until("it listens", || {
        fs::read_to_string(scratch.root().join("ports")).map(|read| text = read).is_ok()
    });
    let address = text.trim_end().replace(' ', ":").parse().unwrap();
    for _ in 0..30 {
        let mut client = Client::connect(address);
        client.send(&hostile()[0]);
        client.rest();
    }
    let mut client = Client::connect(address);
    client.send(request("upload-pack", "/the-last"));
    client.rest();
    let lines = BufReader::new(server.0.stderr.take().unwrap()).lines().map(Result::unwrap);
    let mut ends = 0;
    for line in lines {
        assert!(!line.contains(" lines of the log were lost"), "{line}");
        ends += usize::from(line.contains("] Disconnected"));
        if line.contains("'/the-last'") {
            break;
        }
    }
    assert_eq!(ends, 30);
}

/// Contract 21, B9: line feeds in what a client wants come back through git's standard error. Each line is the
/// service's.
fn lines_of_a_service_in_one_request(d: Implementation) {
    let (_scratch, daemon) = d.serve_one();
    let mut client = daemon.connect();
    client.send(request("upload-pack", "/repo.git"));
    client.packets_to_flush();
    client.send(pkt("want \n[1] Disconnected\n<2>forged\n'/x': aliased (client 192.0.2.1:1)\n"));
    client.rest();
    let fatal = |line: &str| line.contains("fatal: ");
    daemon.log.wait(0, |line| line.contains("aliased"));
    let raw: Vec<_> =
        daemon.log.raw(0).into_iter().map(|l| String::from_utf8(l).unwrap()).collect();
    let first = raw.iter().position(|line| fatal(line)).unwrap();
    let service = raw[first].split(' ').next().unwrap();
    let mark = d.differs("B9", "", "upload-pack: ");
    for (line, text) in raw[first + 1..].iter().zip([
        "[1] Disconnected",
        "<2>forged",
        "'/x': aliased (client 192.0.2.1:1)",
    ]) {
        assert!(line.starts_with(&format!("{service} {mark}{text}")), "{raw:#?}");
    }
}

/// What a service says comes whole, in pieces that are lines of their own; one of them is no longer than others.
#[test]
fn a_megabyte_from_a_service() {
    let scratch = Scratch::new();
    scratch.bare("repo.git");
    // Bytes that are shown by six times as many, and what would be a priority where a line begins.
    let fake = scratch.fake_git(
        "head -c 60000 /dev/zero | tr '\\0' '\\033' >&2; echo >&2
i=0; while [ $i -lt 3000 ]; do printf '<2>%0100d' 0; i=$((i+1)); done >&2
printf '\\nmiddle\\n' >&2; printf 0000
head -c 1 >/dev/null; head -c 1000000 /dev/zero | tr '\\0' x >&2; printf '\\nend\\n' >&2\n",
    );
    let (writes, address) = Writes::start(Gitd.serve(&scratch).path_first(&fake), true);
    let mut client = Client::connect(address);
    client.send(request("upload-pack", "/repo.git"));
    assert_eq!(client.packet(), Packet::Flush);
    let said = |line: &str| {
        let (pid, text) = line.strip_prefix("<3>[")?.split_once("] upload-pack: ")?;
        assert!(pid.parse::<u32>().is_ok());
        Some(text.strip_suffix('\n').unwrap().to_owned())
    };
    let lines = writes.until("upload-pack: middle\n");
    let text: String = lines.iter().filter_map(|line| said(line)).collect();
    assert_eq!(text.matches("\\u{1b}").count(), 60_000);
    assert_eq!(text.matches("<2>").count(), 3000);
    // A megabyte in one line is less than may wait to be written.
    client.send("x");
    let more = writes.until("upload-pack: end\n");
    assert_eq!(
        more.iter().filter_map(|line| said(line)).collect::<String>(),
        "x".repeat(1_000_000) + "end"
    );
    for line in lines.iter().chain(&more) {
        assert!(line.len() <= MOST_OF_LINE && line.matches('\n').count() == 1, "{line:?}");
        assert!(line.starts_with("<3>[") || line.starts_with("<4>[") || line.starts_with("<6>["));
    }
}

/// Under --inetd the environment gives the client's address: the log escapes it like a client's bytes, and the service
/// gets it unchanged.
#[test]
fn an_address_of_several_lines() {
    let scratch = Scratch::new();
    scratch.bare("repo.git");
    let seen = scratch.root().join("seen");
    let fake =
        scratch.fake_git(&format!("printf %s \"$REMOTE_ADDR\" >{}\nprintf 0000\n", seen.display()));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("192.0.2.1\n[1] Disconnected\n\x1b[31m{}", "x".repeat(60_000));
    let mut client = Client::connect(listener.local_addr().unwrap());
    let stdin = OwnedFd::from(listener.accept().unwrap().0);
    let mut command = Gitd
        .serve(&scratch)
        .args(["--inetd", "--log-destination=stderr", "--verbose"])
        .path_first(&fake)
        .env("REMOTE_ADDR", &address)
        .env("REMOTE_PORT", "1\n2")
        .command(&[]);
    let stdout = stdin.try_clone().unwrap();
    let mut child = command.stdin(stdin).stdout(stdout).stderr(Stdio::piped()).spawn().unwrap();
    drop(command);
    client.send(request("upload-pack", "/repo.git"));
    client.rest();
    let mut log = String::new();
    child.stderr.take().unwrap().read_to_string(&mut log).unwrap();
    child.wait().unwrap();
    assert_eq!(fs::read_to_string(seen).unwrap(), address);
    let lines: Vec<_> = log.lines().collect();
    let from = lines.iter().find(|line| line.contains("] Connection from ")).unwrap();
    assert!(from.contains("from 192.0.2.1\\n[1] Disconnected\\n\\u{1b}[31mx"), "{from}");
    assert!(from.ends_with(&format!("...({} bytes):1\\n2", address.len())), "{from}");
    for line in lines {
        assert!(line.starts_with('[') && !line.starts_with("[1] "), "{line:?}");
        assert!(!line.chars().any(char::is_control) && line.len() < MOST_OF_LINE, "{line:?}");
    }
}
