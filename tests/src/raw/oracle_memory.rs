//! Memory that this project's queues and other people's share in one thread,
//! and the unsafe calls that the others want. Included by
//! `tests/ring_oracles.rs`, so that their packages stay dev-dependencies.
#![allow(unsafe_code)]

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::cell::RefCell;
use std::collections::HashMap;
use std::ptr::NonNull;
use std::sync::Arc;

use shared::raw::{RamWindow, StoreWidth};
use shared::window::Window;
use virtio_drivers::queue::VirtQueue;
use virtio_drivers::transport::{DeviceStatus, DeviceType, InterruptStatus, Transport};
use virtio_drivers::{BufferDirection, Hal, PhysAddr};
use vm_memory::{GuestAddress, GuestMemoryMmap, GuestRegionMmap, MmapRegion};
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// What page-aligned means to both packages.
const PAGE: usize = 4096;

/// The bus address of an arena's first byte.
pub(crate) const BASE: u64 = 0x4000_0000;

/// Zeroed, page-aligned memory of its own, freed with the last window.
pub(crate) struct Allocation {
    start: NonNull<u8>,
    layout: Layout,
}

// SAFETY: an address and a layout, never dereferenced here; the memory is
// owned until the drop, whichever thread that happens in.
unsafe impl Send for Allocation {}
// SAFETY: as for Send: there is nothing to race on but the memory itself,
// which is reached through windows and raw pointers only.
unsafe impl Sync for Allocation {}

impl Drop for Allocation {
    fn drop(&mut self) {
        // SAFETY: `start` came from `alloc_zeroed` with this layout, and this is
        // the only place that frees it.
        unsafe { dealloc(self.start.as_ptr(), self.layout) }
    }
}

/// Memory at [`BASE`] on a bus of its own.
#[derive(Clone)]
pub(crate) struct Arena {
    memory: Arc<Allocation>,
}

pub(crate) type ArenaWindow = RamWindow<Arc<Allocation>>;

impl Arena {
    pub(crate) fn new(len: usize) -> Self {
        let layout = Layout::from_size_align(len.next_multiple_of(PAGE), PAGE).unwrap();
        assert!(layout.size() > 0);
        // SAFETY: the layout's size is not zero.
        let start = NonNull::new(unsafe { alloc_zeroed(layout) }).expect("memory");
        Self { memory: Arc::new(Allocation { start, layout }) }
    }

    /// All of it.
    pub(crate) fn window(&self) -> ArenaWindow {
        let Allocation { start, layout } = &*self.memory;
        // SAFETY: page-aligned, mapped as long as the Arc lives, which the
        // window keeps; no reference into it is ever formed: everybody here
        // uses windows, raw pointers, or volatile accesses, in one thread.
        unsafe {
            RamWindow::new(*start, layout.size(), StoreWidth::Bits64, Arc::clone(&self.memory))
        }
    }

    /// The part at a bus address.
    pub(crate) fn part(&self, address: u64, len: u64) -> ArenaWindow {
        self.window().part(address - BASE, len).expect("inside the arena, aligned to 8")
    }

    /// The same memory as `vm-memory` sees it.
    pub(crate) fn guest_memory(&self) -> GuestMemoryMmap {
        let Allocation { start, layout } = &*self.memory;
        // SAFETY: page-aligned memory that outlives the result, because the
        // caller keeps the arena; `prot` and `flags` are only recorded.
        let region = unsafe { MmapRegion::build_raw(start.as_ptr(), layout.size(), 3, 2) };
        let region = GuestRegionMmap::new(region.unwrap(), GuestAddress(BASE)).unwrap();
        GuestMemoryMmap::from_regions(vec![region]).unwrap()
    }
}

/// Bytes of a bounce buffer: the largest single segment.
pub(crate) const BOUNCE: usize = 4096;
const ARENA: usize = 4 << 20;

/// The arena that the static methods of [`TestHal`] work on, one a thread.
struct Pool {
    arena: Arena,
    /// Next page that was never given out.
    fresh: usize,
    /// Bounce buffers that were given back.
    spare: Vec<u64>,
}

thread_local! {
    static POOL: RefCell<Pool> =
        RefCell::new(Pool { arena: Arena::new(ARENA), fresh: 0, spare: Vec::new() });
}

/// This thread's arena, where [`TestHal`] puts rings and bounce buffers.
pub(crate) fn hal_arena() -> Arena {
    POOL.with_borrow(|pool| pool.arena.clone())
}

fn fresh_pages(pages: usize) -> u64 {
    POOL.with_borrow_mut(|pool| {
        let at = pool.fresh;
        pool.fresh += pages * PAGE;
        assert!(pool.fresh <= ARENA, "the arena is used up");
        BASE + at as u64
    })
}

/// `virtio-drivers`' platform: buffers are copied into the arena and back, so
/// that the device never sees anything else.
pub(crate) struct TestHal;

// SAFETY: `dma_alloc` hands out pages of the arena that were never given out
// before: zeroed, page-aligned, mapped as long as the thread lives, and reached
// by the caller and through windows only. Addresses are distinct by construction.
unsafe impl Hal for TestHal {
    fn dma_alloc(pages: usize, _: BufferDirection) -> (PhysAddr, NonNull<u8>) {
        let address = fresh_pages(pages);
        let offset = usize::try_from(address - BASE).unwrap();
        let start = POOL.with_borrow(|pool| pool.arena.memory.start);
        // SAFETY: `fresh_pages` checked that the pages lie in the arena.
        (address, unsafe { start.add(offset) })
    }

    unsafe fn dma_dealloc(_: PhysAddr, _: NonNull<u8>, _: usize) -> i32 {
        0
    }

    unsafe fn mmio_phys_to_virt(_: PhysAddr, _: usize) -> NonNull<u8> {
        unreachable!("no device registers here")
    }

    unsafe fn share(buffer: NonNull<[u8]>, _: BufferDirection) -> PhysAddr {
        assert!(buffer.len() <= BOUNCE);
        let spare = POOL.with_borrow_mut(|pool| pool.spare.pop());
        let address = spare.unwrap_or_else(|| fresh_pages(BOUNCE / PAGE));
        // SAFETY: valid for reading during this call, by the trait's contract.
        let bytes = unsafe { buffer.as_ref() };
        hal_arena().window().write(address - BASE, bytes);
        address
    }

    unsafe fn unshare(address: PhysAddr, mut buffer: NonNull<[u8]>, direction: BufferDirection) {
        if direction != BufferDirection::DriverToDevice {
            // SAFETY: valid and ours during this call, by the trait's contract.
            let bytes = unsafe { buffer.as_mut() };
            hal_arena().window().read(address - BASE, bytes);
        }
        POOL.with_borrow_mut(|pool| pool.spare.push(address));
    }
}

/// A transport that only remembers where the queue lies.
#[derive(Default)]
pub(crate) struct Placement {
    pub(crate) descriptors: u64,
    pub(crate) avail: u64,
    pub(crate) used: u64,
}

impl Transport for Placement {
    fn device_type(&self) -> DeviceType {
        DeviceType::Network
    }
    fn read_device_features(&mut self) -> u64 {
        0
    }
    fn write_driver_features(&mut self, _: u64) {}
    fn max_queue_size(&mut self, _: u16) -> u32 {
        32768
    }
    fn notify(&mut self, _: u16) {}
    fn get_status(&self) -> DeviceStatus {
        DeviceStatus::empty()
    }
    fn set_status(&mut self, _: DeviceStatus) {}
    fn set_guest_page_size(&mut self, _: u32) {}
    fn requires_legacy_layout(&self) -> bool {
        false
    }
    fn queue_set(&mut self, _: u16, _: u32, descriptors: u64, avail: u64, used: u64) {
        *self = Self { descriptors, avail, used };
    }
    fn queue_unset(&mut self, _: u16) {}
    fn queue_used(&mut self, _: u16) -> bool {
        false
    }
    fn ack_interrupt(&mut self) -> InterruptStatus {
        InterruptStatus::empty()
    }
    fn read_config_generation(&self) -> u32 {
        0
    }
    fn read_config_space<T: FromBytes + IntoBytes>(&self, _: usize) -> virtio_drivers::Result<T> {
        Err(virtio_drivers::Error::Unsupported)
    }
    fn write_config_space<T: IntoBytes + Immutable>(
        &mut self,
        _: usize,
        _: T,
    ) -> virtio_drivers::Result<()> {
        Err(virtio_drivers::Error::Unsupported)
    }
}

/// What the device reads, and what it writes.
type Buffer = (Vec<Vec<u8>>, Vec<Vec<u8>>);

/// `virtio-drivers`' queue together with the buffers that are in flight, so
/// that they live until they come back.
pub(crate) struct OtherDriver<const SIZE: usize> {
    pub(crate) queue: VirtQueue<TestHal, SIZE>,
    out: HashMap<u16, Buffer>,
}

impl<const SIZE: usize> OtherDriver<SIZE> {
    pub(crate) fn new(event_idx: bool, indirect: bool) -> (Self, Placement) {
        let mut placement = Placement::default();
        let queue = VirtQueue::new(&mut placement, 0, indirect, event_idx).unwrap();
        (Self { queue, out: HashMap::new() }, placement)
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.out.len()
    }

    /// Adds a buffer; `None` if the queue is full.
    pub(crate) fn add(&mut self, to: Vec<Vec<u8>>, mut from: Vec<Vec<u8>>) -> Option<u16> {
        let inputs: Vec<&[u8]> = to.iter().map(Vec::as_slice).collect();
        let mut outputs: Vec<&mut [u8]> = from.iter_mut().map(Vec::as_mut_slice).collect();
        // SAFETY: `out` keeps both vectors, untouched, until `pop_used` has
        // taken the token back; TestHal copies them anyway.
        let token = unsafe { self.queue.add(&inputs, &mut outputs) }.ok()?;
        assert!(self.out.insert(token, (to, from)).is_none(), "token {token} is out");
        Some(token)
    }

    /// The next buffer that came back: its token, length, and what was
    /// written into it.
    pub(crate) fn pop(&mut self) -> Option<(u16, u32, Vec<Vec<u8>>)> {
        let token = self.queue.peek_used()?;
        let (to, mut from) = self.out.remove(&token).expect("a token that is out");
        let inputs: Vec<&[u8]> = to.iter().map(Vec::as_slice).collect();
        let mut outputs: Vec<&mut [u8]> = from.iter_mut().map(Vec::as_mut_slice).collect();
        // SAFETY: the very buffers that `add` gave for this token.
        let len = unsafe { self.queue.pop_used(token, &inputs, &mut outputs) }.unwrap();
        Some((token, len, from))
    }
}
