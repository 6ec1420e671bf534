//! virtio-net's control queue, as far as section 5.3 says more than VirtIO.

use shared::fault::PeerFault;
use shared::window::Window;
use shared::wire::net::feature;
use shared::wire::virtq::DESC_WRITE;

use crate::conform::device::DRIVER_OK;
use crate::conform::kit::Kit;
use crate::conform::net::{CONTROLQ, Net};
use crate::conform::point::{Checked, Point, Stop, must, seen};
use crate::conform::queue::Queue;

pub(super) const POINTS: &[Point] = &[
    Point {
        id: "commands-done",
        section: "5.3",
        rule: "a command that is right is answered with 0 in its writable byte, used.len 1",
        check: done,
    },
    Point {
        id: "commands-unknown",
        section: "5.3",
        rule: "a command that is unknown, malformed or not negotiated is answered with 1",
        check: unknown,
    },
    Point {
        id: "commands-unwritable",
        section: "5.3",
        rule: "a chain without a writable byte is fault 19",
        check: unwritable,
    },
];

/// Where a command and its answer lie in `near` and `far`.
const COMMAND: u64 = 0x6000;
const ANSWER: u64 = 0x6000;

/// Class and command: receive promiscuously (VirtIO 1.3 §5.1.6.5.1).
const PROMISCUOUS: [u8; 2] = [0, 0];
/// Class and command: the MAC address (VirtIO 1.3 §5.1.6.5.2).
const SET_MAC: [u8; 2] = [1, 1];

/// A network device with a control queue that runs.
fn up(kit: &mut Kit<'_>) -> Result<(Net, Queue), Stop> {
    let mut net = kit.net_up(feature::CTRL_VQ | feature::CTRL_RX)?;
    match net.control.take() {
        Some(queue) => Ok((net, queue)),
        None => seen("there is no third queue"),
    }
}

/// Gives a command: its answer, and used.len.
fn command(
    kit: &mut Kit<'_>,
    net: &Net,
    queue: &mut Queue,
    bytes: &[u8],
) -> Result<(u8, u32), Stop> {
    let head = queue.next() % (queue.size / 2) * 2;
    let mut padded = bytes.to_vec();
    padded.resize(bytes.len().next_multiple_of(4), 0);
    net.lent.near.window.write(COMMAND, &padded);
    net.lent.far.window.store(ANSWER, 0xEEEE_EEEE_u32);
    let len = u32::try_from(bytes.len()).unwrap_or(0);
    let parts = [(net.lent.near.at(COMMAND), len, 0), (net.lent.far.at(ANSWER), 1, DESC_WRITE)];
    queue.chain(head, &parts);
    queue.offer(head);
    queue.announce();
    kit.ring_queue(queue)?;
    let limit = kit.patience();
    let back = kit.until(limit, |_| Ok(queue.take()?.first().copied()))?;
    let Some((_, written)) = back else {
        return seen(format!("{bytes:02x?} is not answered in {} ms", limit.as_millis()));
    };
    let [answer, ..] = net.lent.far.window.load::<u32>(ANSWER).to_le_bytes();
    Ok((answer, written))
}

fn answered(
    kit: &mut Kit<'_>,
    net: &Net,
    queue: &mut Queue,
    bytes: &[u8],
    expected: u8,
) -> Checked {
    let (answer, written) = command(kit, net, queue, bytes)?;
    must((answer, written) == (expected, 1), || {
        format!("{bytes:02x?} is answered with {answer}, used.len {written}")
    })
}

fn done(kit: &mut Kit<'_>) -> Checked {
    let (mut net, mut queue) = up(kit)?;
    let [class, what] = PROMISCUOUS;
    for on in [0, 1] {
        answered(kit, &net, &mut queue, &[class, what, on], 0)?;
    }
    kit.works(&mut net)
}

fn unknown(kit: &mut Kit<'_>) -> Checked {
    let (mut net, mut queue) = up(kit)?;
    let [class, what] = PROMISCUOUS;
    // Its driver did not accept CTRL_MAC_ADDR.
    let address = [&SET_MAC[..], &[2, 0, 0, 0, 0, 9]].concat();
    for bytes in [&[0xEE, 0, 0][..], &[class, 0xEE, 0], &[class], &[class, what], &address] {
        answered(kit, &net, &mut queue, bytes, 1)?;
    }
    let status = kit.status(net.device)?;
    must(status == DRIVER_OK, || format!("the device has status {status:#x}"))?;
    kit.works(&mut net)
}

fn unwritable(kit: &mut Kit<'_>) -> Checked {
    let (net, mut queue) = up(kit)?;
    let code = PeerFault::ChainTooShort { found: 0, needed: 0 }.code();
    queue.chain(0, &[(net.lent.near.at(COMMAND), 3, 0)]);
    queue.offer(0);
    queue.announce();
    kit.ring_queue(&queue)?;
    kit.await_fault(net.device, CONTROLQ, &[code])
}
