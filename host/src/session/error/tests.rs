//! What is said when a session could not be, or is over: what is wrong, and
//! what to do about it.

use std::io;

use shared::fault::PeerFault;
use shared::link::{AttachStep, LinkLoss, Reason};
use shared::wire::features::VERSION_1;

use super::*;
use crate::bridge::BridgeError;
use crate::console::ConsoleError;
use crate::net::PortError;
use crate::net_control::Unable;
use crate::session::{Area, Ended};

/// A value for each pattern, with its text. The patterns are those of a
/// `match`, so a variant without a row does not compile.
macro_rules! texts {
    ($kind:ty: $($pattern:pat = $value:expr => $text:expr;)*) => {{
        let _complete = |value: &$kind| match value { $($pattern => (),)* };
        $({
            let value: $kind = $value;
            assert!(matches!(value, $pattern), "{value:?} is not of its row");
            assert_eq!(value.to_string(), $text);
        })*
    }};
}

const FAULT: PeerFault = PeerFault::UsedId { id: 7 };
const BROKEN: &str = "the board broke the protocol: used.id 7 is not a buffer due now; if that goes on, update its firmware";
const LATE: &str = "the board has not answered a control command for 1000 ms; it hangs, reset it";

fn io_error() -> io::Error {
    io::Error::other("out of luck")
}

#[test]
fn every_end_of_a_session() {
    use SessionError::{
        BoardMemory, Bus, Control, FeatureMask, Link, Lock, LockUnknown, Mtu, NeedsReset,
        NoBoardMemory, NoNetworkDevice, NoReach, NotDetached, OtherBoard, Placement, Queues, Reach,
        ResetRefused, Setup,
    };
    let rebooted = Refusal { step: AttachStep::Running, reason: Reason::Lost(LinkLoss::Rebooted) };
    texts! { SessionError:
        Bus(_) = Bus(BusError::Gone) =>
            "nobody answers where the board was: a card was pulled out or has no power (put it back), a process has ended (start it again)";
        Link(_) = Link(rebooted) =>
            "step 20 (run): the board booted again; if that goes on, look at its log and its power";
        FeatureMask { .. } = FeatureMask { missing: Features::new(VERSION_1) } =>
            "the feature mask leaves nothing to run with: it takes away VERSION_1, which every session needs; set bits 0x100000000 in it";
        NoNetworkDevice = NoNetworkDevice =>
            "the board has no virtio network device; check its firmware";
        Queues { .. } = Queues { queue: 1, size: 2 } =>
            "queue 1 of the board's network device holds 2 entries, too few; check its firmware";
        Mtu(_) = Mtu(MtuError::Board { wanted: 9000, limit: 1500 }) =>
            "an MTU of 9000 is more than the board takes: choose 68 to 1500";
        OtherBoard { .. } = OtherBoard { found: [2, 0, 0, 0, 0, 1], wanted: [2, 0, 0, 0, 0, 0xAB] } =>
            "the board says that its MAC address is 02:00:00:00:00:01, and the configuration wants 02:00:00:00:00:ab: another board is in the slot; put the right one there, or change board_mac";
        NoBoardMemory { .. } = NoBoardMemory { layout: Layout::Split } =>
            "the board offers no memory with the rights that layout split needs; choose another layout";
        BoardMemory { .. } = BoardMemory { layout: Layout::BarOnly, offered: 4096 } =>
            "the board's 4096 bytes of memory are too few for layout bar-only; mask segmentation offloads out, lower the MTU, or give the board a larger BAR";
        Reach { .. } = Reach { windows: 2, size: 65536 } =>
            "the board's 2 windows of 65536 bytes into host memory are too few for its buffers; lower the MTU, or choose layout bar-only";
        Lock(_) = Lock(LockLimitError { needed: 4096, present: 1024, limit: 8192 }) =>
            "too little lockable memory for the board's buffers: 4096 bytes are needed, the limit leaves 1024. Raise it to at least 11 KiB: `ulimit -l 11` before the start (as root, or in /etc/security/limits.conf), or LimitMEMLOCK=11K in the systemd unit";
        LockUnknown(_) = LockUnknown(io_error()) =>
            "cannot read how much memory may be locked: out of luck; check that /proc is there";
        NoReach { .. } = NoReach { layout: Layout::AllHost } =>
            "the board cannot reach host memory, which layout all-host needs; choose layout bar-only";
        Control(_) = Control(ControlError::Late) => LATE;
        NeedsReset = NeedsReset =>
            "the board's network device met a fault and asks for a reset; if that goes on, look at its log";
        ResetRefused = ResetRefused =>
            "the board will not boot again by itself; the bus resets it instead";
        Placement(_) = Placement(Spot { area: Area::Board, offset: 64, len: 32 }) =>
            "a part does not fit its place: Spot { area: Board, offset: 64, len: 32 } (a bug of this program)";
        Setup(_) = Setup(SetupError::Size { size: 3 }) =>
            "cannot set a queue up: queue size 3 is not a power of two from 2 to 32768 (a bug of this program)";
        NotDetached = NotDetached =>
            "the board did not confirm the detach; it was reset instead";
    }
}

#[test]
fn every_end_that_a_supervisor_tells() {
    texts! { Ended:
        Ended::Session(_) = Ended::Session(SessionError::NoNetworkDevice) =>
            "the board has no virtio network device; check its firmware";
        Ended::Bridge(_) = Ended::Bridge(BridgeError::Peer(FAULT)) => BROKEN;
        Ended::Caller(_) = Ended::Caller("cannot go on".into()) => "cannot go on";
        Ended::ResetAsked = Ended::ResetAsked => "the operator asked for a reset of the board";
    }
}

#[test]
fn every_end_of_the_data_path() {
    use BridgeError::{Peer, Port, SessionOver, Stalled};
    texts! { BridgeError:
        Peer(PeerFault::LinkLost) = Peer(PeerFault::LinkLost) =>
            "the bus answers all ones; the card is gone or switched off, put it back";
        Peer(_) = Peer(FAULT) => BROKEN;
        SessionOver(_) = SessionOver(LinkLoss::SessionDropped) =>
            "the session is over: the board dropped the session; if that goes on, look at its log";
        Stalled { .. } = Stalled { for_ms: 5000 } =>
            "the board has returned no frame for 5000 ms though it holds some; it hangs, reset it";
        Port(PortError::Gone) = Port(PortError::Gone) =>
            "the network interface has been deleted; the next session makes it again";
        Port(PortError::System { .. }) =
            Port(PortError::System { what: "cannot read from", error: io_error() }) =>
            "cannot read from the network interface: out of luck";
    }
}

#[test]
fn every_end_of_a_queue_beside() {
    texts! { ControlError:
        ControlError::Peer(_) = ControlError::Peer(FAULT) => BROKEN;
        ControlError::Late = ControlError::Late => LATE;
    }
    texts! { ConsoleError:
        ConsoleError::Peer(_) = ConsoleError::Peer(FAULT) => BROKEN;
        ConsoleError::Terminal(_) = ConsoleError::Terminal(io_error()) =>
            "the console's terminal failed: out of luck; the next session tries it again";
    }
}

#[test]
fn every_request_that_cannot_be() {
    use Unable::{Addresses, MacAddress, Offloads, Vlan};
    texts! { Unable:
        Unable::Features { .. } = Unable::Features { missing: Features::new(VERSION_1) } =>
            "the board cannot be asked for this: VERSION_1 was not negotiated; see what it offers and what the feature mask takes away";
        MacAddress = MacAddress =>
            "not an interface's MAC address: take one whose first byte is even, and not zero";
        Addresses { .. } = Addresses { found: 700, limit: 681 } =>
            "700 MAC addresses, of which 681 fit; ask for all frames of the kind instead";
        Vlan { .. } = Vlan { id: 4096 } => "4096 is no VLAN; they go from 0 to 4095";
        Offloads { .. } = Offloads { bits: Features::new(VERSION_1) } =>
            "VERSION_1 cannot be set together as offloads towards the host: leave out what is none, and what needs another that is not there";
    }
}
