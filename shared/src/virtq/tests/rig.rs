//! Windows over plain memory that count, record, and lie.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use crate::address::BusAddress;
use crate::fault::PeerFault;
use crate::region::{Located, REGION_GRANULE, Region, RegionTable, Rights};
use crate::virtq::{
    Chain, DeviceQueue, DeviceSlot, DriverQueue, DriverSlot, IndirectTables, Parts, QueueSize,
    RingOptions, SleepFlush,
};
use crate::window::{Barrier, Window, Word, fits};

/// What a window saw.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Access {
    Load { offset: u64, bytes: u64 },
    Store { offset: u64, bytes: u64, value: u64 },
    Barrier(Barrier),
}

#[derive(Default)]
struct Memory {
    bytes: RefCell<Vec<u8>>,
    /// Every access, while recording.
    log: RefCell<Option<Vec<Access>>>,
    /// After its first load, a word here changes to its complement.
    flip_after_load: Cell<bool>,
}

impl std::fmt::Debug for Fake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Fake({} bytes)", self.len())
    }
}

/// A window over memory of its own; clones see the same memory.
#[derive(Clone)]
pub(super) struct Fake {
    memory: Rc<Memory>,
}

impl Fake {
    /// Memory full of rubbish: who needs zeroes must write them.
    pub(super) fn new(len: u64) -> Self {
        let memory = Memory::default();
        memory.bytes.replace(vec![0xA5; usize::try_from(len).unwrap()]);
        Self { memory: Rc::new(memory) }
    }

    pub(super) fn record(&self) {
        self.memory.log.replace(Some(Vec::new()));
    }

    pub(super) fn recorded(&self) -> Vec<Access> {
        self.memory.log.take().unwrap_or_default()
    }

    pub(super) fn flip_after_load(&self, on: bool) {
        self.memory.flip_after_load.set(on);
    }

    /// Changes memory behind everybody's back.
    pub(super) fn poke<T: Word>(&self, offset: u64, value: T) {
        let bytes = value.to_u64().to_le_bytes();
        let (at, len) = (usize::try_from(offset).unwrap(), usize::try_from(T::BYTES).unwrap());
        self.memory.bytes.borrow_mut()[at..at + len].copy_from_slice(&bytes[..len]);
    }

    pub(super) fn peek<T: Word>(&self, offset: u64) -> T {
        let (at, len) = (usize::try_from(offset).unwrap(), usize::try_from(T::BYTES).unwrap());
        let mut bytes = [0; 8];
        bytes[..len].copy_from_slice(&self.memory.bytes.borrow()[at..at + len]);
        T::from_u64(u64::from_le_bytes(bytes))
    }

    fn note(&self, access: Access) {
        if let Some(log) = self.memory.log.borrow_mut().as_mut() {
            log.push(access);
        }
    }
}

impl Window for Fake {
    fn len(&self) -> u64 {
        self.memory.bytes.borrow().len() as u64
    }
    fn load<T: Word>(&self, offset: u64) -> T {
        assert!(offset.is_multiple_of(T::BYTES), "misaligned load at {offset}");
        assert!(fits(self.len(), offset, T::BYTES), "load outside at {offset}");
        self.note(Access::Load { offset, bytes: T::BYTES });
        let value = self.peek::<T>(offset);
        if self.memory.flip_after_load.get() {
            self.poke(offset, T::from_u64(!value.to_u64()));
        }
        value
    }
    fn store<T: Word>(&self, offset: u64, value: T) {
        assert!(offset.is_multiple_of(T::BYTES), "misaligned store at {offset}");
        assert!(fits(self.len(), offset, T::BYTES), "store outside at {offset}");
        self.note(Access::Store { offset, bytes: T::BYTES, value: value.to_u64() });
        self.poke(offset, value);
    }
    fn read(&self, offset: u64, into: &mut [u8]) {
        // Only half a descriptor of a table that is not aligned.
        let bytes = into.len() as u64;
        assert_eq!(bytes, 8, "a queue reads words");
        assert!(!offset.is_multiple_of(8) && fits(self.len(), offset, bytes), "read at {offset}");
        self.note(Access::Load { offset, bytes });
        into.copy_from_slice(&self.peek::<u64>(offset).to_le_bytes());
        if self.memory.flip_after_load.get() {
            self.poke(offset, !self.peek::<u64>(offset));
        }
    }
    fn write(&self, _: u64, _: &[u8]) {
        unreachable!("a queue writes words");
    }
    fn barrier(&self, barrier: Barrier) {
        self.note(Access::Barrier(barrier));
    }
    fn part(&self, _: u64, _: u64) -> Option<Self> {
        unreachable!("a queue takes no parts");
    }
}

pub(super) type Driver = DriverQueue<Fake, Fake, Fake, Vec<DriverSlot>>;
pub(super) type Device = DeviceQueue<Fake, Fake, Fake, Vec<DeviceSlot>>;

/// Both sides of a queue and its memory.
pub(super) struct Rig {
    pub(super) driver: Driver,
    pub(super) device: Device,
    pub(super) parts: Parts<Fake, Fake, Fake>,
    pub(super) size: QueueSize,
    /// Memory of indirect tables, and where the device finds it.
    pub(super) tables: Fake,
    pub(super) regions: RegionTable<Fake>,
}

/// Where the device sees the indirect tables.
pub(super) const TABLES: u64 = 0x70_0000;
/// Descriptors of each of the rig's tables.
pub(super) const TABLE_ENTRIES: u16 = 3;

pub(super) fn options(size: u32, in_order: bool, event_idx: bool) -> RingOptions {
    RingOptions {
        size: QueueSize::try_from(size).unwrap(),
        in_order,
        event_idx,
        indirect: false,
        sleep_flush: SleepFlush::ReadBack,
        publish_flush: false,
    }
}

impl Rig {
    pub(super) fn new(size: u32, in_order: bool, event_idx: bool) -> Self {
        Self::with(options(size, in_order, event_idx))
    }

    pub(super) fn with(options: RingOptions) -> Self {
        Self::placed(options, 0, 4)
    }

    pub(super) fn placed(options: RingOptions, avail_at: u64, used_at: u64) -> Self {
        let size = options.size;
        let parts = Parts {
            descriptors: Fake::new(size.descriptor_table_len()),
            avail: Fake::new(avail_at + size.avail_len()),
            avail_at,
            used: Fake::new(used_at + size.used_len()),
            used_at,
        };
        let slots = usize::from(size.get());
        let bytes = IndirectTables::<Fake>::bytes(size, TABLE_ENTRIES);
        let tables = Fake::new(bytes.next_multiple_of(REGION_GRANULE));
        let mut regions = RegionTable::new();
        let base = BusAddress::new(TABLES);
        let region = Region { id: 1, base, rights: Rights::READ, window: tables.clone() };
        regions.insert(region).unwrap();
        let driver = DriverQueue::new(parts.clone(), vec![DriverSlot::default(); slots], options)
            .unwrap()
            .with_tables(IndirectTables { window: tables.clone(), base, entries: TABLE_ENTRIES })
            .unwrap();
        let device =
            DeviceQueue::new(parts.clone(), vec![DeviceSlot::default(); slots], options).unwrap();
        Self { driver, device, parts, size, tables, regions }
    }

    /// Pops as a device that takes indirect tables does.
    pub(super) fn pop(&mut self, chain: &mut Chain) -> Result<Option<u16>, PeerFault> {
        pop(&mut self.device, &self.regions, chain)
    }

    /// The device side as it is, over the same memory.
    pub(super) fn clone_device(&self) -> Device {
        self.device.clone()
    }

    /// The driver side as it is, over the same memory.
    pub(super) fn clone_driver(&self) -> Driver {
        self.driver.clone()
    }

    pub(super) fn record(&self) {
        self.tables.record();
        self.parts.descriptors.record();
        self.parts.avail.record();
        self.parts.used.record();
    }

    /// What was recorded in descriptors, avail and used.
    pub(super) fn recorded(&self) -> [Vec<Access>; 3] {
        [self.parts.descriptors.recorded(), self.parts.avail.recorded(), self.parts.used.recorded()]
    }
}

/// The stores among accesses.
pub(super) fn stores(accesses: &[Access]) -> Vec<(u64, u64, u64)> {
    accesses
        .iter()
        .filter_map(|access| match *access {
            Access::Store { offset, bytes, value } => Some((offset, bytes, value)),
            _ => None,
        })
        .collect()
}

/// Pops as a device that looks indirect tables up in `regions`.
pub(super) fn pop(
    device: &mut Device,
    regions: &RegionTable<Fake>,
    chain: &mut Chain,
) -> Result<Option<u16>, PeerFault> {
    let find = |address, len| -> Result<Located<'_, Fake>, PeerFault> {
        regions.resolve(address, len, Rights::READ)
    };
    device.pop_with_tables(chain, find, |_, _| {})
}
