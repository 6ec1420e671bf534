//! Counted mode between threads.

use std::os::fd::BorrowedFd;
use std::thread;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::*;
use crate::bus::{Latch, Ring};

/// Waits until `fd` is readable; a wake-up that does not come is a failure.
fn wait(fd: BorrowedFd<'_>) {
    let mut fds = [PollFd::new(fd, PollFlags::POLLIN)];
    assert_eq!(poll(&mut fds, PollTimeout::from(20_000_u16)), Ok(1), "nobody woke us");
}

const MESSAGES: u32 = 50_000;

/// R4 between two threads: a counter each way, an event word each way, eventfds
/// for both, and nobody polls. A lost wake-up is a failed `wait`.
#[test]
fn two_threads_wake_each_other_and_lose_nothing() {
    let rig = rig(SimOptions::counted());
    // Word 0: messages made; word 1: the receiver wants to be woken.
    let latch = rig.host.interrupt(1).unwrap();
    let doorbell = rig.host.doorbell(&rig.bus.doorbells(), 1).unwrap();
    thread::scope(|scope| {
        // The board sends to the host's memory, up to eight ahead of the host.
        scope.spawn(|| {
            let (mut sent, mut taken) = (0, 0);
            while sent < MESSAGES {
                while sent < MESSAGES && sent - taken < 8 {
                    rig.board_ram.write(4096 + u64::from(sent % 8) * 64, &[sent as u8; 40]);
                    sent += 1;
                }
                rig.board_ram.barrier(Barrier::Write);
                set(&rig.board_ram, 0, sent);
                rig.board_ram.barrier(Barrier::Full);
                if get(&rig.board_bar, 1) == 1 {
                    rig.board.raise(1);
                }
                taken = get(&rig.board_bar, 0);
                if sent < MESSAGES && sent - taken == 8 {
                    let _ = rig.board.take_doorbells();
                    set(&rig.board_ram, 1, 1);
                    rig.board_ram.barrier(Barrier::Full);
                    taken = get(&rig.board_bar, 0);
                    if sent - taken == 8 {
                        wait(rig.board.doorbell_fd().unwrap());
                        taken = get(&rig.board_bar, 0);
                    }
                    set(&rig.board_ram, 1, 0);
                }
            }
        });
        scope.spawn(|| {
            let mut taken = 0;
            while taken < MESSAGES {
                let made = get(&rig.host_ram, 0);
                rig.host_ram.barrier(Barrier::Read);
                while taken < made {
                    let mut message = [0; 40];
                    rig.host_ram.read(4096 + u64::from(taken % 8) * 64, &mut message);
                    assert_eq!(message, [taken as u8; 40]);
                    taken += 1;
                }
                set(&rig.host_bar, 0, taken);
                rig.host_bar.barrier(Barrier::Full);
                if get(&rig.host_ram, 1) == 1 {
                    doorbell.ring();
                }
                latch.drain();
                set(&rig.host_bar, 1, 1);
                rig.host_bar.barrier(Barrier::Full);
                if taken < MESSAGES && get(&rig.host_ram, 0) == taken {
                    wait(latch.fd().unwrap());
                }
                set(&rig.host_bar, 1, 0);
            }
        });
    });
    let bill = rig.bus.bill();
    let host = bill[(Initiator::HostCpu, Plane::Data)];
    let board = bill[(Initiator::BoardCpu, Plane::Data)];
    assert_eq!(host.local.payload_loads, u64::from(MESSAGES));
    assert_eq!(board.remote.payload_stores, u64::from(MESSAGES));
    assert_eq!((host.bus_reads(), board.bus_reads()), (0, 0));
}

#[test]
fn doorbells_leave_the_descriptor_unreadable_once_taken() {
    let rig = rig(SimOptions::counted());
    let fd = rig.board.doorbell_fd().unwrap();
    let readable = || {
        let mut fds = [PollFd::new(fd, PollFlags::POLLIN)];
        poll(&mut fds, PollTimeout::ZERO).unwrap() == 1
    };
    let doorbell = rig.host.doorbell(&rig.bus.doorbells(), 1).unwrap();
    assert!(!readable());
    for _ in 0..3 {
        doorbell.ring();
        doorbell.ring();
        assert!(readable());
        assert_eq!(rig.board.take_doorbells(), 2);
        assert!(!readable());
        assert_eq!(rig.board.take_doorbells(), 0);
    }
    // A reset wakes the board too, and takes back what rang before.
    doorbell.ring();
    rig.bus.host().reset().unwrap();
    assert!(readable());
    assert_eq!(rig.board.take_doorbells(), 0);
    assert!(!readable() && rig.board.take_reset());
}

#[test]
fn counts_of_many_threads_add_up() {
    let rig = rig(SimOptions::counted());
    thread::scope(|scope| {
        for word in 0..3 {
            let window = &rig.host_bar;
            scope.spawn(move || (0..10_000).for_each(|value| set(window, word, value)));
        }
    });
    let host = rig.bus.bill()[(Initiator::HostCpu, Plane::Data)];
    assert_eq!((host.remote.control_stores, host.tlps_uncached), (30_000, 30_000));
}
