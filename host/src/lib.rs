//! The host's side: the virtio driver of a board, and the daemon around it.
//!
//! The layers, top down; each calls only those below it:
//!
//! 1. [`daemon`]: a board's threads and its interface.
//! 2. [`session`]: what the bring-up asks of a host, answered; no clock.
//! 3. [`bridge`]: frames between a port and the rings, both ways; no waiting.
//! 4. [`net`], [`interface`], [`ip`], [`tap`], [`netlink`], [`namespace`]: frames and the kernel.
//! 5. [`bus`]: windows, doorbells and interrupts of one board; backends.
//! 6. [`pool`]: how much memory may be locked for a board.
//! 7. `raw`: all unsafe code.
//!
//! Beside them, [`config`]: what an operator decides; [`control_socket`]: how a
//! daemon is asked; [`signals`]: how a program is asked to end; [`slow_queue`]: a
//! queue that carries no frames; [`net_control`]: virtio-net's; and [`console`]
//! with [`pty`]: a board's console. [`conform`] stands on [`bus`] alone: it checks boards.
//!
//! What the daemon promises is in docs/architecture.md and docs/safety.md.

pub mod bridge;
pub mod bus;
pub mod config;
pub mod conform;
pub mod console;
pub mod control_socket;
pub mod daemon;
pub mod interface;
pub mod ip;
mod limit;
pub mod namespace;
pub mod net;
pub mod net_control;
pub mod netlink;
pub mod pool;
pub mod pty;
pub mod raw;
pub mod session;
pub mod signals;
pub mod slow_queue;
pub mod tap;
