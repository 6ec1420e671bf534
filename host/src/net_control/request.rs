//! What the host can ask of a board, and what it cannot.

use std::fmt;

use shared::wire::features::Features;
use shared::wire::net::feature;
use shared::wire::net_control::{
    Coalescing, Command, GUEST_OFFLOADS, Mac, Macs, ReceiveSwitch, VLANS,
};

use crate::slow_queue::SLOW_BUFFER;

/// The longest that an interrupt is asked to be put off, in microseconds: half
/// of the interval at which the data path looks at the rings by itself. With
/// more it would find frames before they are announced.
pub const LONGEST_DELAY_US: u32 = 5_000;

/// Addresses that both tables of [`Request::Addresses`] may have together, as
/// a buffer of the queue holds them.
pub(super) const ADDRESSES: usize = (SLOW_BUFFER as usize - 10) / size_of::<Mac>();

/// Something to ask of a board.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Request {
    /// This host's MAC address is another one: the board lets frames to it pass.
    MacAddress(Mac),
    /// One kind of frames is wanted or not. After a reset the board is
    /// promiscuous: it lets everything pass.
    Receive {
        /// The kind.
        switch: ReceiveSwitch,
        /// On or off.
        on: bool,
    },
    /// The addresses that are wanted besides the host's own; all others no more.
    Addresses {
        /// Unicast addresses.
        unicast: Vec<Mac>,
        /// Multicast addresses.
        multicast: Vec<Mac>,
    },
    /// A VLAN is wanted or not. With CTRL_VLAN negotiated a board that is not
    /// promiscuous lets no tagged frame pass but those of wanted VLANs.
    Vlan {
        /// Its identifier, below 4096.
        id: u16,
        /// Wanted or not.
        wanted: bool,
    },
    /// How long interrupts of frames to the host may be put off, at most
    /// [`LONGEST_DELAY_US`] (what exceeds that is cut).
    CoalesceToHost(Coalescing),
    /// The same for buffers of frames to the board that come back.
    CoalesceToBoard(Coalescing),
    /// The offloads of frames to the host that the board may use from now on,
    /// as GUEST_* feature bits: some of those that were negotiated.
    Offloads(u64),
    /// The host has announced itself to the network, as the board had asked.
    AnnounceAck,
}

/// Why a request cannot be made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unable {
    /// Features that were not negotiated.
    Features {
        /// The bits that are missing.
        missing: Features,
    },
    /// Not an address that an interface can have: a group's, or zero.
    MacAddress,
    /// More addresses than fit one command: ask for all frames of the kind.
    Addresses {
        /// Addresses asked for, of both kinds.
        found: usize,
        /// Addresses that fit.
        limit: usize,
    },
    /// No VLAN has this identifier.
    Vlan {
        /// The identifier.
        id: u16,
    },
    /// Bits that are no offloads, or one without another that it requires.
    Offloads {
        /// The bits.
        bits: Features,
    },
}

impl fmt::Display for Unable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Features { missing } => write!(
                f,
                "the board cannot be asked for this: {missing} was not negotiated; see what it \
                 offers and what the feature mask takes away"
            ),
            Self::MacAddress => f.write_str(
                "not an interface's MAC address: take one whose first byte is even, and not zero",
            ),
            Self::Addresses { found, limit } => write!(
                f,
                "{found} MAC addresses, of which {limit} fit; ask for all frames of the kind instead"
            ),
            Self::Vlan { id } => write!(f, "{id} is no VLAN; they go from 0 to {}", VLANS - 1),
            Self::Offloads { bits } => {
                write!(
                    f,
                    "{bits} cannot be set together as offloads towards the host: leave out what is none, and what needs another that is not there"
                )
            }
        }
    }
}

impl std::error::Error for Unable {}

impl Request {
    /// The request as it can be sent.
    pub(super) fn checked(mut self, features: Features) -> Result<Self, Unable> {
        let mut needs = self.command().needs();
        if matches!(self, Self::MacAddress(_)) {
            // VirtIO 1.3 §5.1.6.5.2.2: no command of the class without it.
            needs |= feature::CTRL_RX;
        }
        if let Self::Offloads(bits) = self {
            needs |= bits & GUEST_OFFLOADS;
        }
        let missing = Features::new(needs).without(features);
        if !missing.is_empty() {
            return Err(Unable::Features { missing });
        }
        match &mut self {
            Self::MacAddress(mac) if mac[0] & 1 != 0 || *mac == [0; 6] => {
                return Err(Unable::MacAddress);
            }
            Self::Addresses { unicast, multicast } => {
                let found = unicast.len().saturating_add(multicast.len());
                if found > ADDRESSES {
                    return Err(Unable::Addresses { found, limit: ADDRESSES });
                }
            }
            Self::Vlan { id, .. } if *id >= VLANS => return Err(Unable::Vlan { id: *id }),
            Self::Offloads(bits) => {
                let bits = Features::new(*bits);
                let others = bits.without(Features::new(GUEST_OFFLOADS));
                if !others.is_empty() || bits.net_requirement_missing().is_some() {
                    return Err(Unable::Offloads { bits });
                }
            }
            Self::CoalesceToHost(delay) | Self::CoalesceToBoard(delay) => {
                delay.max_usecs = delay.max_usecs.min(LONGEST_DELAY_US);
            }
            Self::MacAddress(_) | Self::Receive { .. } | Self::Vlan { .. } | Self::AnnounceAck => {}
        }
        Ok(self)
    }

    /// Whether the later one of the two makes the earlier one pointless.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Receive { switch, .. }, Self::Receive { switch: other, .. }) => switch == other,
            (Self::Vlan { id, .. }, Self::Vlan { id: other, .. }) => id == other,
            _ => std::mem::discriminant(self) == std::mem::discriminant(other),
        }
    }

    /// The request as the board is told.
    pub(super) fn command(&self) -> Command<'_> {
        match *self {
            Self::MacAddress(mac) => Command::MacAddress(mac),
            Self::Receive { switch, on } => Command::Receive { switch, on },
            Self::Addresses { ref unicast, ref multicast } => Command::MacTables {
                unicast: Macs::These(unicast),
                multicast: Macs::These(multicast),
            },
            Self::Vlan { id, wanted } => Command::Vlan { id, wanted },
            Self::CoalesceToHost(delay) => Command::CoalesceReceive(delay),
            Self::CoalesceToBoard(delay) => Command::CoalesceTransmit(delay),
            Self::Offloads(bits) => Command::GuestOffloads(bits),
            Self::AnnounceAck => Command::AnnounceAck,
        }
    }
}
