//! `[[board]]`: each key, and what must not be the same in two boards.

use std::net::IpAddr;
use std::path::PathBuf;

use shared::virtq::QueueSize;
use shared::wire::features::{Features, NAMES, NET_NAMES, REQUIRED};
use shared::wire::net_control::Coalescing;

use super::reader::{Field, Section};
use super::similar::most_similar;
use super::{BoardSettings, BusSettings, values};
use crate::net::{MAX_MTU, MIN_MTU, MIN_MTU_IPV6, MtuError, VLAN_IDS, Vlans};
use crate::net_control::{LONGEST_DELAY_US, Receive};
use crate::session::{LARGE_BUFFER, Layout, SessionConfig};
use crate::tap::{InterfaceMode, InterfaceName, TapError};

/// Most VLANs of one interface.
const MAX_VLANS: usize = 64;

/// Most addresses of one interface.
const MAX_ADDRESSES: usize = 64;

/// Looks before the data thread sleeps, where the file says nothing: a few
/// microseconds, so that a busy link takes no wake-ups.
const LOOKS: u32 = 32;

/// Most looks: some milliseconds. More is a core that never rests.
const MAX_LOOKS: u32 = 65_536;

/// Most frames that an interrupt may be put off for: a whole queue.
const MAX_PACKETS: u32 = 32_768;

/// Reads every board; `None` for one that is wrong.
pub(super) fn all(fields: &[Field<'_, '_>]) -> Vec<Option<BoardSettings>> {
    let mut seen = Seen::default();
    fields.iter().map(|field| board(field.section()?, &mut seen)).collect()
}

/// What earlier boards have taken.
#[derive(Default)]
struct Seen {
    names: Vec<String>,
    interfaces: Vec<String>,
    slots: Vec<String>,
    macs: Vec<String>,
    consoles: Vec<String>,
    addresses: Vec<String>,
}

/// Notes `field` if an earlier board has the same.
fn unique(field: &Field<'_, '_>, value: &str, taken: &mut Vec<String>, what: &str) -> Option<()> {
    if taken.iter().any(|other| other == value) {
        field.wrong(format_args!("another board has {what} {value}: each needs its own"));
        return None;
    }
    taken.push(value.to_owned());
    Some(())
}

fn board(mut section: Section<'_, '_>, seen: &mut Seen) -> Option<BoardSettings> {
    let name = section.need("name", "write name = \"b0\"").and_then(|field| {
        let name = field.parsed(values::name)?;
        unique(&field, &name, &mut seen.names, "the name")?;
        Some(name)
    });
    let bus = bus(&mut section, seen);
    let mode = match section.get("mode") {
        Some(field) => field.choice(&[("tap", InterfaceMode::Tap), ("tun", InterfaceMode::Tun)]),
        None => Some(InterfaceMode::Tap),
    };
    let persistent = section.get("persistent").map_or(Some(false), |field| field.flag());
    let interface = section
        .need("interface", "write interface = \"vphys0\"")
        .and_then(|field| interface(&field, persistent?, seen));
    let mac = match section.get("mac") {
        Some(field) => field.parsed(values::mac).map(Some),
        None => Some(None),
    };
    let addresses = section.get("addresses").map_or(Some(Vec::new()), |field| {
        let each = field.list(MAX_ADDRESSES)?;
        // All of them first: each may be wrong.
        let read: Vec<_> = each.iter().map(|field| one_address(field, seen)).collect();
        read.into_iter().collect()
    });
    let mtu = mtu(&mut section, addresses.as_deref().unwrap_or_default());
    let session = session(&mut section, mtu);
    let looks = section.get("polling").map_or(Some(LOOKS), |field| {
        let mut polling = field.section()?;
        let looks = polling.get("looks").map_or(Some(LOOKS), |field| field.number(0..=MAX_LOOKS));
        polling.finish();
        looks
    });
    let coalescing = match section.get("coalescing") {
        Some(field) => coalescing(&field).map(Some),
        None => Some(None),
    };
    let receive = match section.get("receive") {
        Some(field) => receive(&field),
        None => Some(Receive::default()),
    };
    let board_mac = match section.get("board_mac") {
        Some(field) => field.parsed(values::mac).and_then(|mac| {
            unique(&field, &field.text()?.to_ascii_lowercase(), &mut seen.macs, "the board_mac")?;
            Some(Some(mac))
        }),
        None => Some(None),
    };
    let vlans = section
        .get("vlans")
        .map_or(Some(Vlans::NONE), |field| vlans(&field, mode.unwrap_or(InterfaceMode::Tap)));
    let console = match section.get("console") {
        Some(field) => console(&field, seen).map(Some),
        None => Some(None),
    };
    section.finish();
    Some(BoardSettings {
        name: name?,
        bus: bus?,
        interface: interface?,
        mode: mode?,
        persistent: persistent?,
        addresses: addresses?,
        session: SessionConfig {
            mac: mac?,
            coalescing: coalescing?,
            receive: receive?,
            vlans: vlans?,
            board_mac: board_mac?,
            console: console.as_ref()?.is_some(),
            ..session?
        },
        looks: looks?,
        console: console?,
    })
}

/// `bus`, and the key that says where on that bus.
fn bus(section: &mut Section<'_, '_>, seen: &mut Seen) -> Option<BusSettings> {
    let bus = section.need("bus", "write bus = \"ivshmem\"");
    let socket = section.get("socket");
    let bus = bus?.choice(&[("ivshmem", Kind::Ivshmem), ("sim", Kind::Sim)])?;
    match (bus, socket) {
        (Kind::Ivshmem, Some(field)) => {
            let socket = field.parsed(values::socket_path)?;
            unique(&field, &socket.display().to_string(), &mut seen.slots, "the socket")?;
            Some(BusSettings::Ivshmem { socket })
        }
        (Kind::Ivshmem, None) => {
            section.need("socket", "write socket = \"/run/b0.sock\", the ivshmem server's");
            None
        }
        (Kind::Sim, Some(field)) => {
            field.wrong("bus \"sim\" has no socket: leave it out, or write bus = \"ivshmem\"");
            None
        }
        (Kind::Sim, None) => Some(BusSettings::Sim),
    }
}

/// The words for a bus.
#[derive(Clone, Copy)]
enum Kind {
    Ivshmem,
    Sim,
}

fn interface(field: &Field<'_, '_>, persistent: bool, seen: &mut Seen) -> Option<String> {
    let name = field.text()?;
    let checked = InterfaceName::new(name).map_err(|error| match error {
        TapError::BadName { reason, .. } => format!("{name:?} is no name: {reason}"),
        other => other.to_string(),
    });
    if let Err(error) = checked {
        field.wrong(error);
        return None;
    }
    let plain = name.replacen("%d", "", 1);
    if plain.bytes().all(|byte| byte.is_ascii_digit()) {
        field.wrong("a number alone would be taken for an interface's index: add a letter");
        return None;
    }
    if plain != name {
        if persistent {
            field.wrong("a persistent interface needs a name of its own: leave %d out");
            return None;
        }
        // Two boards may have the same pattern: each gets a number.
        return Some(name.to_owned());
    }
    unique(field, name, &mut seen.interfaces, "the interface")?;
    Some(name.to_owned())
}

fn one_address(field: &Field<'_, '_>, seen: &mut Seen) -> Option<(IpAddr, u8)> {
    let (address, prefix) = field.parsed(values::address)?;
    let written = address.to_string();
    if seen.addresses.contains(&written) {
        field.wrong(format_args!("the address {written} is in this file twice: leave one out"));
        return None;
    }
    seen.addresses.push(written);
    Some((address, prefix))
}

fn mtu(section: &mut Section<'_, '_>, addresses: &[(IpAddr, u8)]) -> Option<u32> {
    let Some(field) = section.get("mtu") else { return Some(SessionConfig::default().mtu) };
    let wanted = field.number(MIN_MTU.into()..=MAX_MTU.into())?;
    let ipv6 = addresses.iter().any(|(address, _)| address.is_ipv6());
    if ipv6 && wanted < MIN_MTU_IPV6.into() {
        field.wrong(MtuError::Ipv6 { wanted });
        return None;
    }
    Some(wanted)
}

fn session(section: &mut Section<'_, '_>, mtu: Option<u32>) -> Option<SessionConfig> {
    let default = SessionConfig::default();
    let feature_mask = match section.get("features") {
        Some(field) => features(&field),
        None => Some(default.feature_mask),
    };
    let sizes = match section.get("queue_size") {
        Some(field) => queue_sizes(&field, &default),
        None => Some((default.to_host_size, default.to_board_size)),
    };
    let push_limit = match section.get("push_limit") {
        Some(field) => field.number(0..=LARGE_BUFFER),
        None => Some(default.push_limit),
    };
    let layout = match section.get("layout") {
        Some(field) => field.choice(&[
            ("split", Layout::Split),
            ("bar-only", Layout::BarOnly),
            ("all-host", Layout::AllHost),
        ]),
        None => Some(default.layout),
    };
    let (to_host_size, to_board_size) = sizes?;
    Some(SessionConfig {
        layout: layout?,
        feature_mask: feature_mask?,
        to_host_size,
        to_board_size,
        push_limit: push_limit?,
        mtu: mtu?,
        mac: None,
        coalescing: None,
        receive: default.receive,
        vlans: Vlans::NONE,
        board_mac: None,
        console: false,
    })
}

/// A mask, as number or text in hexadecimal, or names to leave out.
fn features(field: &Field<'_, '_>) -> Option<u64> {
    let mask = if field.is_table() {
        let mut section = field.section()?;
        let without = section.get("without").map_or(Some(Vec::new()), |field| field.list(64));
        section.finish();
        let names = without?;
        let bits: Vec<_> = names.iter().map(feature).collect();
        !bits.into_iter().collect::<Option<Vec<u64>>>()?.into_iter().fold(0, |all, bit| all | bit)
    } else if let Some(bits) = field.bits() {
        bits
    } else {
        field.parsed(str::parse::<crate::session::FeatureMask>)?.0
    };
    let missing = REQUIRED.without(Features::new(mask));
    if !missing.is_empty() {
        field.wrong(format_args!(
            "this takes away {missing}, without which no board runs: set bits {:#x} or leave the \
             names in",
            REQUIRED.bits()
        ));
        return None;
    }
    Some(mask)
}

/// The bit of a feature that is named.
fn feature(field: &Field<'_, '_>) -> Option<u64> {
    let word = field.text()?;
    let name = word.strip_prefix("VIRTIO_NET_F_").or_else(|| word.strip_prefix("VIRTIO_F_"));
    let name = name.unwrap_or(word);
    let known = || NAMES.iter().chain(&NET_NAMES);
    let found = known().find(|(_, known)| known.eq_ignore_ascii_case(name)).map(|(bit, _)| *bit);
    if found.is_none() {
        let fix = match most_similar(name, known().map(|(_, name)| *name)) {
            Some(similar) => format!("did you mean {similar:?}?"),
            None => "docs/daemon.md lists the names".to_owned(),
        };
        field.wrong(format_args!("{word:?} is no feature: {fix}"));
    }
    found
}

fn queue_sizes(field: &Field<'_, '_>, default: &SessionConfig) -> Option<(QueueSize, QueueSize)> {
    let mut section = field.section()?;
    let mut size = |key, default| match section.get(key) {
        Some(field) => queue_size(&field),
        None => Some(default),
    };
    let to_host = size("to_host", default.to_host_size);
    let to_board = size("to_board", default.to_board_size);
    section.finish();
    Some((to_host?, to_board?))
}

fn queue_size(field: &Field<'_, '_>) -> Option<QueueSize> {
    let entries = field.number(8..=32_768)?;
    let size = QueueSize::try_from(entries).ok();
    if size.is_none() {
        let (below, above) = (entries.next_power_of_two() / 2, entries.next_power_of_two());
        field.wrong(format_args!("{entries} is no power of two: choose {below} or {above}"));
    }
    size
}

fn coalescing(field: &Field<'_, '_>) -> Option<Coalescing> {
    let mut section = field.section()?;
    let mut number = |key, most| match section.get(key) {
        Some(field) => field.number(0..=most),
        None => Some(0),
    };
    let max_packets = number("packets", MAX_PACKETS);
    let max_usecs = number("microseconds", LONGEST_DELAY_US);
    section.finish();
    Some(Coalescing { max_packets: max_packets?, max_usecs: max_usecs? })
}

fn receive(field: &Field<'_, '_>) -> Option<Receive> {
    let mut section = field.section()?;
    let mut flag = |key, default| match section.get(key) {
        Some(field) => field.flag(),
        None => Some(default),
    };
    let default = Receive::default();
    let promiscuous = flag("promiscuous", default.promiscuous);
    let all_multicast = flag("all_multicast", default.all_multicast);
    let offloads = flag("offloads", default.offloads);
    section.finish();
    Some(Receive { promiscuous: promiscuous?, all_multicast: all_multicast?, offloads: offloads? })
}

fn vlans(field: &Field<'_, '_>, mode: InterfaceMode) -> Option<Vlans> {
    if mode == InterfaceMode::Tun {
        field.wrong(
            "packets of a tun interface have no VLAN: leave it out, or write mode = \"tap\"",
        );
        return None;
    }
    let mut vlans = Vlans::NONE;
    let (least, most) = (u32::from(*VLAN_IDS.start()), u32::from(*VLAN_IDS.end()));
    let each = field.list(MAX_VLANS)?.into_iter().map(|field| {
        let id = u16::try_from(field.number(least..=most)?).ok()?;
        let fresh = vlans.insert(id);
        if !fresh {
            field.wrong(format_args!("{id} is there already"));
        }
        fresh.then_some(())
    });
    // All of them: each may be wrong.
    let good = each.collect::<Vec<_>>().into_iter().all(|id| id.is_some());
    good.then_some(vlans)
}

fn console(field: &Field<'_, '_>, seen: &mut Seen) -> Option<PathBuf> {
    let path = field.parsed(values::file_path)?;
    unique(field, &path.display().to_string(), &mut seen.consoles, "the console")?;
    Some(path)
}
