//! The budget: a board has little memory.

use shared::virtq::DeviceSlot;

use crate::device::net::stack::Stack;
use crate::device::net::{Echo, NetDevice};
use crate::dma::CpuCopy;
use crate::rig::{FakeBoard, Memory};
use crate::service::Service;

/// State for one net device, its buffers and queue records apart, is below
/// 64 KiB: link, regions, trace and device together.
#[test]
fn the_whole_board_is_below_64_kib() {
    type Board<B> = Service<FakeBoard, CpuCopy, NetDevice<'static, Memory, B>>;
    let (echo, stack) = (size_of::<Board<Echo>>(), size_of::<Board<Stack<'static>>>());
    println!("echo {echo}, stack {stack}, a queue record {}", size_of::<DeviceSlot>());
    assert!(echo < 64 << 10 && stack < 64 << 10);
    // Records of two queues of 256 count as state as well.
    assert!(stack + 2 * 256 * size_of::<DeviceSlot>() < 64 << 10);
}
