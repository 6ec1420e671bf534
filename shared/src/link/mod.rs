//! Control block, epochs and bring-up.
//!
//! Guarantee: every wait has a deadline, every refusal a step and a reason;
//! no word of the peer's is read twice to decide one thing. Nothing here reads
//! a clock: time comes in as milliseconds.
//!
//! [`description`] is what a board says about itself, [`control`] its bytes,
//! [`words`] the words that change; [`board`] and [`host`] are the two ends.

pub mod backoff;
pub mod board;
pub mod control;
pub mod description;
pub mod host;
pub mod refusal;
#[cfg(test)]
mod tests;
pub mod words;

pub use backoff::Backoff;
pub use board::{BoardLink, BoardLinkStats, BoardModel, FaultReport, LinkNext, SessionEvent};
pub use control::{BarLengths, ControlError};
pub use description::{
    BoardDescription, BoardRegion, BoardRegions, DoorbellDescription, Epoch, Heartbeat, Label,
    Outbound, Versions,
};
pub use host::{
    AcceptedRegion, DeviceFacts, HostLink, HostOptions, HostRegion, LinkEvent, Progress,
    QueuePlacement, Step,
};
pub use refusal::{AttachStep, Reason, Refusal, RegionFault};
pub use words::{HeartbeatWatch, LinkGuard, LinkLoss, StatusWords};
