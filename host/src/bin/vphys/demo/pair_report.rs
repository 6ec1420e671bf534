//! What the demo with two boards measured.

use serde::Serialize;

use super::report::{BothWays, PerPacket, costs, explanation, line};

/// The result; `--json` prints it as one line.
#[derive(Debug, Serialize)]
pub(crate) struct PairReport {
    pub(crate) ok: bool,
    pub(crate) layout: String,
    pub(crate) mtu: u32,
    /// Frames of board A that board B sent back and board A compared.
    pub(crate) frames_checked: u64,
    pub(crate) bytes_checked: u64,
    /// Of one of the two ways.
    pub(crate) gbit_per_s: f64,
    pub(crate) boards: Vec<BoardReport>,
}

/// One of the boards.
#[derive(Debug, Serialize)]
pub(crate) struct BoardReport {
    pub(crate) board: String,
    pub(crate) interface: String,
    pub(crate) frames: BothWays<u64>,
    pub(crate) per_packet: BothWays<PerPacket>,
    /// Work that a timer found and no notification announced, both sides: 0.
    pub(crate) completion_polled: u64,
}

impl PairReport {
    /// One JSON object on one line.
    pub(crate) fn json(&self) -> anyhow::Result<String> {
        Ok(serde_json::to_string(self)? + "\n")
    }

    /// The table for people.
    pub(crate) fn text(&self) -> String {
        let mut out = format!(
            "\nlayout {}, MTU {}\n{} frames, {} bytes, {:.2} Gbit/s there and as much back\n",
            self.layout, self.mtu, self.frames_checked, self.bytes_checked, self.gbit_per_s
        );
        for board in &self.boards {
            out.push('\n');
            let name = format!("{} behind {}", board.board, board.interface);
            line(&mut out, &name, "to the board", "to the host");
            costs(&mut out, &board.frames, &board.per_packet);
        }
        out.push('\n');
        out.push_str(&explanation());
        out
    }
}
