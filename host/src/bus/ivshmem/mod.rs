//! Shared memory between processes, by QEMU's ivshmem protocol.
//!
//! A *server* ([`Server`]) has the memory and makes eventfds; each *peer* gets
//! a number, the memory, and everybody's eventfds over a unix socket. The host
//! is a peer ([`IvshmemBus`], the [`Bus`](super::Bus) of the layers above), and
//! so is a board in a process of its own ([`IvshmemBoard`]). QEMU's
//! `ivshmem-doorbell` speaks the same protocol.
//!
//! What is laid down by us and not by QEMU (docs/protocol.md, "On ivshmem"):
//!
//! - The first half of the memory is the board's: BAR 0, control pages first.
//!   The second half is host memory; an IOVA is an offset in it.
//! - The doorbell register is described as QEMU has it: at offset 12 of a BAR
//!   of registers ([`DOORBELL_BAR`]), value `peer << 16 | vector`. Doorbell i is
//!   vector i of the board's peer; the vector behind its last doorbell asks the
//!   board to reboot.
//! - Interrupts go to one peer, the host: the first word of its half, which is
//!   never shared, says which it is.
//!
//! Not for: hosts that distrust each other. All peers see all of the memory,
//! and there is no IOMMU (docs/safety.md, "ivshmem").

mod areas;
mod board_port;
mod client;
mod error;
mod host_port;
mod server;
#[cfg(test)]
mod tests;
mod vector;
mod window;
mod wire;

pub use board_port::IvshmemBoard;
pub use error::{IvshmemError, Nonsense, Step};
pub use host_port::{IvshmemBus, IvshmemDoorbell, IvshmemInterrupt, IvshmemOptions};
pub use server::{RunningServer, Server, ServerOptions};
pub use window::IvshmemWindow;

/// The BAR of the registers, in the control block's count: without memory.
pub const DOORBELL_BAR: u8 = 1;

/// Where the doorbell register lies in it.
pub const DOORBELL_OFFSET: u64 = 12;

/// Bytes of the registers.
const REGISTERS_LEN: u64 = 256;

/// Where in the host's half it says which peer it is: a u32, the number plus 1.
const HOST_PEER: u64 = 0;

/// The peer that such a word names; `None` where it names none.
fn peer_of(word: u32) -> Option<u16> {
    word.checked_sub(1)?.try_into().ok()
}
