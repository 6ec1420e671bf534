//! What cannot work is refused: with what is wrong and what to do about it, an
//! exit status that says so, and nothing left behind.

use std::path::Path;

use nix::mount::{MsFlags, mount};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::chroot;
use virtio_phys_host::tap::{Tap, TapOptions};

use crate::run::{FOLDER, KEPT, Tun, as_nobody, root, run, staged};

#[test]
fn options_that_cannot_be() {
    staged("refusals::options_that_cannot_be", Tun::Everybodys, |stage| {
        for (options, texts) in [
            ("--mtu 0", ["MTU of 0 ", "choose 68 to 65521"]),
            ("--mtu 67", ["MTU of 67 ", "choose 68 to 65521"]),
            ("--mtu 65522", ["MTU of 65522 ", "choose 68 to 65521"]),
            ("--mtu 99999999", ["MTU of 99999999 ", "choose 68 to 65521"]),
            ("--interface a/b", ["\"a/b\"", "it may hold letters"]),
            ("--interface sixteen_letters_", ["\"sixteen_letters_\"", "longer than 15"]),
            ("--interface lo", ["named lo exists", "choose another name"]),
            ("--features 0", ["nothing to run with", "set bits 0x1300000000"]),
            ("--features 0x300000000", ["takes away ORDER_PLATFORM,", "set bits 0x1000000000"]),
        ] {
            run(&mut stage.demo(options)).refused(&texts);
        }
        // The demo uses IPv6 as well.
        for mtu in [68, 1279] {
            let ran = run(&mut stage.demo(&format!("--mtu {mtu}")));
            ran.refused(&["too small for IPv6", "choose 1280 or more"]);
        }
        let ran = run(&mut stage.demo("--boards 2 --mode tun"));
        ran.refused(&["a bridge takes no IP packets", "choose --mode tap"]);
        let ran = run(&mut stage.demo("--boards 2 --interface vphys0"));
        ran.refused(&["two boards have two interfaces", "vphys%d instead of vphys0"]);
        // A program that reads the result finds the reason there, too.
        let ran = run(&mut stage.demo("--json --mtu 67"));
        let failure: serde_json::Value = serde_json::from_str(&ran.refused(&[]).out).unwrap();
        assert_eq!(failure["ok"], false);
        assert!(failure["error"].as_str().unwrap().contains("MTU of 67"), "{failure}");
    });
}

#[test]
fn options_that_are_not_understood() {
    staged("refusals::options_that_are_not_understood", Tun::Everybodys, |stage| {
        for (options, text) in [
            ("--features 12g", "hexadecimal number of at most 16 digits"),
            ("--features 10000000000000000", "hexadecimal number of at most 16 digits"),
            ("--mtu many", "invalid value 'many' for '--mtu"),
            ("--seconds 0", "choose a number from 0.05 to 3600"),
            ("--layout diagonal", "[possible values: split, bar-only, all-host]"),
            ("--mode ether", "[possible values: tap, tun]"),
            ("--json --shell", "cannot be used with"),
            ("--boards 2 --shell", "cannot be used with"),
            ("--boards 3", "3 is not in 1..=2"),
            ("--no-such-option", "unexpected argument '--no-such-option'"),
        ] {
            let ran = run(&mut stage.demo(options));
            assert_eq!(ran.code, Some(2), "{ran:#?}");
            ran.said(&[text, "--help"]);
        }
    });
}

#[test]
fn no_tun_driver() {
    staged("refusals::no_tun_driver", Tun::Missing, |stage| {
        let texts = ["cannot open /dev/net/tun: No such file", "`modprobe tun`"];
        run(&mut stage.demo("")).refused(&texts);
    });
}

#[test]
fn a_tun_driver_for_root_only() {
    as_nobody("refusals::a_tun_driver_for_root_only", Tun::Roots, |stage| {
        let texts = ["no permission to open /dev/net/tun", "run as root"];
        run(&mut stage.demo("")).refused(&texts);
    });
}

#[test]
fn no_right_to_make_a_namespace() {
    as_nobody("refusals::no_right_to_make_a_namespace", Tun::Everybodys, |stage| {
        // The kernel lets nobody who is in another root folder make one.
        let other = Path::new(FOLDER).join("root");
        std::fs::create_dir(&other).unwrap();
        mount(Some("/"), &other, None::<&str>, MsFlags::MS_BIND | MsFlags::MS_REC, None::<&str>)
            .unwrap();
        chroot(&other).unwrap();
        std::env::set_current_dir("/").unwrap();
        let texts = ["no network namespace for this user", "user.max_user_namespaces"];
        run(&mut stage.demo("")).refused(&texts);
    });
}

#[test]
fn a_name_that_is_taken() {
    staged("refusals::a_name_that_is_taken", Tun::Everybodys, |stage| {
        let name = format!("{KEPT}0");
        let kept = Tap::open(&TapOptions::new(&name)).unwrap();
        // The one that is there stays as it was.
        kept.set_carrier(true).unwrap();
        // The demo's network is another: nothing is taken there.
        run(&mut stage.demo(&format!("--seconds 0.05 --interface {name}"))).went_well();
    });
}

#[test]
fn too_little_lockable_memory() {
    staged("refusals::too_little_lockable_memory", Tun::Everybodys, |stage| {
        // Root may lock what it likes.
        let nobody = root().then(|| stage.as_nobody());
        let stage = nobody.as_ref().unwrap_or(stage);
        let (_, most) = getrlimit(Resource::RLIMIT_MEMLOCK).unwrap();
        let allow = |kib: u64| setrlimit(Resource::RLIMIT_MEMLOCK, kib << 10, most).unwrap();
        allow(16);
        let ran = run(&mut stage.demo("--seconds 0.05"));
        ran.refused(&["too little lockable memory", "the limit leaves 16384", "`ulimit -l "]);
        // What it says to do is enough.
        let (_, advice) = ran.err.split_once("`ulimit -l ").unwrap();
        let kib: u64 = advice.split('`').next().unwrap().parse().unwrap();
        allow(kib - 1);
        run(&mut stage.demo("--seconds 0.05")).refused(&["too little lockable memory"]);
        allow(kib);
        run(&mut stage.demo("--seconds 0.05")).went_well();
        // This one shares no memory.
        allow(16);
        run(&mut stage.demo("--seconds 0.05 --layout bar-only")).went_well();
    });
}

#[test]
fn a_board_of_another_version() {
    staged("refusals::a_board_of_another_version", Tun::Everybodys, |stage| {
        let ran = run(&mut stage.demo("--board-fault version"));
        ran.refused(&["step 3 (choose the protocol version)", "update the older side"]);
    });
}

#[test]
fn a_board_that_never_answers() {
    staged("refusals::a_board_that_never_answers", Tun::Everybodys, |stage| {
        let ran = run(&mut stage.demo("--board-fault silent:0"));
        ran.refused(&["step 5 (wait for the board to accept the session)", "reset it"]);
    });
}

#[test]
fn a_board_that_stops_answering() {
    staged("refusals::a_board_that_stops_answering", Tun::Everybodys, |stage| {
        let ran = run(&mut stage.demo("--seconds 3600 --board-fault silent:2000"));
        ran.refused(&["the link to the board ended: step 20 (run)", "heartbeat stands still"]);
    });
}
