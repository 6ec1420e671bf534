//! Barrier instructions, by who the observer is (docs/protocol-rings.md, "Order").
//!
//! Rust's fences order CPUs: on aarch64 they are `dmb ish`, which leaves out a
//! PCIe device, and on riscv64 they leave out the I/O bits. So memory that is
//! shared across a bus has instructions of its own.

use core::sync::atomic::{Ordering as Fence, compiler_fence, fence};

use crate::window::Barrier;

/// Which observers a window's barriers must reach.
pub trait Ordering {
    /// Executes the barrier.
    fn barrier(barrier: Barrier);
}

/// The peer is a CPU of the same coherence domain (shared memory between
/// processes or virtual machines, threads of a test).
#[derive(Clone, Copy, Debug)]
pub struct BetweenCpus;

impl Ordering for BetweenCpus {
    #[inline(always)]
    fn barrier(barrier: Barrier) {
        match barrier {
            Barrier::Write => fence(Fence::Release),
            Barrier::Read => fence(Fence::Acquire),
            Barrier::Full => fence(Fence::SeqCst),
        }
    }
}

/// The peer is on the other side of a bus: a mapped BAR, an outbound window,
/// or memory of ours that the peer reads and writes across the bus.
#[derive(Clone, Copy, Debug)]
pub struct AcrossBus;

impl Ordering for AcrossBus {
    #[inline(always)]
    fn barrier(barrier: Barrier) {
        // The asm blocks have no `nomem`, so the compiler moves no memory
        // access across them; the fences say the same of atomics.
        compiler_fence(Fence::SeqCst);
        match barrier {
            Barrier::Write => instruction::write(),
            Barrier::Read => instruction::read(),
            Barrier::Full => instruction::full(),
        }
        compiler_fence(Fence::SeqCst);
    }
}

/// Defines the three instructions for one architecture.
macro_rules! instructions {
    ($write:literal, $read:literal, $full:literal) => {
        mod instruction {
            use core::arch::asm;

            #[inline(always)]
            pub(super) fn write() {
                // SAFETY: a barrier instruction without operands; it touches no
                // register, no flag and no stack, and is legal at every
                // privilege level of the architecture.
                unsafe { asm!($write, options(nostack, preserves_flags)) }
            }

            #[inline(always)]
            pub(super) fn read() {
                // SAFETY: as in `write`.
                unsafe { asm!($read, options(nostack, preserves_flags)) }
            }

            #[inline(always)]
            pub(super) fn full() {
                // SAFETY: as in `write`.
                unsafe { asm!($full, options(nostack, preserves_flags)) }
            }
        }
    };
}

// Stores stay in order among themselves and behind earlier loads, and so do
// loads, in RAM and in uncached windows alike (Intel SDM vol. 3 §10.2.2, §13.3): an empty block only
// stops the compiler. Write-combining mappings are not used (R4).
#[cfg(any(target_arch = "x86_64", target_arch = "x86"))]
instructions!("", "", "mfence");

// Outer shareable, because the peer is a PCIe device. The write barrier is no
// `dmb oshst`: that one lets a load of payload finish behind the index that
// gives its buffer back. `dsb sy` because R4 asks
// for stores accepted by the bus, which `dmb` does not promise (Arm ARM B2.3.12).
#[cfg(any(target_arch = "aarch64", target_arch = "arm64ec"))]
instructions!("dmb osh", "dmb oshld", "dsb sy");

// Armv7-A/R and Armv6-M have no load-only barrier.
#[cfg(target_arch = "arm")]
instructions!("dmb", "dmb", "dsb");

// Memory and I/O bits, because a BAR may be mapped as either (RISC-V ISA §2.7).
#[cfg(any(target_arch = "riscv32", target_arch = "riscv64"))]
instructions!("fence iorw,ow", "fence ir,ir", "fence iorw,iorw");

// `eieio` orders cacheable and guarded stores apart from each other, not
// against each other, so `sync` it is (Power ISA Book II §4.6.3).
#[cfg(any(target_arch = "powerpc", target_arch = "powerpc64"))]
instructions!("sync", "sync", "sync");

#[cfg(not(any(
    target_arch = "x86_64",
    target_arch = "x86",
    target_arch = "aarch64",
    target_arch = "arm64ec",
    target_arch = "arm",
    target_arch = "riscv32",
    target_arch = "riscv64",
    target_arch = "powerpc",
    target_arch = "powerpc64",
)))]
compile_error!(
    "virtio-phys does not know this processor's bus barriers: add them to shared/src/raw/barrier.rs"
);
