//! The console device: set up, typed at, broken.

use shared::window::Window;
use shared::wire::console::{DEVICE_ID, RECEIVEQ, TRANSMITQ};
use shared::wire::features::REQUIRED;
use shared::wire::virtq::DESC_WRITE;

use crate::conform::device::{DRIVER_OK, Device, FEATURES_OK};
use crate::conform::kit::Kit;
use crate::conform::point::{Checked, Point, Stop, must, seen, skip};
use crate::conform::queue::{Queue, SIZE};
use crate::conform::session::Lent;

pub(super) const POINTS: &[Point] = &[
    Point {
        id: "console-device",
        section: "5.3",
        rule: "a console has two queues, and offers no SIZE, MULTIPORT or EMERG_WRITE",
        check: device,
    },
    Point {
        id: "console-input",
        section: "rings: Rings",
        rule: "what the host types is taken: its buffers come back with used.len 0",
        check: input,
    },
    Point {
        id: "console-output",
        section: "rings: Rings",
        rule: "what the board says fills the buffers that were posted, 1 byte to all of them",
        check: output,
    },
    Point {
        id: "console-malformed",
        section: "safety: Policy for each fault",
        rule: "a fault in a console's queue stops that console, and a reset heals it",
        check: malformed,
    },
    Point {
        id: "console-beside",
        section: "safety: Policy for each fault",
        rule: "a fault of the console's does not touch the network device",
        check: beside,
    },
];

/// Where the console's queues and buffers lie: behind the network device's.
const FIRST: u32 = 4;
const TO_BOARD: u64 = 0x5000;
const TO_HOST: u64 = 0x4000;
const BUFFER: u32 = 256;

struct Console {
    device: Device,
    lent: Lent,
    receive: Queue,
    transmit: Queue,
    /// Buffers that it has filled.
    heard: usize,
}

fn device(kit: &mut Kit<'_>) -> Checked {
    use shared::wire::console::feature;
    kit.attach()?;
    let device = kit.find_device(DEVICE_ID, "console")?;
    let offered = kit.offered(device)?;
    let never = feature::SIZE | feature::MULTIPORT | feature::EMERG_WRITE;
    must(device.info.queues == 2 && offered & never == 0, || {
        format!("{} queues, features {offered:#x}", device.info.queues)
    })
}

/// A console that runs in the session that is open.
fn up(kit: &mut Kit<'_>, lent: &Lent) -> Result<Console, Stop> {
    let device = kit.find_device(DEVICE_ID, "console")?;
    let status = kit.negotiate(device, REQUIRED.bits())?;
    must(status == FEATURES_OK, || format!("FEATURES_OK is refused: status {status:#x}"))?;
    let mut queues = Vec::new();
    for number in [RECEIVEQ, TRANSMITQ].map(u32::from) {
        let (largest, _) = kit.queue(device, number)?;
        let size = u16::try_from(largest).unwrap_or(SIZE).min(SIZE);
        let mut queue = Queue::new(lent, FIRST + number, size, 0);
        queue.number = number;
        kit.route_well(device, number)?;
        kit.set_queue(device, number, queue.setup())?;
        kit.verify_queue(device, &queue)?;
        queues.push(queue);
    }
    let mut queues = queues.into_iter();
    let (Some(mut receive), Some(transmit)) = (queues.next(), queues.next()) else {
        return seen("the console has no pair of queues");
    };
    for head in 0..receive.size {
        let address = lent.far.at(TO_HOST + u64::from(head) * u64::from(BUFFER));
        receive.chain(head, &[(address, BUFFER, DESC_WRITE)]);
        receive.offer(head);
    }
    receive.announce();
    kit.advance(device, DRIVER_OK)?;
    kit.ring_queue(&receive)?;
    Ok(Console { device, lent: lent.clone(), receive, transmit, heard: 0 })
}

fn open(kit: &mut Kit<'_>) -> Result<Console, Stop> {
    let lent = kit.share()?;
    up(kit, &lent)
}

/// Takes what the board says, and gives the buffers back.
fn listen(kit: &mut Kit<'_>, console: &mut Console) -> Checked {
    let back = console.receive.take()?;
    for (head, len) in &back {
        must(*len > 0, || format!("buffer {head} came back empty"))?;
        let address = console.lent.far.at(TO_HOST + u64::from(*head) * u64::from(BUFFER));
        console.receive.chain(*head, &[(address, BUFFER, DESC_WRITE)]);
        console.receive.offer(*head);
    }
    if !back.is_empty() {
        console.receive.announce();
        kit.ring_queue(&console.receive)?;
    }
    console.heard += back.len();
    Ok(())
}

/// Types `text`, and waits until it is taken.
fn types(kit: &mut Kit<'_>, console: &mut Console, text: &[u8]) -> Checked {
    let head = console.transmit.next() % console.transmit.size;
    let place = TO_BOARD + u64::from(head) * u64::from(BUFFER);
    let mut bytes = text.to_vec();
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    console.lent.near.window.write(place, &bytes);
    let len = u32::try_from(text.len()).unwrap_or(0);
    console.transmit.chain(head, &[(console.lent.near.at(place), len, 0)]);
    console.transmit.offer(head);
    console.transmit.announce();
    kit.ring_queue(&console.transmit)?;
    let limit = kit.patience();
    let taken = kit.until(limit, |kit| {
        // A board may want to be heard before it listens.
        listen(kit, console)?;
        for (_, len) in console.transmit.take()? {
            must(len == 0, || format!("it came back with used.len {len}"))?;
        }
        Ok((console.transmit.taken() == console.transmit.next()).then_some(()))
    })?;
    must(taken.is_some(), || format!("it is not taken in {} ms", limit.as_millis()))
}

fn input(kit: &mut Kit<'_>) -> Checked {
    let mut console = open(kit)?;
    for text in [&b"\r"[..], b"help\r", b"x"] {
        types(kit, &mut console, text)?;
    }
    Ok(())
}

fn output(kit: &mut Kit<'_>) -> Checked {
    let mut console = open(kit)?;
    types(kit, &mut console, b"\rhelp\r")?;
    let limit = kit.patience();
    let said = kit.until(limit, |kit| {
        listen(kit, &mut console)?;
        Ok((console.heard > 0).then_some(()))
    })?;
    match said {
        Some(()) => Ok(()),
        None => skip("the board says nothing on its console"),
    }
}

fn breaks(kit: &mut Kit<'_>, console: &mut Console) -> Checked {
    types(kit, console, b"\r")?;
    let index = shared::fault::PeerFault::DescriptorIndex { index: 0, size: 0 }.code();
    console.transmit.offer(u16::MAX);
    console.transmit.announce();
    kit.ring_queue(&console.transmit)?;
    kit.await_fault(console.device, TRANSMITQ.into(), &[index])
}

fn malformed(kit: &mut Kit<'_>) -> Checked {
    let mut console = open(kit)?;
    breaks(kit, &mut console)?;
    kit.reset_device(console.device)?;
    let lent = console.lent.clone();
    let mut again = up(kit, &lent)?;
    types(kit, &mut again, b"\r")
}

fn beside(kit: &mut Kit<'_>) -> Checked {
    let mut net = kit.net_up(0)?;
    kit.works(&mut net)?;
    let lent = net.lent.clone();
    let mut console = up(kit, &lent)?;
    breaks(kit, &mut console)?;
    let status = kit.status(net.device)?;
    must(status == DRIVER_OK, || format!("the network device has status {status:#x}"))?;
    kit.works(&mut net)
}
