//! Fault injection: what may go wrong at any access.

use super::access::Access;

/// What a hook does to an access. What does not apply to the kind of access
/// does nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// The word loaded or stored is this one instead; of payload, its first
    /// eight bytes.
    Replace(u64),
    /// These bits of the word are inverted; of payload, of its first eight bytes.
    Flip(u64),
    /// The store, doorbell or interrupt is lost; a load gives all ones.
    Drop,
    /// The store, doorbell or interrupt arrives this many steps later, and all
    /// others pass it: this breaks the bus's order, barriers or not.
    Delay(u64),
    /// The doorbell or interrupt arrives now and once more after this many steps.
    Duplicate(u64),
    /// The completion takes this many nanoseconds: charged to the initiator in
    /// the bill, no time passes.
    Stall(u64),
    /// The board dies before this access, until
    /// [`SimBus::revive_board`](super::SimBus::revive_board).
    KillBoard,
    /// The card is pulled out before this access, until
    /// [`SimBus::replug_board`](super::SimBus::replug_board).
    UnplugBoard,
}

/// Decides, at every access, whether it goes wrong. It runs while the bus is
/// locked: it must not use the bus.
pub trait FaultHook: Send {
    /// What happens to this access; `None`: nothing special.
    fn access(&mut self, access: &Access) -> Option<Fault>;
}

impl<F: FnMut(&Access) -> Option<Fault> + Send> FaultHook for F {
    fn access(&mut self, access: &Access) -> Option<Fault> {
        self(access)
    }
}
