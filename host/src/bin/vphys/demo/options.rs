//! What can be asked of the demo.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::{Args, ValueEnum};
use virtio_phys_host::net::{MIN_MTU_IPV6, check_mtu};
use virtio_phys_host::session::{FeatureMask, Layout};
use virtio_phys_host::tap::InterfaceMode;

use crate::emulated_board::BoardFault;
use crate::qemu::Machine;

/// Options of `vphys demo`.
#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    /// Print one JSON object on one line and nothing else.
    #[arg(long)]
    pub(crate) json: bool,
    /// Seconds of traffic in each direction, from 0.05 to 3600.
    #[arg(long, default_value = "3", value_parser = seconds)]
    pub(crate) seconds: Duration,
    /// Where rings and buffers lie.
    #[arg(long, value_enum, default_value_t = LayoutOption::Split)]
    pub(crate) layout: LayoutOption,
    /// What the host's interface carries.
    #[arg(long, value_enum, default_value_t = ModeOption::Tap)]
    pub(crate) mode: ModeOption,
    /// Open a shell ($SHELL) inside the namespace, to ping and curl the board
    /// oneself, instead of the measurements.
    #[arg(long, conflicts_with_all = ["json", "seconds"])]
    pub(crate) shell: bool,
    /// How many boards there are. With 2 each has an interface of its own, and
    /// board A sends frames over the kernel's bridge to board B, which sends them back.
    #[arg(
        long,
        value_name = "1|2",
        default_value_t = 1,
        value_parser = clap::value_parser!(u8).range(1..=2),
        conflicts_with = "shell"
    )]
    pub(crate) boards: u8,
    /// Run the board's firmware in QEMU, on another processor, instead of
    /// emulating the board in this process.
    #[arg(long, value_name = "MACHINE", value_enum, conflicts_with_all = ["boards", "board_fault"])]
    pub(crate) board: Option<Machine>,
    /// The firmware for it, as an ELF file, instead of what ./check firmware built.
    #[arg(long, value_name = "FILE", requires = "board")]
    pub(crate) firmware: Option<PathBuf>,
    /// Name of the interface, or a pattern such as vphys%d.
    #[arg(long, value_name = "NAME", default_value = "vphys%d")]
    pub(crate) interface: String,
    /// The interface's MTU in bytes, from 1280 to 65521.
    #[arg(long, value_name = "BYTES", default_value_t = 1500)]
    pub(crate) mtu: u32,
    /// Feature bits that may be negotiated, in hexadecimal.
    #[arg(long, value_name = "MASK", default_value_t = FeatureMask::ALL)]
    pub(crate) features: FeatureMask,
    /// What the board does wrong, to see how the host takes it: `version`, or
    /// `silent:MS`, from that many milliseconds after its boot on.
    #[arg(long, hide = true, value_name = "FAULT", value_parser = board_fault)]
    pub(crate) board_fault: Option<BoardFault>,
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

/// `--mode`.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum ModeOption {
    /// Ethernet frames.
    Tap,
    /// IP packets; the daemon speaks Ethernet with the board.
    Tun,
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

impl From<ModeOption> for InterfaceMode {
    fn from(option: ModeOption) -> Self {
        match option {
            ModeOption::Tap => Self::Tap,
            ModeOption::Tun => Self::Tun,
        }
    }
}

impl Options {
    /// What is wrong with the options taken together, before anything is made.
    pub(crate) fn check(&self) -> Result<()> {
        let mtu = check_mtu(self.mtu, None)?;
        if self.boards > 1 {
            ensure!(
                matches!(self.mode, ModeOption::Tap),
                "a bridge takes no IP packets: choose --mode tap for two boards"
            );
            ensure!(
                self.interface.contains("%d"),
                "two boards have two interfaces: choose a pattern such as vphys%d instead of {}",
                self.interface
            );
        }
        ensure!(
            mtu >= MIN_MTU_IPV6,
            "an MTU of {mtu} is too small for IPv6, which the demo uses too: choose \
             {MIN_MTU_IPV6} or more"
        );
        Ok(())
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.05..=3600.0).contains(&seconds) => Ok(Duration::from_secs_f64(seconds)),
        _ => Err("choose a number from 0.05 to 3600".to_owned()),
    }
}

fn board_fault(text: &str) -> Result<BoardFault, String> {
    match text.split_once(':') {
        None if text == "version" => Ok(BoardFault::Version),
        Some(("silent", ms)) => ms
            .parse()
            .map(|after_ms| BoardFault::Silent { after_ms })
            .map_err(|error| format!("{ms:?} is no number of milliseconds: {error}")),
        _ => Err("choose version, or silent:MS".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_may_have_a_fraction() {
        assert_eq!(seconds("0.25"), Ok(Duration::from_millis(250)));
        for wrong in ["", "0", "-1", "nan", "inf", "1e9", "3601", "x"] {
            assert!(seconds(wrong).is_err(), "{wrong}");
        }
    }
}
