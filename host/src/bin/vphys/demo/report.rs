//! What the demo measured, for people and for programs.

use serde::Serialize;

/// The demo's result; `--json` prints it as one line.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) ok: bool,
    pub(crate) layout: String,
    pub(crate) features: String,
    pub(crate) rtt_us: RoundTrip,
    pub(crate) gbit_per_s: BothWays<f64>,
    pub(crate) frames: BothWays<u64>,
    pub(crate) bytes_checked: Checked,
    pub(crate) per_packet: BothWays<PerPacket>,
    /// Work that a timer found and no notification announced, both sides: 0.
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

impl Report {
    /// One JSON object on one line.
    pub(crate) fn json(&self) -> anyhow::Result<String> {
        Ok(serde_json::to_string(self)?)
    }

    /// The table for people.
    pub(crate) fn text(&self) -> String {
        let mut out = String::new();
        let mut line = |text: String| {
            out.push_str(&text);
            out.push('\n');
        };
        line(format!("layout {}, features {}", self.layout, self.features));
        line(format!(
            "ping            p50 {:.1} us, p99 {:.1} us ({} IPv4, {} IPv6)",
            self.rtt_us.p50, self.rtt_us.p99, self.rtt_us.v4, self.rtt_us.v6
        ));
        line(format!(
            "echo            {} TCP bytes and {} UDP datagrams came back, {} lost",
            self.bytes_checked.tcp_echo, self.bytes_checked.udp_echo, self.bytes_checked.udp_lost
        ));
        let (down, up) = (&self.per_packet.to_board, &self.per_packet.to_host);
        let mut row = |name: &str, down: String, up: String| {
            line(format!("{name:<34}{down:>12}{up:>12}"));
        };
        row("", "to board".into(), "to host".into());
        row("TCP, Gbit/s", two(self.gbit_per_s.to_board), two(self.gbit_per_s.to_host));
        row(
            "TCP bytes, all accounted for",
            self.bytes_checked.tcp_to_board.to_string(),
            self.bytes_checked.tcp_to_host.to_string(),
        );
        row("frames", self.frames.to_board.to_string(), self.frames.to_host.to_string());
        row("per frame: bus reads", three(down.bus_reads), three(up.bus_reads));
        row("  fetches by DMA", three(down.dma_fetches), three(up.dma_fetches));
        row("  sleep flushes", three(down.sleep_flushes), three(up.sleep_flushes));
        row(
            "  control stores, host",
            three(down.control_stores_host),
            three(up.control_stores_host),
        );
        row(
            "  control stores, board",
            three(down.control_stores_board),
            three(up.control_stores_board),
        );
        row("  doorbells", three(down.doorbells), three(up.doorbells));
        row("  interrupts", three(down.interrupts), three(up.interrupts));
        row("  copies of ours", three(down.copies), three(up.copies));
        out
    }
}

fn two(value: f64) -> String {
    format!("{value:.2}")
}

fn three(value: f64) -> String {
    format!("{value:.3}")
}
