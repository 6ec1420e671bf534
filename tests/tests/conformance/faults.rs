//! What a board does wrong, each on purpose.

use shared::link::control::crc32c;
use shared::wire::console::DEVICE_ID as CONSOLE;
use shared::wire::control::{LIVE_OFFSET, MAGIC_VALUE, field, live};

use super::board::Memo;

/// Where a window lies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Place {
    /// The control pages.
    Control,
    /// Board memory.
    Memory,
    /// Host memory.
    Host,
}

/// One thing that the board does wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Fault {
    /// A checksum that does not match.
    Checksum,
    /// A reserved field of the control block that is not zero.
    Reserved,
    /// The host page lies on the channel layout.
    Overlap,
    /// A live word of all ones.
    AllOnes,
    /// The heartbeat stands still.
    Heartbeat,
    /// The same in the status page only.
    StatusPage,
    /// Boot epochs do not change.
    BootEpoch,
    /// The accepted session is not cleared at a session's end.
    Accepted,
    /// Answers with another token.
    Token,
    /// Answers with another device number.
    DeviceNumber,
    /// Pings answered with other data.
    PingData,
    /// A region that is refused is said to be taken.
    Region,
    /// A used region is said to be removed.
    Removed,
    /// A doorbell that there is not is said to be routed.
    Routed,
    /// GET_VQUEUE shows another size.
    QueueSize,
    /// GET_VQUEUE shows another used ring.
    QueueAddress,
    /// FEATURES_OK is kept, whatever lacks.
    FeaturesOk,
    /// A required feature is not offered.
    Offer,
    /// Config reads beyond the end are answered.
    Config,
    /// used.id of another buffer.
    UsedId,
    /// used.len larger than the buffer.
    UsedLength,
    /// used.idx further ahead than entries.
    UsedIndex,
    /// Queues' interrupts are lost.
    NoInterrupt,
    /// Vector 0 is lost.
    NoMessageInterrupt,
    /// Interrupts nobody asked for.
    Storm,
    /// DEVICE_NEEDS_RESET is never shown.
    NeedsReset,
    /// EVENT_CONFIG is not sent.
    EventConfig,
    /// EVENT_FAULT tells another code.
    WrongCode,
    /// EVENT_FAULT tells another queue.
    WrongQueue,
    /// A reset does not take DEVICE_NEEDS_RESET away.
    Sticks,
    /// A device that needs a reset makes the others need one.
    Spreads,
    /// GET_DEVICES for a part of a byte is answered.
    Rounded,
    /// A command that went well is said to be refused, and one that was refused
    /// to have gone well.
    Command,
    /// Buffers to the host come back empty.
    UsedEmpty,
    /// The console offers MULTIPORT.
    Multiport,
    /// The board does nothing any more, from its first session on.
    Hangs,
}

/// Writes a word of a message.
fn put(frame: &mut [u8; 64], at: usize, value: u32) {
    frame[at..at + 4].copy_from_slice(&value.to_le_bytes());
}

/// A store to the live word at `at`.
fn is_live(place: Place, at: u64, word: u64) -> bool {
    place == Place::Control && at == u64::from(LIVE_OFFSET) + word
}

/// Host memory below this is the status page.
const STATUS_PAGE: u64 = 4096;

impl Fault {
    /// What is stored instead of `value`; `None`: nothing.
    pub(super) fn store(
        self,
        place: Place,
        at: u64,
        bytes: u64,
        value: u64,
        memo: &mut Memo,
    ) -> Option<u64> {
        // The kit's used rings lie at 4 modulo 8: entries are the only words of 64 bits.
        let ring = place == Place::Host && at >= STATUS_PAGE;
        let entry = ring && bytes == 8;
        let index = ring && bytes == 4 && at % 8 == 4;
        Some(match self {
            Self::Checksum if place == Place::Control && at == field::CHECKSUM as u64 => value ^ 1,
            Self::AllOnes if is_live(place, at, live::STATE) => u64::from(u32::MAX),
            Self::Heartbeat if is_live(place, at, live::HEARTBEAT) => 1,
            Self::StatusPage if place == Place::Host && at == live::HEARTBEAT => 1,
            Self::BootEpoch if is_live(place, at, live::BOOT_EPOCH) && value != 0 => {
                let value = u32::try_from(value).unwrap_or(1);
                (*memo.first.get_or_insert(value)).into()
            }
            Self::Accepted if is_live(place, at, live::ACCEPTED) && value == 0 => return None,
            Self::UsedId if entry => value ^ 1,
            Self::UsedLength if entry => value.wrapping_add(4096 << 32),
            Self::UsedEmpty if entry => value & u64::from(u32::MAX),
            Self::UsedIndex if index => value.wrapping_add(1 << 16),
            _ => value,
        })
    }

    /// What is stored behind a store to `at`: `store`, from what `load` finds.
    pub(super) fn behind(
        self,
        place: Place,
        at: u64,
        store: impl Fn(u64, u32),
        load: impl Fn(u64) -> u32,
    ) {
        // A block that is whole, and each word of it that is written again: it is
        // never seen without its fault.
        let published = place == Place::Control && load(0) == MAGIC_VALUE;
        if !published || at >= u64::from(load(field::LENGTH as u64)) {
            return;
        }
        let (changed, value) = match self {
            Self::Reserved => (field::RESERVED, 1),
            Self::Overlap => (field::HOST_PAGE, load(field::CHANNEL as u64)),
            _ => return,
        };
        store(changed as u64, value);
        store(field::CHECKSUM as u64, 0);
        let words = (0..u64::from(load(field::LENGTH as u64))).step_by(4);
        let bytes: Vec<u8> = words.flat_map(|at| load(at).to_le_bytes()).collect();
        store(field::CHECKSUM as u64, crc32c(&bytes));
    }

    /// Changes bytes that go to the host.
    pub(super) fn write(self, place: Place, bytes: &mut [u8], memo: &mut Memo) {
        if let Place::Control = place
            && let Ok(frame) = bytes.try_into()
        {
            self.message(frame, memo);
        }
        // Nothing else that the board writes is one byte long.
        if let (Self::Command, Place::Host, [answer]) = (self, place, bytes) {
            *answer ^= 1;
        }
    }

    /// Changes a message that comes from the host.
    pub(super) fn request(self, place: Place, bytes: &mut [u8]) {
        if let (Self::Rounded, Place::Control, [2, 2, _, _, _, _, _, _, first, _, count, _, ..]) =
            (self, place, bytes)
        {
            *first &= !7;
            *count &= !7;
        }
    }

    /// Changes a message that goes to the host.
    fn message(self, frame: &mut [u8; 64], memo: &mut Memo) {
        let response = frame[0] & 1 == 1;
        let message = (frame[0] & 2 == 2, frame[1]);
        let word = |frame: &[u8; 64], at: usize| {
            frame[at..at + 4].iter().rev().fold(0, |word: u32, byte| word << 8 | u32::from(*byte))
        };
        match (self, message, response) {
            (Self::Token, _, true) => frame[4] ^= 0x40,
            (Self::DeviceNumber, (false, _), true) => frame[2] ^= 1,
            (Self::PingData, (true, 0x03), true) => frame[8] ^= 1,
            (Self::Region, (true, 0x81), true) if frame[12] == 3 => put(frame, 12, 0),
            (Self::Removed, (true, 0x82), true) if frame[12] == 7 => put(frame, 12, 0),
            (Self::Routed, (true, 0x83), true) if frame[16] == 3 => put(frame, 16, 0),
            (Self::QueueSize, (false, 0x09), true) if word(frame, 16) != 0 => {
                let size = word(frame, 16);
                put(frame, 16, size * 2);
            }
            (Self::QueueAddress, (false, 0x09), true) if word(frame, 16) != 0 => frame[40] ^= 8,
            (Self::FeaturesOk, (false, 0x07 | 0x08), true) => {
                // DRIVER is answered first; the same again is FEATURES_OK that was refused.
                let refused = frame[8] == 3 && memo.first == Some(3);
                memo.first = Some(frame[8].into());
                frame[8] |= if refused { 8 } else { 0 };
            }
            (Self::Offer, (false, 0x03), true) if word(frame, 8) == 0 => frame[20] &= !1,
            (Self::Config, (false, 0x05), true) if word(frame, 16) == 0 => {
                put(frame, 16, 1);
                frame[6] += 1;
            }
            (Self::NeedsReset, (false, 0x07 | 0x08), true) => frame[8] &= !64,
            (Self::EventConfig, (false, 0x40), false) => {
                // A message that means nothing in its place.
                *frame = [0; 64];
                frame[1] = 0x42;
                frame[6] = 12;
            }
            (Self::WrongCode, (true, 0xC0), false) => frame[8] += 1,
            (Self::WrongQueue, (true, 0xC0), false) => frame[16] ^= 1,
            (Self::Sticks, (false, 0x07 | 0x08), true) => {
                let needs = memo.first.unwrap_or(0) | word(frame, 8) & 64;
                memo.first = Some(needs);
                put(frame, 8, word(frame, 8) | needs);
            }
            (Self::Spreads, (false, 0x40), false) if frame[8] & 64 != 0 => {
                memo.first = Some(frame[2].into());
            }
            (Self::Spreads, (false, 0x07 | 0x08), true)
                if memo.first.is_some_and(|broken| broken != u32::from(frame[2])) =>
            {
                frame[8] |= 64;
            }
            (Self::Multiport, (false, 0x02), true) if word(frame, 8) == CONSOLE => {
                memo.first = Some(frame[2].into());
            }
            (Self::Multiport, (false, 0x03), true) if memo.first == Some(frame[2].into()) => {
                frame[16] |= 2;
            }
            _ => {}
        }
    }
}
