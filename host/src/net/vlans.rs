//! VLAN tags (IEEE 802.1Q) that frames from a board may have.

use std::fmt;

/// VLAN identifiers that a network may have; 0 is none, 4095 is reserved.
pub const VLAN_IDS: std::ops::RangeInclusive<u16> = 1..=4094;

/// A set of VLANs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Vlans {
    bits: [u64; 64],
}

impl Default for Vlans {
    fn default() -> Self {
        Self::NONE
    }
}

impl Vlans {
    /// No VLAN.
    pub const NONE: Self = Self { bits: [0; 64] };

    /// Puts one in; `false`: there is none with this number, or it is in already.
    #[must_use]
    pub fn insert(&mut self, id: u16) -> bool {
        let fresh = VLAN_IDS.contains(&id) && !self.contains(id);
        if let Some(word) = self.bits.get_mut(usize::from(id / 64)).filter(|_| fresh) {
            *word |= 1 << (id % 64);
        }
        fresh
    }

    /// Whether it is in the set.
    #[must_use]
    pub fn contains(&self, id: u16) -> bool {
        self.bits.get(usize::from(id / 64)).is_some_and(|word| word >> (id % 64) & 1 != 0)
    }

    /// Each of them, by rising number.
    pub fn iter(&self) -> impl Iterator<Item = u16> + '_ {
        VLAN_IDS.filter(|id| self.contains(*id))
    }
}

impl fmt::Debug for Vlans {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

/// Which tagged frames pass; those without a tag always do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[expect(clippy::large_enum_variant, reason = "there is one a session")]
pub enum Tags {
    /// All of them, with two tags and those of a service provider (802.1ad), too.
    All,
    /// Those with one tag, of one of these VLANs.
    These(Vlans),
}

impl Tags {
    /// Whether a frame passes that begins like this and has so many tags.
    pub(super) fn admit(&self, frame: &[u8], tags: usize) -> bool {
        match self {
            _ if tags == 0 => true,
            Self::All => true,
            Self::These(vlans) => match frame.get(12..16) {
                // Priority and drop eligibility come before the identifier.
                Some(&[0x81, 0x00, high, low]) if tags == 1 => {
                    vlans.contains(u16::from_be_bytes([high & 0x0f, low]))
                }
                _ => false,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_its_own_bit() {
        let mut vlans = Vlans::NONE;
        for id in VLAN_IDS {
            assert!(!vlans.contains(id));
            assert!(vlans.insert(id) && vlans.contains(id) && !vlans.insert(id));
        }
        assert!(vlans.iter().eq(VLAN_IDS));
        for id in [0, 4095, 4096, u16::MAX] {
            assert!(!vlans.insert(id) && !vlans.contains(id), "{id}");
        }
    }

    #[test]
    fn one_tag_of_a_wanted_vlan_passes() {
        let mut vlans = Vlans::NONE;
        assert!(vlans.insert(10) && vlans.insert(0x123));
        let these = Tags::These(vlans);
        let frame = |kind: u16, tag: u16| {
            let mut frame = vec![0; 60];
            frame[12..14].copy_from_slice(&kind.to_be_bytes());
            frame[14..16].copy_from_slice(&tag.to_be_bytes());
            frame
        };
        for (frame, tags, admitted) in [
            (frame(0x0800, 0), 0, true),
            (frame(0x8100, 10), 1, true),
            (frame(0x8100, 0xE00A), 1, true),
            (frame(0x8100, 0xF123), 1, true),
            (frame(0x8100, 11), 1, false),
            (frame(0x8100, 0), 1, false),
            (frame(0x8100, 10), 2, false),
            (frame(0x88a8, 10), 1, false),
            (vec![0; 13], 1, false),
        ] {
            assert_eq!(these.admit(&frame, tags), admitted, "{tags} {:?}", frame.get(12..16));
            assert_eq!(Tags::These(Vlans::NONE).admit(&frame, tags), tags == 0);
            assert!(Tags::All.admit(&frame, tags));
        }
    }
}
