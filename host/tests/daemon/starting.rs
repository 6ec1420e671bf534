//! What the system refuses is said at the start, with what to do, and nothing
//! is left behind.

use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::process::Stdio;

use nix::sys::signal::Signal;
use virtio_phys_host::tap::{Tap, TapOptions};

use crate::run::{
    KEPT, NOBODY, Ran, Tun, as_nobody, nothing_is_left, root, run, staged, start, work,
};
use crate::setting::{
    asked, b0, configuration_file, daemon, empty_slot, refused, running, socket, vphys,
};

#[track_caller]
fn lacks_a_right(ran: &Ran, texts: &[&str]) {
    assert_eq!(ran.code, Some(77), "{ran:#?}");
    ran.said(texts);
}

#[test]
fn no_tun_driver() {
    staged("starting::no_tun_driver", Tun::Missing, |stage| {
        let texts = ["b0: cannot open /dev/net/tun: No such file", "`modprobe tun`"];
        run(&mut daemon(stage, &b0(""))).refused(&texts);
    });
}

#[test]
fn a_tun_driver_for_root_only() {
    as_nobody("starting::a_tun_driver_for_root_only", Tun::Roots, |stage| {
        let ran = run(&mut daemon(stage, &b0("")));
        lacks_a_right(&ran, &["b0: no permission to open /dev/net/tun", "run as root"]);
    });
}

#[test]
fn no_right_to_make_an_interface() {
    as_nobody("starting::no_right_to_make_an_interface", Tun::Everybodys, |stage| {
        let ran = run(&mut daemon(stage, &b0("")));
        lacks_a_right(&ran, &["CAP_NET_ADMIN. Run as root", "--map-root-user"]);
    });
}

#[test]
fn no_right_to_the_sockets_folder() {
    as_nobody("starting::no_right_to_the_sockets_folder", Tun::Everybodys, |stage| {
        let mut command = daemon(stage, &b0(""));
        fs::set_permissions(work(), Permissions::from_mode(0o755)).unwrap();
        let ran = run(&mut command);
        lacks_a_right(&ran, &["cannot make the control socket", "choose a path where this user"]);
        fs::set_permissions(work(), Permissions::from_mode(0o777)).unwrap();
    });
}

#[test]
fn a_group_that_is_not_there() {
    staged("starting::a_group_that_is_not_there", Tun::Everybodys, |stage| {
        let mut command = daemon(stage, &b0(""));
        let text = fs::read_to_string(configuration_file()).unwrap();
        let text = text.replacen('\n', "\nsocket_group = \"no-such-group\"\n", 1);
        fs::write(configuration_file(), text).unwrap();
        let ran = run(&mut command);
        assert_eq!(ran.code, Some(78), "{ran:#?}");
        ran.said(&["there is no group no-such-group on this system: make it (`groupadd"]);
    });
}

/// A group of this system other than root's, and its number.
fn some_group() -> Option<(String, u32)> {
    let groups = fs::read_to_string("/etc/group").unwrap_or_default();
    groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        let (name, gid) = (fields.next()?, fields.nth(1)?.parse().ok()?);
        (gid != 0 && gid != NOBODY).then(|| (name.to_owned(), gid))
    })
}

#[test]
fn a_group_that_may_ask() {
    let name = "starting::a_group_that_may_ask";
    staged(name, Tun::Everybodys, |stage| {
        if !root() {
            return eprintln!("{name} left out: this is not root");
        }
        let Some((group, gid)) = some_group() else {
            return eprintln!("{name} left out: /etc/group has no group but root's");
        };
        let mut command = daemon(stage, &b0(""));
        let text = fs::read_to_string(configuration_file()).unwrap();
        let text = text.replacen('\n', &format!("\nsocket_group = \"{group}\"\n"), 1);
        fs::write(configuration_file(), text).unwrap();
        let mut going = start(&mut command, true);
        going.says("ready: ");
        let file = fs::symlink_metadata(socket()).unwrap();
        assert_eq!((file.permissions().mode() & 0o7777, file.gid()), (0o660, gid));
        // Who is in it may ask, and nobody else.
        let output = vphys(&stage.as_nobody(), "status").gid(gid).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        assert!(refused(&stage.as_nobody(), "status").contains("no permission to use /"));
        going.signal(Signal::SIGTERM);
        going.end().went_well();
    });
}

#[test]
fn a_group_of_others() {
    as_nobody("starting::a_group_of_others", Tun::Everybodys, |stage| {
        let mut command = daemon(stage, &b0(""));
        let text = fs::read_to_string(configuration_file()).unwrap();
        let text = text.replacen('\n', "\nsocket_group = \"root\"\n", 1);
        fs::write(configuration_file(), text).unwrap();
        let ran = run(&mut command);
        lacks_a_right(&ran, &["cannot give the control socket to group root: ", "as a member of"]);
    });
}

#[test]
fn a_name_that_is_taken() {
    staged("starting::a_name_that_is_taken", Tun::Everybodys, |stage| {
        let name = format!("{KEPT}0");
        let kept = Tap::open(&TapOptions::new(&name)).unwrap();
        // The board in front of it has its interface already: it goes again.
        let boards = format!("{}{}", b0(""), empty_slot("b1", &name, ""));
        let ran = run(&mut daemon(stage, &boards));
        ran.refused(&["b1: a network interface named kept0 exists", "`ip link delete kept0`"]);
        // The one that is there stays as it was.
        kept.set_carrier(true).unwrap();
        let ran = run(&mut daemon(stage, &empty_slot("b0", "lo", "")));
        ran.refused(&["b0: a network interface named lo exists", "choose another name"]);
    });
}

#[test]
fn a_second_daemon() {
    staged("starting::a_second_daemon", Tun::Everybodys, |stage| {
        let mut first = running(stage, &b0(""));
        // The same configuration: its interface would be in the way, too.
        let mut command = daemon(stage, &b0(""));
        let second = command.output().unwrap();
        let text = String::from_utf8(second.stderr).unwrap();
        assert_eq!(second.status.code(), Some(1), "{text}");
        assert!(text.contains("a daemon answers on ") && text.contains("stop it first"), "{text}");
        // The first is none the worse for it.
        assert!(asked(stage, "status").contains("vphys0"));
        first.signal(Signal::SIGTERM);
        first.end().went_well();
    });
}

#[test]
fn what_a_killed_daemon_left() {
    staged("starting::what_a_killed_daemon_left", Tun::Everybodys, |stage| {
        let mut child = daemon(stage, &b0("")).stderr(Stdio::piped()).spawn().unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
        assert!(log.any(|line| line.unwrap().contains("ready: ")));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(socket().exists(), "nobody could remove it");
        let mut next = running(stage, &b0(""));
        assert!(asked(stage, "status").contains("vphys0"));
        next.signal(Signal::SIGTERM);
        next.end().went_well();
    });
}

#[test]
fn somebodys_file_at_the_sockets_place() {
    staged("starting::somebodys_file_at_the_sockets_place", Tun::Everybodys, |stage| {
        fs::write(socket(), "precious").unwrap();
        let ran = daemon(stage, &b0("")).output().unwrap();
        let text = String::from_utf8(ran.stderr).unwrap();
        assert_eq!(ran.status.code(), Some(78), "{text}");
        assert!(text.contains("is there and is no socket: choose another path"), "{text}");
        assert_eq!(fs::read_to_string(socket()).unwrap(), "precious");
        fs::remove_file(socket()).unwrap();
        // A socket of somebody who does not answer is no daemon's.
        drop(UnixListener::bind(socket()).unwrap());
        let mut daemon = running(stage, &b0(""));
        daemon.signal(Signal::SIGTERM);
        daemon.end().went_well();
        nothing_is_left();
    });
}

#[test]
fn a_console_is_found_by_its_link() {
    staged("starting::a_console_is_found_by_its_link", Tun::Everybodys, |stage| {
        let link = work().join("b0.console");
        let board = b0(&format!("console = \"{}\"", link.display()));
        let mut going = running(stage, &board);
        let terminal = fs::read_link(&link).unwrap();
        assert!(terminal.starts_with("/dev/pts"), "{terminal:?}");
        // The link is gone at the end, or something is left.
        going.signal(Signal::SIGTERM);
        going.end().went_well();
        fs::write(&link, "precious").unwrap();
        let output = daemon(stage, &board).output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(text.contains("b0: ") && text.contains(&*link.to_string_lossy()), "{text}");
        assert_eq!(fs::read_to_string(&link).unwrap(), "precious");
        fs::remove_file(&link).unwrap();
    });
}
