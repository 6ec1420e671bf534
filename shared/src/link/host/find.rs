//! Steps 1 to 6: from the control block to a running channel.

use crate::msg::ResultCode;
use crate::msg::channel::{Channel, ChannelLayout};
use crate::msg::driver::DriverEndpoint;
use crate::msg::kind::Side;
use crate::window::{Barrier, Window};
use crate::wire::control::{CONTROL_LEN, field, host_page, host_state, live};

use super::super::control::{Area, ControlError, Snapshot, StaticPart};
use super::super::description::{BoardDescription, Epoch};
use super::super::words::{HeartbeatWatch, StatusWords};
use super::tasks::Task;
use super::{
    AttachStep, Board, HostLink, LinkLoss, Mode, Progress, Reason, Refusal, fault_reason, timer,
};

impl<W: Window + Clone> HostLink<W> {
    /// Steps 1 to 4.
    pub(super) fn find(&mut self, now_ms: u64) -> Result<Option<Progress>, Refusal> {
        if self.deadline_ms.is_none() {
            self.enter(Mode::Find, now_ms, Some(now_ms.saturating_add(timer::BLOCK)));
        }
        let at = |step: AttachStep| move |reason: Reason| Refusal { step, reason };
        let len = self.control.len();
        if len < CONTROL_LEN {
            return Err(at(AttachStep::FindBlock)(Reason::BarTooShort { len }));
        }
        let over = self.timed_out(now_ms).is_some();
        let (part, boot_before) = match StaticPart::snapshot(&self.control) {
            Ok(Snapshot::Block(part, boot)) => (part, boot),
            Ok(Snapshot::NoMagic { found }) => {
                return Self::try_again(over, Reason::NoBlock { found });
            }
            Ok(Snapshot::NoLength) => {
                return Self::try_again(over, Reason::Block(ControlError::Checksum));
            }
            Err(_) => {
                return Err(at(AttachStep::ReadBlock)(Reason::Lost(LinkLoss::AllOnes)));
            }
        };
        let (description, areas) = match part.check(self.options.control_bar, &self.options.bars) {
            Ok(checked) => checked,
            Err(ControlError::Checksum) => {
                return Self::try_again(over, Reason::Block(ControlError::Checksum));
            }
            Err(error) => return Err(at(AttachStep::ReadBlock)(Reason::Block(error))),
        };
        let area = |area: Area| self.control.part(area.offset, area.len);
        let outside =
            at(AttachStep::ReadBlock)(Reason::Block(ControlError::Outside { offset: field::LIVE }));
        let (live, channel, page) =
            match (area(areas.live), area(areas.channel), area(areas.host_page)) {
                (Some(live), Some(channel), Some(page)) => (live, channel, page),
                _ => return Err(outside),
            };
        let boot: u32 = live.load(live::BOOT_EPOCH);
        if boot == u32::MAX {
            return Err(at(AttachStep::ReadBlock)(Reason::Lost(LinkLoss::AllOnes)));
        }
        let boot = match Epoch::new(boot) {
            Some(epoch) if boot == boot_before => epoch,
            // The board booted while the block was read, or still does.
            _ => return Self::try_again(over, Reason::Lost(LinkLoss::Rebooted)),
        };
        let (board, host) = (description.versions, self.options.versions);
        let version = host
            .common(board)
            .ok_or(at(AttachStep::ChooseVersion)(Reason::Versions { board, host }))?;
        self.write_session(now_ms, (description, boot, version), (live, channel, page))
            .map_err(at(AttachStep::WriteSession))?;
        Ok(None)
    }

    /// The block is not there yet: again later, or refused if the time is over.
    fn try_again(over: bool, reason: Reason) -> Result<Option<Progress>, Refusal> {
        let step = match reason {
            Reason::NoBlock { .. } => AttachStep::FindBlock,
            _ => AttachStep::ReadBlock,
        };
        if over { Err(Refusal { step, reason }) } else { Ok(Some(Progress::Waiting)) }
    }

    /// Step 4.
    fn write_session(
        &mut self,
        now_ms: u64,
        (description, boot, version): (BoardDescription, Epoch, u16),
        (live, channel, page): (W, W, W),
    ) -> Result<(), Reason> {
        let layout = ChannelLayout::read(&channel).map_err(fault_reason)?;
        let mut endpoint = DriverEndpoint::new(Channel::new(channel, &layout, Side::Driver));
        endpoint.channel().begin();
        page.store(host_page::VERSION, u32::from(version));
        page.store(host_page::BOOT_EPOCH, boot.get());
        page.store(host_page::STATE, host_state::ATTACHING);
        page.store(host_page::HEARTBEAT, self.heartbeat);
        page.barrier(Barrier::Write);
        page.store(host_page::SESSION, self.options.session.get());
        page.barrier(Barrier::Full);
        self.ring = self.ring.saturating_add(1);
        self.next_beat_ms = now_ms.saturating_add(description.heartbeat.interval_ms.into());
        let limit_ms = description.heartbeat.limit_ms();
        let patience = timer::ACCEPT.saturating_add(limit_ms);
        self.attach_limit_ms = timer::ATTACH.saturating_add(limit_ms);
        self.board = Some(Board { description, boot, version, live, host_page: page, endpoint });
        self.enter(Mode::Await, now_ms, Some(now_ms.saturating_add(patience)));
        Ok(())
    }

    /// Step 5.
    pub(super) fn await_acceptance(&mut self, now_ms: u64) -> Result<Option<Progress>, Reason> {
        let over = self.timed_out(now_ms);
        let session = self.options.session;
        let board = self.board.as_ref().ok_or(Reason::OutOfTurn)?;
        let words = StatusWords::load(&board.live);
        let refused: u32 = board.live.load(live::REFUSED);
        match words.check(board.boot, session) {
            Ok(()) => {
                let limit = board.description.heartbeat.limit_ms();
                self.watch = HeartbeatWatch::new(words.heartbeat, now_ms, limit);
                self.accepted = true;
                self.enter(Mode::Start, now_ms, Some(now_ms.saturating_add(timer::CHANNEL)));
                Ok(None)
            }
            Err(LinkLoss::SessionDropped) if refused == u32::MAX => {
                Err(Reason::Lost(LinkLoss::AllOnes))
            }
            Err(LinkLoss::SessionDropped) if refused == session.get() => {
                board.live.barrier(Barrier::Read);
                let code = board.live.load(live::REFUSAL);
                Err(Reason::SessionRefused(ResultCode::from_code(code)))
            }
            // An old session may still be there.
            Err(LinkLoss::SessionDropped) => over.map_or(Ok(Some(Progress::Waiting)), Err),
            Err(loss) => Err(Reason::Lost(loss)),
        }
    }

    /// Step 6.
    pub(super) fn start_channel(&mut self, now_ms: u64) -> Result<Option<Progress>, Reason> {
        let over = self.timed_out(now_ms);
        let board = self.board.as_mut().ok_or(Reason::OutOfTurn)?;
        let channel = board.endpoint.channel();
        let before = channel.state();
        channel.poll().map_err(fault_reason)?;
        if channel.state() != before {
            self.ring = self.ring.saturating_add(1);
        }
        if channel.is_running() {
            self.begin(Task::Attach, now_ms);
            return Ok(None);
        }
        over.map_or(Ok(Some(Progress::Waiting)), Err)
    }
}
