//! What a rig is like.

use host::bus::sim::{OutboundLimits, Profile, SimOptions};
use host::session::{Layout, SessionConfig};
use shared::link::{Heartbeat, Versions};
use shared::virtq::QueueSize;

use super::board::{BOARD_MAC, HOST_MAC};

/// What a rig is like. Begin with [`RigOptions::instrument`] or
/// [`RigOptions::counted`] and change what matters.
#[derive(Clone, Copy, Debug)]
pub struct RigOptions {
    /// The bus.
    pub sim: SimOptions,
    /// Decides whose turn it is, apart from the bus's own seed.
    pub seed: u64,
    /// What the host's operator decides.
    pub session: SessionConfig,
    /// Looks that find nothing before the host's data path sleeps, at least 1;
    /// `u32::MAX`: it never does.
    pub host_spin: u32,
    /// The board.
    pub board: BoardOptions,
}

/// What a rig's board is like.
#[derive(Clone, Copy, Debug)]
pub struct BoardOptions {
    /// Its own MAC address.
    pub mac: [u8; 6],
    /// The one that it gives the host's interface.
    pub host_mac: [u8; 6],
    /// Its network device's MTU.
    pub mtu: u16,
    /// Feature bits that its network device does not offer.
    pub withhold: u64,
    /// Entries of its queues, at most: a power of two.
    pub queue_entries: usize,
    /// As [`RigOptions::host_spin`]; 0 will do.
    pub spin: u32,
    /// Protocol versions that it speaks.
    pub versions: Versions,
    /// Whether its interrupts may overtake its writes, and it says so.
    pub interrupts_unordered: bool,
    /// What moves its payload.
    pub engine: EngineKind,
    /// Its CPU reaches payload in board memory through a cache that nobody
    /// keeps coherent.
    pub non_coherent: bool,
    /// How often hearts beat.
    pub heartbeat: Heartbeat,
    /// It shows its network device from the start.
    pub net: bool,
    /// It shows its console from the start.
    pub console: bool,
    /// The console is device 0 and the network device 1, not the other way round.
    pub console_first: bool,
    /// What becomes of the host's wish that it boot again.
    pub reboots: Reboots,
}

/// What a board does that is asked to boot again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reboots {
    /// It says that it does not.
    Refuses,
    /// It says that it will, and goes on.
    Promises,
    /// It says that it will, and does.
    Does,
}

/// What moves a board's payload.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EngineKind {
    /// The board's CPU: the control block then says that there is no engine.
    Cpu,
    /// Its DMA engine, an initiator of its own.
    Dma,
    /// The engine from so many bytes on, shorter copies the CPU.
    Mixed(usize),
}

/// Host memory that may be shared.
const HOST_LIMIT: u64 = 64 << 20;

impl RigOptions {
    /// On a bus that delays and reorders as `profile` has it.
    #[must_use]
    pub fn instrument(seed: u64, profile: Profile) -> Self {
        Self::over(SimOptions::instrument(seed, profile), seed)
    }

    /// On plain shared memory, with the bill.
    #[must_use]
    pub fn counted() -> Self {
        Self::over(SimOptions::counted(), 1)
    }

    fn over(sim: SimOptions, seed: u64) -> Self {
        Self {
            sim: SimOptions { host_limit: HOST_LIMIT, ..sim },
            seed,
            session: SessionConfig::default(),
            host_spin: 4,
            board: BoardOptions {
                mac: BOARD_MAC,
                host_mac: HOST_MAC,
                mtu: 9004,
                withhold: 0,
                queue_entries: 256,
                spin: 4,
                versions: Versions::OURS,
                interrupts_unordered: false,
                engine: EngineKind::Dma,
                non_coherent: false,
                heartbeat: Heartbeat { interval_ms: 250, misses: 8 },
                net: true,
                console: false,
                reboots: Reboots::Refuses,
                console_first: false,
            },
        }
    }

    /// The same with this layout. With [`Layout::BarOnly`] the board cannot
    /// reach host memory.
    #[must_use]
    pub fn layout(mut self, layout: Layout) -> Self {
        self.session.layout = layout;
        if layout == Layout::BarOnly {
            self.sim.outbound = OutboundLimits::none();
        }
        self
    }

    /// The same with a board whose cache is not coherent. If it has an engine,
    /// that copies in board memory too, also where it cannot reach the host's.
    #[must_use]
    pub const fn non_coherent(mut self, engine: EngineKind) -> Self {
        self.board.non_coherent = true;
        self.board.engine = engine;
        self.sim.outbound.dma = true;
        self
    }

    /// The same with a board that knows 32-bit words only: its BAR takes no
    /// others, and its CPU makes two stores of a longer one.
    #[must_use]
    pub const fn narrow(mut self) -> Self {
        self.sim.bar_32_bit = true;
        self.sim.board_32_bit = true;
        self
    }

    /// The same with a board that has few small windows into host memory; not
    /// for [`Layout::BarOnly`], where it has none.
    #[must_use]
    pub const fn windows(mut self, windows: u16, window_len: u64) -> Self {
        self.sim.outbound.windows = windows;
        self.sim.outbound.window_len = window_len;
        self.sim.outbound.alignment = window_len;
        self
    }

    /// The same on a host with pages of this many bytes.
    #[must_use]
    pub const fn pages(mut self, bytes: u64) -> Self {
        self.sim.page_size = bytes;
        self
    }

    /// The same with a console, which the host takes.
    #[must_use]
    pub const fn console(mut self) -> Self {
        (self.board.console, self.session.console) = (true, true);
        self
    }

    /// The same without these feature bits: the host's mask leaves them out.
    #[must_use]
    pub const fn without(mut self, features: u64) -> Self {
        self.session.feature_mask &= !features;
        self
    }

    /// The same with queues of these sizes, powers of two.
    ///
    /// # Panics
    /// A size is no queue size.
    #[must_use]
    pub fn sizes(mut self, to_host: u32, to_board: u32) -> Self {
        let size = |size| QueueSize::try_from(size).expect("a queue size");
        self.session.to_host_size = size(to_host);
        self.session.to_board_size = size(to_board);
        self
    }

    /// The same with this MTU on the host's interface.
    #[must_use]
    pub const fn mtu(mut self, mtu: u32) -> Self {
        self.session.mtu = mtu;
        self
    }

    /// The same with sides that look this often before they sleep.
    #[must_use]
    pub const fn spin(mut self, host: u32, board: u32) -> Self {
        self.host_spin = host;
        self.board.spin = board;
        self
    }
}
