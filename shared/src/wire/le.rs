//! Aligned little-endian integers.
//!
//! Aligned, because align-1 types compile to byte loads, and four byte reads
//! of a BAR are four bus reads and a torn value.

macro_rules! little_endian {
    ($name:ident, $native:ty, $doc:literal) => {
        #[doc = $doc]
        #[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
        #[repr(transparent)]
        pub struct $name($native);

        impl $name {
            /// The value in memory order.
            #[must_use]
            pub const fn new(value: $native) -> Self {
                Self(value.to_le())
            }

            /// The value in the CPU's order.
            #[must_use]
            pub const fn get(self) -> $native {
                <$native>::from_le(self.0)
            }
        }
    };
}

little_endian!(Le16, u16, "A 16-bit little-endian integer, aligned to 2.");
little_endian!(Le32, u32, "A 32-bit little-endian integer, aligned to 4.");
little_endian!(Le64, u64, "A 64-bit little-endian integer, aligned to 8.");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn natural_size_and_alignment() {
        assert_eq!((size_of::<Le16>(), align_of::<Le16>()), (2, 2));
        assert_eq!((size_of::<Le32>(), align_of::<Le32>()), (4, 4));
        assert_eq!((size_of::<Le64>(), align_of::<Le64>()), (8, 8));
    }

    #[test]
    fn low_byte_first() {
        // SAFETY-free check: the transparent inner value, seen as native bytes.
        assert_eq!(Le32::new(0x0403_0201).0.to_ne_bytes(), [1, 2, 3, 4]);
        assert_eq!(Le32::new(0x0403_0201).get(), 0x0403_0201);
    }
}
