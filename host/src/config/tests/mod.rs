//! What a file says, what is wrong with it, and what a second one changes.

mod manual;
mod texts;

use std::fs;
use std::path::Path;

use proptest::prelude::*;
use shared::wire::features::{EVENT_IDX, IN_ORDER, NAMES, NET_NAMES};
use shared::wire::net::feature;
use shared::wire::net_control::Coalescing;

use super::*;
use crate::net_control::Receive;
use crate::session::Layout;
use crate::tap::InterfaceMode;

const NAME: &str = "b.toml";

fn read(text: &str) -> Result<Configuration, ConfigError> {
    Configuration::parse(Path::new(NAME), text.as_bytes())
}

/// A board with these lines more.
fn board(lines: &str) -> String {
    format!("[[board]]\nname = \"b0\"\nbus = \"sim\"\ninterface = \"vphys0\"\n{lines}\n")
}

fn one(lines: &str) -> BoardSettings {
    read(&board(lines)).unwrap().boards.remove(0)
}

/// The complaints about a file.
#[track_caller]
fn complaints(text: &str) -> String {
    read(text).expect_err(text).to_string()
}

#[test]
fn the_least_that_is_needed() {
    let read = read(&board("")).unwrap();
    assert_eq!(read.daemon, DaemonSettings::default());
    assert_eq!(read.daemon.socket, Path::new(DEFAULT_SOCKET));
    let board = &read.boards[0];
    assert_eq!((board.name.as_str(), board.interface.as_str()), ("b0", "vphys0"));
    assert_eq!(
        (board.mode, board.persistent, board.session.mac),
        (InterfaceMode::Tap, false, None)
    );
    assert_eq!(board.session, SessionConfig::default());
    assert_eq!((board.looks, &board.console), (32, &None));
}

#[test]
fn every_key() {
    let text = r#"
        [daemon]
        socket = "/run/x/control.sock"
        socket_group = "netdev"
        log = "debug"

        [[board]]
        name = "b0"
        bus = "sim"
        interface = "card%d"
        mode = "tap"
        mac = "02:12:34:56:78:9a"
        mtu = 9000
        addresses = ["10.0.0.1/24", "fd00::1/64"]
        features = { without = ["MRG_RXBUF", "VIRTIO_F_EVENT_IDX"] }
        queue_size = { to_host = 512, to_board = 128 }
        push_limit = 4096
        layout = "bar-only"
        polling = { looks = 0 }
        coalescing = { packets = 8, microseconds = 50 }
        receive = { promiscuous = false, all_multicast = false, offloads = false }
        vlans = [10, 4094]
        board_mac = "02:76:70:68:79:02"
        console = "/run/x/b0.console"

        [[board]]
        name = "b1"
        bus = "sim"
        interface = "vphys1"
        mode = "tun"
        persistent = true
        features = "0x1b00000000"
    "#;
    let read = read(text).unwrap();
    assert_eq!(read.daemon.socket, Path::new("/run/x/control.sock"));
    assert_eq!(read.daemon.socket_group.as_deref(), Some("netdev"));
    assert_eq!(read.daemon.log, LevelFilter::Debug);
    let [b0, b1] = read.boards.as_slice() else { panic!("{read:?}") };
    assert_eq!(b0.session.mac, Some([2, 0x12, 0x34, 0x56, 0x78, 0x9A]));
    assert_eq!(b0.addresses.len(), 2);
    assert_eq!(b0.session.mtu, 9000);
    assert_eq!(b0.session.feature_mask, !(feature::MRG_RXBUF | EVENT_IDX));
    assert_eq!((b0.session.to_host_size.get(), b0.session.to_board_size.get()), (512, 128));
    assert_eq!((b0.session.push_limit, b0.session.layout), (4096, Layout::BarOnly));
    assert_eq!(b0.looks, 0);
    let coalescing = Coalescing { max_packets: 8, max_usecs: 50 };
    assert_eq!(b0.session.coalescing, Some(coalescing));
    let receive = Receive { promiscuous: false, all_multicast: false, offloads: false };
    assert_eq!((b0.session.receive, b1.session.receive), (receive, Receive::default()));
    assert!(b0.session.vlans.iter().eq([10, 4094]) && b1.session.vlans.iter().next().is_none());
    assert_eq!(b0.session.board_mac, Some([2, 0x76, 0x70, 0x68, 0x79, 2]));
    assert_eq!(b0.console.as_deref(), Some(Path::new("/run/x/b0.console")));
    assert_eq!((b1.mode, b1.persistent), (InterfaceMode::Tun, true));
    assert_eq!(b1.session.feature_mask, 0x1b_0000_0000);
    assert_eq!((b1.session.coalescing, b1.session.console), (None, false));
}

#[test]
fn a_mask_is_a_number_a_text_or_names() {
    let all_but = !(EVENT_IDX | IN_ORDER);
    for written in [
        format!("{all_but:#x}"),
        format!("\"{all_but:x}\""),
        "{ without = [\"event_idx\", \"IN_ORDER\"] }".into(),
    ] {
        let mask = one(&format!("features = {written}")).session.feature_mask;
        assert_eq!(mask, all_but, "{written}");
    }
}

#[test]
fn every_complaint_has_its_place_and_a_fix() {
    for (lines, complaint) in [
        ("mut = 1500", "b.toml:5:1: board.mut: unknown key: did you mean \"mtu\"?"),
        (
            "colour = 1",
            "b.toml:5:1: board.colour: unknown key: choose one of name, bus, socket, mode, ",
        ),
        ("mtu = 67", "b.toml:5:7: board.mtu: 67 is out of range: choose 68 to 65521"),
        ("mtu = -1", "b.toml:5:7: board.mtu: -1 is out of range: choose 68 to 65521"),
        ("mtu = 1500.0", "board.mtu: a whole number is needed, this is a fractional number"),
        ("mtu = \"1500\"", "board.mtu: a whole number is needed, this is a text"),
        ("addresses = \"10.0.0.1/8\"", "board.addresses: a list in brackets is needed"),
        (
            "addresses = [\"10.0.0.1/8\",\n  \"10.0.0.1\"]",
            "b.toml:6:3: board.addresses: an address needs a prefix length: write it as",
        ),
        (
            "mtu = 1000\naddresses = [\"fd00::1/64\"]",
            "b.toml:5:7: board.mtu: an MTU of 1000 is too small for an IPv6 address: choose 1280",
        ),
        (
            "socket = \"/run/x\"",
            "b.toml:5:10: board.socket: bus \"sim\" has no socket: leave it out",
        ),
        ("mode = \"tub\"", "board.mode: unknown word \"tub\": did you mean \"tun\"?"),
        ("mode = \"bridge\"", "board.mode: unknown word \"bridge\": choose \"tap\" or \"tun\""),
        ("mac = \"02-12\"", "board.mac: write a MAC address as 02:12:34:56:78:9a"),
        ("mac = \"03:00:00:00:00:01\"", "board.mac: this is a group address"),
        ("persistent = \"yes\"", "board.persistent: true or false is needed, this is a text"),
        (
            "features = 0",
            "board.features: this takes away VERSION_1 ACCESS_PLATFORM ORDER_PLATFORM,",
        ),
        ("features = \"12g\"", "board.features: choose a hexadecimal number of at most 16 digits"),
        (
            "features = { without = [\"MRG_RXBUFF\"] }",
            "board.features.without: \"MRG_RXBUFF\" is no feature: did you mean \"MRG_RXBUF\"?",
        ),
        ("features = { only = [] }", "board.features.only: unknown key: choose one of without"),
        (
            "queue_size = { to_host = 100 }",
            "board.queue_size.to_host: 100 is no power of two: choose 64 or 128",
        ),
        ("queue_size = { to_board = 4 }", "4 is out of range: choose 8 to 32768"),
        ("queue_size = 64", "board.queue_size: a table of keys is needed, this is a whole number"),
        ("push_limit = 70000", "board.push_limit: 70000 is out of range: choose 0 to 69632"),
        ("layout = \"barely\"", "choose \"split\" or \"bar-only\" or \"all-host\""),
        ("polling = { looks = 65537 }", "board.polling.looks: 65537 is out of range"),
        ("polling = { look = 1 }", "board.polling.look: unknown key: did you mean \"looks\"?"),
        (
            "coalescing = { microseconds = 5001 }",
            "microseconds: 5001 is out of range: choose 0 to 5000",
        ),
        ("receive = true", "board.receive: a table of keys is needed, this is true or false"),
        (
            "receive = { promisc = true }",
            "unknown key: choose one of promiscuous, all_multicast, offloads",
        ),
        ("receive = { offloads = 1 }", "offloads: true or false is needed, this is a whole number"),
        ("vlans = 10", "board.vlans: a list in brackets is needed, this is a whole number"),
        ("vlans = [10, 4095]", "b.toml:5:14: board.vlans: 4095 is out of range: choose 1 to 4094"),
        ("vlans = [0]", "board.vlans: 0 is out of range: choose 1 to 4094"),
        ("vlans = [10, 20, 10]", "b.toml:5:18: board.vlans: 10 is there already"),
        (
            "mode = \"tun\"\nvlans = [10]",
            "b.toml:6:9: board.vlans: packets of a tun interface have no VLAN: leave it out, or write \
             mode = \"tap\"",
        ),
        ("board_mac = \"01:00:00:00:00:00\"", "board.board_mac: this is a group address"),
        ("console = \"b0\"", "b.toml:5:11: board.console: write the whole path, from / on"),
        ("name = \"b1\"", "b.toml:5:1: not TOML: duplicate key"),
        ("mtu = ", "b.toml:5:7: not TOML:"),
    ] {
        let found = complaints(&board(lines));
        assert!(found.contains(complaint), "{lines}\n{found}");
        assert_eq!(found.lines().count(), 1, "{lines}\n{found}");
    }
}

#[test]
fn interfaces_have_names_that_the_kernel_takes() {
    for (name, complaint) in [
        ("", "it is empty"),
        ("sixteen_letters_", "it is longer than 15 characters"),
        ("a/b", "it may hold letters"),
        ("..", "the kernel uses it for something else"),
        ("a%d%d", "it may hold letters"),
        ("a%s", "it may hold letters"),
        ("a\\nb", "it may hold letters"),
        ("%d", "a number alone would be taken for an interface's index: add a letter"),
        ("7", "a number alone"),
    ] {
        let text = board("").replace("\"vphys0\"", &format!("\"{name}\""));
        let found = complaints(&text);
        assert!(found.starts_with("b.toml:4:13: board.interface: "), "{found}");
        assert!(found.contains(complaint) && found.lines().count() == 1, "{name}: {found}");
    }
    let found = complaints(&board("persistent = true").replace("vphys0", "vphys%d"));
    assert!(found.contains("a persistent interface needs a name of its own"), "{found}");
}

#[test]
fn what_is_missing() {
    for (text, complaint) in [
        ("", "b.toml:1:1: board: missing: write a [[board]] for each board"),
        (
            "[board]\nname = \"b0\"",
            "b.toml:1:1: board: a list of boards is needed: write [[board]]",
        ),
        ("board = 1", "board: a list in brackets is needed, this is a whole number"),
        ("board = [1]", "board: a table of keys is needed, this is a whole number"),
        ("daemon = 1\nboard = []", "b.toml:1:10: daemon: a table of keys is needed"),
    ] {
        let found = complaints(text);
        assert!(found.starts_with("b.toml:") && found.contains(complaint), "{text}\n{found}");
    }
    // All of it at once, in the order of the file.
    let found = complaints("[[board]]\n\n[deamon]\nlog = \"loud\"\n");
    let lines: Vec<_> = found.lines().collect();
    assert_eq!(
        lines,
        [
            "b.toml:1:1: board.name: missing: write name = \"b0\"",
            "b.toml:1:1: board.bus: missing: write bus = \"ivshmem\"",
            "b.toml:1:1: board.interface: missing: write interface = \"vphys0\"",
            "b.toml:3:2: deamon: unknown key: did you mean \"daemon\"?",
        ]
    );
    // An empty list is a daemon without boards, which a later one can have.
    assert_eq!(read("board = []").unwrap().boards, []);
}

#[test]
fn the_daemons_own_keys() {
    for (lines, complaint) in [
        ("log = \"loud\"", "daemon.log: unknown word \"loud\": choose \"off\" or \"error\" or"),
        ("socket = \"x.sock\"", "daemon.socket: write the whole path, from / on"),
        ("socket_group = \"\"", "daemon.socket_group: choose the name of a group"),
        ("sockte = 1", "b.toml:2:1: daemon.sockte: unknown key: did you mean \"socket\"?"),
    ] {
        let found = complaints(&format!("[daemon]\n{lines}\n{}", board("")));
        assert!(found.contains(complaint) && found.lines().count() == 1, "{lines}\n{found}");
    }
    let found = complaints(&format!("[daemon]\nsocket = \"/{}\"\n{}", "x".repeat(99), board("")));
    assert!(found.contains("the path has 100 bytes: at most 90 are possible"), "{found}");
}

#[test]
fn two_boards_share_nothing() {
    let second = |lines: &str| {
        let other = "[[board]]\nname = \"b1\"\nbus = \"sim\"\ninterface = \"vphys1\"\n";
        let first = board(
            "addresses = [\"10.0.0.1/8\"]\nconsole = \"/run/c\"\nboard_mac = \"02:00:00:00:00:0a\"",
        );
        let kept: Vec<_> = other
            .lines()
            .filter(|line| !lines.starts_with(line.split('=').next().unwrap()))
            .collect();
        format!("{first}{}\n{lines}\n", kept.join("\n"))
    };
    assert!(read(&second("")).is_ok());
    for (lines, complaint) in [
        ("name = \"b0\"", "board.name: another board has the name b0: each needs its own"),
        ("interface = \"vphys0\"", "board.interface: another board has the interface vphys0"),
        ("console = \"/run/c\"", "board.console: another board has the console /run/c"),
        ("board_mac = \"02:00:00:00:00:0A\"", "another board has the board_mac 02:00:00:00:00:0a"),
        ("addresses = [\"10.0.0.1/16\"]", "the address 10.0.0.1 is in this file twice"),
    ] {
        let found = complaints(&second(lines));
        assert!(found.contains(complaint) && found.lines().count() == 1, "{lines}\n{found}");
    }
    // A pattern may be common: each gets a number of its own.
    let text = second("interface = \"vphys%d\"").replace("vphys0", "vphys%d");
    assert!(read(&text).is_ok());
}

#[test]
fn a_bus_has_its_own_key() {
    let text = board("socket = \"/run/b0.sock\"").replace("\"sim\"", "\"ivshmem\"");
    let socket = PathBuf::from("/run/b0.sock");
    assert_eq!(read(&text).unwrap().boards[0].bus, BusSettings::Ivshmem { socket });
    for (text, complaint) in [
        (text.replace("socket", "sokcet"), "board.sokcet: unknown key: did you mean \"socket\"?"),
        (
            text.replace("socket", "#"),
            "board.socket: missing: write socket = \"/run/b0.sock\", the",
        ),
        (text.replace("/run/", ""), "board.socket: write the whole path, from / on"),
        (text.replace("ivshmem", "vfio"), "unknown word \"vfio\": choose \"ivshmem\" or \"sim\""),
        (
            format!("{text}{}", text.replace("b0\"", "b1\"").replace("phys0", "phys1")),
            "board.socket: another board has the socket /run/b0.sock: each needs its own",
        ),
    ] {
        let found = complaints(&text);
        assert!(found.contains(complaint), "{text}\n{found}");
    }
}

#[test]
fn there_is_a_most() {
    let boards = |count: usize| -> String {
        let each =
            |i| board("").replace("b0", &format!("b{i}")).replace("vphys0", &format!("v{i}"));
        (0..count).map(each).collect()
    };
    assert_eq!(read(&boards(MAX_BOARDS)).unwrap().boards.len(), MAX_BOARDS);
    let found = complaints(&boards(MAX_BOARDS + 1));
    assert!(found.ends_with("board: 65 entries: at most 64 are allowed"), "{found}");
    // So many complaints that nobody would read them.
    let found = complaints(&board("").replace("\"sim\"", "1").repeat(50));
    assert_eq!(found.lines().count(), 21);
    assert!(found.ends_with("more like these"), "{found}");
}

#[test]
fn files_that_are_none() {
    let path = Path::new(NAME);
    let long = vec![b'#'; usize::try_from(MAX_FILE).unwrap() + 1];
    let error = Configuration::parse(path, &long).unwrap_err().to_string();
    assert!(error.contains("is longer than 1048576 bytes: is it the right file?"), "{error}");
    let error = Configuration::parse(path, b"# one\n# \xff\n").unwrap_err().to_string();
    assert!(error.starts_with("b.toml:2: not UTF-8"), "{error}");
    for (path, text) in [
        ("/nowhere/b.toml", "cannot read the configuration /nowhere/b.toml: No such file"),
        ("/", "the configuration / is no regular file"),
        ("/dev/zero", "the configuration /dev/zero is no regular file"),
    ] {
        let error = Configuration::load(Path::new(path)).unwrap_err().to_string();
        assert!(error.starts_with(text), "{error}");
    }
    // It would wait for a writer.
    let pipe = std::env::temp_dir().join(format!("vphys-config-{}", std::process::id()));
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let error = Configuration::load(&pipe).unwrap_err();
    fs::remove_file(&pipe).unwrap();
    assert!(matches!(error, ConfigError::NoFile { .. }), "{error}");
}

#[test]
fn what_changes_live_and_what_stays() {
    let first = format!("{}{}", board("mtu = 1500"), board("").replace('0', "1"));
    let second = format!(
        "[daemon]\nsocket = \"/run/other.sock\"\nlog = \"warn\"\n{}{}",
        board(
            "mtu = 9000\nlayout = \"bar-only\"\nqueue_size = { to_host = 8 }\npush_limit = 1\n\
             addresses = [\"10.0.0.1/8\"]\npolling = { looks = 7 }\ncoalescing = { packets = 1 }\n\
             persistent = true\nmac = \"02:00:00:00:00:01\"\nconsole = \"/run/c\"\n\
             features = \"1300000000\"\nboard_mac = \"02:00:00:00:00:02\"\n\
             receive = { offloads = false }"
        ),
        board("").replace('0', "2"),
    );
    let (first, second) = (read(&first).unwrap(), read(&second).unwrap());
    let update = first.update(second.clone());
    assert_eq!(
        (update.removed, update.changed, update.added),
        (vec!["b1".into()], vec!["b0".into()], vec!["b2".into()])
    );
    let kept: Vec<_> = update.kept.iter().map(|kept| (kept.board.as_deref(), kept.key)).collect();
    assert_eq!(
        kept,
        [
            (None, "socket"),
            (Some("b0"), "persistent"),
            (Some("b0"), "console"),
            (Some("b0"), "mac"),
            (Some("b0"), "board_mac"),
            (Some("b0"), "mtu"),
            (Some("b0"), "features"),
            (Some("b0"), "queue_size"),
            (Some("b0"), "push_limit"),
            (Some("b0"), "layout"),
        ]
    );
    let (old, new, now) = (&first.boards[0], &second.boards[0], &update.configuration.boards[0]);
    let SessionConfig { coalescing, receive, .. } = new.session;
    let session = SessionConfig { coalescing, receive, ..old.session };
    assert!(session.coalescing.is_some() && !session.receive.offloads);
    assert_eq!((now.session, now.persistent), (session, old.persistent));
    assert_eq!((&now.addresses, now.looks), (&new.addresses, 7));
    assert_eq!(update.configuration.daemon.socket, first.daemon.socket);
    assert_eq!(update.configuration.daemon.log, LevelFilter::Warn);
    // Once more the same: now nothing changes, and what stays is said again.
    let again = update.configuration.update(second);
    assert_eq!((again.removed.len(), again.changed.len(), again.added.len()), (0, 0, 0));
    assert_eq!(again.kept.len(), 10);
    assert_eq!(
        again.kept[1].to_string(),
        "b0: persistent cannot change while the board runs and stays as it was: restart the \
         daemon, or give the board another name to have it started anew"
    );
}

proptest! {
    /// Whatever is in the file: an answer, and complaints that one can print.
    #[test]
    fn no_file_is_too_strange(mutations in prop::collection::vec((any::<u16>(), any::<u8>()), 0..8)) {
        let mut bytes = board("queue_size = { to_host = 8 }\nfeatures = { without = [\"MAC\"] }")
            .into_bytes();
        for (at, byte) in mutations {
            let at = usize::from(at) % bytes.len();
            bytes[at] = byte;
        }
        if let Err(error) = Configuration::parse(Path::new(NAME), &bytes) {
            let text = error.to_string();
            prop_assert!(text.starts_with("b.toml:"), "{}", text);
            prop_assert!(!text.contains(|c: char| c.is_control() && c != '\n'), "{:?}", text);
        }
    }

    /// The same with pieces of TOML in any order.
    #[test]
    fn no_order_is_too_strange(pieces in prop::collection::vec(prop::sample::select(PIECES), 0..40)) {
        let _ = read(&pieces.concat());
    }
}

const PIECES: &[&str] = &[
    "[[board]]\n",
    "[board]\n",
    "[daemon]\n",
    "[board.features]\n",
    "[[board.features]]\n",
    "name",
    " = ",
    "\"b0\"\n",
    "1\n",
    "{ ",
    " }\n",
    "[",
    "]",
    ",",
    "features",
    "queue_size",
    "\n",
    ".",
    "mtu",
    "0xffffffffffffffffff\n",
    "nan\n",
    "\"\"\"",
    "'",
    "coalescing",
    "packets",
    "addresses",
    "#",
    "\u{0}",
];
