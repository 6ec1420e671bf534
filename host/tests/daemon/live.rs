//! SIGHUP: what changes while the daemon runs, and what stays.

use std::fs;

use nix::sys::signal::Signal;
use virtio_phys_host::netlink::Netlink;

use crate::run::{Tun, staged, work};
use crate::setting::{asked, b0, configure, empty_slot, running};

fn interfaces() -> String {
    fs::read_to_string("/proc/thread-self/net/dev").unwrap()
}

#[test]
fn boards_come_and_go() {
    staged("live::boards_come_and_go", Tun::Everybodys, |stage| {
        let mut going = running(stage, &b0(""));
        configure(&format!("{}{}", empty_slot("b1", "vphys1", ""), b0("")));
        going
            .signal(Signal::SIGHUP)
            .says("configuration read again: 1 added, 0 removed, 0 changed");
        assert!(interfaces().contains("vphys0:") && interfaces().contains("vphys1:"));
        let status = asked(stage, "status");
        let names: Vec<_> = status.lines().map(|line| line.split(' ').next().unwrap()).collect();
        assert_eq!(names[..3], ["BOARD", "b1", "b0"], "{status}");
        // Another board takes over the interface's name of one that goes.
        configure(&format!("{}{}", empty_slot("b1", "vphys1", ""), empty_slot("b2", "vphys0", "")));
        going.signal(Signal::SIGHUP).says("b0: let go of");
        going.says("b2: looking for the board of vphys0").says("1 added, 1 removed, 0 changed");
        configure("board = []\n");
        let fixed = fs::read_to_string(crate::setting::configuration_file()).unwrap();
        // A list of none comes before the tables.
        let fixed = format!("board = []\n{}", fixed.replace("board = []\n", ""));
        fs::write(crate::setting::configuration_file(), fixed).unwrap();
        going.signal(Signal::SIGHUP).says("0 added, 2 removed, 0 changed");
        assert_eq!(asked(stage, "status"), "no boards: the configuration has none\n");
        assert!(!interfaces().contains("vphys"));
        going.signal(Signal::SIGTERM);
        going.end().went_well();
    });
}

#[test]
fn what_stays_is_said() {
    staged("live::what_stays_is_said", Tun::Everybodys, |stage| {
        let mut going = running(stage, &b0(""));
        configure(&b0("mtu = 9000\nlayout = \"bar-only\"\npolling = { looks = 1 }"));
        going.signal(Signal::SIGHUP).says("0 added, 0 removed, 1 changed");
        assert_eq!(Netlink::open().unwrap().link("vphys0").unwrap().mtu, 1500);
        going.signal(Signal::SIGTERM);
        going.end().went_well().said(&[
            "WARN  b0: mtu cannot change while the board runs and stays as it was",
            "WARN  b0: layout cannot change while the board runs and stays as it was",
        ]);
    });
}

#[test]
fn a_wrong_file_changes_nothing() {
    staged("live::a_wrong_file_changes_nothing", Tun::Everybodys, |stage| {
        let mut going = running(stage, &b0(""));
        configure(&format!("{}{}", b0("mut = 1"), empty_slot("b1", "vphys1", "")));
        going.signal(Signal::SIGHUP).says("the configuration stays as it was:\n");
        going.says("did you mean \"mtu\"?");
        assert!(!asked(stage, "status").contains("b1"));
        fs::remove_file(crate::setting::configuration_file()).unwrap();
        going.signal(Signal::SIGHUP).says("cannot read the configuration");
        assert!(asked(stage, "status").contains("b0"));
        // A board that cannot be made leaves the others alone, and is tried again.
        configure(&format!("{}{}", b0(""), empty_slot("b1", "lo", "")));
        going.signal(Signal::SIGHUP).says("b1: a network interface named lo exists");
        configure(&format!("{}{}", b0(""), empty_slot("b1", "vphys1", "")));
        going.signal(Signal::SIGHUP).says("b1: looking for the board of vphys1");
        going.signal(Signal::SIGTERM);
        going.end().went_well();
    });
}

#[test]
fn the_log_level_changes() {
    staged("live::the_log_level_changes", Tun::Everybodys, |stage| {
        let mut going = running(stage, &b0(""));
        configure(&format!("log = \"debug\"\n{}", b0("")));
        going.signal(Signal::SIGHUP).says("configuration read again");
        asked(stage, "status");
        going.says("DEBUG control socket: process ");
        going.signal(Signal::SIGTERM);
        going.end().went_well();
    });
}

#[test]
fn a_persistent_interface_stays() {
    staged("live::a_persistent_interface_stays", Tun::Everybodys, |stage| {
        for mode in ["tap", "tun"] {
            let keys = format!("mode = \"{mode}\"\npersistent = true\nmtu = 1400");
            let board = empty_slot("b0", "kept0", &keys);
            for _ in 0..2 {
                let mut going = running(stage, &board);
                going.signal(Signal::SIGTERM);
                going.end().went_well();
                let mut netlink = Netlink::open().unwrap();
                assert_eq!(netlink.link("kept0").unwrap().mtu, 1400);
            }
            Netlink::open().unwrap().delete("kept0").unwrap();
        }
        assert!(fs::read_dir(work()).unwrap().next().is_none());
    });
}
