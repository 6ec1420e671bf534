//! A board's own code that says a list of frames when it is asked to.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};

use board::device::Wake;
use board::device::net::FrameHandler;
use shared::wire::net::{FLAG_NEEDS_CSUM, NetHeader};
use virtio_phys_tests::rig::{BOARD_MAC, HOST_MAC};

/// Whom a round of frames goes to: one each.
const ROUND: [[u8; 6]; 6] = [
    HOST_MAC,
    [0xff; 6],
    // Another station.
    [2, 0, 0, 0, 0, 0x99],
    // All nodes, and whoever has fd00:9::1.
    [0x33, 0x33, 0, 0, 0, 1],
    [0x33, 0x33, 0xff, 0, 0, 1],
    // A group of some program's.
    [0x01, 0, 0x5e, 0x7f, 0, 1],
];

/// Rounds that are asked for, and what is left of them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Says {
    left: Arc<AtomicUsize>,
    vlan: Arc<AtomicU16>,
}

impl Says {
    /// Frames of a round: the last leaves its checksum to the host.
    pub(crate) const FRAMES: usize = ROUND.len() + 1;

    /// Says each frame once.
    pub(crate) fn round(&self) {
        self.left.store(Self::FRAMES, Ordering::SeqCst);
    }

    /// Says one frame to the host, in this VLAN.
    pub(crate) fn tagged(&self, vlan: u16) {
        self.vlan.store(vlan, Ordering::SeqCst);
        self.left.store(1, Ordering::SeqCst);
    }

    /// All of the last round is said.
    pub(crate) fn is_done(&self) -> bool {
        self.left.load(Ordering::SeqCst) == 0
    }
}

impl FrameHandler for Says {
    fn take(&mut self, _now: u64, _header: &NetHeader, _frame: &[u8]) {}

    fn give(&mut self, _now: u64, into: &mut [u8]) -> Option<(NetHeader, usize)> {
        let left = self.left.load(Ordering::SeqCst).checked_sub(1)?;
        let frame = into.get_mut(..60)?;
        frame.fill(0);
        frame[..6].copy_from_slice(ROUND.get(left).unwrap_or(&HOST_MAC));
        frame[6..12].copy_from_slice(&BOARD_MAC);
        frame[12..14].copy_from_slice(&[0x88, 0xb5]);
        let vlan = self.vlan.load(Ordering::SeqCst);
        if vlan != 0 {
            frame[12..14].copy_from_slice(&[0x81, 0]);
            frame[14..16].copy_from_slice(&vlan.to_be_bytes());
            frame[16..18].copy_from_slice(&[0x88, 0xb5]);
        }
        let mut header = NetHeader::default();
        if left == ROUND.len() {
            header = NetHeader { flags: FLAG_NEEDS_CSUM, csum_start: 34, csum_offset: 6, ..header };
        }
        self.left.store(left, Ordering::SeqCst);
        Some((header, 60))
    }

    fn next(&self, _now: u64) -> Wake {
        Wake::Idle
    }
}
