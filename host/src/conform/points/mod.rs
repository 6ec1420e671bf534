//! The tables of points, one file a group.

mod channel;
mod commands;
mod console;
mod control;
mod data;
mod epochs;
mod heartbeat;
mod malformed;
mod messages;
mod notifications;
mod queues;
mod regions;
mod requests;
mod status;

use super::point::Point;

/// Points that belong together.
#[derive(Clone, Copy, Debug)]
pub struct Group {
    /// Its name, which its points' names begin with.
    pub name: &'static str,
    /// What it is about.
    pub about: &'static str,
    /// Its points, in the order in which they are run.
    pub points: &'static [Point],
}

/// All groups, in the order in which they are run.
#[must_use]
pub const fn groups() -> &'static [Group] {
    GROUPS
}

const GROUPS: &[Group] = &[
    Group { name: "control", about: "the control block", points: control::POINTS },
    Group { name: "epochs", about: "versions, epochs and sessions", points: epochs::POINTS },
    Group { name: "channel", about: "the message channel", points: channel::POINTS },
    Group { name: "messages", about: "what is discarded", points: messages::POINTS },
    Group { name: "requests", about: "requests and their answers", points: requests::POINTS },
    Group { name: "regions", about: "regions", points: regions::POINTS },
    Group { name: "status", about: "status and features", points: status::POINTS },
    Group { name: "queues", about: "a queue's set-up and reset", points: queues::POINTS },
    Group { name: "data", about: "frames", points: data::POINTS },
    Group { name: "notify", about: "doorbells and interrupts", points: notifications::POINTS },
    Group { name: "commands", about: "virtio-net's control queue", points: commands::POINTS },
    Group { name: "malformed", about: "what breaks a queue", points: malformed::POINTS },
    Group { name: "heartbeat", about: "the board's heartbeat", points: heartbeat::POINTS },
    Group { name: "console", about: "the console device", points: console::POINTS },
];
