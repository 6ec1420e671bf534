//! The manual says what the code does.

use super::*;

/// The manual of these keys.
const MANUAL: &str = include_str!("../../../../docs/daemon.md");

/// The manual's example.
fn example() -> &'static str {
    let (_, example) = MANUAL.split_once("```toml\n").unwrap();
    example.split_once("```").unwrap().0
}

#[test]
fn the_manuals_example_is_one_with_every_key_and_its_default() {
    let mut whole = read(example()).unwrap();
    let keys = |known: &str| -> Vec<String> {
        let (_, keys) = known.split_once("choose one of ").unwrap();
        keys.split(", ").map(str::to_owned).collect()
    };
    let daemon = keys(&complaints(&format!("{}[daemon]\nzzzzz = 1", board(""))));
    let of_board = keys(&complaints(&board("zzzzz = 1")));
    assert!(daemon.len() >= 3 && of_board.len() >= 15);
    for key in daemon.iter().chain(&of_board) {
        assert!(MANUAL.contains(&format!("\n| `{key}` |")), "{key} is in no row of the table");
        assert!(example().contains(&format!("\n{key} = ")), "{key} is not in the example");
    }
    // What it gives as defaults are the defaults.
    let least = read(&board("")).unwrap();
    assert_eq!(whole.daemon.socket_group.take().as_deref(), Some("netdev"));
    let written = &mut whole.boards[0];
    assert!(written.session.mac.take().is_some());
    assert!(written.session.board_mac.take().is_some());
    assert!(written.session.coalescing.take().is_some());
    assert!(std::mem::take(&mut written.session.console));
    assert!(written.console.take().is_some() && !written.addresses.is_empty());
    assert_ne!(std::mem::replace(&mut written.bus, BusSettings::Sim), BusSettings::Sim);
    written.addresses.clear();
    assert_eq!(whole, least);
}

#[test]
fn the_manual_lists_every_feature() {
    let (_, section) = MANUAL.split_once("\n### Names of features\n").unwrap();
    let section = section.split("\n## ").next().unwrap();
    let listed = section.lines().filter_map(|line| line.strip_prefix("    "));
    let listed: Vec<_> = listed.flat_map(str::split_whitespace).collect();
    let known: Vec<_> = NAMES.iter().chain(&NET_NAMES).map(|(_, name)| *name).collect();
    assert_eq!(listed, known);
    // And each of them can be written.
    for (bit, name) in NAMES.iter().chain(&NET_NAMES) {
        let lines = format!("features = {{ without = [\"{name}\"] }}");
        match read(&board(&lines)) {
            Ok(read) => assert_eq!(read.boards[0].session.feature_mask, !bit, "{name}"),
            Err(error) => assert!(error.to_string().contains("without which no board"), "{error}"),
        }
    }
}
