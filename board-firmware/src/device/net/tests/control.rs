//! The control queue: each command, what it changes, and what is none.

use shared::address::BusAddress;
use shared::fault::PeerFault;
use shared::msg::device::DeviceModel;
use shared::virtq::Segment;
use shared::window::Window;
use shared::wire::features::{EVENT_IDX, Features, IN_ORDER};
use shared::wire::net::{
    CONFIG_LEN, FLAG_NEEDS_CSUM, NetConfig, NetHeader, STATUS_ANNOUNCE, STATUS_LINK_UP, feature,
};
use shared::wire::net_control::{ACK_ERR, ACK_OK, Command, Macs, ReceiveSwitch};

use crate::device::net::{CONTROLQ, Echo, MtuSet, NetError};
use crate::device::{BoardDevice, ConfigChange, Stop, Wake};
use crate::rig::{Memories, NetRig, RigOptions, frame_of};

const CONTROL: u64 = feature::CTRL_VQ
    | feature::CTRL_RX
    | feature::CTRL_RX_EXTRA
    | feature::CTRL_VLAN
    | feature::CTRL_MAC_ADDR
    | feature::CTRL_GUEST_OFFLOADS
    | feature::GUEST_ANNOUNCE
    | feature::NOTF_COAL;

const BASE: u64 = IN_ORDER | EVENT_IDX | feature::MRG_RXBUF | feature::MAC | feature::STATUS;

fn rig_with(features: u64) -> NetRig<Echo> {
    let mut rig = NetRig::new(RigOptions { features, ..Default::default() }, Echo::verbatim());
    rig.offer(usize::MAX);
    rig
}

fn rig() -> NetRig<Echo> {
    rig_with(BASE | CONTROL)
}

fn config(rig: &mut NetRig<Echo>) -> NetConfig {
    let mut bytes = [0; CONFIG_LEN];
    rig.device.read_config(0, &mut bytes);
    NetConfig::decode(&bytes).unwrap()
}

/// Whether a frame to this address comes back.
fn echoes(rig: &mut NetRig<Echo>, to: [u8; 6]) -> bool {
    let mut frame = frame_of(100, 1);
    frame[..6].copy_from_slice(&to);
    rig.send(&NetHeader::default(), &frame);
    rig.run();
    assert_eq!(rig.sent(), 1);
    let frames = rig.frames();
    rig.offer(usize::MAX);
    frames.len() == 1
}

const OWN: [u8; 6] = [2, 0, 0, 0, 0, 1];
const OTHER: [u8; 6] = [2, 0, 0, 0, 0, 5];
const GROUP: [u8; 6] = [3, 0, 0, 0, 0, 5];

const PROMISCUOUS_OFF: Command<'static> =
    Command::Receive { switch: ReceiveSwitch::Promiscuous, on: false };

#[test]
fn the_queue_is_there_with_its_feature() {
    let mut rig = rig();
    let info = rig.device.info();
    assert!(info.features.has(CONTROL));
    assert_eq!(info.queues, 3);
    assert_eq!(rig.command(Command::AnnounceAck), ACK_OK);

    // Without, a set-up of it is refused.
    let mut without = rig_with(BASE);
    let setup = shared::msg::status::QueueSetup {
        queue: CONTROLQ,
        size: 64.try_into().unwrap(),
        descriptors: Memories::board_base(),
        driver: Memories::board_base().checked_add(0x1000).unwrap(),
        device: Memories::WRITTEN,
        doorbell: 1,
        vector: 1,
    };
    let refused = without.device.activate_queue(&setup, &without.regions);
    assert_eq!(refused, Err(PeerFault::QueueSetup { queue: 2 }));
}

#[test]
fn what_the_driver_wants_is_what_comes() {
    let mut rig = rig();
    assert!(echoes(&mut rig, OTHER) && echoes(&mut rig, GROUP), "promiscuous at first");
    assert_eq!(rig.command(PROMISCUOUS_OFF), ACK_OK);
    assert!(echoes(&mut rig, OWN));
    assert!(!echoes(&mut rig, OTHER) && !echoes(&mut rig, GROUP));
    assert_eq!(rig.device.counters().filtered, 2);
    let (unicast, multicast) = (Macs::These(&[OTHER]), Macs::These(&[GROUP]));
    assert_eq!(rig.command(Command::MacTables { unicast, multicast }), ACK_OK);
    assert!(echoes(&mut rig, OTHER) && echoes(&mut rig, GROUP));
    let none = Macs::These(&[]);
    assert_eq!(rig.command(Command::MacTables { unicast: none, multicast: none }), ACK_OK);
    assert!(!echoes(&mut rig, OTHER) && !echoes(&mut rig, GROUP));
    for (switch, to) in [(ReceiveSwitch::AllUnicast, OTHER), (ReceiveSwitch::AllMulticast, GROUP)] {
        assert_eq!(rig.command(Command::Receive { switch, on: true }), ACK_OK);
        assert!(echoes(&mut rig, to));
    }
    // A reset makes it new.
    rig.device.reset();
    let options = rig.options;
    let mut rig = NetRig::new(options, Echo::verbatim());
    rig.offer(usize::MAX);
    assert!(echoes(&mut rig, OTHER));
}

#[test]
fn more_addresses_than_fit_are_all_of_their_kind() {
    let mut rig = rig();
    rig.command(PROMISCUOUS_OFF);
    let many: Vec<_> = (0..65).map(|n| [2, 1, 0, 0, 0, n]).collect();
    let command = Command::MacTables { unicast: Macs::These(&many), multicast: Macs::These(&[]) };
    let mut bytes = [0; 1000];
    let len = command.encode(&mut bytes).unwrap();
    rig.put_command(&bytes[..len], &[], 1);
    rig.run();
    assert_eq!(rig.answer(), Some(ACK_OK));
    assert!(echoes(&mut rig, OTHER) && !echoes(&mut rig, GROUP));
}

#[test]
fn a_new_address_is_seen_in_config_space_and_by_the_filter() {
    let mut rig = rig();
    rig.command(PROMISCUOUS_OFF);
    assert_eq!(rig.device.take_config_change(), None);
    assert_eq!(rig.command(Command::MacAddress(OTHER)), ACK_OK);
    assert_eq!(config(&mut rig).mac, OTHER);
    assert_eq!(rig.device.take_config_change(), Some(ConfigChange::Asked));
    assert_eq!(rig.device.take_config_change(), None);
    assert!(echoes(&mut rig, OTHER) && !echoes(&mut rig, OWN));
    for bad in [GROUP, [0; 6], [0xFF; 6]] {
        assert_eq!(rig.command(Command::MacAddress(bad)), ACK_ERR);
    }
    assert_eq!(config(&mut rig).mac, OTHER);
    rig.device.reset();
    assert_eq!(config(&mut rig).mac, OWN);
}

#[test]
fn vlans_are_added_and_taken_out() {
    let mut rig = rig();
    rig.command(PROMISCUOUS_OFF);
    let mut tagged = frame_of(100, 1);
    tagged[..6].copy_from_slice(&OWN);
    tagged[12..16].copy_from_slice(&[0x81, 0, 0, 7]);
    for (wanted, came) in [(false, 0), (true, 1), (false, 0)] {
        assert_eq!(rig.command(Command::Vlan { id: 7, wanted }), ACK_OK);
        rig.send(&NetHeader::default(), &tagged);
        rig.run();
        assert_eq!(rig.frames().len(), came);
    }
}

#[test]
fn the_link_and_the_announcement_are_told() {
    let mut rig = rig();
    assert_eq!(config(&mut rig).status, STATUS_LINK_UP);
    rig.device.set_link(true);
    assert_eq!(rig.device.take_config_change(), None);
    rig.device.set_link(false);
    assert_eq!(rig.device.take_config_change(), Some(ConfigChange::News));
    assert!(rig.device.announce());
    assert_eq!(config(&mut rig).status, STATUS_ANNOUNCE);
    rig.device.set_link(true);
    assert_eq!(rig.device.take_config_change(), Some(ConfigChange::News));
    // News stay news though the driver changes something itself.
    rig.device.set_link(false);
    assert_eq!(rig.command(Command::AnnounceAck), ACK_OK);
    assert_eq!(config(&mut rig).status, 0);
    assert_eq!(rig.device.take_config_change(), Some(ConfigChange::News));
    // The link stays as it is through a reset; the question does not.
    assert!(rig.device.announce());
    rig.device.reset();
    assert_eq!(config(&mut rig).status, 0);
    assert!(!rig.device.announce(), "nobody is there");
    assert!(!rig_with(BASE | CONTROL & !feature::GUEST_ANNOUNCE).device.announce());
}

#[test]
fn no_mtu_changes_under_a_driver() {
    let mut rig = rig();
    assert_eq!(config(&mut rig).mtu, 9000);
    assert_eq!(rig.device.set_mtu(1280), Ok(MtuSet::AfterReset));
    assert_eq!((config(&mut rig).mtu, rig.device.take_config_change()), (9000, None));
    rig.device.reset();
    assert_eq!(config(&mut rig).mtu, 1280);
    for mtu in [68, 65_521] {
        assert_eq!(rig.device.set_mtu(mtu), Ok(MtuSet::Now));
        assert_eq!(config(&mut rig).mtu, mtu);
        assert_eq!(rig.device.take_config_change(), Some(ConfigChange::News));
    }
    for mtu in [0, 67, 65_522, u16::MAX] {
        assert_eq!(rig.device.set_mtu(mtu), Err(NetError::Mtu));
    }
    assert_eq!(config(&mut rig).mtu, 65_521);
}

#[test]
fn the_longest_frames_pass_both_ways() {
    let options = RigOptions { mtu: 65_521, features: BASE | feature::MTU, ..Default::default() };
    let mut rig = NetRig::new(options, Echo::verbatim());
    rig.offer(usize::MAX);
    let longest = frame_of(65_521 + 14, 3);
    rig.send(&NetHeader::default(), &longest);
    rig.run();
    let frames = rig.frames();
    assert!(frames.len() == 1 && frames[0].frame == longest);
}

#[test]
fn offloads_are_switched_off_and_on() {
    let offloads = feature::GUEST_CSUM | feature::GUEST_TSO4;
    let mut rig = rig_with(BASE | CONTROL | offloads | feature::CSUM);
    let partial =
        NetHeader { flags: FLAG_NEEDS_CSUM, csum_start: 34, csum_offset: 16, ..Default::default() };
    let comes_back_partial = |rig: &mut NetRig<Echo>| {
        rig.send(&partial, &frame_of(100, 1));
        rig.run();
        let frames = rig.frames();
        rig.offer(usize::MAX);
        frames[0].header.flags == FLAG_NEEDS_CSUM
    };
    assert!(comes_back_partial(&mut rig));
    assert_eq!(rig.command(Command::GuestOffloads(0)), ACK_OK);
    assert!(!comes_back_partial(&mut rig), "the echo was not told");
    // Not negotiated, no offload, or one without what it needs.
    for bad in [feature::GUEST_TSO6, feature::CSUM, feature::GUEST_TSO4, u64::MAX] {
        assert_eq!(rig.command(Command::GuestOffloads(bad)), ACK_ERR, "{bad:#x}");
    }
    assert!(!comes_back_partial(&mut rig));
    assert_eq!(rig.command(Command::GuestOffloads(offloads)), ACK_OK);
    assert!(comes_back_partial(&mut rig));
    assert_eq!(rig.device.counters().dropped_unfit, 0);
}

#[test]
fn a_frame_that_waits_goes_with_its_offload() {
    let mut rig = NetRig::new(
        RigOptions {
            features: BASE | CONTROL | feature::GUEST_CSUM | feature::CSUM,
            ..Default::default()
        },
        Echo::verbatim(),
    );
    let partial =
        NetHeader { flags: FLAG_NEEDS_CSUM, csum_start: 34, csum_offset: 16, ..Default::default() };
    rig.send(&partial, &frame_of(100, 1));
    rig.run();
    assert_eq!(rig.command(Command::GuestOffloads(0)), ACK_OK);
    assert_eq!(rig.device.counters().dropped_unfit, 1);
    rig.offer(usize::MAX);
    rig.run();
    assert_eq!(rig.frames().len(), 0);
}

#[test]
fn commands_without_their_feature_are_refused() {
    let commands = [
        (feature::CTRL_RX, PROMISCUOUS_OFF),
        (
            feature::CTRL_RX,
            Command::MacTables { unicast: Macs::These(&[]), multicast: Macs::These(&[]) },
        ),
        (feature::CTRL_RX_EXTRA, Command::Receive { switch: ReceiveSwitch::NoUnicast, on: true }),
        (feature::CTRL_MAC_ADDR, Command::MacAddress(OTHER)),
        (feature::CTRL_VLAN, Command::Vlan { id: 1, wanted: true }),
        (feature::GUEST_ANNOUNCE, Command::AnnounceAck),
        (feature::CTRL_GUEST_OFFLOADS, Command::GuestOffloads(0)),
        (feature::NOTF_COAL, Command::CoalesceReceive(Default::default())),
        (feature::NOTF_COAL, Command::CoalesceTransmit(Default::default())),
    ];
    for (bit, command) in commands {
        let mut rig = rig_with(BASE | CONTROL & !bit);
        assert_eq!(rig.command(command), ACK_ERR, "{command:?}");
        assert!(echoes(&mut rig, OTHER));
        let mut rig = rig_with(BASE | feature::CTRL_VQ | bit);
        assert_eq!(rig.command(command), ACK_OK, "{command:?}");
    }
}

/// Every command cut short at every length and into pieces at every place, and
/// of every class and number: an answer each time, and no fault.
#[test]
fn whatever_is_sent_is_answered() {
    let mut rig = rig();
    let mut bytes = [0; 64];
    let unicast = Macs::These(&[OTHER]);
    let commands = [
        PROMISCUOUS_OFF,
        Command::MacTables { unicast, multicast: unicast },
        Command::MacAddress(OTHER),
        Command::Vlan { id: 1, wanted: true },
        Command::AnnounceAck,
        Command::GuestOffloads(0),
        Command::CoalesceReceive(Default::default()),
    ];
    for command in commands {
        let len = command.encode(&mut bytes).unwrap();
        for cut in 1..len {
            rig.put_command(&bytes[..cut], &[], 1);
            rig.run();
            assert_eq!(rig.answer(), Some(ACK_ERR), "{command:?} at {cut}");
            rig.put_command(&bytes[..len], &[cut], 1);
            rig.run();
            assert_eq!(rig.answer(), Some(ACK_OK), "{command:?} in two at {cut}");
        }
        rig.put_command(&bytes[..=len], &[], 1);
        rig.run();
        assert_eq!(rig.answer(), Some(ACK_ERR), "{command:?} and a byte");
    }
    for class in 0..=255 {
        for number in 0..=8 {
            rig.put_command(&[class, number, 0xFF, 0xFF], &[], 1);
            rig.run();
            assert_eq!(rig.answer(), Some(ACK_ERR), "{class} {number}");
        }
    }
    // No bytes at all.
    rig.put_command(&[], &[], 1);
    rig.run();
    assert_eq!(rig.answer(), Some(ACK_ERR));
    assert_eq!(rig.device.take_stop(), None);
    let counters = *rig.device.counters();
    assert!(counters.commands > 40 && counters.commands_refused > 2000);
}

#[test]
fn each_command_has_its_answer_and_a_flood_waits() {
    let mut rig = rig();
    for _ in 0..20 {
        rig.put_command(&[3, 0], &[], 1);
    }
    for done in [8, 8, 4] {
        let ran = rig.run();
        assert_eq!((ran.moved, ran.announced), (done, done));
        assert_eq!(ran.wake == Wake::Again, done == 8);
        for _ in 0..done {
            assert_eq!(rig.answer(), Some(ACK_OK));
        }
        assert_eq!(rig.answer(), None);
    }
}

/// Commands that wait go with their queue: a board without it may sleep.
#[test]
fn no_command_waits_longer_than_its_queue() {
    let ways: [fn(&mut NetRig<Echo>); 3] = [
        |rig| assert!(rig.device.reset_queue(CONTROLQ)),
        |rig| assert!(rig.device.reset()),
        |rig| {
            // One without an answer behind those that wait stops the queue.
            rig.put_command(&[3, 0], &[], 0);
            rig.run();
            assert!(rig.device.take_stop().is_some());
        },
    ];
    for (way, end) in ways.into_iter().enumerate() {
        let mut rig = rig();
        for _ in 0..9 {
            rig.put_command(&[3, 0], &[], 1);
        }
        assert_eq!(rig.run().wake, Wake::Again);
        end(&mut rig);
        for _ in 0..3 {
            assert_ne!(rig.run().wake, Wake::Again, "way {way}");
        }
        assert!(rig.device.arm(), "way {way}");
    }
}

#[test]
fn a_command_without_room_for_its_answer_stops_that_queue_only() {
    let mut rig = rig();
    rig.put_command(&[3, 0], &[], 0);
    rig.run();
    let fault = PeerFault::ChainTooShort { found: 0, needed: 1 };
    assert_eq!(rig.device.take_stop(), Some((CONTROLQ, Stop::Peer(fault))));
    assert_eq!(rig.device.take_stop(), None);
    assert!(echoes(&mut rig, OTHER));
}

#[test]
fn addresses_outside_the_regions_stop_that_queue_only() {
    let nowhere = BusAddress::new(0x7777_0000);
    let good = Memories::READ;
    for (read, written, fault) in [
        (nowhere, Memories::WRITTEN, PeerFault::AddressUnmapped { address: 0x7777_0000 }),
        (good, nowhere, PeerFault::AddressUnmapped { address: 0x7777_0000 }),
        (good, good, PeerFault::AddressRights { address: good.bits() }),
    ] {
        let mut rig = rig();
        rig.memories.read.write(0, &[3, 0]);
        let segment = |address, len, writable| Segment { address, len, writable };
        rig.control.add(&[segment(read, 2, false), segment(written, 1, true)]).unwrap();
        let _ = rig.control.publish();
        rig.run();
        assert_eq!(rig.device.take_stop(), Some((CONTROLQ, Stop::Peer(fault))));
        assert!(echoes(&mut rig, OTHER));
    }
}

/// Its doorbell is asked for whenever the board sleeps, with one flush for
/// both queues, and stays asked for.
#[test]
fn a_command_wakes_a_board_that_sleeps() {
    let mut rig = rig();
    for round in 0..300 {
        assert!(rig.device.arm());
        let flushes = rig.device.queue_stats().map(|queue| queue.flushes);
        assert_eq!(flushes, [0, round * 2 + 1]);
        rig.device.park();
        let at = Memories::READ;
        rig.memories.read.write(0, &[3, 0]);
        let segment = |address, len, writable| Segment { address, len, writable };
        let chain = [segment(at, 2, false), segment(Memories::WRITTEN, 1, true)];
        rig.control.add(&chain).unwrap();
        assert!(rig.control.publish(), "no doorbell in round {round}");
        assert!(!rig.device.arm(), "slept over a command");
        rig.run();
        assert!(rig.control.take().unwrap().is_some());
    }
}

#[test]
fn a_stopped_transmitq_leaves_commands_their_doorbell() {
    let mut rig = rig();
    let segment = Segment { address: BusAddress::new(0), len: 100, writable: false };
    rig.transmit.add(&[segment]).unwrap();
    let _ = rig.transmit.publish();
    rig.run();
    assert!(rig.device.take_stop().is_some());
    for _ in 0..3 {
        assert!(rig.device.arm());
        rig.put_command(&[3, 0], &[], 1);
        assert!(!rig.device.arm());
        rig.run();
        assert_eq!(rig.answer(), Some(ACK_OK));
    }
}

#[test]
fn features_that_need_the_queue_go_with_it() {
    let info = |withhold| {
        let options = crate::device::net::NetOptions { mac: OWN, mtu: 1500, withhold };
        let memory = crate::device::net::NetMemory {
            slots: [crate::rig::leak(8), crate::rig::leak(8)],
            frame: crate::rig::leak(2048),
            waiting: crate::rig::leak(2048),
        };
        let device = crate::device::net::NetDevice::<crate::rig::Memory, _>::new(
            &options,
            memory,
            Echo::verbatim(),
        );
        (device.unwrap(), crate::rig::leak(8))
    };
    let (device, _) = info(0);
    assert_eq!(device.info().queues, 2);
    assert!(!device.info().features.has(feature::CTRL_VQ));
    let (device, records) = info(feature::CTRL_VQ);
    let device = device.with_control(records).unwrap();
    let offered = device.info();
    assert_eq!(offered.queues, 2);
    let needing = CONTROL & !feature::CTRL_RX_EXTRA & !feature::CTRL_GUEST_OFFLOADS;
    assert!((offered.features & Features::new(needing)).is_empty());
    let (device, records) = info(0);
    assert!(device.with_control(&mut records[..4]).is_err());
}
