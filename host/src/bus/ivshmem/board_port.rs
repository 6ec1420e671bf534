//! The board's face of an ivshmem bus, for a board that is a process.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::sys::epoll::EpollTimeout;
use shared::address::BusAddress;
use shared::link::{DoorbellDescription, Outbound};
use shared::window::Window;

use super::client::{Client, Memory};
use super::error::{IvshmemError, Step};
use super::vector::Watch;
use super::window::IvshmemWindow;
use super::{DOORBELL_BAR, DOORBELL_OFFSET, HOST_PEER, peer_of};
use crate::bus::BusError;

/// Doorbells that a board can have: one bit each.
const MOST_DOORBELLS: u16 = 31;

/// The number of the server's socket in the watch, behind all vectors.
const SOCKET: u64 = 64;

/// A board's face of an ivshmem bus: what its board support stands on.
#[derive(Debug)]
pub struct IvshmemBoard {
    memory: Memory,
    id: u16,
    doorbells: u16,
    watch: Watch,
    #[expect(dead_code, reason = "a vector that is closed is watched no more")]
    vectors: Vec<Arc<OwnedFd>>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// `None`: the connection is lost.
    client: Option<Client>,
    rung: u32,
    reset: bool,
}

impl IvshmemBoard {
    /// Connects to the server at `path` as a board with `doorbells` doorbells,
    /// for which it needs one vector more than that. `patience` bounds it.
    ///
    /// # Errors
    /// Why the server cannot be reached or used, fewer vectors included.
    pub fn connect(path: &Path, doorbells: u16, patience: Duration) -> Result<Self, IvshmemError> {
        let doorbells = doorbells.min(MOST_DOORBELLS);
        let mut client = Client::connect(path, patience)?;
        let silent = || IvshmemError::Silent {
            step: Step::Peers,
            waited: u64::try_from(patience.as_millis()).unwrap_or(u64::MAX),
        };
        let last = client.await_some(patience, |client| client.vector(doorbells))?;
        last.ok_or_else(silent)?;
        let watch = Watch::new().map_err(IvshmemError::system("make an epoll instance"))?;
        let add = IvshmemError::system("wait for vectors");
        let mut vectors = Vec::new();
        for number in 0..=doorbells {
            let vector = client.vector(number).ok_or_else(silent)?;
            watch.add_vector(vector.as_fd(), number.into()).map_err(&add)?;
            vectors.push(vector);
        }
        watch.add_socket(client.socket(), SOCKET).map_err(&add)?;
        let (memory, id) = (client.memory().clone(), client.id());
        let state = Mutex::new(State { client: Some(client), rung: 0, reset: false });
        Ok(Self { memory, id, doorbells, watch, vectors, state })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The length of BAR 0 in bytes, the control pages included.
    #[must_use]
    pub fn bar_len(&self) -> u64 {
        self.memory.half()
    }

    /// What the control block says of the doorbells.
    #[must_use]
    pub fn doorbells(&self) -> DoorbellDescription {
        DoorbellDescription {
            bar: DOORBELL_BAR,
            offset: DOORBELL_OFFSET,
            stride: 0,
            count: self.doorbells.into(),
            value: u32::from(self.id) << 16,
            step: 1,
        }
    }

    /// What the control block says of the reach: the host's half, to its end.
    #[must_use]
    pub fn reach(&self) -> Outbound {
        let half = self.memory.half();
        Outbound { windows: 8, size: half, alignment: 4096, address_bits: half.ilog2() }
    }

    /// `len` bytes at `offset` of BAR 0. `offset` is a multiple of 8.
    ///
    /// # Errors
    /// [`BusError::OutsideBar`].
    pub fn memory(&self, offset: u64, len: u64) -> Result<IvshmemWindow, BusError> {
        let window = self.memory.board(offset, len);
        Ok(IvshmemWindow::new(window.ok_or(BusError::OutsideBar { offset, len })?, None))
    }

    /// A window onto `len` bytes of host memory.
    ///
    /// # Errors
    /// [`BusError::NotShared`] where the host has no memory.
    pub fn outbound(&self, iova: BusAddress, len: u64) -> Result<IvshmemWindow, BusError> {
        let window = self.memory.host(iova.bits(), len);
        Ok(IvshmemWindow::new(window.ok_or(BusError::NotShared { address: iova, len })?, None))
    }

    /// Raises an interrupt vector of the host, behind all that this thread has
    /// stored before. Without a host nothing happens, nor with one that says
    /// that it is somebody who is not there.
    pub fn raise(&self, vector: u16) {
        let Some(place) = self.memory.host(HOST_PEER, 4) else { return };
        let Some(host) = peer_of(place.load(0)) else { return };
        let state = self.state();
        if let Some(bell) = state.client.as_ref().and_then(|client| client.bell(host, vector)) {
            bell.ring();
        }
    }

    /// The doorbells that rang since the last time, one bit each. Also hears
    /// the server.
    #[must_use]
    pub fn take_doorbells(&self) -> u32 {
        self.look();
        std::mem::take(&mut self.state().rung)
    }

    /// Whether the host has asked for a reboot since the last time, as far as
    /// [`take_doorbells`](Self::take_doorbells) has seen.
    #[must_use]
    pub fn take_reset(&self) -> bool {
        std::mem::take(&mut self.state().reset)
    }

    fn look(&self) {
        let (mut rung, mut reset, mut said) = (0_u32, false, false);
        self.watch.look(EpollTimeout::ZERO, |number, _| match number {
            SOCKET => said = true,
            number if number == u64::from(self.doorbells) => reset = true,
            number => rung |= u32::try_from(number).map_or(0, |bit| 1_u32.unbounded_shl(bit)),
        });
        let mut state = self.state();
        state.rung |= rung;
        state.reset |= reset;
        if said
            && let Some(client) = &mut state.client
            && let Err(error) = client.service()
        {
            log::debug!("{error}");
            state.client = None;
        }
    }

    /// Whether the server is still there. Without it nobody new can come, and
    /// nobody is interrupted.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.state().client.is_some()
    }

    /// What becomes readable when a doorbell rings, the host asks for a reboot,
    /// or the server has something to say.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.watch.fd()
    }
}
