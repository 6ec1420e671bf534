//! The budget: a board has little memory.

use shared::address::BusAddress;
use shared::msg::body::ResultCode;
use shared::raw::BusWindow;
use shared::region::RegionTable;
use shared::virtq::DeviceSlot;

use crate::device::net::stack::{PacketMetadata, SOCKETS, SocketStorage, Stack, UDP_PACKETS};
use crate::device::net::{Echo, NetDevice};
use crate::dma::CpuCopy;
use crate::service::Service;
use crate::support::{Doorbells, WindowBoard};

/// What state may take, buffers apart, in bytes.
const BUDGET: usize = 64 << 10;

/// Entries of each of the two queues.
const ENTRIES: usize = 256;

/// A board on real windows, with everything that its service holds: link and
/// message channel, regions, trace and counters, the device and its backend.
type Board<B> = Service<
    WindowBoard<
        BusWindow,
        1,
        fn(BusAddress, u64) -> Result<BusWindow, ResultCode>,
        fn() -> Doorbells,
        fn(u16),
    >,
    CpuCopy,
    NetDevice<'static, BusWindow, B>,
>;

/// State for one net device is below 64 KiB. Counted with it: what the board
/// brings for its whole life and is no buffer, that is the queues' records and
/// the places of the stack's sockets and packets. Not counted: bytes of frames
/// and of sockets.
#[test]
fn the_state_of_a_board_with_one_net_device_is_below_64_kib() {
    let records = 2 * ENTRIES * size_of::<DeviceSlot>();
    let places = size_of::<[SocketStorage<'static>; SOCKETS]>()
        + size_of::<[PacketMetadata; 2 * UDP_PACKETS]>();
    let (echo, stack) = (size_of::<Board<Echo>>(), size_of::<Board<Stack<'static>>>());
    println!(
        "service with echo {echo}, with the stack {stack}; of it regions {}, the device {}; \
         records {records}, places {places}",
        size_of::<RegionTable<BusWindow>>(),
        size_of::<NetDevice<'static, BusWindow, Stack<'static>>>(),
    );
    assert!(stack > size_of::<RegionTable<BusWindow>>() + size_of::<Stack<'static>>());
    assert!(echo + records < BUDGET / 2, "{echo} + {records}");
    assert!(stack + records + places < BUDGET, "{stack} + {records} + {places}");
}
