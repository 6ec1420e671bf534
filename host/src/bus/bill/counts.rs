//! The figures of a bill, and how they are printed.

use std::fmt;
use std::ops::{AddAssign, Index, IndexMut, Sub};

use super::party::{Initiator, Plane};

/// A struct of counters that add and subtract field by field. A difference
/// that would be negative is 0.
macro_rules! counters {
    ($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $kind:ty,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
        pub struct $name {
            $($(#[$field_doc])* pub $field: $kind,)*
        }

        impl AddAssign for $name {
            fn add_assign(&mut self, other: Self) {
                $(self.$field += other.$field;)*
            }
        }

        impl Sub for $name {
            type Output = Self;
            fn sub(self, before: Self) -> Self {
                Self { $($field: Less::less(self.$field, before.$field),)* }
            }
        }
    };
}

/// Subtraction for both kinds of field.
trait Less {
    fn less(self, other: Self) -> Self;
}

impl Less for u64 {
    fn less(self, other: Self) -> Self {
        self.saturating_sub(other)
    }
}

impl Less for Accesses {
    fn less(self, other: Self) -> Self {
        self - other
    }
}

counters! {
    /// Accesses to one side's memory.
    Accesses {
        /// Words loaded.
        control_loads: u64,
        /// Words stored.
        control_stores: u64,
        /// Copies out of windows.
        payload_loads: u64,
        /// Their bytes.
        payload_load_bytes: u64,
        /// Copies into windows.
        payload_stores: u64,
        /// Their bytes.
        payload_store_bytes: u64,
    }
}

counters! {
    /// What one initiator did for one plane.
    Counts {
        /// In its own side's memory.
        local: Accesses,
        /// Across the bus.
        remote: Accesses,
        /// Vectors raised.
        interrupts: u64,
        /// Doorbells rung.
        doorbells: u64,
        /// Packets on the bus if nothing is combined: one for each aligned
        /// eight bytes or part of them that are stored or asked for, four where
        /// the BAR takes no more, and one for each doorbell and interrupt.
        tlps_uncached: u64,
        /// Packets on the bus if stores and payload loads are combined into
        /// 64-byte lines. A barrier, a bus read or a notification ends a line.
        tlps_combined: u64,
        /// Nanoseconds that injected faults made it wait.
        stalled_ns: u64,
    }
}

impl Counts {
    /// Loads across the bus, payload included: each made the initiator wait.
    #[must_use]
    pub fn bus_reads(&self) -> u64 {
        self.remote.control_loads + self.remote.payload_loads
    }

    /// Words stored, wherever to.
    #[must_use]
    pub fn control_stores(&self) -> u64 {
        self.local.control_stores + self.remote.control_stores
    }

    /// Words loaded, wherever from.
    #[must_use]
    pub fn control_loads(&self) -> u64 {
        self.local.control_loads + self.remote.control_loads
    }
}

/// What the bus was asked to do: since it was made or, as the difference of
/// two bills, in between. Printed, it is a table.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Bill {
    rows: [[Counts; 4]; 3],
    /// Accesses of the board that the IOMMU refused.
    pub iommu_faults: u64,
    /// Stores that a BAR dropped because it takes 32-bit words only.
    pub width_faults: u64,
}

impl Index<(Initiator, Plane)> for Bill {
    type Output = Counts;
    fn index(&self, (who, plane): (Initiator, Plane)) -> &Counts {
        &self.rows[who.index()][plane.index()]
    }
}

impl IndexMut<(Initiator, Plane)> for Bill {
    fn index_mut(&mut self, (who, plane): (Initiator, Plane)) -> &mut Counts {
        &mut self.rows[who.index()][plane.index()]
    }
}

impl AddAssign for Bill {
    fn add_assign(&mut self, other: Self) {
        for who in Initiator::ALL {
            for plane in Plane::ALL {
                self[(who, plane)] += other[(who, plane)];
            }
        }
        self.iommu_faults += other.iommu_faults;
        self.width_faults += other.width_faults;
    }
}

impl Sub for Bill {
    type Output = Self;

    /// What has been added since `before`.
    fn sub(mut self, before: Self) -> Self {
        for who in Initiator::ALL {
            for plane in Plane::ALL {
                self[(who, plane)] = self[(who, plane)] - before[(who, plane)];
            }
        }
        self.iommu_faults = self.iommu_faults.saturating_sub(before.iommu_faults);
        self.width_faults = self.width_faults.saturating_sub(before.width_faults);
        self
    }
}

impl Bill {
    /// The sum over all initiators of one plane.
    #[must_use]
    pub fn plane(&self, plane: Plane) -> Counts {
        let mut sum = Counts::default();
        for who in Initiator::ALL {
            sum += self[(who, plane)];
        }
        sum
    }

    /// The sum of both planes for one initiator.
    #[must_use]
    pub fn initiator(&self, who: Initiator) -> Counts {
        let mut sum = Counts::default();
        for plane in Plane::ALL {
            sum += self[(who, plane)];
        }
        sum
    }

    /// What `who` did for packets, in whichever direction.
    #[must_use]
    pub fn data(&self, who: Initiator) -> Counts {
        Plane::DATA.iter().fold(Counts::default(), |mut sum, plane| {
            sum += self[(who, *plane)];
            sum
        })
    }

    /// The same table with every figure divided by `packets`.
    #[must_use]
    pub fn per_packet(&self, packets: u64) -> impl fmt::Display {
        Table { bill: *self, packets: Some(packets.max(1)) }
    }
}

impl fmt::Display for Bill {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Table { bill: *self, packets: None }.fmt(f)
    }
}

struct Table {
    bill: Bill,
    packets: Option<u64>,
}

/// Width of the column of names, and of a figure's.
const WIDTH: (usize, usize) = (34, 12);

impl Table {
    fn figure(&self, value: u64) -> String {
        match self.packets {
            None => value.to_string(),
            #[expect(clippy::cast_precision_loss, reason = "printed to three places")]
            Some(packets) => format!("{:.3}", value as f64 / packets as f64),
        }
    }

    fn line(&self, f: &mut fmt::Formatter<'_>, name: &str, values: [u64; 6]) -> fmt::Result {
        if values == [0; 6] {
            return Ok(());
        }
        write!(f, "{name:<0$}", WIDTH.0)?;
        for value in values {
            write!(f, "{:>1$}", self.figure(value), WIDTH.1)?;
        }
        writeln!(f)
    }
}

/// A line's name and its figure.
type Line = (&'static str, fn(&Counts) -> u64);

const LINES: [Line; 17] = [
    ("bus reads (words and payload)", Counts::bus_reads),
    ("words loaded, local", |c| c.local.control_loads),
    ("words loaded across the bus", |c| c.remote.control_loads),
    ("words stored, local", |c| c.local.control_stores),
    ("words stored across the bus", |c| c.remote.control_stores),
    ("payload loads, local", |c| c.local.payload_loads),
    ("  their bytes", |c| c.local.payload_load_bytes),
    ("payload loads across the bus", |c| c.remote.payload_loads),
    ("  their bytes", |c| c.remote.payload_load_bytes),
    ("payload stores, local", |c| c.local.payload_stores),
    ("  their bytes", |c| c.local.payload_store_bytes),
    ("payload stores across the bus", |c| c.remote.payload_stores),
    ("  their bytes", |c| c.remote.payload_store_bytes),
    ("doorbells and interrupts", |c| c.doorbells + c.interrupts),
    ("TLPs, uncached", |c| c.tlps_uncached),
    ("TLPs, combined", |c| c.tlps_combined),
    ("stalled by faults, ns", |c| c.stalled_ns),
];

impl fmt::Display for Table {
    /// Lines that are 0 for everybody are left out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = if self.packets.is_some() { "per packet" } else { "" };
        let (names, figures) = WIDTH;
        write!(f, "{unit:<names$}")?;
        for _ in 0..2 {
            for who in Initiator::ALL {
                write!(f, "{who:>figures$}")?;
            }
        }
        writeln!(f)?;
        write!(f, "{:<names$}", "")?;
        for plane in ["data", "link"] {
            for _ in Initiator::ALL {
                write!(f, "{plane:>figures$}")?;
            }
        }
        writeln!(f)?;
        for (name, figure) in LINES {
            let mut values = [0; 6];
            let data = Initiator::ALL.map(|who| self.bill.data(who));
            let link = Initiator::ALL.map(|who| self.bill[(who, Plane::Link)]);
            for (value, counts) in values.iter_mut().zip(data.iter().chain(&link)) {
                *value = figure(counts);
            }
            self.line(f, name, values)?;
        }
        if self.bill.iommu_faults > 0 {
            writeln!(f, "{:<names$}{:>figures$}", "refused by the IOMMU", self.bill.iommu_faults)?;
        }
        Ok(())
    }
}
