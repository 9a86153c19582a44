//! The table of options: names, values and the text of `--help`.

use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::{Arg, ArgAction, Command};

use super::value;

/// The parser, from which the usage and the help are made.
pub(super) fn command() -> Command {
    Command::new("gitd")
        .no_binary_name(true)
        .version(env!("CARGO_PKG_VERSION"))
        .about("A server for git repositories: a drop-in replacement for git daemon")
        .override_usage("gitd [<options>] [<directory>...]")
        .args_override_self(true)
        .disable_help_flag(true)
        .disable_version_flag(true)
        .next_help_heading("What is served")
        .args(repositories())
        .next_help_heading("Services")
        .args(services())
        .next_help_heading("Listening")
        .args(listening())
        .next_help_heading("Limits")
        .args(limits())
        .next_help_heading("Log")
        .args(log())
        .next_help_heading("Status")
        .args(status())
        .next_help_heading("Explanation")
        .args(explanation())
        .next_help_heading("Other")
        .args([
            flag("help", "Print this help").short('h').action(ArgAction::HelpShort),
            flag("version", "Print the version").action(ArgAction::Version),
        ])
        .after_help(
            "All arguments from the first one that is no option are directories; if there are \
             any, only repositories in them are served. See gitd(8).",
        )
}

fn repositories() -> [Arg; 9] {
    [
        bytes("base-path", "path", "Put <path> before each requested path"),
        flag("base-path-relaxed", "Where that finds nothing, try the path as requested"),
        bytes(
            "interpolated-path",
            "template",
            "Make the path of %H, %CH, %IP, %P and %D (virtual hosts)",
        ),
        bytes("user-path", "path", "Serve ~user/repo from <path> below the user's home directory")
            .num_args(0..=1)
            .default_missing_value(""),
        flag("export-all", "Serve repositories without a git-daemon-export-ok file too"),
        flag("strict-paths", "Match paths exactly: no suffixes, only listed directories"),
        bytes("access-hook", "command", "Ask <command> about each request"),
        flag("informative-errors", "Tell clients why they are refused"),
        bytes("moved-to", "url", "Serve nothing; tell each client this URL, with %H and %D"),
    ]
}

fn services() -> [Arg; 6] {
    let service = |name, help| {
        valued(name, "service", help)
            .action(ArgAction::Append)
            .value_parser(OsStringValueParser::new().try_map(value::service))
    };
    [
        service("enable", "Offer upload-pack, upload-archive or receive-pack"),
        service("disable", "Do not offer the service"),
        service("allow-override", "Let daemon.<service> of a repository decide (default)"),
        service("forbid-override", "Ignore daemon.<service> of repositories"),
        valued("git-config", "key>=<value", "Configure git as git -c does (repeatable)")
            .action(ArgAction::Append)
            .value_parser(OsStringValueParser::new().try_map(value::setting)),
        valued("nice", "n", "Start the services this much nicer than gitd, 0 to 19")
            .value_parser(OsStringValueParser::new().try_map(value::niceness)),
    ]
}

fn listening() -> [Arg; 15] {
    [
        bytes("listen", "host", "Listen on this address, or unix:/path (repeatable; default: all)")
            .action(ArgAction::Append),
        valued("port", "n", "Listen on this port, or on a free one: auto (default: 9418)")
            .value_parser(OsStringValueParser::new().try_map(value::port)),
        bytes("port-file", "file", "Keep the addresses and ports in <file> while listening"),
        flag("require-all-listeners", "Fail unless every address can be listened on"),
        valued("socket-mode", "mode", "Permissions of Unix sockets, octal (default: 666)")
            .value_parser(OsStringValueParser::new().try_map(value::mode)),
        bytes("socket-owner", "user:group", "Whom Unix sockets belong to"),
        valued(
            "proxy-protocol",
            "cidr",
            "Take clients' addresses from the PROXY headers of these peers (cidr,cidr,unix)",
        )
        .value_parser(OsStringValueParser::new().try_map(value::proxies)),
        valued("mptcp", "require", "Listen with Multipath TCP; with =require, or not at all")
            .num_args(0..=1)
            .default_missing_value("")
            .value_parser(OsStringValueParser::new().try_map(value::multipath)),
        flag("no-mptcp", "Listen with TCP only (default)"),
        flag("reuseaddr", "Listen although connections of an earlier server linger"),
        flag("inetd", "Serve one client on standard input and output"),
        flag("detach", "Go to the background once listening"),
        bytes("pid-file", "file", "Keep the process id in <file> while listening"),
        bytes("user", "user", "Become <user> after binding"),
        bytes("group", "group", "Take <group> instead of the user's own"),
    ]
}

fn limits() -> [Arg; 8] {
    let seconds = |name, help| {
        valued(name, "seconds", help)
            .value_parser(OsStringValueParser::new().try_map(value::seconds(name)))
    };
    let count = |name, help| {
        valued(name, "n", help).value_parser(OsStringValueParser::new().try_map(value::count(name)))
    };
    [
        seconds("init-timeout", "How long a client may take to send its request (default: 60)"),
        seconds("timeout", "How long a session may stand still (default: 0, for ever)"),
        count("max-connections", "Serve at most <n> clients at once (default: 32; 0: no limit)"),
        count(
            "max-connections-per-address",
            "Serve at most <n> of them from one address, or IPv6 /64 (default: no limit)",
        ),
        count("max-queue", "Let at most <n> requests wait for their turn (default: 256)"),
        seconds("queue-timeout", "How long they may wait (default: 30; 0: for ever)"),
        count(
            "max-pending",
            "Keep at most <n> clients that have not sent a request (default: 4096; 0: no limit)",
        ),
        seconds(
            "shutdown-timeout",
            "How long running services may finish at the end (default: 0, for ever)",
        ),
    ]
}

fn explanation() -> [Arg; 3] {
    [
        bytes("explain", "url", "Say how a request for this URL or path is decided, and why"),
        valued("explain-service", "service", "Of this service (default: upload-pack)")
            .value_parser(OsStringValueParser::new().try_map(value::service)),
        valued("remote-addr", "address", "From this client (default: 127.0.0.1)")
            .value_parser(OsStringValueParser::new().try_map(value::address)),
    ]
}

fn log() -> [Arg; 5] {
    [
        flag("verbose", "Log every connection, not only refusals"),
        flag("syslog", "Log to syslog"),
        valued("log-destination", "where", "Log to stderr, syslog or none")
            .value_parser(OsStringValueParser::new().try_map(value::log_destination)),
        valued("log-format", "format", "Log plain text, json or journal (default: plain)")
            .value_parser(OsStringValueParser::new().try_map(value::log_format)),
        flag("no-informative-errors", "Tell clients only that they are refused (default)")
            .overrides_with("informative-errors"),
    ]
}

fn status() -> [Arg; 2] {
    [
        bytes(
            "status",
            "place",
            "Serve metrics, health and a live page on address:port or unix:/path",
        ),
        flag("status-public", "Let --status be an address that is not loopback"),
    ]
}

fn flag(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).action(ArgAction::SetTrue).help(help)
}

fn valued(name: &'static str, value_name: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).require_equals(true).num_args(1).value_name(value_name).help(help)
}

/// An option whose value is taken as it is; the system decides later whether it is valid.
fn bytes(name: &'static str, value_name: &'static str, help: &'static str) -> Arg {
    valued(name, value_name, help).value_parser(OsStringValueParser::new().try_map(value::bytes))
}

/// The usage for standard error: every option in its only spelling.
pub(super) fn usage() -> String {
    let mut usage = String::from("usage: gitd");
    let mut column = usage.len();
    let first = ["verbose", "syslog", "export-all"];
    let command = command();
    let named = |name: &&str| command.get_arguments().find(|argument| argument.get_id() == *name);
    let others = command.get_arguments().filter(|a| !first.contains(&a.get_id().as_str()));
    for argument in first.iter().filter_map(named).chain(others) {
        let word = format!(" [{}]", spelling(argument));
        if column + word.len() > 79 {
            usage.push_str("\n           ");
            column = 11;
        }
        column += word.len();
        usage.push_str(&word);
    }
    usage.push_str("\n            [<directory>...]\n");
    usage
}

fn spelling(argument: &Arg) -> String {
    let name = argument.get_id();
    let value = argument.get_value_names().and_then(<[_]>::first);
    match (value, argument.get_num_args().map(|range| range.min_values())) {
        (Some(value), Some(0)) => format!("--{name}[=<{value}>]"),
        (Some(value), _) => format!("--{name}=<{value}>"),
        (None, _) => format!("--{name}"),
    }
}
