//! Finding the board, its words, and waiting for it.

use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use shared::link::control::{Area, Snapshot, StaticPart};
use shared::link::words::next_beat;
use shared::link::{BoardDescription, Epoch};
use shared::msg::Side;
use shared::msg::channel::{Channel, ChannelLayout};
use shared::raw::StoreWidth;
use shared::window::{Barrier, Window};
use shared::wire::control::{host_page, host_state, live};

use super::Answers;
use super::card::{Card, Shared};
use super::point::{Checked, Point, Stop, must, seen};
use super::session::Session;
use crate::bus::{Latch, Ring};

/// The BAR that holds the control block.
const CONTROL_BAR: u8 = 0;

/// Doorbells and vectors that the kit uses: the channel's, and one for each
/// queue of a network device with a control queue.
const NOTIFICATIONS: u32 = 4;

/// How long a board may take to show its control block (docs/protocol.md, "Timers").
const FIND: Duration = Duration::from_secs(10);

/// Longest pause between two looks, in ms.
const LOOK: u8 = 1;

/// What the kit knows of a board whose control block it accepts.
pub(super) struct Board {
    pub(super) description: BoardDescription,
    pub(super) layout: ChannelLayout,
    pub(super) live: Shared,
    pub(super) page: Shared,
    pub(super) channel: Shared,
    bells: Vec<Box<dyn Ring>>,
    vectors: Vec<Box<dyn Latch>>,
}

/// The kit at work.
pub(super) struct Kit<'a> {
    pub(super) card: &'a mut dyn Card,
    /// What lies behind the network device, as far as it is known.
    pub(super) answers: Answers,
    board: Option<Board>,
    pub(super) session: Option<Session>,
    next_epoch: Epoch,
    beat: u32,
    beaten: Instant,
    /// Vector 0 was raised since [`Self::take_vector`].
    raised_0: bool,
    /// In this point the board could not be found, or took no session.
    unreached: bool,
    /// Points in a row at which that was so.
    refusals: u32,
    /// Nothing answers behind the network device.
    pub(super) silent: bool,
    /// The point at which it was given up.
    lost: Option<&'static str>,
}

impl<'a> Kit<'a> {
    pub(super) fn new(card: &'a mut dyn Card, answers: Answers) -> Self {
        let seed = RandomState::new().hash_one(0);
        Self {
            card,
            answers,
            board: None,
            session: None,
            next_epoch: Epoch::from_random(u32::try_from(seed >> 32).unwrap_or(1)),
            beat: 1,
            beaten: Instant::now(),
            raised_0: false,
            unreached: false,
            refusals: 0,
            silent: false,
            lost: None,
        }
    }

    /// Checks one point, and leaves the board without a session behind it.
    pub(super) fn check(&mut self, point: &Point) -> Checked {
        if let Some(since) = self.lost {
            return seen(format!("not reached: the board has taken no session since {since}"));
        }
        self.unreached = false;
        let mut outcome = (point.check)(self);
        let left = self.leave();
        if outcome.is_ok() {
            outcome = left;
        }
        if self.unreached {
            // Once more behind a reset; then it is given up.
            self.refusals += 1;
            if self.refusals > 1 {
                self.lost = Some(point.id);
            }
            let _ = self.card.restart();
            self.board = None;
        }
        outcome
    }

    /// What the board calls itself, and its firmware's version.
    pub(super) fn name(&self) -> Option<String> {
        let board = &self.board.as_ref()?.description;
        Some(format!("{}, firmware {}", board.name, board.firmware))
    }

    /// The control BAR, once the magic is there.
    pub(super) fn bar(&mut self) -> Result<Shared, Stop> {
        let bar = self.card.memory(CONTROL_BAR, StoreWidth::Bits32);
        let bar = bar.or_else(|error| seen(format!("BAR 0 cannot be used: {error}")))?;
        let word = |bar: &Shared| bar.load::<u32>(0);
        let there = self.until(FIND, |_| {
            Ok((word(&bar) == shared::wire::control::MAGIC_VALUE).then_some(()))
        })?;
        self.unreached |= there.is_none();
        must(there.is_some(), || {
            format!("the first word of BAR 0 is {:#010x} after 10 s", word(&bar))
        })?;
        Ok(bar)
    }

    /// A private copy of the static part, each word read once, and the boot
    /// epoch that was there before.
    pub(super) fn block(&mut self) -> Result<(StaticPart, u32), Stop> {
        let bar = self.bar()?;
        match StaticPart::snapshot(&bar) {
            Ok(Snapshot::Block(part, boot)) => Ok((part, boot)),
            Ok(Snapshot::NoMagic { found }) => seen(format!("the magic has become {found:#010x}")),
            Ok(Snapshot::NoLength) => seen("the length is impossible"),
            Err(error) => seen(error.to_string()),
        }
    }

    /// The board, found and accepted.
    pub(super) fn board(&mut self) -> Result<&Board, Stop> {
        if self.board.is_none() {
            let found = self.find();
            self.unreached |= found.is_err();
            self.board = Some(found?);
        }
        // Always there now.
        self.board.as_ref().map_or_else(|| seen("no board"), Ok)
    }

    fn find(&mut self) -> Result<Board, Stop> {
        // A block that is being written is tried again (docs/protocol.md, step 2).
        let bars = self.card.bars();
        let mut last = String::new();
        let found = self.until(FIND, |kit| {
            let (part, boot) = kit.block()?;
            Ok(match part.check(CONTROL_BAR, &bars) {
                Ok(found) if boot != 0 => Some(found),
                Ok(_) => None,
                Err(error) => {
                    last = error.to_string();
                    None
                }
            })
        })?;
        let Some((description, areas)) = found else {
            return seen(format!("the control block is refused: {last}"));
        };
        let bar = self.card.memory(CONTROL_BAR, description.widest_store);
        let bar = bar.or_else(|error| seen(format!("BAR 0 cannot be used: {error}")))?;
        let outside = || Stop::Seen("an area leaves the BAR".to_owned());
        let part = |area: Area| bar.part(area.offset, area.len).ok_or_else(outside);
        let channel = part(areas.channel)?;
        let layout = ChannelLayout::read(&channel)
            .or_else(|fault| seen(format!("the channel layout is refused: {fault}")))?;
        let mut bells = Vec::new();
        for index in 0..description.doorbell.count.min(NOTIFICATIONS) {
            let bell = self.card.bell(&description.doorbell, index);
            bells.push(bell.or_else(|error| seen(format!("doorbell {index}: {error}")))?);
        }
        let mut vectors = Vec::new();
        for index in 0..u16::try_from(description.vectors.min(NOTIFICATIONS)).unwrap_or(0) {
            let vector = self.card.vector(index);
            vectors.push(vector.or_else(|error| seen(format!("vector {index}: {error}")))?);
        }
        Ok(Board {
            live: part(areas.live)?,
            page: part(areas.host_page)?,
            channel,
            layout,
            description,
            bells,
            vectors,
        })
    }

    /// Forgets what was found, for a board that has booted again.
    pub(super) fn forget(&mut self) {
        self.board = None;
        self.session = None;
    }

    /// Rings doorbell `index`, or the last there is.
    pub(super) fn ring(&self, index: u32) {
        let Some(board) = &self.board else { return };
        let index = usize::try_from(index).unwrap_or(usize::MAX).min(board.bells.len() - 1);
        board.bells[index].ring();
    }

    /// Whether `vector` was raised since it was last asked.
    pub(super) fn take_vector(&mut self, vector: u32) -> bool {
        let index = usize::try_from(vector).unwrap_or(usize::MAX);
        let latch = self.board.as_ref().and_then(|board| board.vectors.get(index));
        let raised = latch.is_some_and(|latch| latch.drain());
        match vector {
            0 => std::mem::take(&mut self.raised_0) || raised,
            _ => raised,
        }
    }

    /// How long the board may take for anything that it does at once: a
    /// request's second, doubled, and what a slow board says of itself.
    pub(super) fn patience(&self) -> Duration {
        Duration::from_secs(2) + 4 * self.interval()
    }

    /// The heartbeat interval.
    pub(super) fn interval(&self) -> Duration {
        let interval = self.board.as_ref().map_or(500, |b| b.description.heartbeat.interval_ms);
        Duration::from_millis(interval.into())
    }

    /// How long a heartbeat may stand still.
    pub(super) fn silence(&self) -> Duration {
        let limit = self.board.as_ref().map_or(2000, |b| b.description.heartbeat.limit_ms());
        Duration::from_millis(limit)
    }

    /// Looks until there is something, at least once and at most for `limit`.
    pub(super) fn until<T>(
        &mut self,
        limit: Duration,
        mut look: impl FnMut(&mut Self) -> Result<Option<T>, Stop>,
    ) -> Result<Option<T>, Stop> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(found) = look(self)? {
                return Ok(Some(found));
            }
            if Instant::now() >= deadline {
                return Ok(None);
            }
            self.pause();
        }
    }

    /// Waits for vector 0, a millisecond at most. Keeps the host's heartbeat beating.
    pub(super) fn pause(&mut self) {
        self.keep_alive();
        let latch = self.board.as_ref().and_then(|board| board.vectors.first());
        let fd = latch.and_then(|latch| latch.fd());
        let mut fds: Vec<PollFd<'_>> =
            fd.into_iter().map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
        let _ = poll(&mut fds, PollTimeout::from(LOOK));
        self.raised_0 |= latch.is_some_and(|latch| latch.drain());
    }

    fn keep_alive(&mut self) {
        let Some(board) = self.board.as_ref().filter(|_| self.session.is_some()) else { return };
        if self.beaten.elapsed() >= self.interval() / 4 {
            self.beat = next_beat(self.beat);
            self.beaten = Instant::now();
            board.page.store(host_page::HEARTBEAT, self.beat);
        }
    }

    /// One of the board's live words.
    pub(super) fn live(&mut self, at: u64) -> Result<u32, Stop> {
        let word: u32 = self.board()?.live.load(at);
        must(word != u32::MAX, || format!("the live word at offset {at} is all ones"))?;
        Ok(word)
    }

    /// Waits for `count` beats of the board's: it has looked at everything since.
    pub(super) fn await_beats(&mut self, count: u32) -> Checked {
        let limit = self.silence() + self.interval();
        for _ in 0..count {
            let last = self.live(live::HEARTBEAT)?;
            let beat =
                self.until(limit, |kit| Ok((kit.live(live::HEARTBEAT)? != last).then_some(())))?;
            must(beat.is_some(), || {
                format!("the heartbeat stays at {last:#x} for {} ms", limit.as_millis())
            })?;
        }
        Ok(())
    }

    /// What the live words say, for a failure's text.
    pub(super) fn standing(&self) -> String {
        let Some(board) = &self.board else { return "no board".to_owned() };
        let word = |at| board.live.load::<u32>(at);
        format!(
            "live words: boot epoch {:#x}, state {}, accepted session {:#x}, refused session {:#x}",
            word(live::BOOT_EPOCH),
            word(live::STATE),
            word(live::ACCEPTED),
            word(live::REFUSED)
        )
    }

    /// A session epoch that was never used.
    pub(super) fn fresh_epoch(&mut self) -> Epoch {
        self.next_epoch = self.next_epoch.next();
        self.next_epoch
    }

    /// Writes the host page and rings: a host wants a session (step 4).
    pub(super) fn offer(&mut self, session: u32, version: u32, boot: u32) -> Checked {
        let board = self.board()?;
        board.page.store(host_page::VERSION, version);
        board.page.store(host_page::BOOT_EPOCH, boot);
        board.page.store(host_page::STATE, host_state::ATTACHING);
        board.page.barrier(Barrier::Write);
        board.page.store(host_page::SESSION, session);
        self.ring(0);
        Ok(())
    }

    /// Waits until the accepted session is `session`.
    pub(super) fn await_accepted(&mut self, session: u32) -> Checked {
        let limit = self.patience() + self.silence();
        let there = self.until(limit, |kit| {
            let (accepted, refused) = (kit.live(live::ACCEPTED)?, kit.live(live::REFUSED)?);
            if accepted == session {
                return Ok(Some(true));
            }
            Ok((session != 0 && refused == session).then_some(false))
        })?;
        match there {
            Some(true) => Ok(()),
            Some(false) => {
                let reason = self.live(live::REFUSAL)?;
                seen(format!("session {session:#x} was refused with result {reason}"))
            }
            None => seen(format!(
                "the accepted session is not {session:#x} after {} ms; {}",
                limit.as_millis(),
                self.standing()
            )),
        }
    }

    /// Begins a session: accepted, and messages flow. ATTACH is still to come.
    pub(super) fn begin(&mut self) -> Result<u32, Stop> {
        self.leave()?;
        let begun = self.try_begin();
        match begun {
            Ok(_) => self.refusals = 0,
            Err(_) => self.unreached = true,
        }
        begun
    }

    fn try_begin(&mut self) -> Result<u32, Stop> {
        let session = self.fresh_epoch().get();
        let boot = self.live(live::BOOT_EPOCH)?;
        let board = self.board()?;
        let version = board.description.versions.max;
        let mut channel = Channel::new(board.channel.clone(), &board.layout, Side::Driver);
        channel.begin();
        self.session = Some(Session::new(session, channel));
        self.offer(session, version.into(), boot)?;
        self.await_accepted(session)?;
        self.run_channel()?;
        if let Ok(board) = self.board() {
            board.page.store(host_page::STATE, host_state::RUNNING);
        }
        Ok(session)
    }

    /// Brings the channel to run (step 6).
    fn run_channel(&mut self) -> Checked {
        let limit = self.patience();
        let running = self.until(limit, |kit| {
            let session = kit.session()?;
            match session.channel.poll() {
                Ok(()) => Ok(session.channel.is_running().then_some(())),
                Err(fault) => seen(format!("the channel does not start: {fault}")),
            }
        })?;
        must(running.is_some(), || {
            format!("the board's end of the channel is not at run after {} ms", limit.as_millis())
        })
    }

    /// The session that is open.
    pub(super) fn session(&mut self) -> Result<&mut Session, Stop> {
        self.session.as_mut().map_or_else(|| seen("there is no session"), Ok)
    }

    /// Ends the session, if there is one, and waits until the board has let go.
    pub(super) fn leave(&mut self) -> Checked {
        if self.session.is_none() {
            return Ok(());
        }
        // A channel that a point has broken tells nothing more.
        let stray = self.take_frame().ok().flatten();
        let Some(mut session) = self.session.take() else { return Ok(()) };
        let board = self.board()?;
        board.page.store(host_page::STATE, host_state::LEAVING);
        session.channel.close(false);
        board.page.barrier(Barrier::Write);
        board.page.store(host_page::SESSION, 0_u32);
        self.ring(0);
        let gone = self.await_accepted(0);
        self.card.take_back();
        gone?;
        must(stray.is_none(), || {
            format!(
                "the board sent a message that nobody waits for: {:02x?}",
                stray.unwrap_or([0; 64])
            )
        })
    }
}
