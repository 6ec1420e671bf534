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
    /// Only the simulated bus counts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) per_packet: Option<BothWays<PerPacket>>,
    /// What the daemon alone has counted, which it does on every bus.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) host_per_packet: Option<BothWays<HostShare>>,
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
/// other way travel on the other queue and are billed there).
#[derive(Debug, Default, Serialize)]
pub(crate) struct PerPacket {
    /// Reads across the bus for which a CPU waits, both sides, flushes apart.
    pub(crate) bus_reads: f64,
    /// Fetches by the board's DMA engine, which nobody waits for.
    pub(crate) dma_fetches: f64,
    /// The one read of R4 a sleep, both sides.
    pub(crate) sleep_flushes: f64,
    pub(crate) control_stores_host: f64,
    pub(crate) control_stores_board: f64,
    pub(crate) doorbells: f64,
    pub(crate) interrupts: f64,
    /// Copies of payload by our own code (the kernel's in tun apart).
    pub(crate) copies: f64,
}

/// The host's share of the bill of one direction, divided by its frames.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct HostShare {
    /// The one read of R4 a sleep.
    pub(crate) sleep_flushes: f64,
    pub(crate) doorbells: f64,
    /// Copies of payload by our own code (the kernel's in tun apart).
    pub(crate) copies: f64,
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
const NAME: usize = 34;
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
        match &self.per_packet {
            Some(per_packet) => {
                costs(&mut out, &self.frames, per_packet);
                out.push('\n');
                out.push_str(&explanation());
            }
            None => {
                row(
                    "  frames",
                    &self.frames.to_board.to_string(),
                    &self.frames.to_host.to_string(),
                );
                if let Some(share) = &self.host_per_packet {
                    host_share(&mut out, share);
                }
                out.push('\n');
                out.push_str(&wrapped(IN_QEMU, ""));
            }
        }
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
    for (name, down, up) in [
        ("  bus reads", down.bus_reads, up.bus_reads),
        ("  fetches by the DMA engine", down.dma_fetches, up.dma_fetches),
        ("  reads before sleeping", down.sleep_flushes, up.sleep_flushes),
        ("  control stores by the host", down.control_stores_host, up.control_stores_host),
        ("  control stores by the board", down.control_stores_board, up.control_stores_board),
        ("  doorbells", down.doorbells, up.doorbells),
        ("  interrupts", down.interrupts, up.interrupts),
        ("  copies of its payload by us", down.copies, up.copies),
    ] {
        row(name, &format!("{down:.3}"), &format!("{up:.3}"));
    }
}

/// The rows that say what each frame cost the host.
fn host_share(out: &mut String, BothWays { to_board, to_host }: &BothWays<HostShare>) {
    let mut row = |name: &str, down: &str, up: &str| line(out, name, down, up);
    row("", "", "");
    row("Each of these frames cost the host", "", "");
    for (name, down, up) in [
        ("  reads before sleeping", to_board.sleep_flushes, to_host.sleep_flushes),
        ("  doorbells", to_board.doorbells, to_host.doorbells),
        ("  copies of its payload by us", to_board.copies, to_host.copies),
    ] {
        row(name, &format!("{down:.3}"), &format!("{up:.3}"));
    }
}

/// One line of the table.
pub(super) fn line(out: &mut String, name: &str, down: &str, up: &str) {
    let line = format!("{name:<NAME$}{down:>FIGURE$}{up:>FIGURE$}");
    out.push_str(line.trim_end());
    out.push('\n');
}

/// What the figures mean.
pub(super) fn explanation() -> String {
    wrapped(EXPLANATION, "")
}

/// What the figures mean.
const EXPLANATION: &str = "Throughput is payload over time, as the two ends counted it; the \
    bus is simulated in memory, so it and the times say what the code costs, not what a card \
    would do. The counts are what a card's bus would carry. A bus read is a load across the bus \
    on the data path, for which a CPU waits about a microsecond on PCIe; a side makes one more \
    before it sleeps. Control stores are descriptors, ring entries and indices written across it. \
    The kernel's own copy in the tun driver is not in the table.";

/// What they mean where QEMU is the board.
const IN_QEMU: &str = "Throughput is payload over time, as the two ends counted it. QEMU \
    translates the firmware's instructions, so it and the times say that the firmware works, not \
    how fast a processor would run it.";

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
        let text = wrapped(EXPLANATION, "  ");
        assert!(text.lines().all(|line| line.len() <= TEXT), "{text}");
        assert!(text.split_whitespace().eq(EXPLANATION.split_whitespace()));
    }
}
