//! Split virtqueue layout: descriptor, avail ring, used ring.
//!
//! VirtIO 1.3 §2.7.5, §2.7.6, §2.7.8.

use core::mem::offset_of;

use super::{Le16, Le32, Le64};

/// A descriptor: one stretch of a buffer (VirtIO 1.3 §2.7.5).
#[derive(Clone, Copy, Default, Debug)]
#[repr(C)]
pub struct Descriptor {
    /// Bus address of the first byte.
    pub addr: Le64,
    /// Length in bytes.
    pub len: Le32,
    /// [`DESC_NEXT`], [`DESC_WRITE`], [`DESC_INDIRECT`].
    pub flags: Le16,
    /// The descriptor that follows, with [`DESC_NEXT`].
    pub next: Le16,
}

/// What both rings begin with: one 32-bit word that is stored whole.
#[derive(Clone, Copy, Default, Debug)]
#[repr(C)]
pub struct RingHead {
    /// [`AVAIL_NO_INTERRUPT`] or [`USED_NO_NOTIFY`].
    pub flags: Le16,
    /// Where the next entry goes, modulo the queue size.
    pub idx: Le16,
}

/// An entry of the used ring (VirtIO 1.3 §2.7.8).
#[derive(Clone, Copy, Default, Debug)]
#[repr(C)]
pub struct UsedElement {
    /// Head of the chain that is returned.
    pub id: Le32,
    /// Bytes written into it.
    pub len: Le32,
}

/// Descriptor flag: the chain goes on at `next`.
pub const DESC_NEXT: u16 = 1;
/// Descriptor flag: device-writable (else device-readable).
pub const DESC_WRITE: u16 = 2;
/// Descriptor flag: the buffer is a table of descriptors.
pub const DESC_INDIRECT: u16 = 4;
/// avail.flags: the driver wants no notification.
pub const AVAIL_NO_INTERRUPT: u16 = 1;
/// used.flags: the device wants no notification.
pub const USED_NO_NOTIFY: u16 = 1;

/// Bytes of a descriptor.
pub const DESCRIPTOR_SIZE: u64 = size_of::<Descriptor>() as u64;
/// Offset of a descriptor's second half: `len`, `flags`, `next`.
pub const DESCRIPTOR_TAIL: u64 = offset_of!(Descriptor, len) as u64;
/// Offset of a ring's first entry, behind its index word.
pub const RING_ENTRIES: u64 = size_of::<RingHead>() as u64;
/// Bytes of an entry of the avail ring.
pub const AVAIL_ENTRY_SIZE: u64 = size_of::<Le16>() as u64;
/// Bytes of an entry of the used ring.
pub const USED_ENTRY_SIZE: u64 = size_of::<UsedElement>() as u64;
/// Offset of `len` in an entry of the used ring.
pub const USED_ENTRY_LEN: u64 = offset_of!(UsedElement, len) as u64;
/// Bytes of an event word: 16 bits and their padding.
pub const EVENT_SIZE: u64 = size_of::<Le32>() as u64;

/// Alignment of the descriptor table (VirtIO 1.3 §2.7).
pub const DESCRIPTOR_ALIGN: u64 = 16;
/// Alignment of the avail ring: 32-bit words (VirtIO 1.3 §2.7 asks for 2).
pub const AVAIL_ALIGN: u64 = 4;
/// Alignment of the used ring (VirtIO 1.3 §2.7).
pub const USED_ALIGN: u64 = 4;

#[cfg(test)]
mod tests {
    use super::*;
    use virtio_spec::virtq as spec;

    #[test]
    fn sizes_and_offsets_are_the_spec_crates() {
        assert_eq!(size_of::<Descriptor>(), size_of::<spec::Desc>());
        assert_eq!(offset_of!(Descriptor, addr), offset_of!(spec::Desc, addr));
        assert_eq!(offset_of!(Descriptor, len), offset_of!(spec::Desc, len));
        assert_eq!(offset_of!(Descriptor, flags), offset_of!(spec::Desc, flags));
        assert_eq!(offset_of!(Descriptor, next), offset_of!(spec::Desc, next));
        assert_eq!(offset_of!(RingHead, flags), 0);
        assert_eq!(offset_of!(RingHead, idx), 2);
        assert_eq!(size_of::<UsedElement>(), size_of::<spec::UsedElem>());
        assert_eq!(align_of::<UsedElement>(), align_of::<spec::UsedElem>());
        assert_eq!(offset_of!(UsedElement, id), offset_of!(spec::UsedElem, id));
        assert_eq!(offset_of!(UsedElement, len), offset_of!(spec::UsedElem, len));
    }

    #[test]
    fn flags_are_the_spec_crates() {
        assert_eq!(DESC_NEXT, spec::DescF::NEXT.bits().to_ne());
        assert_eq!(DESC_WRITE, spec::DescF::WRITE.bits().to_ne());
        assert_eq!(DESC_INDIRECT, spec::DescF::INDIRECT.bits().to_ne());
        assert_eq!(AVAIL_NO_INTERRUPT, spec::AvailF::NO_INTERRUPT.bits().to_ne());
        assert_eq!(USED_NO_NOTIFY, spec::UsedF::NO_NOTIFY.bits().to_ne());
    }

    #[test]
    fn every_number() {
        let table: [(&str, u64, u64); 15] = [
            ("DESC_NEXT", DESC_NEXT.into(), 1),
            ("DESC_WRITE", DESC_WRITE.into(), 2),
            ("DESC_INDIRECT", DESC_INDIRECT.into(), 4),
            ("AVAIL_NO_INTERRUPT", AVAIL_NO_INTERRUPT.into(), 1),
            ("USED_NO_NOTIFY", USED_NO_NOTIFY.into(), 1),
            ("DESCRIPTOR_SIZE", DESCRIPTOR_SIZE, 16),
            ("DESCRIPTOR_TAIL", DESCRIPTOR_TAIL, 8),
            ("RING_ENTRIES", RING_ENTRIES, 4),
            ("AVAIL_ENTRY_SIZE", AVAIL_ENTRY_SIZE, 2),
            ("USED_ENTRY_SIZE", USED_ENTRY_SIZE, 8),
            ("USED_ENTRY_LEN", USED_ENTRY_LEN, 4),
            ("EVENT_SIZE", EVENT_SIZE, 4),
            ("DESCRIPTOR_ALIGN", DESCRIPTOR_ALIGN, 16),
            ("AVAIL_ALIGN", AVAIL_ALIGN, 4),
            ("USED_ALIGN", USED_ALIGN, 4),
        ];
        for (name, ours, pinned) in table {
            assert_eq!(ours, pinned, "{name}");
        }
    }
}
