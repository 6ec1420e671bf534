//! Every fault that a hook can ask for, and a board that dies.

use super::*;
use crate::bus::{Latch, Ring};

/// The `nth` access for which `pick` holds goes wrong.
fn at(
    nth: u64,
    pick: impl Fn(&Access) -> bool + Send + 'static,
    fault: Fault,
) -> Option<Box<dyn FaultHook>> {
    let mut seen = 0;
    Some(Box::new(move |access: &Access| {
        let hit = pick(access) && seen == nth;
        seen += u64::from(pick(access));
        hit.then_some(fault)
    }))
}

fn rigged(nth: u64, pick: impl Fn(&Access) -> bool + Send + 'static, fault: Fault) -> Rig {
    let rig = instrument(11, Profile::Eager);
    rig.bus.set_faults(at(nth, pick, fault)).unwrap();
    rig
}

fn is(kind: AccessKind) -> impl Fn(&Access) -> bool + Send + 'static {
    move |access| access.kind == kind
}

#[test]
fn a_load_finds_another_word() {
    let rig = rigged(1, is(AccessKind::Load), Fault::Replace(77));
    set(&rig.host_ram, 0, 5);
    assert_eq!([0; 3].map(|_: u32| get(&rig.host_ram, 0)), [5, 77, 5]);
    let rig = rigged(1, is(AccessKind::Load), Fault::Flip(0b110));
    set(&rig.host_ram, 0, 5);
    assert_eq!([0; 3].map(|_: u32| get(&rig.host_ram, 0)), [5, 3, 5]);
    let rig = rigged(0, is(AccessKind::Load), Fault::Drop);
    assert_eq!(rig.host_bar.load::<u64>(0), u64::MAX);
    assert_eq!(rig.host_bar.load::<u64>(0), 0);
}

#[test]
fn payload_is_bent_on_the_way() {
    let rig = rigged(0, is(AccessKind::PayloadStore), Fault::Flip(0xFF00));
    rig.host_bar.write(0, &[1; 100]);
    rig.bus.settle();
    let mut found = [0; 100];
    rig.board_bar.read(0, &mut found);
    assert_eq!((found[0], found[1], found[2]), (1, 0xFE, 1));

    let rig = rigged(0, is(AccessKind::PayloadLoad), Fault::Replace(9));
    rig.host_ram.read(0, &mut found);
    assert_eq!((found[0], found[1]), (9, 0));
    let rig = rigged(0, is(AccessKind::PayloadLoad), Fault::Drop);
    rig.host_ram.read(0, &mut found);
    assert_eq!(found, [0xFF; 100]);
    let rig = rigged(0, is(AccessKind::PayloadStore), Fault::Drop);
    rig.host_ram.write(0, &[1; 100]);
    rig.host_ram.read(0, &mut found);
    assert_eq!(found, [0; 100]);
}

#[test]
fn a_store_changes_or_is_lost() {
    let rig = rigged(1, is(AccessKind::Store), Fault::Replace(9));
    (0..3).for_each(|word| set(&rig.host_bar, word, 1));
    rig.bus.settle();
    assert_eq!([0, 1, 2].map(|word| get(&rig.board_bar, word)), [1, 9, 1]);
    let rig = rigged(1, is(AccessKind::Store), Fault::Drop);
    (0..3).for_each(|word| set(&rig.host_bar, word, 1));
    rig.bus.settle();
    assert_eq!([0, 1, 2].map(|word| get(&rig.board_bar, word)), [1, 0, 1]);
}

#[test]
fn a_delayed_store_is_overtaken() {
    let rig = rigged(0, is(AccessKind::Store), Fault::Delay(500));
    set(&rig.host_bar, 0, 1);
    rig.host_bar.barrier(Barrier::Full);
    set(&rig.host_bar, 1, 1);
    get(&rig.host_bar, 2);
    let seen = || {
        rig.board_bar.barrier(Barrier::Read);
        [0, 1].map(|word| get(&rig.board_bar, word))
    };
    assert_eq!(seen(), [0, 1]);
    rig.bus.run(600);
    assert_eq!(seen(), [1, 1]);
    // Local ones as well.
    let rig = rigged(0, is(AccessKind::Store), Fault::Delay(500));
    set(&rig.host_ram, 0, 1);
    assert_eq!(get(&rig.host_ram, 0), 0);
    rig.bus.settle();
    assert_eq!(get(&rig.host_ram, 0), 1);
}

/// How often each of 2000 steps finds a notification, and at which step the last.
fn arrivals(rig: &Rig, take: impl Fn() -> bool) -> (u64, u64) {
    let (mut times, mut last) = (0, 0);
    for step in 0..2000 {
        if take() {
            (times, last) = (times + 1, step);
        }
        rig.bus.run(1);
    }
    (times, last)
}

#[test]
fn notifications_are_lost_late_or_double() {
    let interrupt = |fault: Option<Fault>| {
        let rig = instrument(5, Profile::Eager);
        rig.bus.set_faults(fault.and_then(|f| at(0, is(AccessKind::Interrupt), f))).unwrap();
        rig.board.raise(2);
        let latch = rig.host.interrupt(2).unwrap();
        arrivals(&rig, || latch.drain())
    };
    let doorbell = |fault: Option<Fault>| {
        let rig = instrument(5, Profile::Eager);
        rig.bus.set_faults(fault.and_then(|f| at(0, is(AccessKind::Doorbell), f))).unwrap();
        rig.host.doorbell(&rig.bus.doorbells(), 3).unwrap().ring();
        arrivals(&rig, || rig.board.take_doorbells() == 8)
    };
    for notify in [&interrupt as &dyn Fn(Option<Fault>) -> (u64, u64), &doorbell] {
        let (times, step) = notify(None);
        assert!(times == 1 && step < 100);
        assert_eq!(notify(Some(Fault::Drop)).0, 0);
        let (times, step) = notify(Some(Fault::Delay(1000)));
        assert!(times == 1 && step > 400, "{times} at {step}");
        let (times, step) = notify(Some(Fault::Duplicate(1000)));
        assert!(times == 2 && step > 400, "{times} at {step}");
    }
}

#[test]
fn a_slow_completion_is_charged_to_who_waits() {
    let rig = rigged(0, |access| access.is_remote(), Fault::Stall(50_000_000));
    get(&rig.host_ram, 0);
    get(&rig.host_bar, 0);
    get(&rig.host_bar, 0);
    assert_eq!(rig.bus.bill()[(Initiator::HostCpu, Plane::Data)].stalled_ns, 50_000_000);
    assert!(rig.bus.bill().to_string().contains("stalled"));
}

#[test]
fn the_board_dies_at_the_kth_access_until_revived() {
    let rig = rigged(2, |access| access.target == Side::Board, Fault::KillBoard);
    set(&rig.host_bar, 0, 5);
    assert_eq!(get(&rig.host_bar, 0), 5);
    assert_eq!(get(&rig.host_bar, 0), u32::MAX);
    assert_eq!(rig.host_bar.load::<u64>(0), u64::MAX);
    let mut bytes = [0; 9];
    rig.host_bar.read(3, &mut bytes);
    assert_eq!(bytes, [0xFF; 9]);
    set(&rig.host_bar, 0, 6);
    // It sends nothing either.
    set(&rig.board_ram, 0, 1);
    rig.board.raise(1);
    rig.bus.settle();
    assert_eq!(get(&rig.host_ram, 0), 0);
    assert!(!rig.host.interrupt(1).unwrap().drain());
    assert_eq!(get(&rig.board_ram, 0), u32::MAX);
    rig.bus.revive_board();
    assert_eq!(get(&rig.host_bar, 0), 5);
    set(&rig.host_bar, 0, 6);
    assert_eq!(get(&rig.host_bar, 0), 6);
}

#[test]
fn a_dead_board_is_dead_in_counted_mode_too() {
    let rig = rig(SimOptions::counted());
    set(&rig.host_bar, 0, 5);
    rig.bus.kill_board();
    set(&rig.host_bar, 0, 6);
    rig.host_bar.write(64, &[1; 4]);
    set(&rig.board_ram, 0, 1);
    rig.board.raise(1);
    rig.host.doorbell(&rig.bus.doorbells(), 1).unwrap().ring();
    let mut bytes = [0; 4];
    rig.host_bar.read(64, &mut bytes);
    assert_eq!((get(&rig.host_bar, 0), bytes), (u32::MAX, [0xFF; 4]));
    rig.bus.revive_board();
    assert_eq!((get(&rig.host_bar, 0), get(&rig.host_bar, 1)), (5, 0));
    assert_eq!(get(&rig.host_ram, 0), 0);
    assert!(!rig.host.interrupt(1).unwrap().drain());
    assert_eq!(rig.board.take_doorbells(), 0);
    assert!(matches!(
        rig.bus.set_faults(at(0, |_| true, Fault::Drop)),
        Err(BusError::NotInstrument { .. })
    ));
}

#[test]
fn hooks_see_who_what_where_and_when() {
    use std::sync::mpsc;
    let rig = instrument(1, Profile::Eager);
    let (send, seen) = mpsc::channel();
    let hook = move |access: &Access| {
        send.send(*access).unwrap();
        None
    };
    rig.bus.set_faults(Some(Box::new(hook))).unwrap();
    rig.bus.tick(1234);
    rig.dma_ram.write(8, &[1, 2, 3]);
    rig.host.bar(0, StoreWidth::Bits64).unwrap().load::<u32>(16);
    rig.board.raise(0);
    let expected = Access {
        initiator: Initiator::BoardDma,
        plane: Plane::Data,
        kind: AccessKind::PayloadStore,
        target: Side::Host,
        address: rig.iova.bits() + DATA + 8,
        len: 3,
        value: 0x03_02_01,
        nth: 0,
        now: 1234,
    };
    assert_eq!(seen.recv().unwrap(), expected);
    assert!(expected.is_remote());
    let load = seen.recv().unwrap();
    assert_eq!((load.kind, load.plane, load.address), (AccessKind::Load, Plane::Link, 16));
    let interrupt = seen.recv().unwrap();
    assert_eq!((interrupt.kind, interrupt.plane), (AccessKind::Interrupt, Plane::Link));
    rig.bus.set_faults(None).unwrap();
    assert!(seen.recv().is_err());
}
