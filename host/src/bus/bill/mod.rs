//! The bill: what a bus was asked to do, by whom and for what.
//!
//! The simulated bus ([`sim`](super::sim)) sees both sides and keeps the whole
//! [`Bill`]; around any other, [`metered`](super::metered) keeps the host's part.

mod counts;
mod labels;
mod meter;
mod party;

pub use counts::{Accesses, Bill, Counts};
pub use labels::Label;
pub(super) use labels::{MemoryLabels, NotificationLabels};
pub(super) use meter::{Meter, Metered};
pub use party::{Initiator, Plane, Side};
