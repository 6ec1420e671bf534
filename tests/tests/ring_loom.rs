//! The queues themselves, not a model of them, over memory of loom's atomics:
//! every interleaving of two threads and every value that a weakly ordered
//! machine may let a load see. For memory that both sides share in RAM; across
//! a bus the orders are the exhaustive model's and the simulator's business.
//!
//! Each property is shown twice: it holds, and it fails as soon as one of the
//! barriers that it rests on is taken out.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use loom::sync::atomic::{AtomicU32, Ordering, fence};
use loom::thread;
use shared::address::BusAddress;
use shared::virtq::{
    Chain, Completion, DeviceQueue, DeviceSlot, DriverQueue, DriverSlot, Parts, QueueSize,
    RingOptions, Segment, SleepFlush, UsedEntry,
};
use shared::window::{Barrier, Window, Word, fits};

/// Words of shared memory, and one barrier that this side forgets.
#[derive(Clone)]
struct LoomWindow {
    words: Arc<Vec<AtomicU32>>,
    forgets: Option<Barrier>,
}

impl LoomWindow {
    fn new(bytes: u64) -> Self {
        let words = (0..bytes.div_ceil(4)).map(|_| AtomicU32::new(0)).collect();
        Self { words: Arc::new(words), forgets: None }
    }

    fn forgetting(&self, forgets: Option<Barrier>) -> Self {
        Self { words: Arc::clone(&self.words), forgets }
    }

    fn word(&self, offset: u64) -> &AtomicU32 {
        &self.words[usize::try_from(offset / 4).unwrap()]
    }
}

impl Window for LoomWindow {
    fn len(&self) -> u64 {
        4 * self.words.len() as u64
    }
    fn load<T: Word>(&self, offset: u64) -> T {
        assert!(fits(self.len(), offset, T::BYTES) && offset.is_multiple_of(4));
        let low = u64::from(self.word(offset).load(Ordering::Relaxed));
        if T::BYTES == 4 {
            return T::from_u64(low);
        }
        T::from_u64(low | u64::from(self.word(offset + 4).load(Ordering::Relaxed)) << 32)
    }
    fn store<T: Word>(&self, offset: u64, value: T) {
        assert!(fits(self.len(), offset, T::BYTES) && offset.is_multiple_of(4));
        let half = |shift: u32| u32::try_from(value.to_u64() >> shift & 0xFFFF_FFFF).unwrap();
        self.word(offset).store(half(0), Ordering::Relaxed);
        if T::BYTES == 8 {
            self.word(offset + 4).store(half(32), Ordering::Relaxed);
        }
    }
    fn read(&self, _: u64, _: &mut [u8]) {
        unreachable!("a queue reads words");
    }
    fn write(&self, _: u64, _: &[u8]) {
        unreachable!("a queue writes words");
    }
    fn barrier(&self, barrier: Barrier) {
        if self.forgets == Some(barrier) {
            return;
        }
        match barrier {
            Barrier::Write => fence(Ordering::Release),
            Barrier::Read => fence(Ordering::Acquire),
            Barrier::Full => fence(Ordering::SeqCst),
        }
    }
    fn part(&self, _: u64, _: u64) -> Option<Self> {
        unreachable!("a queue takes no parts");
    }
}

type Driver = DriverQueue<LoomWindow, LoomWindow, LoomWindow, Vec<DriverSlot>>;
type Device = DeviceQueue<LoomWindow, LoomWindow, LoomWindow, Vec<DeviceSlot>>;

/// What is taken away from which side.
#[derive(Clone, Copy, Default)]
struct Without {
    driver: Option<Barrier>,
    device: Option<Barrier>,
}

const NOTHING: Without = Without { driver: None, device: None };

const fn driver(barrier: Barrier) -> Without {
    Without { driver: Some(barrier), device: None }
}

const fn device(barrier: Barrier) -> Without {
    Without { driver: None, device: Some(barrier) }
}

fn queues(event_idx: bool, without: Without) -> (Driver, Device) {
    let size = QueueSize::try_from(2).unwrap();
    let parts = Parts {
        descriptors: LoomWindow::new(size.descriptor_table_len()),
        avail: LoomWindow::new(size.avail_len()),
        avail_at: 0,
        used: LoomWindow::new(size.used_len() + 4),
        used_at: 4,
    };
    let side = |forgets| Parts {
        descriptors: parts.descriptors.forgetting(forgets),
        avail: parts.avail.forgetting(forgets),
        avail_at: 0,
        used: parts.used.forgetting(forgets),
        used_at: 4,
    };
    let options = RingOptions {
        size,
        in_order: false,
        event_idx,
        indirect: false,
        sleep_flush: SleepFlush::LookFlushes,
        publish_flush: false,
    };
    let slots = vec![DriverSlot::default(); 2];
    let driver = DriverQueue::new(side(without.driver), slots, options).unwrap();
    let slots = vec![DeviceSlot::default(); 2];
    let device = DeviceQueue::new(side(without.device), slots, options).unwrap();
    (driver, device)
}

const BUFFER: Segment =
    Segment { address: BusAddress::new(0x7_0000_1000), len: 99, writable: true };

/// The driver publishes a buffer while the device, awake until now, goes to
/// sleep: it sees the buffer, or the driver rings.
fn device_is_woken(event_idx: bool, without: Without) {
    loom::model(move || {
        let (mut driver, mut device) = queues(event_idx, without);
        device.park();
        driver.add(&[BUFFER]).unwrap();
        let publisher = thread::spawn(move || driver.publish());
        let sleeps = device.arm().unwrap();
        let rings = publisher.join().unwrap();
        assert!(rings || !sleeps, "asleep, and nobody rings");
    });
}

/// The same the other way around.
fn driver_is_woken(event_idx: bool, without: Without) {
    loom::model(move || {
        let (mut driver, mut device) = queues(event_idx, without);
        let head = driver.add(&[BUFFER]).unwrap();
        let _ = driver.publish();
        assert_eq!(device.pop(&mut Chain::new()), Ok(Some(head)));
        driver.park();
        device.complete(head, 5, UsedEntry::Own).unwrap();
        let publisher = thread::spawn(move || device.publish());
        let sleeps = driver.arm().unwrap();
        let interrupts = publisher.join().unwrap();
        assert!(interrupts || !sleeps, "asleep, and nobody interrupts");
    });
}

/// Whoever sees the index sees the descriptors and the entry.
fn device_sees_the_buffer(without: Without) {
    loom::model(move || {
        let (mut driver, mut device) = queues(true, without);
        let publisher = thread::spawn(move || {
            // The entry of the second differs from what the set-up left.
            driver.add(&[BUFFER]).unwrap();
            driver.add(&[BUFFER]).unwrap();
            let _ = driver.publish();
        });
        let mut chain = Chain::new();
        if let Some(head) = device.pop(&mut chain).unwrap() {
            assert_eq!((head, chain.segments()), (0, &[BUFFER][..]));
            assert_eq!(device.pop(&mut chain), Ok(Some(1)));
        }
        publisher.join().unwrap();
    });
}

fn driver_sees_the_completion(without: Without) {
    loom::model(move || {
        let (mut driver, mut device) = queues(true, without);
        let _ = driver.add(&[BUFFER]).unwrap();
        let head = driver.add(&[BUFFER]).unwrap();
        let _ = driver.publish();
        let mut chain = Chain::new();
        let _ = device.pop(&mut chain).unwrap();
        let _ = device.pop(&mut chain).unwrap();
        let publisher = thread::spawn(move || {
            device.complete(head, 42, UsedEntry::Own).unwrap();
            let _ = device.publish();
        });
        if let Some(completion) = driver.take().unwrap() {
            assert_eq!(completion, Completion { head, len: 42 });
        }
        publisher.join().unwrap();
    });
}

/// Both sides publish and go to sleep at once, as a full-duplex pair does.
fn neither_sleeps_for_ever(without: Without) {
    loom::model(move || {
        let (mut driver, mut device) = queues(true, without);
        let head = driver.add(&[BUFFER]).unwrap();
        let _ = driver.publish();
        assert_eq!(device.pop(&mut Chain::new()), Ok(Some(head)));
        driver.park();
        device.park();
        driver.add(&[BUFFER]).unwrap();
        let there = thread::spawn(move || {
            device.complete(head, 5, UsedEntry::Own).unwrap();
            let interrupts = device.publish();
            (interrupts, device.arm().unwrap())
        });
        let rings = driver.publish();
        let driver_sleeps = driver.arm().unwrap();
        let (interrupts, device_sleeps) = there.join().unwrap();
        assert!(interrupts || !driver_sleeps, "the driver sleeps for ever");
        assert!(rings || !device_sleeps, "the device sleeps for ever");
    });
}

/// Whether loom finds an execution that breaks `property`.
fn fails(property: impl Fn()) -> bool {
    catch_unwind(AssertUnwindSafe(property)).is_err()
}

/// The same, and what broke is that somebody sleeps for ever.
fn sleeps_for_ever(property: impl Fn()) -> bool {
    let Err(panic) = catch_unwind(AssertUnwindSafe(property)) else { return false };
    let text = panic.downcast_ref::<&str>().copied().expect("an assertion of this file");
    text.contains("asleep") || text.contains("for ever")
}

#[test]
fn no_wake_up_is_lost() {
    for event_idx in [true, false] {
        device_is_woken(event_idx, NOTHING);
        driver_is_woken(event_idx, NOTHING);
    }
    neither_sleeps_for_ever(NOTHING);
}

#[test]
fn a_wake_up_is_lost_without_either_full_barrier() {
    let full = Barrier::Full;
    for event_idx in [true, false] {
        assert!(sleeps_for_ever(|| device_is_woken(event_idx, driver(full))), "C, publisher");
        assert!(sleeps_for_ever(|| device_is_woken(event_idx, device(full))), "C, sleeper");
        assert!(sleeps_for_ever(|| driver_is_woken(event_idx, device(full))), "D, publisher");
        assert!(sleeps_for_ever(|| driver_is_woken(event_idx, driver(full))), "D, sleeper");
    }
    assert!(sleeps_for_ever(|| neither_sleeps_for_ever(driver(full))));
    assert!(sleeps_for_ever(|| neither_sleeps_for_ever(device(full))));
    // A model that failed leaves nothing behind that makes the next one fail.
    neither_sleeps_for_ever(NOTHING);
}

#[test]
fn what_the_index_announces_is_there() {
    device_sees_the_buffer(NOTHING);
    driver_sees_the_completion(NOTHING);
}

#[test]
fn it_is_not_without_either_half_of_the_pair() {
    assert!(fails(|| device_sees_the_buffer(driver(Barrier::Write))), "A, publisher");
    assert!(fails(|| device_sees_the_buffer(device(Barrier::Read))), "A, observer");
    assert!(fails(|| driver_sees_the_completion(device(Barrier::Write))), "B, publisher");
    assert!(fails(|| driver_sees_the_completion(driver(Barrier::Read))), "B, observer");
    device_sees_the_buffer(NOTHING);
    driver_sees_the_completion(NOTHING);
}
