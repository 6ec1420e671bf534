//! The commands of virtio-net's control queue (VirtIO 1.3 §5.1.6.5).
//!
//! A command is a chain: class, command and data, which the device reads; then
//! one byte, the acknowledgement, which it writes. Both ends code them here.

use super::net::feature;

/// Acknowledgement: done.
pub const ACK_OK: u8 = 0;
/// Acknowledgement: not done.
pub const ACK_ERR: u8 = 1;

/// Bytes of class and command, before the data.
const HEAD: usize = 2;

/// Bytes of a table's count, before its addresses.
const COUNT: usize = 4;

/// Addresses that both tables of a command may have together for a device to
/// keep them; of more it takes every frame of the kind.
pub const MAC_TABLE: usize = 64;

/// Bytes of the longest command that a device copies whole: two tables of
/// [`MAC_TABLE`] addresses together.
pub const COMMAND_MAX: usize = HEAD + 2 * COUNT + MAC_TABLE * size_of::<Mac>();

/// VLAN identifiers (IEEE 802.1Q): 12 bits.
pub const VLANS: u16 = 4096;

/// A MAC address.
pub type Mac = [u8; 6];

mod class {
    pub(super) const RX: u8 = 0;
    pub(super) const MAC: u8 = 1;
    pub(super) const VLAN: u8 = 2;
    pub(super) const ANNOUNCE: u8 = 3;
    pub(super) const GUEST_OFFLOADS: u8 = 5;
    pub(super) const NOTF_COAL: u8 = 6;
}

/// Which frames the driver wants, by kind: one switch of class RX.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum ReceiveSwitch {
    /// Every frame, whatever else is set.
    Promiscuous = 0,
    /// All multicast frames.
    AllMulticast = 1,
    /// All unicast frames.
    AllUnicast = 2,
    /// No multicast frame; broadcast is none.
    NoMulticast = 3,
    /// No unicast frame.
    NoUnicast = 4,
    /// No broadcast frame.
    NoBroadcast = 5,
}

impl ReceiveSwitch {
    /// All of them, by number.
    pub const ALL: [Self; 6] = [
        Self::Promiscuous,
        Self::AllMulticast,
        Self::AllUnicast,
        Self::NoMulticast,
        Self::NoUnicast,
        Self::NoBroadcast,
    ];
}

/// One of the two tables of MAC addresses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Macs<'a> {
    /// These addresses.
    These(&'a [Mac]),
    /// More than were copied.
    TooMany,
}

/// How long an interrupt may be put off. With either number 0 not at all.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Coalescing {
    /// At most until so many packets were completed.
    pub max_packets: u32,
    /// At most for so long after the first of them, in microseconds.
    pub max_usecs: u32,
}

/// A command.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Command<'a> {
    /// Turns one kind of frames on or off.
    Receive {
        /// Which.
        switch: ReceiveSwitch,
        /// On or off.
        on: bool,
    },
    /// Replaces the addresses whose frames the driver wants besides its own.
    MacTables {
        /// Unicast addresses.
        unicast: Macs<'a>,
        /// Multicast addresses.
        multicast: Macs<'a>,
    },
    /// Sets the driver's own address.
    MacAddress(Mac),
    /// Adds a VLAN to those that the driver wants, or takes it out.
    Vlan {
        /// Its identifier, below [`VLANS`].
        id: u16,
        /// Added or taken out.
        wanted: bool,
    },
    /// The driver has seen [`super::net::STATUS_ANNOUNCE`].
    AnnounceAck,
    /// Which of its offloads the driver takes from now on: GUEST_* bits.
    GuestOffloads(u64),
    /// How long interrupts of the transmitq may be put off.
    CoalesceTransmit(Coalescing),
    /// How long interrupts of the receiveq may be put off.
    CoalesceReceive(Coalescing),
}

/// The offloads that [`Command::GuestOffloads`] can name (VirtIO 1.3
/// §5.1.6.5.6.1), as far as this project has them.
pub const GUEST_OFFLOADS: u64 = feature::GUEST_CSUM
    | feature::GUEST_TSO4
    | feature::GUEST_TSO6
    | feature::GUEST_ECN
    | feature::GUEST_USO4
    | feature::GUEST_USO6;

/// A command that is none: it is answered with [`ACK_ERR`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Malformed;

impl<'a> Command<'a> {
    /// The command of `len` bytes of which `bytes` are the first: all of
    /// them, or [`COMMAND_MAX`].
    ///
    /// # Errors
    /// [`Malformed`]: unknown, too short, too long, or with a value outside
    /// its range.
    pub fn decode(bytes: &'a [u8], len: u32) -> Result<Self, Malformed> {
        let ([class, command], data) = bytes.split_first_chunk::<HEAD>().ok_or(Malformed)?;
        if (*class, *command) == (class::MAC, 0) {
            return mac_tables(bytes, len);
        }
        // No other command is longer than what was copied.
        if bytes.len() as u64 != u64::from(len) {
            return Err(Malformed);
        }
        match (*class, *command) {
            (class::RX, number) => {
                let switch = ReceiveSwitch::ALL.get(usize::from(number)).ok_or(Malformed)?;
                let on = match fixed(data)? {
                    [0] => false,
                    [1] => true,
                    _ => return Err(Malformed),
                };
                Ok(Self::Receive { switch: *switch, on })
            }
            (class::MAC, 1) => Ok(Self::MacAddress(fixed(data)?)),
            (class::VLAN, command @ (0 | 1)) => match u16::from_le_bytes(fixed(data)?) {
                id @ ..VLANS => Ok(Self::Vlan { id, wanted: command == 0 }),
                _ => Err(Malformed),
            },
            (class::ANNOUNCE, 0) => fixed::<0>(data).map(|_| Self::AnnounceAck),
            (class::GUEST_OFFLOADS, 0) => Ok(Self::GuestOffloads(u64::from_le_bytes(fixed(data)?))),
            (class::NOTF_COAL, 0) => Ok(Self::CoalesceTransmit(coalescing(data)?)),
            (class::NOTF_COAL, 1) => Ok(Self::CoalesceReceive(coalescing(data)?)),
            _ => Err(Malformed),
        }
    }

    /// Writes the command to the start of `into`, and returns its length in
    /// bytes. `None`: it does not fit, or has a table that is not there.
    #[must_use]
    pub fn encode(&self, into: &mut [u8]) -> Option<usize> {
        let mut writer = Writer { into, at: 0 };
        match *self {
            Self::Receive { switch, on } => {
                writer.put(&[class::RX, switch as u8, u8::from(on)])?;
            }
            Self::MacTables {
                unicast: Macs::These(unicast),
                multicast: Macs::These(multicast),
            } => {
                writer.put(&[class::MAC, 0])?;
                for table in [unicast, multicast] {
                    writer.put(&u32::try_from(table.len()).ok()?.to_le_bytes())?;
                    writer.put(table.as_flattened())?;
                }
            }
            Self::MacTables { .. } => return None,
            Self::MacAddress(mac) => {
                writer.put(&[class::MAC, 1])?;
                writer.put(&mac)?;
            }
            Self::Vlan { id, wanted } => {
                writer.put(&[class::VLAN, u8::from(!wanted)])?;
                writer.put(&id.to_le_bytes())?;
            }
            Self::AnnounceAck => writer.put(&[class::ANNOUNCE, 0])?,
            Self::GuestOffloads(offloads) => {
                writer.put(&[class::GUEST_OFFLOADS, 0])?;
                writer.put(&offloads.to_le_bytes())?;
            }
            Self::CoalesceTransmit(Coalescing { max_packets, max_usecs }) => {
                writer.put(&[class::NOTF_COAL, 0])?;
                writer.put(&max_packets.to_le_bytes())?;
                writer.put(&max_usecs.to_le_bytes())?;
            }
            Self::CoalesceReceive(Coalescing { max_packets, max_usecs }) => {
                writer.put(&[class::NOTF_COAL, 1])?;
                writer.put(&max_packets.to_le_bytes())?;
                writer.put(&max_usecs.to_le_bytes())?;
            }
        }
        Some(writer.at)
    }

    /// The feature bits without which the command is not to be sent.
    #[must_use]
    pub const fn needs(&self) -> u64 {
        use ReceiveSwitch::{AllMulticast, Promiscuous};
        let feature = match self {
            Self::Receive { switch: Promiscuous | AllMulticast, .. } | Self::MacTables { .. } => {
                feature::CTRL_RX
            }
            Self::Receive { .. } => feature::CTRL_RX_EXTRA,
            Self::MacAddress(_) => feature::CTRL_MAC_ADDR,
            Self::Vlan { .. } => feature::CTRL_VLAN,
            Self::AnnounceAck => feature::GUEST_ANNOUNCE,
            Self::GuestOffloads(_) => feature::CTRL_GUEST_OFFLOADS,
            Self::CoalesceTransmit(_) | Self::CoalesceReceive(_) => feature::NOTF_COAL,
        };
        feature | feature::CTRL_VQ
    }
}

/// `data` if it has exactly so many bytes.
fn fixed<const LEN: usize>(data: &[u8]) -> Result<[u8; LEN], Malformed> {
    data.try_into().map_err(|_| Malformed)
}

fn coalescing(data: &[u8]) -> Result<Coalescing, Malformed> {
    let [a, b, c, d, e, f, g, h] = fixed(data)?;
    Ok(Coalescing {
        max_packets: u32::from_le_bytes([a, b, c, d]),
        max_usecs: u32::from_le_bytes([e, f, g, h]),
    })
}

/// Two tables, each a count and so many addresses, that fill `len` bytes
/// behind the head.
fn mac_tables(bytes: &[u8], len: u32) -> Result<Command<'_>, Malformed> {
    const MAC: u64 = size_of::<Mac>() as u64;
    let count_at = |at: u64| {
        let from = bytes.get(usize::try_from(at).ok()?..)?;
        from.first_chunk::<COUNT>().map(|count| u64::from(u32::from_le_bytes(*count)))
    };
    let macs_at = |at: u64, count: u64| {
        let end = usize::try_from(at + count * MAC).ok()?;
        bytes.get(usize::try_from(at).ok()?..end).map(|bytes| bytes.as_chunks().0)
    };
    let table = |at, count| match count {
        0 => Macs::These(&[]),
        _ => macs_at(at, count).map_or(Macs::TooMany, Macs::These),
    };
    let unicast_at = (HEAD + COUNT) as u64;
    let unicast = count_at(HEAD as u64).ok_or(Malformed)?;
    // A count of 32 bits times 6 stays far below 2^64.
    let second = unicast_at + unicast * MAC;
    let multicast_at = second + COUNT as u64;
    let room = u64::from(len).checked_sub(multicast_at).ok_or(Malformed)?;
    let multicast = room / MAC;
    let counted = count_at(second).unwrap_or(multicast);
    if !room.is_multiple_of(MAC) || counted != multicast {
        return Err(Malformed);
    }
    Ok(Command::MacTables {
        unicast: table(unicast_at, unicast),
        multicast: table(multicast_at, multicast),
    })
}

struct Writer<'a> {
    into: &'a mut [u8],
    at: usize,
}

impl Writer<'_> {
    fn put(&mut self, bytes: &[u8]) -> Option<()> {
        let place = self.into.get_mut(self.at..)?.get_mut(..bytes.len())?;
        place.copy_from_slice(bytes);
        self.at += bytes.len();
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use virtio_spec::net::{Ctrl, ctrl};

    use super::*;

    const MACS: [Mac; 3] = [[2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2], [3, 0, 0, 0, 0, 3]];

    fn decode(bytes: &[u8]) -> Result<Command<'_>, Malformed> {
        Command::decode(bytes, u32::try_from(bytes.len()).unwrap())
    }

    fn encoded(command: Command<'_>) -> Vec<u8> {
        let mut bytes = vec![0xEE; COMMAND_MAX];
        let len = command.encode(&mut bytes).unwrap();
        assert!(bytes[len..].iter().all(|byte| *byte == 0xEE));
        bytes.truncate(len);
        bytes
    }

    /// Each command and its bytes.
    fn golden() -> Vec<(Command<'static>, Vec<u8>)> {
        let delay = Coalescing { max_packets: 0x0102, max_usecs: 0x0304_0506 };
        let delay_bytes = [2, 1, 0, 0, 6, 5, 4, 3];
        let [one, two, three] = MACS;
        let (unicast, multicast) = (Macs::These(&MACS[..2]), Macs::These(&MACS[2..]));
        let tables = [&[1, 0, 2, 0, 0, 0][..], &one, &two, &[1, 0, 0, 0], &three].concat();
        let none = Macs::These(&[]);
        let mut all = vec![
            (Command::MacTables { unicast, multicast }, tables),
            (
                Command::MacTables { unicast: none, multicast: none },
                vec![1, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            ),
            (Command::MacAddress(one), [&[1, 1][..], &one].concat()),
            (Command::Vlan { id: 0xFFF, wanted: true }, vec![2, 0, 0xFF, 0x0F]),
            (Command::Vlan { id: 1, wanted: false }, vec![2, 1, 1, 0]),
            (Command::AnnounceAck, vec![3, 0]),
            (Command::GuestOffloads(1 << 54 | 1 << 1), vec![5, 0, 2, 0, 0, 0, 0, 0, 0x40, 0]),
            (Command::CoalesceTransmit(delay), [&[6, 0][..], &delay_bytes].concat()),
            (Command::CoalesceReceive(delay), [&[6, 1][..], &delay_bytes].concat()),
        ];
        for (number, switch) in (0..).zip(ReceiveSwitch::ALL) {
            for on in [false, true] {
                all.push((Command::Receive { switch, on }, vec![0, number, u8::from(on)]));
            }
        }
        all
    }

    #[test]
    fn golden_bytes_both_ways() {
        for (command, bytes) in golden() {
            assert_eq!(encoded(command), bytes, "{command:?}");
            assert_eq!(decode(&bytes), Ok(command));
            for short in 0..bytes.len() {
                assert_eq!(command.encode(&mut vec![0; short]), None, "{command:?}");
            }
        }
    }

    #[test]
    fn numbers_are_those_of_an_independent_definition() {
        for (ours, theirs) in [
            (class::RX, Ctrl::Rx),
            (class::MAC, Ctrl::Mac),
            (class::VLAN, Ctrl::Vlan),
            (class::ANNOUNCE, Ctrl::Announce),
            (class::GUEST_OFFLOADS, Ctrl::GuestOffloads),
        ] {
            assert_eq!(ours, u8::from(theirs));
        }
        for (ours, theirs) in ReceiveSwitch::ALL.into_iter().zip([
            ctrl::Rx::Promisc,
            ctrl::Rx::Allmulti,
            ctrl::Rx::Alluni,
            ctrl::Rx::Nomulti,
            ctrl::Rx::Nouni,
            ctrl::Rx::Nobcast,
        ]) {
            assert_eq!(ours as u8, u8::from(theirs));
        }
        assert_eq!(
            [u8::from(ctrl::Mac::TableSet), ctrl::Mac::AddrSet.into()],
            [encoded(golden()[0].0)[1], encoded(golden()[2].0)[1]]
        );
        assert_eq!([u8::from(ctrl::Vlan::Add), ctrl::Vlan::Del.into()], [0, 1]);
    }

    #[test]
    fn a_command_of_another_length_is_none() {
        for (command, bytes) in golden() {
            for len in 0..bytes.len() {
                assert_eq!(decode(&bytes[..len]), Err(Malformed), "{command:?} at {len}");
            }
            for more in 1..5 {
                let long = [&bytes[..], &[0; 5][..more]].concat();
                assert_eq!(decode(&long), Err(Malformed), "{command:?} and {more}");
            }
        }
    }

    #[test]
    fn values_outside_their_range_are_none() {
        for bytes in [
            &[0, 0, 2][..],
            &[0, 6, 1],
            &[2, 0, 0, 0x10],
            &[2, 2, 0, 0],
            &[3, 1],
            &[4, 0, 1, 0],
            &[5, 1, 0, 0, 0, 0, 0, 0, 0, 0],
            &[6, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            &[7, 0],
            &[255, 255],
        ] {
            assert_eq!(decode(bytes), Err(Malformed), "{bytes:?}");
        }
    }

    #[test]
    fn counts_that_wrap_or_disagree_are_none() {
        for (unicast, multicast, addresses) in [
            (u32::MAX, 0, 0),
            (0, u32::MAX, 0),
            (u32::MAX, u32::MAX, 2),
            // 6 times it is 2^32 and 2: what 32 bits make of it would fit.
            (0x2AAA_AAAB, 0, 1),
            (2, 0, 1),
            (0, 0, 1),
            (0, 1, 0),
            (0, 2, 1),
        ] {
            let mut bytes = vec![1, 0];
            bytes.extend(u32::to_le_bytes(unicast));
            bytes.extend(u32::to_le_bytes(multicast));
            bytes.resize(bytes.len() + addresses * 6, 0);
            assert_eq!(decode(&bytes), Err(Malformed), "{unicast} {multicast} {addresses}");
        }
    }

    #[test]
    fn tables_beyond_the_copy_are_too_many() {
        let table = |count: u16| -> Vec<Mac> {
            (0..count).map(|n| [2, 0, 0, 0, n.to_be_bytes()[0], n.to_be_bytes()[1]]).collect()
        };
        for (unicast, multicast, kept) in [
            (64, 0, (true, true)),
            (0, 64, (true, true)),
            (32, 33, (true, false)),
            (64, 1, (true, false)),
            (65, 0, (false, true)),
            (3000, 3000, (false, false)),
        ] {
            let (unicast, multicast) = (table(unicast), table(multicast));
            let mut bytes = vec![0; 1 << 16];
            let command = Command::MacTables {
                unicast: Macs::These(&unicast),
                multicast: Macs::These(&multicast),
            };
            let len = command.encode(&mut bytes).unwrap();
            let copied = &bytes[..len.min(COMMAND_MAX)];
            let read = |kept, table| if kept { Macs::These(table) } else { Macs::TooMany };
            let expected = Command::MacTables {
                unicast: read(kept.0, &unicast[..]),
                multicast: read(kept.1, &multicast[..]),
            };
            assert_eq!(Command::decode(copied, u32::try_from(len).unwrap()), Ok(expected));
        }
    }

    proptest! {
        #[test]
        fn whatever_is_decoded_encodes_to_the_same(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let mut bytes = bytes;
            if let Some(class) = bytes.first_mut() {
                *class %= 8;
            }
            if let Some(command) = bytes.get_mut(1) {
                *command %= 8;
            }
            if let Ok(command) = decode(&bytes) {
                prop_assert_eq!(encoded(command), bytes);
            }
        }

        #[test]
        fn any_length_is_survived(bytes in prop::collection::vec(any::<u8>(), 0..COMMAND_MAX), more: u32) {
            let len = u32::try_from(bytes.len()).unwrap().saturating_add(more);
            let _ = Command::decode(&bytes, len);
        }
    }
}
