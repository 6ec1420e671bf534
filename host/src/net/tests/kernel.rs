//! The kernel's verdict beside ours: what we let through, it takes.

use shared::region::Located;
use shared::window::Window;

use super::grammar::{HOST_MAC, Rng, Sample, open_rules};
use crate::namespace::in_namespace;
use crate::net::{CHECKED_BYTES, FramePort, Rules, Sanitizer, Sent};
use crate::netlink::Netlink;
use crate::raw::SharedMemory;
use crate::tap::{Tap, TapOptions};

/// Seeded frames for each MTU.
const FRAMES: u32 = 20_000;

fn release() -> String {
    std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap()
}

#[test]
fn what_passes_the_check_the_kernel_takes() {
    in_namespace("net::tests::kernel::what_passes_the_check_the_kernel_takes", || {
        for mtu in [1500, 9000, 65_521] {
            differential(mtu);
        }
    });
}

fn differential(mtu: u16) {
    let mut tap = Tap::open(&TapOptions::new("vphys0")).unwrap();
    tap.set_carrier(true).unwrap();
    let mut net = Netlink::open().unwrap();
    net.set_mac("vphys0", HOST_MAC).unwrap();
    net.set_mtu("vphys0", u32::from(mtu)).unwrap();
    net.set_up("vphys0").unwrap();
    net.add_address("vphys0", "10.0.0.1".parse().unwrap(), 24).unwrap();
    net.add_address("vphys0", "fd00::1".parse().unwrap(), 64).unwrap();

    let memory = SharedMemory::new(128 * 1024).unwrap();
    let window = memory.window();
    let rules: Rules = open_rules(mtu).for_kernel(&release());
    let mut sanitizer = Sanitizer::new(rules);
    let mut rng = Rng(u64::from(mtu));
    let mut passed = [0u32; 256];
    for turn in 0..FRAMES {
        let sample = Sample::random(&mut rng, usize::from(mtu));
        let mut head = sample.head();
        let Ok(checked) = sanitizer.check(&head, sample.frame.len() as u32) else { continue };
        let tail = sample.frame.get(CHECKED_BYTES..).unwrap_or(&[]);
        window.write(8, tail);
        let rest = [Located { window: &window, offset: 8, len: tail.len() as u32 }];
        let sent = tap.send(checked.head(&mut head), &rest).unwrap();
        assert_eq!(sent, Sent::Whole, "frame {turn} of MTU {mtu}: {:?}", checked.header());
        passed[usize::from(checked.header().gso_type)] += 1;
    }
    assert_eq!(tap.counters(), Default::default());
    for kind in [0, 1, 4, 5, 0x81, 0x84] {
        assert!(passed[kind] > 100, "type {kind:#x}: {} frames", passed[kind]);
    }
}

/// The other way round the kernel is laxer, but where it says no to a header
/// that lies, so do we.
#[test]
fn what_the_kernel_refuses_the_check_refuses() {
    in_namespace("net::tests::kernel::what_the_kernel_refuses_the_check_refuses", || {
        let mut tap = Tap::open(&TapOptions::new("vphys0")).unwrap();
        Netlink::open().unwrap().set_up("vphys0").unwrap();
        let rules = open_rules(1500).for_kernel(&release());
        let mut rng = Rng(7);
        let window = SharedMemory::new(8).unwrap().window();
        let mut refused = 0;
        for _ in 0..FRAMES {
            let sample = Sample::random(&mut rng, 1500);
            let mut bytes = sample.header.encode().to_vec();
            bytes.extend(&sample.frame);
            // As the board wrote it: what a bridge without a check would do.
            let raw = tap.send(&bytes, &[Located { window: &window, offset: 0, len: 0 }]).unwrap();
            // The kernel also refuses by hdr_len and unknown bits, which we
            // make right instead.
            let untouched =
                sample.check(rules).is_ok_and(|c| c.header().hdr_len == sample.header.hdr_len);
            if raw != Sent::Whole {
                refused += 1;
                assert!(!untouched, "{:?} of {} bytes", sample.header, sample.frame.len());
            }
        }
        assert!(refused > 500, "only {refused}");
    });
}
