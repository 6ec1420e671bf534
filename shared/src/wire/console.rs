//! The virtio-console device: ids, queues, feature bits (VirtIO 1.3 §5.3).
//!
//! One port and nothing optional: bytes go both ways in plain buffers without
//! a header. The configuration space has fields for features only that version
//! 1 of the protocol does not offer, so it is empty.

/// The device id of virtio-console (VirtIO 1.3 §5.3.1).
pub const DEVICE_ID: u32 = 3;

/// The queue towards the driver (VirtIO 1.3 §5.3.2).
pub const RECEIVEQ: u16 = 0;
/// The queue towards the device.
pub const TRANSMITQ: u16 = 1;

/// Feature bits of the device, as masks (VirtIO 1.3 §5.3.3). None is offered:
/// the terminal is the driver's here, so that its size is not the device's to
/// tell; more ports are more devices; and a shell takes no emergency writes.
pub mod feature {
    /// `cols` and `rows` are valid.
    pub const SIZE: u64 = 1 << 0;
    /// Several ports and control queues.
    pub const MULTIPORT: u64 = 1 << 1;
    /// The driver may write single bytes into the configuration space.
    pub const EMERG_WRITE: u64 = 1 << 2;
}

#[cfg(test)]
mod tests {
    use virtio_spec::console::F;

    use super::*;

    #[test]
    fn feature_bits_are_those_of_an_independent_definition() {
        for (ours, theirs) in [
            (feature::SIZE, F::SIZE),
            (feature::MULTIPORT, F::MULTIPORT),
            (feature::EMERG_WRITE, F::EMERG_WRITE),
        ] {
            assert_eq!(u128::from(ours), theirs.bits().to_ne());
        }
    }

    #[test]
    fn the_device_id_is_that_of_an_independent_definition() {
        assert_eq!(DEVICE_ID, u32::from(u8::from(virtio_spec::Id::Console)));
    }
}
