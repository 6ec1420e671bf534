//! What is wrong with the command line or the file is said, and nothing is
//! begun.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;

use crate::run::{Ran, Tun, as_nobody, run, staged, start};
use crate::setting::{b0, configuration_file, daemon, empty_slot};

#[track_caller]
fn ends_with<'r>(ran: &'r Ran, code: i32, texts: &[&str]) -> &'r Ran {
    assert_eq!(ran.code, Some(code), "{ran:#?}");
    ran.said(texts)
}

#[test]
fn the_command_line() {
    staged("configuration::the_command_line", Tun::Everybodys, |stage| {
        for (options, text) in [
            ("", "required arguments were not provided:\n  --config <FILE>\n"),
            ("--bus sim", "unexpected argument '--bus'"),
            ("--config", "a value is required for '--config <FILE>'"),
            ("--config a --config b", "cannot be used multiple times"),
        ] {
            ends_with(&run(&mut stage.program("virtio-physd", options)), 2, &[text, "--help"]);
        }
        let ran = run(&mut stage.program("virtio-physd", "--help"));
        assert_eq!(ran.code, Some(0));
        for text in [
            "SIGHUP makes it read the configuration again",
            "   0  it was asked to end, and did in good order\n",
            "   1  it could not start, or had to be ended hard\n",
            "   2  the command line is wrong\n",
            "  77  a right is missing: to read the configuration, to make an interface \
             (CAP_NET_ADMIN, /dev/net/tun), a console or the socket\n",
            "  78  the configuration is wrong or not there\n",
        ] {
            assert!(ran.out.contains(text), "{text}: {}", ran.out);
        }
    });
}

#[test]
fn a_file_that_is_wrong() {
    staged("configuration::a_file_that_is_wrong", Tun::Everybodys, |stage| {
        for (keys, texts) in [
            ("mut = 1500", ["daemon.toml:7:1: board.mut: unknown key", "did you mean \"mtu\"?"]),
            ("mtu = 67", [":7:7: board.mtu: 67 is out of range", "choose 68 to 65521"]),
            (
                "mtu = 1279\naddresses = [\"fd77::1/64\"]",
                ["too small for an IPv6 address", "choose 1280 or more"],
            ),
            ("features = 0x300000000", ["takes away ORDER_PLATFORM,", "set bits 0x1300000000"]),
            ("addresses = [\"10.0.0.1\"]", ["an address needs a prefix length", "10.0.0.1/24"]),
        ] {
            let wrong = b0(keys);
            ends_with(&run(&mut daemon(stage, &wrong)), 78, &texts);
            // The same if it is only asked about.
            ends_with(&run(daemon(stage, &wrong).arg("--check")), 78, &texts);
        }
        let two = format!("{}{}", b0("mtu = 1"), b0("mtu = 2"));
        let ran = run(&mut daemon(stage, &two));
        // All of it at once, a line each.
        ends_with(&ran, 78, &["board.mtu: 1 is out", "board.mtu: 2 is out", "has the name b0"]);
        assert!(ran.err.lines().all(|line| line.starts_with("virtio-physd: /")), "{ran:#?}");
        let ran = run(&mut stage.program("virtio-physd", "--config nowhere.toml"));
        ends_with(
            &ran,
            78,
            &["cannot read the configuration nowhere.toml: No such file", "--config"],
        );
    });
}

#[test]
fn a_file_that_is_closed_to_the_user() {
    as_nobody("configuration::a_file_that_is_closed_to_the_user", Tun::Everybodys, |stage| {
        let mut command = daemon(stage, &b0(""));
        fs::set_permissions(configuration_file(), Permissions::from_mode(0o600)).unwrap();
        ends_with(&run(&mut command), 77, &["Permission denied", "Run as root, or as a user who"]);
    });
}

#[test]
fn a_file_that_is_right() {
    staged("configuration::a_file_that_is_right", Tun::Everybodys, |stage| {
        let ran = run(daemon(stage, &b0("")).arg("--check"));
        assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""));
        assert_eq!(ran.out, format!("{}: good, 1 board\n", configuration_file().display()));
        let two = format!("{}{}", b0(""), empty_slot("b1", "vphys1", ""));
        assert!(run(daemon(stage, &two).arg("--check")).out.ends_with("good, 2 boards\n"));
        // It is not what the caller hears, so it has not been said.
        let full = File::options().write(true).open("/dev/full").unwrap();
        let mut command = daemon(stage, &two);
        let ran = start(command.arg("--check").stdout(full), false).end();
        ends_with(&ran, 1, &["cannot write to standard output: No space left"]);
    });
}
