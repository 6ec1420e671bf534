//! A kernel interface of the board's own behind its network device: what the
//! host sends comes out of it, and what is sent to it goes to the host.
//!
//! Each way is as on the host: the kernel's header of a frame to the host is
//! fitted to what was negotiated ([`OutboundHeader`]), and a frame from the host is
//! checked before the kernel sees it ([`Sanitizer`]). The kernel copies a frame
//! once, between its own memory and the device's private buffer.

use std::cell::Cell;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::rc::Rc;

use anyhow::{Context, Result};
use board::device::Wake;
use board::device::net::{FrameSink, Negotiated, NetBackend, Packet};
use board::program::{Card, mac};
use host::bus::ivshmem::IvshmemWindow;
use host::ip::{IpPort, LinkAddresses};
use host::net::{
    CHECKED_BYTES, FramePort, Offloads, OutboundHeader, PortError, Rules, Sanitizer, Sent, Tags,
};
use host::netlink::Netlink;
use host::tap::{InterfaceMode, Tap, TapOptions};
use shared::wire::net::{HEADER_LEN, NetHeader, feature};

/// Frames taken from the kernel in one poll.
const BUDGET: usize = 64;

/// Bytes taken from the kernel in one poll.
const BYTES: usize = 256 * 1024;

/// Bytes of a frame that say who sent it.
const ETHERNET: usize = 14;

/// What the loop waits for at the interface.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Wants {
    /// Nothing: nobody would take a frame.
    Nothing,
    /// A frame of the kernel's.
    Frames,
    /// Nothing ever again: the interface has gone.
    Gone,
}

/// The interface, and what is waited for at it. It outlives the board's boots.
#[derive(Debug)]
pub(crate) struct Interface {
    tap: Tap,
    /// The board's number among the boards: part of both MAC addresses.
    number: u8,
    wants: Rc<Cell<Wants>>,
}

impl Interface {
    /// Makes the interface, up and with these addresses, without carrier.
    pub(crate) fn create(
        name: &str,
        mode: InterfaceMode,
        number: u8,
        addresses: &[(IpAddr, u8)],
    ) -> Result<Self> {
        let tap = Tap::open(&TapOptions { mode, ..TapOptions::new(name) })?;
        let mut netlink = Netlink::open()?;
        if mode == InterfaceMode::Tap {
            // The host takes frames from this address only.
            netlink.set_mac(tap.name(), mac(number, Card::Board))?;
        }
        netlink.set_up(tap.name())?;
        for (address, prefix) in addresses {
            netlink.add_address(tap.name(), *address, *prefix)?;
        }
        Ok(Self { tap, number, wants: Rc::new(Cell::new(Wants::Nothing)) })
    }

    /// Its name.
    pub(crate) fn name(&self) -> &str {
        self.tap.name()
    }

    /// What to wait for at [`Self::as_fd`], once: with its queues gone the
    /// board looks at no frame, and would wake for the same one for ever.
    pub(crate) fn take_wants(&self) -> Wants {
        let wants = self.wants.get();
        if wants == Wants::Frames {
            self.wants.set(Wants::Nothing);
        }
        wants
    }

    /// What lies behind the board's network device for one boot.
    pub(crate) fn backend(&self) -> Result<Backend> {
        self.tap.set_carrier(false)?;
        self.wants.set(Wants::Nothing);
        let tap = self.tap.try_clone()?;
        let kernel = match tap.mode() {
            InterfaceMode::Tap => Kernel::Tap(tap),
            InterfaceMode::Tun => {
                // As its daemon does, with the ends exchanged.
                let host = mac(self.number, Card::Board);
                let board = mac(self.number, Card::Host);
                Kernel::Tun(IpPort::new(tap, LinkAddresses { host, board }))
            }
        };
        let control = self.tap.try_clone().context("the interface")?;
        let wants = Rc::clone(&self.wants);
        Ok(Backend { control, kernel, ways: None, wants })
    }
}

impl AsFd for Interface {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.tap.as_fd()
    }
}

/// The data end, by what the interface carries.
#[derive(Debug)]
enum Kernel {
    Tap(Tap),
    /// Ethernet is made up here.
    Tun(IpPort),
}

/// What a frame may be, each way, while a driver is at work.
#[derive(Debug)]
struct Ways {
    to_host: OutboundHeader,
    to_board: Sanitizer,
}

/// A kernel interface behind the network device.
#[derive(Debug)]
pub(crate) struct Backend {
    /// For carrier and offloads.
    control: Tap,
    kernel: Kernel,
    ways: Option<Ways>,
    wants: Rc<Cell<Wants>>,
}

impl Backend {
    /// Opens the ways for what was negotiated; the kernel learns of its part.
    fn agree(&mut self, negotiated: &Negotiated) {
        let to_host = Offloads::to_host(negotiated.features).and(self.control.supported());
        if let Err(error) = self.control.set_offloads(to_host) {
            self.lost(&error);
        }
        let to_board = Offloads::to_board(negotiated.features);
        let release = nix::sys::utsname::uname()
            .map(|names| names.release().to_string_lossy().into_owned())
            .unwrap_or_default();
        let rules = Rules::new(to_board, negotiated.mtu, None).for_kernel(&release);
        let rules = Rules { tags: Tags::All, bridge_control: true, ..rules };
        self.ways = Some(Ways {
            to_host: OutboundHeader::new(to_host, negotiated.mtu),
            to_board: Sanitizer::new(rules),
        });
    }

    /// Whatever happened to the interface is final: the board ends.
    fn lost(&mut self, error: &dyn std::error::Error) {
        if self.wants.replace(Wants::Gone) != Wants::Gone {
            log::error!("the board's interface {}: {error}", self.control.name());
        }
    }

    fn carrier(&mut self, on: bool) {
        if let Err(error) = self.control.set_carrier(on) {
            self.lost(&error);
        }
    }

    /// The host sends from this address: answers go there. One store, as a host
    /// may take another address for each frame.
    const fn learn(&mut self, source: [u8; 6]) {
        let [first, ..] = source;
        if let (Kernel::Tun(port), 0) = (&mut self.kernel, first & 1) {
            port.set_board(source);
        }
    }

    fn send(&mut self, frame: &[u8]) -> Result<Sent, PortError> {
        match &mut self.kernel {
            Kernel::Tap(tap) => FramePort::<IvshmemWindow>::send(tap, frame, &[]),
            Kernel::Tun(port) => FramePort::<IvshmemWindow>::send(port, frame, &[]),
        }
    }

    /// The kernel's next frame that the host can take, as long as it is; `None`:
    /// there is none now.
    fn receive(&mut self, into: &mut [u8]) -> Result<Option<usize>, PortError> {
        let Some(ways) = &mut self.ways else { return Ok(None) };
        for _ in 0..BUDGET {
            let len = match &mut self.kernel {
                Kernel::Tap(tap) => FramePort::<IvshmemWindow>::receive_private(tap, into)?,
                Kernel::Tun(port) => FramePort::<IvshmemWindow>::receive_private(port, into)?,
            };
            let Some(len) = len.and_then(|len| usize::try_from(len).ok()) else { return Ok(None) };
            // What does not pass was queued under other offloads.
            let frame = into.get_mut(..len).unwrap_or(&mut []);
            if ways.to_host.check_private(frame).is_ok() {
                return Ok(Some(len));
            }
        }
        Ok(None)
    }
}

impl NetBackend for Backend {
    fn features(&self) -> u64 {
        let all = feature::GUEST_CSUM
            | feature::GUEST_TSO4
            | feature::GUEST_TSO6
            | feature::GUEST_ECN
            | Offloads::ALL.to_board_features();
        let uso = feature::GUEST_USO4 | feature::GUEST_USO6;
        // A kernel that reads them for us also takes them from us.
        if self.control.supported().uso4 { all | uso } else { all & !feature::HOST_USO }
    }

    fn start(&mut self, _now: u64, negotiated: Negotiated) {
        self.agree(&negotiated);
        self.carrier(true);
    }

    fn renegotiated(&mut self, _now: u64, negotiated: Negotiated) {
        self.agree(&negotiated);
    }

    fn stop(&mut self) {
        self.ways = None;
        self.carrier(false);
        if self.wants.get() == Wants::Frames {
            self.wants.set(Wants::Nothing);
        }
    }

    fn frame<S: FrameSink>(
        &mut self,
        _now: u64,
        header: &NetHeader,
        packet: &mut Packet<'_>,
        sink: &mut S,
    ) {
        let source = packet.frame().first_chunk::<ETHERNET>();
        if let Some([_, _, _, _, _, _, a, b, c, d, e, f, ..]) = source.copied() {
            self.learn([a, b, c, d, e, f]);
        }
        let Some(ways) = &mut self.ways else { return };
        let frame_len = u32::try_from(packet.frame().len()).unwrap_or(u32::MAX);
        let bytes = packet.with_header(header);
        let head = bytes.get(..HEADER_LEN + CHECKED_BYTES).unwrap_or(bytes);
        match ways.to_board.check(head, frame_len) {
            Ok(checked) => {
                let bytes = checked.head(bytes);
                if let Err(error) = self.send(bytes) {
                    self.lost(&error);
                }
            }
            Err(_) => sink.counters().dropped_header += 1,
        }
    }

    fn poll<S: FrameSink>(&mut self, _now: u64, sink: &mut S) -> Wake {
        if self.wants.get() == Wants::Gone {
            return Wake::Idle;
        }
        let mut bytes = 0;
        for _ in 0..BUDGET {
            if !sink.ready() {
                // A buffer from the host is what it waits for.
                self.wants.set(Wants::Nothing);
                return Wake::Idle;
            }
            let received = sink.build_whole(|into| {
                let received = self.receive(into);
                (received.as_ref().ok().copied().flatten(), received)
            });
            match received {
                Ok(Some(len)) => bytes += len,
                Ok(None) => {
                    self.wants.set(Wants::Frames);
                    return Wake::Idle;
                }
                Err(error) => {
                    self.lost(&error);
                    return Wake::Idle;
                }
            }
            if bytes >= BYTES {
                break;
            }
        }
        Wake::Again
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use host::ip::QUEUE_LEN;
    use host::namespace::in_namespace;

    use super::*;

    const ROUNDS: u8 = 100;
    const BOARD4: [u8; 4] = [10, 77, 0, 2];

    /// Who has the board's IP address, asked from this MAC address.
    fn question(source: [u8; 6]) -> Vec<u8> {
        let ethernet = [&[0xFF; 6][..], &source, &[8, 6]].concat();
        let kinds = [0, 1, 8, 0, 6, 4, 0, 1];
        let asked = [&source[..], &[10, 77, 0, 1], &[0; 6], &BOARD4].concat();
        [&[0; HEADER_LEN][..], &ethernet, &kinds, &asked].concat()
    }

    /// However often the host's address changes, the port stays: nothing that it
    /// counted or has yet to say is lost.
    #[test]
    fn another_address_is_no_other_port() {
        let name = "interface::tests::another_address_is_no_other_port";
        in_namespace(name, || {
            if !Path::new("/dev/net/tun").exists() {
                eprintln!("{name} left out: there is no /dev/net/tun");
                return;
            }
            let interface = Interface::create("kept%d", InterfaceMode::Tun, 7, &[]).unwrap();
            let mut backend = interface.backend().unwrap();
            let source = |round| [2, 0, 0, 0, 9, round];
            for round in 0..ROUNDS {
                backend.learn(source(round));
                backend.send(&question(source(round))).unwrap();
            }
            // A group sends nothing, whatever a frame says.
            backend.learn([3, 0, 0, 0, 9, 0]);
            let Kernel::Tun(port) = &mut backend.kernel else { panic!("a tun interface") };
            let last = source(ROUNDS - 1);
            assert_eq!((port.link().board, port.link().host), (last, mac(7, Card::Board)));
            let counters = port.counters();
            assert_eq!(counters.answered, QUEUE_LEN as u64, "{counters:?}");
            assert_eq!(counters.answers_lost, u64::from(ROUNDS) - QUEUE_LEN as u64);
            // Each answer goes to who asked.
            let mut frame = [0; 128];
            for (round, _) in (0..).zip(0..QUEUE_LEN) {
                let len = FramePort::<IvshmemWindow>::receive_private(port, &mut frame).unwrap();
                assert!(len.is_some(), "answer {round}");
                assert_eq!(frame[HEADER_LEN..HEADER_LEN + 6], source(round));
            }
        });
    }
}
