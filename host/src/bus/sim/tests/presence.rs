//! Boards that are pulled out, put back, or start over by themselves, in both
//! modes.

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::*;
use crate::bus::{BusError, Latch, Ring};

fn modes() -> [Rig; 4] {
    let [one, two, three] = PROFILES.map(|profile| instrument(5, profile));
    [one, two, three, rig(SimOptions::counted())]
}

#[test]
fn a_card_that_is_pulled_out_answers_nothing() {
    for mut rig in modes() {
        let doorbell = rig.host.doorbell(&rig.bus.doorbells(), 1).unwrap();
        let latch = rig.host.interrupt(1).unwrap();
        set(&rig.host_bar, 0, 7);
        rig.bus.settle();
        rig.bus.unplug_board();

        assert_eq!(get(&rig.host_bar, 0), u32::MAX);
        let mut bytes = [0; 100];
        rig.host_bar.read(0, &mut bytes);
        assert_eq!(bytes, [0xFF; 100]);
        set(&rig.host_bar, 0, 8);
        doorbell.ring();
        // Nor does anything of the board's get out.
        set(&rig.board_ram, 0, 9);
        set(&rig.dma_ram, 1, 9);
        rig.board.raise(1);
        rig.bus.settle();
        assert_eq!((get(&rig.host_ram, 0), get(&rig.host_ram, 1)), (0, 0));
        assert_eq!(get(&rig.board_ram, 0), u32::MAX);
        assert!(!latch.drain());
        assert_eq!(rig.board.take_doorbells(), 0);
        assert_eq!(rig.bus.bill().iommu_faults, 0);

        let refused = rig.host.reset().unwrap_err();
        assert!(matches!(refused, BusError::Gone));
        assert!(!rig.board.take_reset(), "nobody is there to notice it");
        assert_eq!(
            refused.to_string(),
            "nobody answers where the board was: a card was pulled out or has no power (put it \
             back), a process has ended (start it again)"
        );
    }
}

#[test]
fn a_card_that_is_put_back_has_forgotten_everything_and_boots() {
    for mut rig in modes() {
        let latch = rig.host.interrupt(1).unwrap();
        set(&rig.host_bar, 0, 7);
        rig.bus.settle();
        rig.bus.unplug_board();
        rig.bus.replug_board();
        // It is there, but has not booted: its firmware of before says nothing.
        assert_eq!((get(&rig.host_bar, 0), get(&rig.board_bar, 0)), (0, 0));
        set(&rig.board_ram, 0, 9);
        rig.board.raise(1);
        rig.bus.settle();
        assert!(get(&rig.host_ram, 0) == 0 && !latch.drain());

        assert!(rig.board.take_reset() && !rig.board.take_reset());
        set(&rig.board_ram, 0, 9);
        rig.board.raise(1);
        rig.bus.settle();
        assert!(get(&rig.host_ram, 0) == 9 && latch.drain());
        assert!(rig.host.reset().is_ok());
    }
}

#[test]
fn a_card_that_is_put_back_or_reboots_wakes_its_thread() {
    for again in [SimBus::replug_board, SimBus::reboot_board] {
        let rig = rig(SimOptions::counted());
        rig.bus.unplug_board();
        rig.bus.revive_board();
        let readable = || {
            let mut fds = [PollFd::new(rig.board.doorbell_fd().unwrap(), PollFlags::POLLIN)];
            poll(&mut fds, PollTimeout::ZERO).unwrap() == 1
        };
        assert!(!readable());
        again(&rig.bus);
        assert!(readable() && rig.board.take_doorbells() == 0);
        assert!(!readable() && rig.board.take_reset());
    }
}

/// What a board has sent when it crashes is sent, what waits in its buffers is
/// not; a reset of the bus loses both.
#[test]
fn a_crash_loses_what_the_board_still_holds() {
    let mut arrived = [0; 2];
    for seed in 0..200 {
        for (by_bus, arrived) in [false, true].into_iter().zip(&mut arrived) {
            let mut rig = instrument(seed, Profile::Lazy);
            set(&rig.board_ram, 0, 1);
            rig.board_ram.barrier(Barrier::Full);
            set(&rig.board_ram, 1, 1);
            set(&rig.host_bar, 0, 1);
            if by_bus {
                rig.host.reset().unwrap();
            } else {
                rig.bus.reboot_board();
            }
            rig.bus.settle();
            *arrived += get(&rig.host_ram, 0);
            // Before it has noticed, nothing; then as ever.
            set(&rig.board_ram, 2, 1);
            rig.board_ram.barrier(Barrier::Full);
            rig.bus.settle();
            assert_eq!(get(&rig.host_ram, 2), 0);
            assert!(rig.board.take_reset());
            set(&rig.board_ram, 2, 1);
            rig.bus.settle();
            assert_eq!(get(&rig.host_ram, 2), 1);
        }
    }
    let [crash, reset] = arrived;
    assert!(crash == 200 && reset < 200, "{crash} and {reset} of 200 arrived");
}

#[test]
fn a_hook_pulls_the_card_out_at_any_access() {
    let mut rig = instrument(3, Profile::Eager);
    let hook = |access: &Access| (access.nth == 4).then_some(Fault::UnplugBoard);
    rig.bus.set_faults(Some(Box::new(hook))).unwrap();
    let found: Vec<u32> = (0..8).map(|_| get(&rig.host_bar, 0)).collect();
    assert_eq!(found[..4], [0; 4]);
    assert_eq!(found[4..], [u32::MAX; 4]);
    assert!(matches!(rig.host.reset(), Err(BusError::Gone)));
}

#[test]
fn what_is_shared_is_known() {
    for mut rig in modes() {
        assert_eq!(rig.bus.shared_bytes(), 1 << 16);
        rig.host.share(8192, Rights::READ).unwrap();
        assert_eq!(rig.bus.shared_bytes(), (1 << 16) + 8192);
        rig.host.unshare_all();
        assert_eq!(rig.bus.shared_bytes(), 0);
    }
}
