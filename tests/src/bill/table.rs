//! The bill as docs/testing.md shows it.

use std::fmt;

use host::bus::sim::{Initiator, Plane};

use super::{Asleep, Awake, Cost, DIRECTIONS, LAYOUTS};
use crate::lockstep::Failure;

/// Frames each way in a flow, and one by one.
const FLOW: u32 = 64 << 10;
const SINGLE: u32 = 1000;

/// Batches of the flow.
const BATCHES: [u32; 2] = [32, 1];

/// Both tables, for every layout.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Table {
    awake: Vec<Awake>,
    asleep: Vec<Asleep>,
}

impl Table {
    /// Measures everything.
    ///
    /// # Errors
    /// One end of a link gave up.
    pub fn measure() -> Result<Self, Failure> {
        let (mut awake, mut asleep) = (Vec::new(), Vec::new());
        for layout in LAYOUTS {
            for batch in BATCHES {
                awake.push(Awake::measure(layout, batch, FLOW)?);
            }
            for direction in DIRECTIONS {
                asleep.push(Asleep::measure(layout, direction, SINGLE)?);
            }
        }
        Ok(Self { awake, asleep })
    }
}

fn name(direction: Plane) -> &'static str {
    if direction == Plane::ToBoard { "to board" } else { "to host" }
}

/// A count for each of `frames`, in as few digits as tell it apart.
struct Each(u64, u64);

impl fmt::Display for Each {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let &Self(count, frames) = self;
        if count.is_multiple_of(frames) {
            return write!(f, "{}", count / frames);
        }
        #[expect(clippy::cast_precision_loss, reason = "printed to two places")]
        let each = count as f64 / frames as f64;
        write!(f, "{each:.2}")
    }
}

/// One line of a Markdown table.
fn line(f: &mut fmt::Formatter<'_>, cells: &[&dyn fmt::Display]) -> fmt::Result {
    for cell in cells {
        write!(f, "| {cell} ")?;
    }
    writeln!(f, "|")
}

/// The first two lines of one.
fn heading(f: &mut fmt::Formatter<'_>, names: &[&str]) -> fmt::Result {
    writeln!(f, "| {} |", names.join(" | "))?;
    writeln!(f, "|{}", " --- |".repeat(names.len()))
}

const FLOW_HEADING: [&str; 13] = [
    "direction",
    "layout",
    "batch",
    "bus reads: host CPU",
    "board CPU",
    "board DMA",
    "words stored: host",
    "board",
    "signals",
    "payload bytes posted",
    "read",
    "TLPs: uncached",
    "combined",
];

const SINGLE_HEADING: [&str; 11] = [
    "direction",
    "layout",
    "sleeps: host",
    "board",
    "bus reads: host CPU",
    "board CPU",
    "board DMA",
    "words stored: host",
    "board",
    "doorbells",
    "interrupts",
];

/// Host CPU, board CPU, board DMA.
const INITIATORS: [Initiator; 3] = Initiator::ALL;

impl Awake {
    fn line(&self, f: &mut fmt::Formatter<'_>, direction: Plane) -> fmt::Result {
        let each = |count| Each(count, self.frames);
        let [host, board, dma] = INITIATORS.map(|who| self.cost(who, direction));
        let sum = |of: fn(&Cost) -> u64| each(of(&host) + of(&board) + of(&dma));
        line(
            f,
            &[
                &name(direction),
                &self.layout,
                &self.batch,
                &each(host.bus_reads),
                &each(board.bus_reads),
                &each(dma.bus_reads),
                &each(host.control_stores),
                &each(board.control_stores + dma.control_stores),
                &sum(|cost| cost.notifications),
                &sum(|cost| cost.payload.0),
                &sum(|cost| cost.payload.1),
                &sum(|cost| cost.tlps.0),
                &sum(|cost| cost.tlps.1),
            ],
        )
    }
}

impl Asleep {
    fn line(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let each = |count| Each(count, self.frames);
        let [host, board, dma] = INITIATORS.map(|who| self.cost(who));
        line(
            f,
            &[
                &name(self.direction),
                &self.layout,
                &each(self.sleeps.0),
                &each(self.sleeps.1),
                &each(host.bus_reads),
                &each(board.bus_reads),
                &each(dma.bus_reads),
                &each(host.control_stores),
                &each(board.control_stores + dma.control_stores),
                &each(host.notifications),
                &each(board.notifications),
            ],
        )
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "Per frame, in a flow:\n")?;
        heading(f, &FLOW_HEADING)?;
        for direction in DIRECTIONS {
            self.awake.iter().try_for_each(|run| run.line(f, direction))?;
        }
        writeln!(f, "\nPer frame, one at a time, both sides asleep before it:\n")?;
        heading(f, &SINGLE_HEADING)?;
        for direction in DIRECTIONS {
            let mut runs = self.asleep.iter().filter(|run| run.direction == direction);
            runs.try_for_each(|run| run.line(f))?;
        }
        Ok(())
    }
}
