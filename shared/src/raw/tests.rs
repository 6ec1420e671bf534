//! What lies in memory behind the windows that boards and hosts use, byte for
//! byte, on whatever processor this runs.

use std::cell::UnsafeCell;
use std::ptr::NonNull;
use std::rc::Rc;

use super::{BusWindow, StoreWidth};
use crate::window::Window;

/// Memory that keeps itself, aligned to 8 bytes.
#[derive(Clone, Debug)]
pub(crate) struct Mapped(Rc<[UnsafeCell<u64>]>);

/// A window as on a bus.
pub(crate) type MappedWindow = BusWindow<Mapped>;

/// A window over `len` zero bytes of its own, a multiple of 8.
pub(crate) fn mapped(len: u64, widest: StoreWidth) -> MappedWindow {
    let memory = Mapped((0..len / 8).map(|_| UnsafeCell::new(0)).collect());
    let start = NonNull::new(memory.0.as_ptr().cast_mut().cast()).unwrap();
    // SAFETY: u64s are aligned to 8, there are `len` bytes of them, `memory`
    // keeps them, cells may be written through a shared pointer, and nobody
    // forms a reference into them.
    unsafe { BusWindow::new(start, usize::try_from(len).unwrap(), widest, memory) }
}

/// The bytes in memory, read without the window.
pub(crate) fn bytes(window: &MappedWindow) -> Vec<u8> {
    let len = usize::try_from(window.len()).unwrap();
    // SAFETY: inside the memory that the window keeps, which one thread uses.
    (0..len).map(|at| unsafe { window.as_ptr().add(at).read() }).collect()
}

const WIDTHS: [StoreWidth; 2] = [StoreWidth::Bits32, StoreWidth::Bits64];

#[test]
fn words_lie_in_memory_with_their_lowest_byte_first() {
    for widest in WIDTHS {
        let window = mapped(16, widest);
        window.store(0, 0x0403_0201_u32);
        window.store(8, 0x0807_0605_0403_0201_u64);
        assert_eq!(bytes(&window), [1, 2, 3, 4, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(window.load::<u32>(0), 0x0403_0201);
        assert_eq!(window.load::<u64>(8), 0x0807_0605_0403_0201);
        assert_eq!([window.load::<u32>(8), window.load(12)], [0x0403_0201, 0x0807_0605]);
    }
}

#[test]
fn copies_keep_the_order_of_bytes() {
    let source: Vec<u8> = (1..=40).collect();
    for widest in WIDTHS {
        for at in 0..9_usize {
            for len in 0..31 {
                let window = mapped(48, widest);
                window.write(at as u64, &source[..len]);
                let mut expected = vec![0; 48];
                expected[at..at + len].copy_from_slice(&source[..len]);
                assert_eq!(bytes(&window), expected, "{len} bytes at {at}, {widest:?}");
                let mut read = vec![0; len];
                window.read(at as u64, &mut read);
                assert_eq!(read, source[..len], "{len} bytes at {at}, {widest:?}");
            }
        }
    }
}

#[test]
fn outside_and_misaligned_is_all_ones_and_changes_nothing() {
    let window = mapped(16, StoreWidth::Bits64);
    window.store(14, 1_u32);
    window.store(16, 1_u32);
    window.store(12, 1_u64);
    window.store(u64::MAX - 3, 1_u32);
    window.write(15, &[1, 1]);
    assert_eq!(bytes(&window), [0; 16]);
    assert_eq!((window.load::<u32>(14), window.load::<u64>(12)), (u32::MAX, u64::MAX));
    let mut read = [0; 2];
    window.read(15, &mut read);
    assert_eq!(read, [0xFF; 2]);
}
