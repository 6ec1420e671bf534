//! Device status bits and device ids (VirtIO 1.3 §2.1, §5).

use core::fmt;
use core::ops::BitOr;

/// The device status field, 32 bits wide in virtio-msg.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct DeviceStatus(u32);

impl DeviceStatus {
    /// Written: resets the device. Read: it is reset.
    pub const RESET: Self = Self(0);
    /// The driver has found the device.
    pub const ACKNOWLEDGE: Self = Self(1);
    /// The driver knows how to drive it.
    pub const DRIVER: Self = Self(2);
    /// The driver is set up.
    pub const DRIVER_OK: Self = Self(4);
    /// The features are agreed.
    pub const FEATURES_OK: Self = Self(8);
    /// Suspended (never offered here).
    pub const SUSPEND: Self = Self(16);
    /// The device has had an error that only a reset ends.
    pub const DEVICE_NEEDS_RESET: Self = Self(64);
    /// The driver has given up.
    pub const FAILED: Self = Self(128);

    /// Each bit by its name.
    pub const NAMES: [(Self, &'static str); 7] = [
        (Self::ACKNOWLEDGE, "ACKNOWLEDGE"),
        (Self::DRIVER, "DRIVER"),
        (Self::DRIVER_OK, "DRIVER_OK"),
        (Self::FEATURES_OK, "FEATURES_OK"),
        (Self::SUSPEND, "SUSPEND"),
        (Self::DEVICE_NEEDS_RESET, "DEVICE_NEEDS_RESET"),
        (Self::FAILED, "FAILED"),
    ];

    /// The status with these bits, as found on the wire.
    #[must_use]
    pub const fn new(bits: u32) -> Self {
        Self(bits)
    }

    /// The bits.
    #[must_use]
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// Whether all of `other` is set.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// The status without the bits of `other`.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether the device is reset.
    #[must_use]
    pub const fn is_reset(self) -> bool {
        self.0 == 0
    }
}

impl BitOr for DeviceStatus {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl fmt::Debug for DeviceStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for DeviceStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_reset() {
            return f.write_str("reset");
        }
        let mut left = self.0;
        let mut separator = "";
        for (bit, name) in Self::NAMES {
            if self.contains(bit) {
                write!(f, "{separator}{name}")?;
                separator = " ";
                left &= !bit.0;
            }
        }
        if left == 0 { Ok(()) } else { write!(f, "{separator}{left:#x}") }
    }
}

/// Device id: a network interface.
pub const ID_NET: u32 = super::net::DEVICE_ID;
/// Device id: a console.
pub const ID_CONSOLE: u32 = 3;

#[cfg(test)]
mod tests {
    use super::*;
    use virtio_spec::{DeviceStatus as Spec, Id};

    #[test]
    fn every_number() {
        let pinned: [(DeviceStatus, u32, Spec); 7] = [
            (DeviceStatus::ACKNOWLEDGE, 1, Spec::ACKNOWLEDGE),
            (DeviceStatus::DRIVER, 2, Spec::DRIVER),
            (DeviceStatus::DRIVER_OK, 4, Spec::DRIVER_OK),
            (DeviceStatus::FEATURES_OK, 8, Spec::FEATURES_OK),
            (DeviceStatus::SUSPEND, 16, Spec::SUSPEND),
            (DeviceStatus::DEVICE_NEEDS_RESET, 64, Spec::DEVICE_NEEDS_RESET),
            (DeviceStatus::FAILED, 128, Spec::FAILED),
        ];
        for ((ours, number, theirs), (named, name)) in pinned.into_iter().zip(DeviceStatus::NAMES) {
            assert_eq!(ours.bits(), number, "{name}");
            assert_eq!(ours, named, "{name}");
            assert_eq!(ours.bits(), u32::from(theirs.bits()), "{name}");
            assert_eq!(ours.to_string(), name);
        }
        for (ours, pinned, theirs) in [(ID_NET, 1, Id::Net), (ID_CONSOLE, 3, Id::Console)] {
            assert_eq!(ours, pinned);
            assert_eq!(ours, u32::from(u8::from(theirs)));
        }
    }

    #[test]
    fn display_names_and_numbers() {
        let status = DeviceStatus::ACKNOWLEDGE | DeviceStatus::FAILED | DeviceStatus::new(0x100);
        assert_eq!(status.to_string(), "ACKNOWLEDGE FAILED 0x100");
        assert_eq!(DeviceStatus::RESET.to_string(), "reset");
    }
}
