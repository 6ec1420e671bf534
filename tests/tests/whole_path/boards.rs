//! Boards and hosts that are unlike a PC: 32-bit words only, few small windows
//! into host memory, large pages.

use board::device::net::{Echo, NetBackend, Port};
use host::session::{Layout, SessionError};
use virtio_phys_tests::rig::frames::Sizes;
use virtio_phys_tests::rig::{EngineKind, Rig, RigOptions};

use super::load::{Streams, echo, streams};
use super::{LAYOUTS, PROFILES};

/// Whole sessions with traffic both ways, twice over.
fn carries(options: RigOptions, frames: u64, sizes: Sizes, look: impl Fn(&Rig)) {
    let mut rig = Rig::echo(options);
    for _ in 0..2 {
        rig.attach().unwrap();
        look(&rig);
        echo(&mut rig, frames, sizes);
        rig.detach().unwrap();
        rig.assert_clean();
        rig.next_session().unwrap();
    }
    let far = Streams::new(options.seed, sizes);
    let mut rig = Rig::new(options, Port::new(far, Echo::verbatim().features()));
    rig.attach().unwrap();
    streams(&mut rig, frames, sizes);
    rig.detach().unwrap();
    rig.assert_clean();
}

/// Every layout and profile on instrument, and the layouts on plain memory.
fn everywhere(layouts: &[Layout], run: impl Fn(RigOptions)) {
    let instruments = PROFILES.map(|profile| RigOptions::instrument(12, profile));
    for options in instruments.into_iter().chain([RigOptions::counted()]) {
        for layout in layouts {
            run(options.layout(*layout));
        }
    }
}

#[test]
fn a_board_of_32_bit_words() {
    let sizes = Sizes { large_one_in: 50, ..Sizes::PLAIN };
    everywhere(&LAYOUTS, |options| {
        carries(options.narrow().mtu(9004).sizes(64, 32), 600, sizes, |_| {});
        // And with all else that such a board may lack.
        let poor = options.narrow().mtu(9004).non_coherent(EngineKind::Cpu);
        carries(poor.sizes(16, 16), 300, Sizes::PLAIN, |_| {});
    });
}

/// What its windows do not hold is not shared, and not promised.
#[test]
fn a_board_of_few_small_windows() {
    const WINDOW: u64 = 64 << 10;
    everywhere(&[Layout::Split, Layout::AllHost], |options| {
        carries(options.windows(4, WINDOW), 600, Sizes::ETHERNET, |rig| {
            let shared = rig.bus.shared_bytes();
            assert!((2 * WINDOW..=4 * WINDOW).contains(&shared), "{shared} bytes are shared");
            let offloads = rig.terms().offloads;
            assert!(offloads.checksum && !offloads.tso4 && !offloads.uso4, "{offloads:?}");
        });
        let sizes = Sizes { large_one_in: 50, ..Sizes::ETHERNET };
        carries(options.windows(16, WINDOW), 600, sizes, |rig| {
            assert!(rig.terms().offloads.tso4);
        });
    });
}

#[test]
fn a_board_whose_windows_hold_no_ring() {
    for layout in [Layout::Split, Layout::AllHost] {
        for (windows, len, mtu) in [(1, 64 << 10, 1500), (4, 4 << 10, 1500), (4, 64 << 10, 65_521)]
        {
            let options = RigOptions::counted().layout(layout).mtu(mtu).windows(windows, len);
            let mut rig = Rig::echo(options);
            let refused = rig.attach().unwrap_err();
            assert!(matches!(refused, SessionError::Reach { .. }), "{layout}: {refused}");
            assert_eq!(
                refused.to_string(),
                format!(
                    "the board's {windows} windows of {len} bytes into host memory are too few \
                     for its buffers; lower the MTU, or choose layout bar-only"
                )
            );
            rig.assert_nothing_shared();
        }
    }
}

#[test]
fn a_host_of_large_pages() {
    let sizes = Sizes { large_one_in: 50, ..Sizes::PLAIN };
    for page in [16 << 10, 64 << 10] {
        everywhere(&LAYOUTS, |options| {
            carries(options.pages(page).mtu(9004).sizes(64, 32), 300, sizes, |rig| {
                assert!(rig.bus.shared_bytes().is_multiple_of(page));
            });
        });
        everywhere(&[Layout::Split, Layout::AllHost], |options| {
            carries(options.pages(page).windows(4, 64 << 10), 300, Sizes::ETHERNET, |_| {});
        });
    }
}
