//! What surrounds the board: time, signals, and the descriptors that wake it.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use board::program::{Order, Surroundings};
use host::bus::ivshmem::IvshmemBoard;
use host::signals::EndSignals;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::time::TimeSpec;

use crate::interface::{Interface, Wants};

/// Longest single wait: a board wakes for its heartbeat long before.
const LONGEST_WAIT: Duration = Duration::from_secs(3600);

/// The signals, blocked so that they wait in descriptors.
#[derive(Debug)]
pub(crate) struct Signals {
    end: EndSignals,
    reboot: SignalFd,
}

impl Signals {
    /// From now on they wait. Call it before any thread is started.
    pub(crate) fn block() -> std::io::Result<Self> {
        let end = EndSignals::block()?;
        let set: SigSet = [Signal::SIGUSR1].into_iter().collect();
        set.thread_block()?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        Ok(Self { end, reboot: SignalFd::with_flags(&set, flags)? })
    }
}

/// Why the board was switched off.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Off {
    /// A signal asked for it.
    Asked,
    /// The server has ended: nobody new can come, and nobody hears interrupts.
    ServerGone,
    /// The interface behind the network device was deleted.
    InterfaceGone,
}

/// The process around the board.
#[derive(Debug)]
pub(crate) struct Process<'a> {
    pub(crate) start: Instant,
    pub(crate) board: &'a IvshmemBoard,
    pub(crate) signals: &'a Signals,
    pub(crate) interface: Option<&'a Interface>,
    /// Set when it switches the board off.
    pub(crate) off: Option<Off>,
}

impl Process<'_> {
    fn off(&mut self, why: Off) -> Order {
        self.off = Some(why);
        Order::Off
    }
}

impl Surroundings for Process<'_> {
    fn now_us(&mut self) -> u64 {
        u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    fn pause(&mut self, until_us: u64) -> Order {
        if !self.board.is_connected() {
            return self.off(Off::ServerGone);
        }
        let wants = self.interface.map_or(Wants::Nothing, Interface::take_wants);
        if wants == Wants::Gone {
            return self.off(Off::InterfaceGone);
        }
        let readable = |fd| PollFd::new(fd, PollFlags::POLLIN);
        let Signals { end, reboot } = self.signals;
        let bus = self.board.fd();
        let interface = self.interface.filter(|_| wants == Wants::Frames);
        // The bus once more where the interface is not waited for.
        let frames = interface.map_or(bus, AsFd::as_fd);
        let mut fds = [end.as_fd(), reboot.as_fd(), bus, frames].map(readable);
        let timeout = Duration::from_micros(until_us.saturating_sub(self.now_us()));
        let _ = ppoll(&mut fds, Some(TimeSpec::from_duration(timeout.min(LONGEST_WAIT))), None);
        let signal = |fd: &PollFd<'_>| fd.any().unwrap_or(true);
        let [ended, rebooted, ..] = fds.each_ref().map(signal);
        if ended && end.arrived().is_some() {
            return self.off(Off::Asked);
        }
        if rebooted && matches!(reboot.read_signal(), Ok(Some(_))) {
            return Order::Reboot;
        }
        Order::Go
    }
}
