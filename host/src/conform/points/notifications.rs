//! Doorbells and interrupts: each that is asked for, and no other.

use shared::wire::control::live;
use shared::wire::features::EVENT_IDX;

use crate::conform::Answers;
use crate::conform::frames::SHORTEST;
use crate::conform::kit::Kit;
use crate::conform::net::{Net, RECEIVEQ, TRANSMITQ};
use crate::conform::point::{Checked, Point, Stop, must, seen, skip};
use crate::conform::session::raw;

pub(super) const POINTS: &[Point] = &[
    Point {
        id: "notify-asked",
        section: "rings: Notification",
        rule: "an interrupt is raised when the used entry that used_event names is published",
        check: |kit| asked(kit, TRANSMITQ),
    },
    Point {
        id: "notify-asked-receive",
        section: "rings: Notification",
        rule: "the same for frames to the host",
        check: |kit| asked(kit, RECEIVEQ),
    },
    Point {
        id: "notify-not-asked",
        section: "rings: Notification",
        rule: "no interrupt is raised for used entries that used_event does not name",
        check: not_asked,
    },
    Point {
        id: "notify-inside-batch",
        section: "rings: Notification",
        rule: "the entry that used_event names may be any of a batch",
        check: inside_batch,
    },
    Point {
        id: "notify-flags",
        section: "rings: Notification",
        rule: "without VIRTIO_F_EVENT_IDX an interrupt follows each batch, unless the flag says no",
        check: flags,
    },
    Point {
        id: "notify-quiet",
        section: "rings: Notification",
        rule: "without a new used entry no queue's vector is raised",
        check: quiet,
    },
    Point {
        id: "notify-first",
        section: "rings: Rings",
        rule: "with event words of zero the first entry is announced",
        check: first,
    },
    Point {
        id: "notify-arm",
        section: "rings: Notification",
        rule: "a device that has seen everything asks for the next doorbell by avail_event",
        check: arm,
    },
    Point {
        id: "notify-arm-flags",
        section: "rings: Notification",
        rule: "without VIRTIO_F_EVENT_IDX it asks by a flag that is clear",
        check: arm_flags,
    },
    Point {
        id: "notify-again",
        section: "rings: Notification",
        rule: "each time it has asked, a doorbell wakes it",
        check: again,
    },
    Point {
        id: "notify-in-band",
        section: "5.1",
        rule: "EVENT_AVAIL as a message means: look at that queue",
        check: in_band,
    },
    Point {
        id: "notify-spurious",
        section: "rings: Notification",
        rule: "a doorbell with nothing to see, or of no queue, is harmless",
        check: spurious,
    },
];

/// Takes what a vector has told so far; it may be shared with another queue.
fn drain(kit: &mut Kit<'_>, net: &Net) -> Result<u32, Stop> {
    let (_, vector) = kit.notifications(net.transmit.number)?;
    let (_, other) = kit.notifications(net.receive.number)?;
    if vector == other {
        return skip("the queues share a vector");
    }
    kit.take_vector(vector);
    kit.take_vector(other);
    Ok(vector)
}

/// A device that runs and is done with its first frame.
fn up(kit: &mut Kit<'_>, features: u64) -> Result<Net, Stop> {
    let mut net = kit.net_up(features)?;
    kit.works(&mut net)?;
    Ok(net)
}

/// Sends `count` frames at once and waits until they are back.
fn send(kit: &mut Kit<'_>, net: &mut Net, count: u16) -> Checked {
    for _ in 0..count {
        let (_, _, frame) = net.ask(Answers::Echo, SHORTEST);
        net.offer(&frame);
    }
    kit.push(net)?;
    kit.settle(net)
}

/// Waits for a vector.
fn await_vector(kit: &mut Kit<'_>, vector: u32) -> Checked {
    let limit = kit.patience();
    let raised = kit.until(limit, |kit| Ok(kit.take_vector(vector).then_some(())))?;
    must(raised.is_some(), || format!("vector {vector} is not raised in {} ms", limit.as_millis()))
}

/// What was raised comes before the answer to a ping behind it.
fn none_raised(kit: &mut Kit<'_>, vector: u32, why: &str) -> Checked {
    for _ in 0..4 {
        kit.fence("used entries")?;
        must(!kit.take_vector(vector), || format!("vector {vector} was raised, {why}"))?;
    }
    Ok(())
}

fn asked(kit: &mut Kit<'_>, queue: u32) -> Checked {
    let mut net = up(kit, EVENT_IDX)?;
    if queue == TRANSMITQ {
        let vector = drain(kit, &net)?;
        for _ in 0..4 {
            net.transmit.ask_at(net.transmit.taken());
            send(kit, &mut net, 1)?;
            await_vector(kit, vector)?;
        }
        return Ok(());
    }
    let answers = kit.need_answers(&mut net)?;
    drain(kit, &net)?;
    let (_, vector) = kit.notifications(RECEIVEQ)?;
    for _ in 0..4 {
        net.receive.ask_at(net.receive.taken());
        kit.question(&mut net, answers, SHORTEST)?;
        await_vector(kit, vector)?;
    }
    Ok(())
}

fn not_asked(kit: &mut Kit<'_>) -> Checked {
    let mut net = up(kit, EVENT_IDX)?;
    // Half the numbers away: nothing that comes soon, nothing that has just been.
    net.transmit.ask_at(net.transmit.taken().wrapping_add(1 << 15));
    kit.fence("used_event")?;
    let vector = drain(kit, &net)?;
    for count in [1, 4, 1] {
        send(kit, &mut net, count)?;
        none_raised(kit, vector, "used_event lies 2^15 ahead")?;
    }
    Ok(())
}

fn inside_batch(kit: &mut Kit<'_>) -> Checked {
    let mut net = up(kit, EVENT_IDX)?;
    let vector = drain(kit, &net)?;
    for place in 0..4 {
        net.transmit.ask_at(net.transmit.taken().wrapping_add(place));
        send(kit, &mut net, 4)?;
        await_vector(kit, vector)?;
        kit.fence("used entries")?;
        kit.take_vector(vector);
    }
    Ok(())
}

fn flags(kit: &mut Kit<'_>) -> Checked {
    let mut net = up(kit, 0)?;
    net.transmit.want_interrupts(false);
    kit.fence("a flag")?;
    let vector = drain(kit, &net)?;
    send(kit, &mut net, 2)?;
    none_raised(kit, vector, "VIRTQ_AVAIL_F_NO_INTERRUPT is set")?;
    net.transmit.want_interrupts(true);
    send(kit, &mut net, 2)?;
    await_vector(kit, vector)
}

fn quiet(kit: &mut Kit<'_>) -> Checked {
    let net = up(kit, EVENT_IDX)?;
    net.transmit.ask_at(net.transmit.taken());
    net.receive.ask_at(net.receive.taken());
    kit.fence("event words")?;
    let vector = drain(kit, &net)?;
    let mut last = kit.live(live::HEARTBEAT)?;
    let mut beats = 0;
    let limit = 4 * (kit.silence() + kit.interval());
    // Three beats, in which messages come and go and doorbells ring.
    let done = kit.until(limit, |kit| {
        kit.fence("nothing")?;
        kit.ring(2);
        let taken = net.transmit.used_index();
        let told = kit.take_vector(vector);
        must(!told || taken != net.transmit.taken(), || {
            format!("vector {vector} was raised, used.idx is {taken} as before")
        })?;
        let beat = kit.live(live::HEARTBEAT)?;
        beats += u32::from(beat != last);
        last = beat;
        Ok((beats >= 3).then_some(()))
    })?;
    match done {
        Some(()) => Ok(()),
        None => seen("the heartbeat stands still"),
    }
}

fn first(kit: &mut Kit<'_>) -> Checked {
    let mut net = kit.net_set(EVENT_IDX)?;
    let vector = drain(kit, &net)?;
    kit.net_start(&mut net)?;
    send(kit, &mut net, 1)?;
    await_vector(kit, vector)
}

/// How long a device may go on polling before it sleeps: two heartbeats.
fn asleep(kit: &mut Kit<'_>, mut asks: impl FnMut() -> bool) -> Result<Option<()>, Stop> {
    let limit = 2 * (kit.silence() + kit.interval());
    kit.until(limit, |_| Ok(asks().then_some(())))
}

fn arm(kit: &mut Kit<'_>) -> Checked {
    let net = up(kit, EVENT_IDX)?;
    let wanted = net.transmit.next();
    let armed = asleep(kit, || net.transmit.asked_at() == wanted)?;
    must(armed.is_some(), || {
        format!("avail_event is {}, the next entry is {wanted}", net.transmit.asked_at())
    })
}

fn arm_flags(kit: &mut Kit<'_>) -> Checked {
    let net = up(kit, 0)?;
    let armed = asleep(kit, || !net.transmit.unwanted())?;
    must(armed.is_some(), || "VIRTQ_USED_F_NO_NOTIFY stays set".to_owned())
}

fn again(kit: &mut Kit<'_>) -> Checked {
    let mut net = up(kit, EVENT_IDX)?;
    for _ in 0..16 {
        let wanted = net.transmit.next();
        let armed = asleep(kit, || net.transmit.asked_at() == wanted)?;
        must(armed.is_some(), || format!("avail_event is not {wanted}"))?;
        send(kit, &mut net, 1)?;
    }
    Ok(())
}

fn in_band(kit: &mut Kit<'_>) -> Checked {
    let mut net = up(kit, 0)?;
    let (_, _, frame) = net.ask(Answers::Echo, SHORTEST);
    net.offer(&frame);
    net.transmit.announce();
    let next = u32::from(net.transmit.next());
    let payload = crate::conform::session::words(&[TRANSMITQ, next]);
    kit.send(&raw(0, 0x41, net.device.number, 0, 16, &payload))?;
    kit.settle(&mut net)
}

fn spurious(kit: &mut Kit<'_>) -> Checked {
    let mut net = up(kit, 0)?;
    for index in (0..4).cycle().take(64) {
        kit.ring(index);
    }
    // In band as well, of queues and devices that there are and are not.
    for (device, queue) in [(net.device.number, 0), (net.device.number, u32::MAX), (63, 0)] {
        let payload = crate::conform::session::words(&[queue, 0]);
        kit.send(&raw(0, 0x41, device, 0, 16, &payload))?;
    }
    kit.works(&mut net)
}
