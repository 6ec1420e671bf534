//! Boards with devices of several kinds: the service runs devices of one type,
//! so this type is one or the other.

use shared::fault::PeerFault;
use shared::msg::device::{DeviceModel, ModelInfo};
use shared::msg::status::QueueSetup;
use shared::region::RegionTable;
use shared::window::Window;
use shared::wire::features::Features;

use super::{BoardDevice, ConfigChange, Context, Ran, Stop};
use crate::dma::DmaEngine;
use crate::support::BoardSupport;

/// A network device or a console. A board with further kinds makes a type
/// like this one of its own.
#[derive(Debug)]
pub enum DeviceKind<N, C> {
    /// [`NetDevice`](super::net::NetDevice).
    Net(N),
    /// [`ConsoleDevice`](super::console::ConsoleDevice).
    Console(C),
}

/// Calls the same method of whichever it is.
macro_rules! either {
    ($of:expr, $device:ident => $call:expr) => {
        match $of {
            DeviceKind::Net($device) => $call,
            DeviceKind::Console($device) => $call,
        }
    };
}

impl<N, C> DeviceKind<N, C> {
    /// The network device, if it is one.
    pub const fn net(&mut self) -> Option<&mut N> {
        match self {
            Self::Net(device) => Some(device),
            Self::Console(_) => None,
        }
    }

    /// The console, if it is one.
    pub const fn console(&mut self) -> Option<&mut C> {
        match self {
            Self::Console(device) => Some(device),
            Self::Net(_) => None,
        }
    }
}

impl<W: Window, N: DeviceModel<W>, C: DeviceModel<W>> DeviceModel<W> for DeviceKind<N, C> {
    fn info(&self) -> ModelInfo {
        either!(self, device => device.info())
    }

    fn read_config(&mut self, offset: u32, into: &mut [u8]) {
        either!(self, device => device.read_config(offset, into));
    }

    fn write_config(&mut self, offset: u32, from: &[u8]) -> bool {
        either!(self, device => device.write_config(offset, from))
    }

    fn driver_ok(&mut self, features: Features) {
        either!(self, device => device.driver_ok(features));
    }

    fn activate_queue(
        &mut self,
        setup: &QueueSetup,
        regions: &RegionTable<W>,
    ) -> Result<(), PeerFault> {
        either!(self, device => device.activate_queue(setup, regions))
    }

    fn reset(&mut self) -> bool {
        either!(self, device => device.reset())
    }

    fn reset_queue(&mut self, queue: u16) -> bool {
        either!(self, device => device.reset_queue(queue))
    }
}

impl<W: Window, N: BoardDevice<W>, C: BoardDevice<W>> BoardDevice<W> for DeviceKind<N, C> {
    fn run<S, E>(&mut self, context: &mut Context<'_, S, E>) -> Ran
    where
        S: BoardSupport<Window = W>,
        E: DmaEngine<W>,
    {
        either!(self, device => device.run(context))
    }

    fn park(&mut self) {
        either!(self, device => device.park());
    }

    fn arm(&mut self) -> bool {
        either!(self, device => device.arm())
    }

    fn take_stop(&mut self) -> Option<(u16, Stop)> {
        either!(self, device => device.take_stop())
    }

    fn take_config_change(&mut self) -> Option<ConfigChange> {
        either!(self, device => device.take_config_change())
    }

    fn due_us(&self) -> Option<u64> {
        either!(self, device => device.due_us())
    }

    fn counter(&self, index: usize) -> Option<(&'static str, u64)> {
        either!(self, device => device.counter(index))
    }
}
