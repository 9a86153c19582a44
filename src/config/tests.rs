//! Options that contradict each other, and defaults.

use std::ffi::OsString;

use super::*;

fn config(arguments: &[&str]) -> Result<Config, String> {
    let options = Options::parse(arguments.iter().map(OsString::from)).unwrap();
    Config::from_options(options).map_err(|error| error.to_string())
}

#[test]
fn contradictions_in_order() {
    const LISTENING: &str = "--port-file, --proxy-protocol, --require-all-listeners and --socket-* are \
                             incompatible with --inetd";
    let cases: [(&[&str], &str); 17] = [
        (&["--log-format=journal", "--syslog"], "--log-format=journal has its own destination"),
        (&["--inetd", "--detach"], "--detach, --user and --group are incompatible with --inetd"),
        (
            &["--inetd", "--user=x", "--port=1"],
            "--detach, --user and --group are incompatible with --inetd",
        ),
        (&["--inetd", "--port=1"], "--listen= and --port= are incompatible with --inetd"),
        (&["--inetd", "--listen=h"], "--listen= and --port= are incompatible with --inetd"),
        (&["--inetd", "--port=auto"], "--listen= and --port= are incompatible with --inetd"),
        (&["--inetd", "--port-file=x"], LISTENING),
        (&["--inetd", "--proxy-protocol=unix"], LISTENING),
        (&["--inetd", "--status=[::1]:1"], "--status is incompatible with --inetd"),
        (&["--socket-owner=no-such-user"], "user not found - no-such-user"),
        (&["--listen=unix:x"], "listen address 'unix:x' is not an absolute path"),
        (&["--moved-to=https://%CH%D"], "--moved-to takes no %CH and no %IP"),
        (&["--group=root"], "--group supplied without --user"),
        (&["--user=0", "--strict-paths"], "user not found - 0"),
        (&["--user=root", "--group=no-such-group"], "group not found - no-such-group"),
        (&["--strict-paths"], "option --strict-paths requires '<directory>' arguments"),
        (&["--base-path="], "base-path '' does not exist or is not a directory"),
    ];
    for (arguments, text) in cases {
        assert_eq!(config(arguments), Err(text.to_owned()), "{arguments:?}");
    }
    assert_eq!(config(&["--inetd", "--port=0"]).unwrap().mode, Mode::Inetd);
}

#[test]
fn the_log_goes_where_it_is_read() {
    let destination = |arguments: &[&str]| config(arguments).unwrap().destination;
    assert_eq!(destination(&[]), Destination::Stderr);
    assert_eq!(destination(&["--inetd"]), Destination::Syslog);
    assert_eq!(destination(&["--detach"]), Destination::Syslog);
    assert_eq!(destination(&["--inetd", "--log-destination=none"]), Destination::None);
    assert_eq!(destination(&["--inetd", "--log-format=json"]), Destination::Syslog);
    assert_eq!(destination(&["--detach", "--log-format=journal"]), Destination::Journal);
}

#[test]
fn limits_have_defaults() {
    let limits = |arguments: &[&str]| config(arguments).unwrap().limits;
    let seconds = |n| Some(Duration::from_secs(n));
    let init = |arguments: &[&str]| limits(arguments).init_timeout;
    assert_eq!(init(&[]), seconds(60));
    assert_eq!(init(&["--init-timeout=0"]), None);
    assert_eq!(init(&["--timeout=5"]), seconds(5));
    assert_eq!(init(&["--timeout=5", "--init-timeout=0"]), seconds(5));
    assert_eq!(init(&["--timeout=5", "--init-timeout=9"]), seconds(9));
    let most = |arguments: &[&str]| limits(arguments).max_connections.map(NonZeroUsize::get);
    assert_eq!(most(&[]), Some(32));
    assert_eq!(most(&["--max-connections=0"]), None);
    assert_eq!(most(&["--max-connections=-7"]), None);
    assert_eq!(most(&["--max-connections=7"]), Some(7));
    let plain = limits(&[]);
    assert_eq!(plain.max_connections_per_address, None);
    let each = limits(&["--max-connections-per-address=2"]).max_connections_per_address;
    assert_eq!(each.map(NonZeroUsize::get), Some(2));
    assert_eq!((plain.max_queue, plain.queue_timeout), (Some(256), seconds(30)));
    assert_eq!(plain.max_pending.map(NonZeroUsize::get), Some(4096));
    assert_eq!(plain.shutdown_timeout, None);
    let queue = |arguments: &[&str]| limits(arguments).max_queue;
    assert_eq!((queue(&["--max-queue=0"]), queue(&["--max-queue=-1"])), (Some(0), None));
    assert_eq!(limits(&["--queue-timeout=0"]).queue_timeout, None);
    assert_eq!(limits(&["--max-pending=0"]).max_pending, None);
    assert_eq!(limits(&["--shutdown-timeout=3"]).shutdown_timeout, seconds(3));
}

#[test]
fn directories_that_match_nothing_are_named() {
    let warnings = |arguments: &[&str]| config(arguments).unwrap().warnings;
    assert_eq!(
        warnings(&["/srv/git/", "/srv/ok", "/"]),
        [
            "directory '/srv/git/' matches no repository; write '/srv/git'",
            "directory '/' matches no repository; to serve everything, name no directory",
        ]
    );
    assert!(warnings(&["--strict-paths", "/srv/git/"]).is_empty());
    assert!(warnings(&[""]).is_empty());
}
