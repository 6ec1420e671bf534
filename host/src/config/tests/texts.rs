//! What is said about a file that is wrong, and what to write instead.

use super::*;

/// The whole complaint about a board with these lines, behind its place.
#[track_caller]
fn complaint(lines: &str) -> String {
    let found = complaints(&board(lines));
    assert_eq!(found.lines().count(), 1, "{lines}\n{found}");
    found.splitn(4, ':').last().unwrap().trim_start().to_owned()
}

#[test]
fn what_to_write_instead() {
    let long = "x".repeat(33);
    let zero = "console = \"/run/\\u0000\"";
    for (lines, text) in [
        (
            "features = { without = [\"QQQQQQQQQQ\"] }",
            "board.features.without: \"QQQQQQQQQQ\" is no feature: docs/daemon.md lists the names",
        ),
        ("mode = 1", "board.mode: a text in quotation marks is needed, this is a whole number"),
        ("console = \"b0\"", "board.console: write the whole path, from / on"),
        (zero, "board.console: a path holds no zero byte"),
        ("console = \"/run/../c\"", "board.console: write the path of a file, without \"..\""),
        ("console = \"/run/\"", "board.console: write the path of a file, without \"..\""),
        (
            "addresses = [\"10.0.0.1\"]",
            "board.addresses: an address needs a prefix length: write it as 10.0.0.1/24",
        ),
        (
            "addresses = [\"10.0.0/8\"]",
            "board.addresses: \"10.0.0\" is no IPv4 or IPv6 address: write it as 10.0.0.1/24",
        ),
        (
            "addresses = [\"0.0.0.0/8\"]",
            "board.addresses: 0.0.0.0 cannot be the address of an interface: choose a host's",
        ),
        (
            "addresses = [\"ff02::1/64\"]",
            "board.addresses: ff02::1 cannot be the address of an interface: choose a host's",
        ),
        (
            "addresses = [\"10.0.0.1/33\"]",
            "board.addresses: the prefix length \"33\" is out of range: choose 0 to 32",
        ),
        (
            "addresses = [\"fd00::1/129\"]",
            "board.addresses: the prefix length \"129\" is out of range: choose 0 to 128",
        ),
        ("mac = \"02-12\"", "board.mac: write a MAC address as 02:12:34:56:78:9a"),
        (
            "mac = \"03:00:00:00:00:01\"",
            "board.mac: this is a group address: a MAC address's first byte is even, such as 02",
        ),
        (
            "mac = \"00:00:00:00:00:00\"",
            "board.mac: a MAC address of zeroes is none: write one as 02:12:34:56:78:9a",
        ),
        (
            "mtu = ",
            "not TOML: string values must be quoted, expected literal string: docs/daemon.md has \
             an example",
        ),
    ] {
        assert_eq!(complaint(lines), text);
    }
    for (name, text) in [
        ("", "a board's name has 1 to 32 letters, digits, '.', '_' and '-'"),
        (&long, "a board's name has 1 to 32 letters, digits, '.', '_' and '-'"),
        ("a b", "a board's name has 1 to 32 letters, digits, '.', '_' and '-'"),
        ("-b0", "a board's name does not start with a minus, which looks like an option"),
    ] {
        let found = complaints(&board("").replace("\"b0\"", &format!("\"{name}\"")));
        assert_eq!(found, format!("b.toml:2:8: board.name: {text}"));
    }
    let found = complaints(&format!("[daemon]\nsocket_group = \"\"\n{}", board("")));
    assert_eq!(
        found,
        "b.toml:2:16: daemon.socket_group: choose the name of a group of this system, as \
         /etc/group has it"
    );
}

#[test]
fn what_to_do_about_a_file_and_about_a_key_that_stays() {
    let unreadable = |errno| ConfigError::Unreadable {
        path: NAME.into(),
        error: std::io::Error::from_raw_os_error(errno),
    };
    for (error, text) in [
        (
            unreadable(libc::ENOENT),
            "cannot read the configuration b.toml: No such file or directory (os error 2). Name \
             the file with --config; docs/daemon.md has one to begin with",
        ),
        (
            unreadable(libc::EACCES),
            "cannot read the configuration b.toml: Permission denied (os error 13). Run as root, \
             or as a user who may read it",
        ),
        (
            unreadable(libc::EIO),
            "cannot read the configuration b.toml: Input/output error (os error 5)",
        ),
        (
            ConfigError::NoFile { path: NAME.into() },
            "the configuration b.toml is no regular file: it is read again on SIGHUP, so it \
             cannot be a folder, a pipe or a device",
        ),
        (
            ConfigError::TooLong { path: NAME.into() },
            "the configuration b.toml is longer than 1048576 bytes: is it the right file?",
        ),
        (
            ConfigError::NoText { path: NAME.into(), line: 2 },
            "b.toml:2: not UTF-8: is it the right file? Else save it as UTF-8",
        ),
    ] {
        assert_eq!(error.to_string(), text);
    }
    assert_eq!(
        Kept { board: None, key: "socket" }.to_string(),
        "daemon.socket cannot change while the daemon runs and stays as it was: restart the daemon"
    );
}
