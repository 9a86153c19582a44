//! Table-driven tests of the parser.

use super::*;

fn parse(arguments: &[&str]) -> Result<Options, Stop> {
    Options::parse(arguments.iter().map(OsString::from))
}

fn fatal(arguments: &[&str]) -> String {
    match parse(arguments) {
        Err(Stop::Fatal(rejected)) => rejected.to_string(),
        other => panic!("{arguments:?}: {other:?}"),
    }
}

#[test]
fn only_exact_spellings() {
    for wrong in [
        "--verb",
        "--export-al",
        "--port",
        "--no-verbose",
        "--verbose=1",
        "-v",
        "-",
        "--serve=1",
        "--port=",
        "--port=9418x",
        "--port= ",
        "--Verbose",
        "--base-path",
        "--help=x",
        "-vh",
        "--port=0x",
        "--port=08",
        "--port=+-1",
    ] {
        assert!(matches!(parse(&[wrong]), Err(Stop::Usage(_))), "{wrong}");
    }
    assert!(matches!(parse(&["--port", "9000"]), Err(Stop::Usage(_))));
}

#[test]
fn the_leftmost_error_wins() {
    assert_eq!(fatal(&["--log-destination=foo", "--bogus"]), "unknown log destination 'foo'");
    assert!(matches!(parse(&["--bogus", "--log-destination=foo"]), Err(Stop::Usage(_))));
    assert!(matches!(parse(&["--help", "--bogus"]), Err(Stop::Answer(_))));
    assert!(matches!(parse(&["--bogus", "--help"]), Err(Stop::Usage(_))));
}

#[test]
fn directories_begin_at_the_first_word() {
    let cases: [(&[&str], &[&str]); 5] = [
        (&["--verbose", "/a", "--port=x", "--export-all"], &["/a", "--port=x", "--export-all"]),
        (&["--verbose", "", "--bogus"], &["", "--bogus"]),
        (&["--verbose", "--", "--bogus"], &["--bogus"]),
        (&["--verbose", "--"], &[]),
        (&["--", "--", "a"], &["--", "a"]),
    ];
    for (arguments, directories) in cases {
        let expected: Vec<Vec<u8>> = directories.iter().map(|d| d.as_bytes().to_vec()).collect();
        let mut arguments = arguments.to_vec();
        arguments.insert(0, "--verbose");
        assert_eq!(parse(&arguments).unwrap().directories, expected, "{arguments:?}");
    }
}

#[test]
fn ports_in_every_notation() {
    let cases = [
        ("0", 0),
        ("1", 1),
        ("9418", 9418),
        ("0x2328", 9000),
        ("024000", 10240),
        (" 9000", 9000),
        ("+9000", 9000),
        ("65535", 65535),
        ("00", 0),
        ("-0", 0),
        ("0XfF", 255),
    ];
    for (text, port) in cases {
        assert_eq!(
            parse(&[&format!("--port={text}")]).unwrap().port,
            Some(Port::Number(port)),
            "{text}"
        );
    }
    for text in ["65536", "99999", "4294976297", "-1", "99999999999999999999", "0xffffff"] {
        let expected =
            format!("invalid port '{text}', expecting a number from 1 to 65535, or 0 for 9418");
        assert_eq!(fatal(&[&format!("--port={text}")]), expected);
    }
}

#[test]
fn a_free_port_has_one_spelling() {
    assert_eq!(parse(&["--port=auto"]).unwrap().port, Some(Port::Auto));
    for wrong in ["--port=Auto", "--port= auto", "--port=auto "] {
        assert!(matches!(parse(&[wrong]), Err(Stop::Usage(_))), "{wrong}");
    }
}

#[test]
fn settings_are_what_git_takes() {
    let setting = |text: &str| parse(&[&format!("--git-config={text}")]).unwrap().git_config;
    let cases = [
        ("pack.windowMemory=10m", ("pack.windowMemory", "10m")),
        ("a.b=", ("a.b", "")),
        ("a.b==c=d", ("a.b", "=c=d")),
        ("url.https://x/.insteadOf=y", ("url.https://x/.insteadOf", "y")),
        ("safe.directory=*", ("safe.directory", "*")),
    ];
    for (text, (key, value)) in cases {
        let expected = (key.as_bytes().to_vec(), value.as_bytes().to_vec());
        assert_eq!(setting(text), [expected], "{text}");
    }
    for text in ["", "a", "a=b", "a.b", ".b=c", "a.=c", "a.1=c", "a b.c=d", "a.b c=d", "a.\n.b=c"] {
        let shown = text.replace('\n', "\\n");
        let expected = format!("invalid git-config '{shown}', expecting <section>.<name>=<value>");
        assert_eq!(fatal(&[&format!("--git-config={text}")]), expected);
    }
    assert_eq!(parse(&["--git-config=a.b=1", "--git-config=a.b=2"]).unwrap().git_config.len(), 2);
}

#[test]
fn modes_and_niceness() {
    let mode = |text: &str| parse(&[&format!("--socket-mode={text}")]).unwrap().socket_mode;
    assert_eq!(mode("660"), Some(0o660));
    assert_eq!(mode("0777"), Some(0o777));
    for text in ["", "8", "1000", "+6", "u+w", "0o6"] {
        assert!(fatal(&[&format!("--socket-mode={text}")]).starts_with("invalid socket-mode"));
    }
    assert_eq!(parse(&["--nice=19"]).unwrap().nice, Some(19));
    for text in ["", "20", "-1", "x", "256"] {
        assert!(fatal(&[&format!("--nice={text}")]).starts_with("invalid nice"), "{text}");
    }
}

#[test]
fn numbers_are_decimal_and_fit() {
    for (text, seconds) in [("0", 0), ("007", 7), (" 5", 5), ("+5", 5), ("4294967295", u32::MAX)] {
        assert_eq!(
            parse(&[&format!("--timeout={text}")]).unwrap().timeout,
            Some(seconds),
            "{text}"
        );
    }
    for text in ["", "-0", "-3", "3a", "5 ", "0x10", "4294967296", " -1", "+-1", "+"] {
        let expected = format!("invalid init-timeout '{text}', expecting a non-negative integer");
        assert_eq!(fatal(&[&format!("--init-timeout={text}")]), expected);
    }
    for (text, count) in [("-5", -5), ("+0", 0), (" 7", 7), ("2147483647", i32::MAX)] {
        let options = parse(&[&format!("--max-connections={text}")]).unwrap();
        assert_eq!(options.max_connections, Some(count), "{text}");
    }
    for text in ["", "x", "2147483648", "5 "] {
        let expected = format!("invalid max-connections '{text}', expecting an integer");
        assert_eq!(fatal(&[&format!("--max-connections={text}")]), expected);
    }
}

#[test]
fn the_last_of_a_kind_wins() {
    let destination = |arguments: &[&str]| parse(arguments).unwrap().log_destination;
    assert_eq!(destination(&[]), None);
    assert_eq!(destination(&["--syslog", "--log-destination=none"]), Some(Destination::None));
    assert_eq!(destination(&["--log-destination=none", "--syslog"]), Some(Destination::Syslog));
    assert_eq!(
        destination(&["--log-destination=none", "--syslog", "--log-destination=stderr"]),
        Some(Destination::Stderr)
    );
    let informative = |arguments: &[&str]| parse(arguments).unwrap().informative_errors;
    assert!(informative(&["--no-informative-errors", "--informative-errors"]));
    assert!(!informative(&["--informative-errors", "--no-informative-errors"]));
    assert_eq!(parse(&["--port=1", "--port=2"]).unwrap().port, Some(Port::Number(2)));
}

#[test]
fn services_change_from_left_to_right() {
    let offer = |arguments: &[&str]| parse(arguments).unwrap().offers[Service::ReceivePack];
    assert!(!offer(&["--enable=receive-pack", "--disable=receive-pack"]).enabled);
    assert!(offer(&["--disable=receive-pack", "--enable=receive-pack"]).enabled);
    assert!(offer(&["--enable=receive-pack", "--disable=upload-pack"]).enabled);
    assert!(
        offer(&["--forbid-override=receive-pack", "--allow-override=receive-pack"]).overridable
    );
    assert!(!offer(&["--forbid-override=receive-pack"]).overridable);
    assert_eq!(fatal(&["--enable=git-receive-pack"]), "No such service git-receive-pack");
    assert_eq!(fatal(&["--disable="]), "No such service ");
}

#[test]
fn user_path_may_have_no_value() {
    let user_path = |argument: &str| parse(&[argument]).unwrap().user_path;
    assert_eq!(user_path("--user-path"), Some(Vec::new()));
    assert_eq!(user_path("--user-path="), Some(Vec::new()));
    assert_eq!(user_path("--user-path=pub"), Some(b"pub".to_vec()));
}

#[test]
fn the_last_word_on_multipath_wins() {
    let multipath = |arguments: &[&str]| parse(arguments).unwrap().multipath;
    assert_eq!(multipath(&[]), Multipath::Off);
    assert_eq!(multipath(&["--mptcp"]), Multipath::Prefer);
    assert_eq!(multipath(&["--mptcp=require"]), Multipath::Require);
    assert_eq!(multipath(&["--mptcp", "--no-mptcp"]), Multipath::Off);
    assert_eq!(multipath(&["--no-mptcp", "--mptcp"]), Multipath::Prefer);
    assert_eq!(multipath(&["--mptcp=require", "--mptcp"]), Multipath::Prefer);
    assert_eq!(fatal(&["--mptcp=yes"]), "invalid mptcp 'yes', expecting nothing or 'require'");
}

#[test]
fn listen_repeats_in_lower_case() {
    let listen = ["LocalHost", "::1", "unix:/Run/G", "UNIX:/Run/H"];
    let listen =
        parse(&listen.map(|host| format!("--listen={host}")).each_ref().map(String::as_str));
    let expected = ["localhost", "::1", "unix:/Run/G", "unix:/Run/H"];
    let expected = expected.map(|host| host.as_bytes().to_vec());
    assert_eq!(listen.unwrap().listen, expected);
}

#[test]
fn clients_addresses() {
    let address = |text: &str| {
        let argument = format!("--remote-addr={text}");
        parse(&[&argument]).unwrap().remote_address.unwrap().to_string()
    };
    assert_eq!(address("192.0.2.1"), "192.0.2.1:49152");
    assert_eq!(address("192.0.2.1:50600"), "192.0.2.1:50600");
    assert_eq!(address("2001:db8::1"), "[2001:db8::1]:49152");
    assert_eq!(address("[2001:db8::1]"), "[2001:db8::1]:49152");
    assert_eq!(address("[2001:db8::1]:1"), "[2001:db8::1]:1");
    for wrong in ["", "localhost", "192.0.2.1:", "192.0.2", ":1", "192.0.2.1:65536"] {
        assert_eq!(
            fatal(&[&format!("--remote-addr={wrong}")]),
            format!(
                "invalid remote-addr '{wrong}', expecting an IP address, with or without a port"
            )
        );
    }
}

#[test]
fn options_of_explanations() {
    let only = |arguments: &[&str]| parse(arguments).unwrap().only_to_explain();
    for option in ["--explain-service=receive-pack", "--remote-addr=::1"] {
        assert!(option.starts_with(only(&[option]).unwrap()), "{option}");
        assert_eq!(only(&["--explain=/a", option]), None);
    }
    assert_eq!(only(&["--log-format=json"]), None);
    assert_eq!(fatal(&["--explain-service=git-upload-pack"]), "No such service git-upload-pack");
}

#[test]
fn usage_and_help_name_every_option() {
    let Err(Stop::Usage(usage)) = parse(&["--bogus"]) else { panic!("--bogus was taken") };
    let Err(Stop::Answer(help)) = parse(&["--help"]) else { panic!("--help was not answered") };
    assert!(usage.starts_with("usage: gitd [--verbose] [--syslog] [--export-all]"), "{usage}");
    assert!(usage.lines().all(|line| line.len() < 80), "{usage}");
    for argument in table::command().get_arguments() {
        let option = format!("--{}", argument.get_id());
        assert!(usage.contains(&option), "{option} is not in the usage");
        assert!(help.contains(&option), "{option} is not in the help");
    }
}
