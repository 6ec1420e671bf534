//! `vphys demo`: the whole way, from kernel sockets to board firmware and back.
//!
//! The daemon's own code attaches to a simulated board that runs the board
//! library with its IP stack; the kernel sees an ordinary tap interface.

mod bill;
mod emulated_board;
mod ping;
mod report;
mod steps;
mod traffic;

use clap::{Args, ValueEnum};
use virtio_phys_host::session::Layout;

pub(crate) use steps::run;

/// Options of `vphys demo`.
#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    /// Print one JSON object on one line instead of the table.
    #[arg(long)]
    pub(crate) json: bool,
    /// Seconds of TCP traffic in each direction.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub(crate) seconds: u64,
    /// Where rings and buffers lie.
    #[arg(long, value_enum, default_value_t = LayoutOption::Split)]
    pub(crate) layout: LayoutOption,
    /// Open a shell inside the namespace, to ping and curl the board oneself.
    #[arg(long, conflicts_with = "json")]
    pub(crate) shell: bool,
    /// Name of the interface.
    #[arg(long, default_value = "vphys0")]
    pub(crate) interface: String,
    /// The interface's MTU in bytes.
    #[arg(long, default_value_t = 1500)]
    pub(crate) mtu: u32,
    /// Feature bits that may be negotiated, in hexadecimal.
    #[arg(long, value_parser = feature_mask, default_value = "ffffffffffffffff")]
    pub(crate) features: u64,
}

/// `--layout`.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum LayoutOption {
    /// Descriptors in board memory, used rings in host memory.
    Split,
    /// Everything in board memory.
    BarOnly,
    /// Everything in host memory, to see what that costs.
    AllHost,
}

impl From<LayoutOption> for Layout {
    fn from(option: LayoutOption) -> Self {
        match option {
            LayoutOption::Split => Self::Split,
            LayoutOption::BarOnly => Self::BarOnly,
            LayoutOption::AllHost => Self::AllHost,
        }
    }
}

fn feature_mask(text: &str) -> Result<u64, String> {
    let digits = text.trim_start_matches("0x");
    u64::from_str_radix(digits, 16)
        .map_err(|error| format!("a feature mask is hexadecimal, like 0x130000000: {error}"))
}
