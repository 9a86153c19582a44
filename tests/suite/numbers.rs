//! Numbers on the command line: contract 4 and 5.

use crate::command_line::{assert_fatal, assert_parsed, assert_usage, run};
use crate::support::{Git, Gitd, Implementation, Stock, compliance};

compliance! {
    ports_that_are_none,
    timeouts,
    max_connections,
}

/// Contract 4, B10: what is no port.
fn ports_that_are_none(d: Implementation) {
    for port in ["", "9000x", "0x", "x", " ", "9000 ", "1.5", "080", "0xg", "--1"] {
        assert_usage(d, &[&format!("--port={port}")]);
    }
    for port in ["9000", "0x2328", "0X2328", "024000", " 9000", "+9000", "\t9000", "0", "65535"] {
        assert_parsed(d, &[&format!("--port={port}")]);
    }
    for port in ["65536", "99999", "-1", "4294976297", "18446744073709551616"] {
        let arg = format!("--port={port}");
        match d {
            Stock => assert_parsed(d, &[&arg]),
            Gitd => {
                let outcome = run(d, &[&arg]);
                assert_eq!(outcome.code(), Some(128), "{outcome:?}");
                let start = format!("fatal: invalid port '{port}', ");
                assert!(outcome.stderr.starts_with(&start), "{outcome:?}");
            }
        }
    }
}

/// Contract 5: seconds, in decimal.
fn timeouts(d: Implementation) {
    for (option, name) in [("--timeout", "timeout"), ("--init-timeout", "init-timeout")] {
        for value in ["0", "1", "77", " 5", "+5", "4294967295", "007"] {
            assert_parsed(d, &[&format!("{option}={value}")]);
        }
        for value in [
            "",
            "3a",
            "-3",
            "-0",
            "5 ",
            "0x10",
            "4294967296",
            "x",
            " ",
            "99999999999999999999",
            "1e3",
            "--5",
        ] {
            let args = [&format!("{option}={value}")[..]];
            if d == Stock && Git::version() < (2, 55) {
                assert_parsed(d, &args);
            } else {
                let text = format!("invalid {name} '{value}', expecting a non-negative integer");
                assert_fatal(d, &args, &text);
            }
        }
    }
}

/// Contract 5: a number that may be negative.
fn max_connections(d: Implementation) {
    for value in ["0", "1", "-1", "-5", " 5", "+5", "2147483647", "-2147483648", "-0"] {
        assert_parsed(d, &[&format!("--max-connections={value}")]);
    }
    for value in ["", "3a", "2147483648", "5 ", "0x10", "x", "99999999999999999999"] {
        let args = [&format!("--max-connections={value}")[..]];
        if d == Stock && Git::version() < (2, 55) {
            assert_parsed(d, &args);
        } else {
            assert_fatal(
                d,
                &args,
                &format!("invalid max-connections '{value}', expecting an integer"),
            );
        }
    }
}
