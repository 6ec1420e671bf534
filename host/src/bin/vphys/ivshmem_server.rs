//! `vphys ivshmem-server`: the memory and the vectors of one board, as a
//! program of its own.

use std::io::Write;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Args;
use clap::builder::RangedU64ValueParser;
use virtio_phys_host::bus::ivshmem::{Server, ServerOptions};
use virtio_phys_host::signals::EndSignals;

/// Options of `vphys ivshmem-server`.
#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    /// Where it listens. A socket that nobody serves any more is replaced.
    #[arg(long, value_name = "PATH")]
    socket: PathBuf,
    /// Shared memory: a power of two from 1M to 1T. The first half is the board's, the second the
    /// host's.
    #[arg(long, value_name = "N[K|M|G|T]", default_value = "64M", value_parser = size)]
    size: u64,
    /// Vectors of each peer. QEMU must be told the same number (vectors=N).
    #[arg(
        long,
        value_name = "1..64",
        default_value_t = 4,
        value_parser = RangedU64ValueParser::<u16>::new().range(1..=64)
    )]
    vectors: u16,
    /// Peers at a time: the board, the host, and who else looks on.
    #[arg(
        long,
        value_name = "1..64",
        default_value_t = 16,
        value_parser = RangedU64ValueParser::<usize>::new().range(1..=64)
    )]
    peers: usize,
    /// Make the memory of huge pages, all of which are taken at once (sysctl vm.nr_hugepages sets
    /// them aside).
    #[arg(long)]
    hugepages: bool,
}

/// Bytes, with a suffix that counts in powers of 1024.
fn size(text: &str) -> Result<u64, String> {
    let shift = match text.bytes().last() {
        Some(b'K' | b'k') => 10,
        Some(b'M' | b'm') => 20,
        Some(b'G' | b'g') => 30,
        Some(b'T' | b't') => 40,
        _ => 0,
    };
    let digits = if shift > 0 { text.get(..text.len() - 1) } else { Some(text) };
    let number = digits.filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
    let number: u64 = number
        .and_then(|number| number.parse().ok())
        .ok_or("write a number of bytes, or one with K, M, G or T behind it, such as 64M")?;
    let usable = |bytes: &u64| bytes.is_power_of_two() && (1 << 20..=1 << 40).contains(bytes);
    number
        .checked_mul(1 << shift)
        .filter(usable)
        .ok_or_else(|| "it must be a power of two from 1M to 1T".to_owned())
}

/// Serves until a signal ends it.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    let end = EndSignals::block().context("cannot receive signals")?;
    let server = Server::bind(
        &options.socket,
        ServerOptions {
            memory: options.size,
            huge_pages: options.hugepages,
            vectors: options.vectors,
            peers: options.peers,
        },
    )?;
    // Nobody need read it.
    let _ = writeln!(
        std::io::stderr(),
        "ivshmem server at {}: {} KiB in {} pages, {} vectors a peer (QEMU: vectors={}), {} peers \
         at most; Ctrl-C ends it",
        options.socket.display(),
        options.size / 1024,
        if options.hugepages { "huge" } else { "small" },
        options.vectors,
        options.vectors,
        options.peers,
    );
    server.serve(end.as_fd())?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (text, bytes) in [
            ("1048576", 1 << 20),
            ("1024K", 1 << 20),
            ("64M", 64 << 20),
            ("64m", 64 << 20),
            ("2G", 2 << 30),
            ("1T", 1 << 40),
        ] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for text in ["", "M", "-1M", "+1M", "1.5G", "64MB", "64 M", "0x100000", "\u{b5}"] {
            assert!(size(text).unwrap_err().contains("such as 64M"), "{text}");
        }
        for text in ["0", "1", "512K", "3M", "2T", "16777216T", "18446744073709551615"] {
            assert!(size(text).unwrap_err().contains("a power of two"), "{text}");
        }
    }
}
