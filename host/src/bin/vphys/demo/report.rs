//! What the demo measured, for people and for programs.

use serde::Serialize;

/// The demo's result; `--json` prints it as one line.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) ok: bool,
    pub(crate) layout: String,
    pub(crate) mode: String,
    pub(crate) features: String,
    pub(crate) mtu: u32,
    pub(crate) rtt_us: RoundTrip,
    pub(crate) gbit_per_s: BothWays<f64>,
    /// Frames of the TCP runs, what `per_packet` is divided by.
    pub(crate) frames: BothWays<u64>,
    pub(crate) bytes_checked: Checked,
    pub(crate) per_packet: BothWays<PerPacket>,
    /// Whether it has the board's part too: on the simulated bus.
    #[serde(skip)]
    pub(crate) board_counted: bool,
    /// Work that a timer found and no notification announced, both sides (of a
    /// board in QEMU the host's): 0.
    pub(crate) completion_polled: u64,
}

/// Round-trip times of pings, in microseconds.
#[derive(Debug, Serialize)]
pub(crate) struct RoundTrip {
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) v4: u32,
    pub(crate) v6: u32,
}

/// A figure for each direction.
#[derive(Debug, Serialize)]
pub(crate) struct BothWays<T> {
    pub(crate) to_board: T,
    pub(crate) to_host: T,
}

/// Payload bytes that came back, or that both ends counted alike.
#[derive(Debug, Serialize)]
pub(crate) struct Checked {
    pub(crate) tcp_echo: u64,
    pub(crate) udp_echo: u32,
    pub(crate) udp_lost: u32,
    pub(crate) tcp_to_board: u64,
    pub(crate) tcp_to_host: u64,
}

/// The bill of one direction, divided by its frames (acknowledgements the
/// other way travel on the other queue and are billed there). `None`: the board
/// is a machine of its own, and nobody counts there.
#[derive(Debug, Serialize)]
pub(crate) struct PerPacket {
    /// Reads across the bus for which the host waits, flushes apart.
    pub(crate) bus_reads_host: f64,
    /// The same of the board's processor.
    pub(crate) bus_reads_board: Option<f64>,
    /// Fetches by the board's DMA engine, which nobody waits for.
    pub(crate) dma_fetches: Option<f64>,
    /// The one read of R4 a sleep.
    pub(crate) sleep_flushes_host: f64,
    pub(crate) sleep_flushes_board: Option<f64>,
    /// Words stored, in own memory and across the bus.
    pub(crate) control_stores_host: f64,
    pub(crate) control_stores_board: Option<f64>,
    /// Payload bytes that the host stores into board memory.
    pub(crate) bytes_pushed_host: f64,
    /// Payload bytes that the host reads from board memory, and waits for.
    pub(crate) bytes_read_host: f64,
    pub(crate) doorbells: f64,
    /// Raised or, where the board's are not counted, taken by the host: several
    /// that come before it looks are one.
    pub(crate) interrupts: f64,
    /// Copies of payload by our own code (the kernel's in tun apart).
    pub(crate) copies_host: f64,
    pub(crate) copies_board: Option<f64>,
}

/// What `--json` prints where there is no result.
#[derive(Debug, Serialize)]
pub(crate) struct Failure {
    ok: bool,
    error: String,
}

impl Failure {
    pub(crate) fn new(error: &anyhow::Error) -> Self {
        Self { ok: false, error: format!("{error:#}") }
    }

    /// One JSON object on one line.
    pub(crate) fn json(&self) -> anyhow::Result<String> {
        Ok(serde_json::to_string(self)? + "\n")
    }
}

/// Columns of a line's name and of each of its two figures.
const NAME: usize = 38;
const FIGURE: usize = 14;

/// Columns of running text.
const TEXT: usize = 78;

impl Report {
    /// One JSON object on one line.
    pub(crate) fn json(&self) -> anyhow::Result<String> {
        Ok(serde_json::to_string(self)? + "\n")
    }

    /// The table for people.
    pub(crate) fn text(&self) -> String {
        let mut out = String::from("\n");
        let features = format!("features {}", self.features);
        out.push_str(&format!(
            "layout {}, {} interface, MTU {}\n",
            self.layout, self.mode, self.mtu
        ));
        out.push_str(&wrapped(&features, "         "));
        out.push_str(&format!(
            "ping     half within {:.1} us, 99 of 100 within {:.1} us\n\n",
            self.rtt_us.p50, self.rtt_us.p99
        ));
        let mut row = |name: &str, down: &str, up: &str| line(&mut out, name, down, up);
        let whole = |both: &BothWays<u64>| [both.to_board.to_string(), both.to_host.to_string()];
        let checked = &self.bytes_checked;
        let bytes = BothWays { to_board: checked.tcp_to_board, to_host: checked.tcp_to_host };
        row("TCP", "to the board", "to the host");
        row(
            "  payload, Gbit/s",
            &format!("{:.2}", self.gbit_per_s.to_board),
            &format!("{:.2}", self.gbit_per_s.to_host),
        );
        let [down, up] = whole(&bytes);
        row("  payload, bytes", &down, &up);
        costs(&mut out, &self.frames, &self.per_packet);
        out.push('\n');
        out.push_str(&wrapped(if self.board_counted { SIMULATED } else { IN_QEMU }, ""));
        out.push_str(&wrapped(COUNTS, ""));
        out
    }
}

/// The rows that say how many frames there were and what each cost.
pub(super) fn costs(out: &mut String, frames: &BothWays<u64>, per_packet: &BothWays<PerPacket>) {
    let mut row = |name: &str, down: &str, up: &str| line(out, name, down, up);
    row("  frames", &frames.to_board.to_string(), &frames.to_host.to_string());
    row("", "", "");
    row("Each of these frames cost", "", "");
    let (down, up) = (&per_packet.to_board, &per_packet.to_host);
    for (name, figure) in ROWS {
        let [down, up] = [down, up].map(|per_packet| {
            figure(per_packet).map_or_else(|| "-".to_owned(), |figure| format!("{figure:.3}"))
        });
        row(name, &down, &up);
    }
}

/// A row's name and its figure, if somebody has counted it.
type Row = (&'static str, fn(&PerPacket) -> Option<f64>);

const ROWS: [Row; 13] = [
    ("  bus reads by the host", |cost| Some(cost.bus_reads_host)),
    ("  bus reads by the board", |cost| cost.bus_reads_board),
    ("  fetches by the DMA engine", |cost| cost.dma_fetches),
    ("  reads before sleeping by the host", |cost| Some(cost.sleep_flushes_host)),
    ("  reads before sleeping by the board", |cost| cost.sleep_flushes_board),
    ("  control stores by the host", |cost| Some(cost.control_stores_host)),
    ("  control stores by the board", |cost| cost.control_stores_board),
    ("  payload bytes pushed by the host", |cost| Some(cost.bytes_pushed_host)),
    ("  payload bytes read by the host", |cost| Some(cost.bytes_read_host)),
    ("  doorbells", |cost| Some(cost.doorbells)),
    ("  interrupts", |cost| Some(cost.interrupts)),
    ("  copies of its payload by the host", |cost| Some(cost.copies_host)),
    ("  copies of its payload by the board", |cost| cost.copies_board),
];

/// One line of the table.
pub(super) fn line(out: &mut String, name: &str, down: &str, up: &str) {
    let line = format!("{name:<NAME$}{down:>FIGURE$}{up:>FIGURE$}");
    out.push_str(line.trim_end());
    out.push('\n');
}

/// What the figures mean.
pub(super) fn explanation() -> String {
    wrapped(SIMULATED, "") + &wrapped(COUNTS, "")
}

/// What the times mean.
const SIMULATED: &str = "Throughput is payload over time, as the two ends counted it; the \
    bus is simulated in memory, so it and the times say what the code costs, not what a card \
    would do.";

/// The same, and what nobody has counted, where QEMU is the board.
const IN_QEMU: &str = "Throughput is payload over time, as the two ends counted it. QEMU \
    translates the firmware's instructions, so it and the times say that the firmware works, not \
    how fast a processor would run it. What the board does in its own memory is not seen from \
    here (-); its interrupts are those that the host took.";

/// What the counts mean.
const COUNTS: &str = "The counts are what a card's bus would carry. A bus read is a load across \
    the bus on the data path, for which a CPU waits about a microsecond on PCIe; a side makes one \
    more before it sleeps. Control stores are descriptors, ring entries and indices written, most \
    of them across it. Payload that is pushed is written across it, in whole words. The kernel's \
    own copy in the tun driver is not in the table.";

/// `text` in lines of at most [`TEXT`] columns, all but the first indented.
fn wrapped(text: &str, indent: &str) -> String {
    let mut out = String::new();
    let mut column = 0;
    for word in text.split_whitespace() {
        if column > 0 && column + 1 + word.len() > TEXT {
            out.push('\n');
            out.push_str(indent);
            column = indent.len();
        } else if column > 0 {
            out.push(' ');
            column += 1;
        }
        out.push_str(word);
        column += word.len();
    }
    out.push('\n');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_short_and_no_word_is_lost() {
        for sentences in [SIMULATED, IN_QEMU, COUNTS] {
            let text = wrapped(sentences, "  ");
            assert!(text.lines().all(|line| line.len() <= TEXT), "{text}");
            assert!(text.split_whitespace().eq(sentences.split_whitespace()));
        }
    }
}
