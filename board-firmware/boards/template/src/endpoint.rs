//! The PCIe endpoint controller: [`BoardSupport`].
//!
//! Before this the boot ROM, or you, have set up what the host enumerates,
//! within 100 ms of the end of its reset (PCI Express Base Specification 5.0
//! §6.6.1): vendor and device id; BAR 0 as memory of [`soc::BAR_LEN`] bytes,
//! with an inbound window to [`soc::address::BAR_MEMORY`]; the BAR of the
//! doorbells; MSI-X. In Device Control relaxed ordering and no-snoop off, and
//! ID-based ordering off in Device Control 2: the host may have set them.

use board::program::CONTROL_LEN;
use board::support::{BoardSupport, Doorbells};
use shared::link::{DoorbellDescription, Outbound};
use shared::msg::body::{RegionKind, RegionMessage, ResultCode};
use shared::window::{Barrier, Window};

use crate::raw::{self, ENDPOINT, INTERRUPTS};
use crate::soc::{self, endpoint, interrupts};
use crate::window::TwoMappings;

const WINDOWS: usize = endpoint::WINDOWS as usize;

/// The endpoint controller, and what of host memory it shows.
pub(crate) struct Endpoint {
    bar: TwoMappings,
    /// The region that each outbound window belongs to.
    windows: [Option<u32>; WINDOWS],
}

/// How the host rings: in the control block, for it to read.
pub(crate) const DOORBELL: DoorbellDescription = DoorbellDescription {
    bar: endpoint::DOORBELL_BAR,
    offset: endpoint::DOORBELL_OFFSET,
    stride: 0,
    count: endpoint::DOORBELL_COUNT,
    value: 0,
    step: 1,
};

/// How far the board reaches. `None` for a board that cannot read or write host
/// memory: then everything lies in BAR 0, and costs the host reads.
pub(crate) const REACH: Outbound = Outbound {
    windows: endpoint::WINDOWS,
    size: endpoint::WINDOW_LEN,
    alignment: endpoint::WINDOW_ALIGNMENT,
    address_bits: endpoint::ADDRESS_BITS,
};

impl Endpoint {
    /// The controller, none of its outbound windows open.
    pub(crate) fn new(bar: TwoMappings) -> Self {
        let mut endpoint = Self { bar, windows: [None; _] };
        for window in 0..WINDOWS {
            endpoint.point(window, None);
        }
        // What rang before this boot is none of its business.
        ENDPOINT.write(endpoint::DOORBELLS, u32::MAX);
        ENDPOINT.write(endpoint::RESETS, u32::MAX);
        let source = interrupts::ENDPOINT;
        INTERRUPTS.write(interrupts::PRIORITY + 4 * source as usize, 1);
        INTERRUPTS.write(interrupts::THRESHOLD, 0);
        INTERRUPTS.write(interrupts::ENABLE, 1 << source);
        raw::enable_wakeups();
        endpoint
    }

    /// Points outbound window `window` at a bus address, or closes it.
    #[expect(clippy::cast_possible_truncation, reason = "takes the halves apart")]
    fn point(&mut self, window: usize, at: Option<u64>) {
        let registers = endpoint::WINDOW + window * endpoint::WINDOW_STRIDE;
        ENDPOINT.write(registers + endpoint::WINDOW_ENABLE, 0);
        if let Some(at) = at {
            ENDPOINT.write(registers + endpoint::WINDOW_TARGET, at as u32);
            ENDPOINT.write(registers + endpoint::WINDOW_TARGET + 4, (at >> 32) as u32);
            ENDPOINT.write(registers + endpoint::WINDOW_ENABLE, 1);
        }
        // Read back: behind it the controller uses the new values.
        ENDPOINT.read(registers + endpoint::WINDOW_ENABLE);
    }

    /// A window onto host memory; the region may lie in several outbound
    /// windows, which are neighbours.
    fn open_host(&mut self, region: &RegionMessage) -> Result<TwoMappings, ResultCode> {
        let (base, len) = (region.base.bits(), region.len);
        let count = REACH.windows_for(base, len).ok_or(ResultCode::OutOfReach)?;
        let count = usize::try_from(count).map_err(|_| ResultCode::NoRoom)?;
        let free = |run: &[Option<u32>]| run.iter().all(Option::is_none);
        let first = self.windows.windows(count).position(free).ok_or(ResultCode::NoRoom)?;
        let start = base - base % endpoint::WINDOW_ALIGNMENT;
        let offset = first as u64 * endpoint::WINDOW_LEN + (base - start);
        let seen = raw::outbound(offset, len).ok_or(ResultCode::OutOfReach)?;
        for (at, window) in (0..).zip(first..first + count) {
            self.point(window, Some(start + at * endpoint::WINDOW_LEN));
            self.windows[window] = Some(region.id);
        }
        Ok(seen)
    }
}

impl BoardSupport for Endpoint {
    type Window = TwoMappings;

    /// Look up: outbound windows (ATU), how many, how long, how aligned; and
    /// whether the DMA engine goes through them or has its own.
    fn open_region(&mut self, region: &RegionMessage) -> Result<TwoMappings, ResultCode> {
        match region.kind {
            RegionKind::Host { .. } => self.open_host(region),
            // Board memory, as far as the description offers it: one region.
            RegionKind::Board { index: 0 } => {
                self.bar.part(CONTROL_LEN, region.len).ok_or(ResultCode::Invalid)
            }
            RegionKind::Board { .. } => Err(ResultCode::Unknown),
        }
    }

    /// Closed, so that a stray access ends in a bus error of ours, not in
    /// whatever the host keeps there next.
    fn close_region(&mut self, number: u32) {
        for window in 0..WINDOWS {
            if self.windows[window] == Some(number) {
                self.windows[window] = None;
                self.point(window, None);
            }
        }
    }

    /// Look up: level or edge. Here the latch holds the line up, so the
    /// interrupt is given back behind it: what rings in between rings again.
    fn take_doorbells(&mut self) -> Doorbells {
        let source = INTERRUPTS.read(interrupts::CLAIM);
        let rung = ENDPOINT.read(endpoint::DOORBELLS);
        ENDPOINT.write(endpoint::DOORBELLS, rung);
        if source != 0 {
            INTERRUPTS.write(interrupts::CLAIM, source);
        }
        Doorbells(rung)
    }

    /// Look up: what keeps it behind this processor's writes through the
    /// outbound windows; if nothing does: `INTERRUPTS_UNORDERED`.
    fn raise(&mut self, vector: u16) {
        self.bar.barrier(Barrier::Write);
        ENDPOINT.write(endpoint::RAISE, vector.into());
    }

    fn clean(&mut self, window: &TwoMappings, offset: u64, len: u32) {
        if soc::BAR_CACHED && self.in_bar(window) {
            raw::clean(window.bytes(), offset, len);
        }
    }

    fn invalidate(&mut self, window: &TwoMappings, offset: u64, len: u32) {
        if soc::BAR_CACHED && self.in_bar(window) {
            raw::invalidate(window.bytes(), offset, len);
        }
    }

    /// The board can start over by itself; the program does, in `crate::main`.
    fn reboot(&mut self) -> bool {
        true
    }
}

impl Endpoint {
    /// Windows into host memory are never cached.
    fn in_bar(&self, window: &TwoMappings) -> bool {
        let start = self.bar.address();
        (start..start + soc::BAR_LEN).contains(&window.address())
    }
}

/// Whether the host has reset the function, or the link was down: the outbound
/// windows and the host's addresses mean nothing any more.
pub(crate) fn take_reset() -> bool {
    let reset = ENDPOINT.read(endpoint::RESETS) & 1;
    ENDPOINT.write(endpoint::RESETS, reset);
    reset != 0
}
