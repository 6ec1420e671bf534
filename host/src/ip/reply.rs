//! A frame of ours to the board.

/// Bytes of the longest one: a neighbour advertisement.
pub const LONGEST_REPLY: usize = 86;

/// A frame of ours to the board, without virtio-net header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reply {
    bytes: [u8; LONGEST_REPLY],
    len: usize,
}

impl Reply {
    /// The parts one after the other. What is longer than [`LONGEST_REPLY`]
    /// is cut; no caller has that.
    pub(super) fn of(parts: &[&[u8]]) -> Self {
        let mut reply = Self { bytes: [0; LONGEST_REPLY], len: 0 };
        let all = parts.iter().flat_map(|part| part.iter());
        for (place, byte) in reply.bytes.iter_mut().zip(all) {
            *place = *byte;
            reply.len += 1;
        }
        reply
    }

    /// The frame.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or(&[])
    }
}
