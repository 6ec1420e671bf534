//! The host's face of an ivshmem bus.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::epoll::EpollTimeout;
use shared::address::BusAddress;
use shared::link::DoorbellDescription;
use shared::raw::StoreWidth;
use shared::region::Rights;
use shared::window::Window;
use shared::wire::control::{field, live};

use super::areas::{Areas, PAGE};
use super::client::Client;
use super::error::IvshmemError;
use super::vector::{Bell, Watch};
use super::window::IvshmemWindow;
use super::{DOORBELL_BAR, DOORBELL_OFFSET, HOST_PEER, REGISTERS_LEN};
use crate::bus::{Bus, BusError, HostMemory, Latch, Ring};

/// How the host talks to an ivshmem server.
#[derive(Clone, Debug)]
pub struct IvshmemOptions {
    /// The server's socket.
    pub path: PathBuf,
    /// How long a call waits at most: for the server's greeting, for a peer
    /// that the board's control block names, for a reboot that was asked for.
    pub patience: Duration,
}

impl IvshmemOptions {
    /// The socket at `path`, and half a second of patience.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), patience: Duration::from_millis(500) }
    }
}

/// The host's face of an ivshmem bus.
///
/// It connects when it is first needed, and again when a session starts after
/// the connection was lost.
#[derive(Debug)]
pub struct IvshmemBus {
    host: Arc<Mutex<Host>>,
}

/// The state behind the bus and its latches.
#[derive(Debug)]
struct Host {
    options: IvshmemOptions,
    client: Option<Client>,
    /// The peer that the board's doorbells lead to, and how many it has.
    board: Option<(u16, u32)>,
    /// Whether the board has gone, for the windows of this attach.
    gone: Arc<AtomicBool>,
    areas: Areas,
}

/// Numbers in a latch's watch.
const VECTOR: u64 = 0;
const SOCKET: u64 = 1;

/// How often a reboot that was asked for is looked for, in ms.
const LOOK: Duration = Duration::from_millis(5);

impl IvshmemBus {
    /// A bus that connects when it is first needed.
    #[must_use]
    pub fn new(options: IvshmemOptions) -> Self {
        let host =
            Host { options, client: None, board: None, gone: Arc::default(), areas: Areas::new(0) };
        Self { host: Arc::new(Mutex::new(host)) }
    }

    /// A bus that is connected.
    ///
    /// # Errors
    /// Why the server cannot be reached or used.
    pub fn connect(options: IvshmemOptions) -> Result<Self, IvshmemError> {
        let bus = Self::new(options);
        bus.host().connected()?;
        Ok(bus)
    }

    /// From now on a call waits for so long.
    #[cfg(test)]
    pub(super) fn set_patience(&self, patience: Duration) {
        self.host().options.patience = patience;
    }

    fn host(&self) -> MutexGuard<'_, Host> {
        lock(&self.host)
    }
}

fn lock(host: &Mutex<Host>) -> MutexGuard<'_, Host> {
    host.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Host {
    /// The connection, made anew if there is none.
    fn connected(&mut self) -> Result<&mut Client, IvshmemError> {
        self.service();
        if self.client.is_none() {
            let client = Client::connect(&self.options.path, self.options.patience)?;
            self.areas = Areas::new(client.memory().half());
            self.client = Some(client);
        }
        // Always there now; the error is for the compiler.
        let client =
            self.client.as_mut().ok_or(IvshmemError::Closed { step: super::Step::Version })?;
        // Each time anew: another host, or anybody, may have written there.
        if let Some((place, ours)) = host_word(client) {
            place.store(0, ours);
        }
        Ok(client)
    }

    /// The connection of the attach that runs.
    fn current(&mut self) -> Result<&mut Client, BusError> {
        self.client.as_mut().ok_or(BusError::Gone)
    }

    /// Takes what the server says. Afterwards the board may be gone.
    fn service(&mut self) {
        let Some(client) = &mut self.client else { return };
        if let Err(error) = client.service() {
            log::debug!("{error}");
            self.client = None;
        }
        let there = self
            .client
            .as_ref()
            .is_some_and(|client| self.board.is_none_or(|(peer, _)| client.has_peer(peer)));
        if !there {
            self.gone.store(true, Ordering::Relaxed);
        }
    }

    /// Runs `wait` on the connection, which is lost if it fails.
    fn on_client<T>(
        &mut self,
        wait: impl FnOnce(&mut Client) -> Result<T, IvshmemError>,
    ) -> Result<T, BusError> {
        let outcome = wait(self.current()?);
        if outcome.is_err() {
            self.client = None;
            self.gone.store(true, Ordering::Relaxed);
        }
        Ok(outcome?)
    }

    /// The boot epoch, where the control block says that it is.
    fn boot_epoch(&self) -> Option<u32> {
        let memory = self.client.as_ref()?.memory();
        let board = memory.board(0, memory.half())?;
        let live: u32 = board.load(field::LIVE as u64);
        Some(board.load(u64::from(live) + live::BOOT_EPOCH))
    }
}

/// Where boards look for the host's number, and what this host writes there.
fn host_word(client: &Client) -> Option<(impl Window, u32)> {
    Some((client.memory().host(HOST_PEER, 4)?, u32::from(client.id()) + 1))
}

impl Drop for Host {
    fn drop(&mut self) {
        let word = self.client.as_ref().and_then(host_word);
        // Another host may have come meanwhile.
        if let Some((place, _)) = word.filter(|(place, ours)| place.load::<u32>(0) == *ours) {
            place.store(0, 0_u32);
        }
    }
}

impl Bus for IvshmemBus {
    type Window = IvshmemWindow;
    type Doorbell = IvshmemDoorbell;
    type Interrupt = IvshmemInterrupt;

    fn bar_len(&self, index: u8) -> u64 {
        match (index, &self.host().client) {
            (0, Some(client)) => client.memory().half(),
            (DOORBELL_BAR, Some(_)) => REGISTERS_LEN,
            _ => 0,
        }
    }

    /// Memory, which takes words of any width. Connects if there is no
    /// connection, and says who the host is. With BAR 0 a new attach begins: a
    /// board that had gone may be back.
    fn bar(&self, index: u8, _widest: StoreWidth) -> Result<IvshmemWindow, BusError> {
        if index != 0 {
            return Err(BusError::NoBar { index });
        }
        let mut host = self.host();
        let memory = host.connected()?.memory().clone();
        if host.gone.load(Ordering::Relaxed) {
            (host.gone, host.board) = (Arc::default(), None);
        }
        let window = memory.board(0, memory.half()).ok_or(BusError::NoBar { index })?;
        Ok(IvshmemWindow::new(window, Some(Arc::clone(&host.gone))))
    }

    /// The IOVA is the offset in the host's half. What the memory held is gone.
    fn share(&mut self, len: u64, _rights: Rights) -> Result<HostMemory<IvshmemWindow>, BusError> {
        if len == 0 || !len.is_multiple_of(PAGE) {
            return Err(BusError::BadLength { len, page: PAGE });
        }
        let mut host = self.host();
        let memory = host.current()?.memory().clone();
        let available = memory.half() / 2;
        let no_memory = BusError::NoHostMemory { len, available };
        let Some(iova) = host.areas.take(len) else { return Err(no_memory) };
        memory.clear_host(iova, len);
        let window = memory.host(iova, len).ok_or(no_memory)?;
        Ok(HostMemory { iova: BusAddress::new(iova), window: IvshmemWindow::new(window, None) })
    }

    fn unshare_all(&mut self) {
        self.host().areas.turn();
    }

    /// The value that the control block states names peer and vector.
    fn doorbell(
        &self,
        described: &DoorbellDescription,
        index: u32,
    ) -> Result<IvshmemDoorbell, BusError> {
        let bad = |reason| BusError::BadDoorbell { index, reason };
        let (at, value) = described.register(index).ok_or(bad("the board has fewer doorbells"))?;
        if described.bar != DOORBELL_BAR || at != DOORBELL_OFFSET {
            return Err(bad("ivshmem's doorbell register lies at offset 12 of BAR 1"));
        }
        let (peer, vector) = split(value);
        let mut host = self.host();
        let patience = host.options.patience;
        if host.current()?.id() == peer {
            return Err(bad("it leads back to this host"));
        }
        let found = host
            .on_client(|client| client.await_some(patience, |client| client.bell(peer, vector)))?;
        let bell = found.ok_or(bad(
            "the board's control block names a peer, or a vector, that is not connected to the \
             ivshmem server: it may be of a board that has ended",
        ))?;
        host.board = Some((peer, described.count));
        Ok(IvshmemDoorbell { bell })
    }

    fn interrupt(&self, vector: u16) -> Result<IvshmemInterrupt, BusError> {
        let mut host = self.host();
        let patience = host.options.patience;
        let found =
            host.on_client(|client| client.await_some(patience, |client| client.vector(vector)))?;
        let client = host.current()?;
        let event = found.ok_or(BusError::NoVector { vector, count: client.vectors() })?;
        let watch = || {
            let watch = Watch::new()?;
            watch.add_vector(event.as_fd(), VECTOR)?;
            // The message channel's also listens for the server.
            if vector == 0 {
                watch.add_socket(client.socket(), SOCKET)?;
            }
            Ok(watch)
        };
        let watch =
            watch().map_err(|error| BusError::System { what: "wait for vectors", error })?;
        Ok(IvshmemInterrupt { watch, event, host: Arc::clone(&self.host) })
    }

    /// Asks the board, by the vector behind its last doorbell, to reboot, and
    /// waits until its boot epoch changes or its peer leaves. A process cannot
    /// be reset from outside: a board that does not listen goes on.
    fn reset(&mut self) -> Result<(), BusError> {
        let not_reset = |reason| Err(BusError::NotReset { reason });
        let mut host = self.host();
        host.service();
        let Some((peer, doorbells)) = host.board else {
            return not_reset("no doorbell of it is known");
        };
        // Its process has ended, or nobody can tell.
        let Some(client) = host.client.as_ref().filter(|client| client.has_peer(peer)) else {
            return Err(BusError::Gone);
        };
        let bell = u16::try_from(doorbells).ok().and_then(|vector| client.bell(peer, vector));
        let Some(bell) = bell else { return not_reset("it has no vector for that") };
        let before = host.boot_epoch();
        bell.ring();
        let deadline = Instant::now() + host.options.patience;
        while Instant::now() < deadline {
            let left = host.on_client(|client| {
                client.await_some(LOOK, |client| (!client.has_peer(peer)).then_some(()))
            })?;
            if left.is_some() || host.boot_epoch() != before {
                return Ok(());
            }
        }
        not_reset("it was asked to reboot and did not")
    }
}

/// The peer and the vector that a doorbell value names.
const fn split(value: u32) -> (u16, u16) {
    let [low, second, third, high] = value.to_le_bytes();
    (u16::from_le_bytes([third, high]), u16::from_le_bytes([low, second]))
}

/// One doorbell: a vector of the board's peer.
#[derive(Debug)]
pub struct IvshmemDoorbell {
    bell: Bell,
}

impl Ring for IvshmemDoorbell {
    fn ring(&self) {
        self.bell.ring();
    }
}

/// One of our own vectors. That of the message channel also wakes when the
/// board, or the server, has gone.
#[derive(Debug)]
pub struct IvshmemInterrupt {
    watch: Watch,
    #[expect(dead_code, reason = "a vector that is closed is watched no more")]
    event: Arc<OwnedFd>,
    host: Arc<Mutex<Host>>,
}

impl Latch for IvshmemInterrupt {
    fn drain(&self) -> bool {
        let mut said = false;
        let any = self.watch.look(EpollTimeout::ZERO, |number, _| said |= number == SOCKET);
        if said {
            lock(&self.host).service();
        }
        any
    }

    fn fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.watch.fd())
    }
}
