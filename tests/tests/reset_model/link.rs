//! The two ends of the link, reduced to what a reset can confuse.

use std::fmt;

use virtio_phys_tests::explore::Model;

/// What is taken out, to see that the check notices.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Mutation {
    Nothing,
    /// A boot does not pass over the session epoch that it finds (B1).
    OldSessionAccepted,
    /// A session that ended may be accepted again (B4).
    EndedSessionAccepted,
    /// No wait runs out.
    NoTimers,
    /// A boot does not publish "accepted session 0" (B1).
    AcceptanceKept,
    /// The host does not wait for the board's "accepted session 0" (step 21).
    NoWaitAtDetach,
}

/// The status in a queue head; `None` in its place: no magic.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub(crate) enum Status {
    #[default]
    Absent,
    Init,
    Ready,
    Run,
    Shutdown,
}

/// Whose request, answer or regions something is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) enum Life {
    #[default]
    None,
    /// Of the host as it runs now.
    Current,
    /// Of one that was restarted since.
    Old,
}

/// What the host writes into the BAR, in the order in which it writes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Write {
    /// Its queue head's status, with empty indices if that is `Init`.
    Status(Status),
    Boot(u8),
    Session(u8),
    /// ATTACH: the session it names, and whose it is.
    Request(Life),
}

/// The words in the BAR. Epoch 0: none.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) struct Bar {
    magic: bool,
    boot: u8,
    accepted: u8,
    refused: u8,
    board_status: Status,
    answer: Life,
    session: u8,
    host_boot: u8,
    host_status: Status,
    request: Life,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) enum HostAt {
    /// Steps 1 to 4.
    #[default]
    Find,
    /// Step 5.
    Await,
    /// Step 6.
    Start,
    /// Step 7.
    Attach,
    /// Step 20.
    Running,
    /// Step 21.
    Leaving,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) struct Host {
    at: HostAt,
    session: u8,
    boot: u8,
    status: Status,
    /// The highest status that the board has shown.
    seen: Status,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) enum BoardAt {
    /// Just reset; then B1 to B3, store by store.
    #[default]
    Reset,
    PassedOver,
    Withdrawn,
    BootCleared,
    MagicCleared,
    BootSet,
    /// Step B4.
    Ready,
    /// Step B5: the session epoch was read, the rest of the page not yet.
    Read(u8),
    /// Steps B6 and up.
    Session,
    /// Ended, not drained.
    Draining,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) struct Board {
    at: BoardAt,
    boot: u8,
    session: u8,
    done_with: u8,
    status: Status,
    seen: Status,
    /// Whose regions it may use.
    regions: Life,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct State {
    host: Host,
    board: Board,
    bar: Bar,
    /// The host's writes on their way.
    posted: Vec<Write>,
    /// Faults since the last session: bit 0 the board's, bit 1 the host's.
    faults: u8,
    /// A leave ended cleanly while the board could still write to host memory.
    reused_too_early: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Step {
    Arrive(Write),
    Host(HostAt, HostAt),
    HostTimer(HostAt),
    Board(BoardAt, BoardAt),
    BoardTimer,
    Reboot {
        epoch: u8,
        memory_kept: bool,
        writes_kept: bool,
    },
    Restart {
        session: u8,
    },
    LoseRequest,
    LoseAnswer,
    /// The board takes a host for dead that is not.
    HostTakenForDead,
}

impl Step {
    fn is_fault(self) -> bool {
        matches!(
            self,
            Self::Reboot { .. }
                | Self::Restart { .. }
                | Self::LoseRequest
                | Self::LoseAnswer
                | Self::HostTakenForDead
        )
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

pub(crate) mod witness {
    pub(crate) const UP: u32 = 1 << 0;
    pub(crate) const REFUSED: u32 = 1 << 1;
    pub(crate) const BOTH_RESET: u32 = 1 << 2;
    pub(crate) const SAME_EPOCHS: u32 = 1 << 3;
    pub(crate) const TIMEOUT: u32 = 1 << 4;
}

pub(crate) struct Link {
    pub(crate) mutation: Mutation,
    /// Session epochs that hosts choose from, one after the other: few, so
    /// that those of restarted hosts collide.
    pub(crate) sessions: u8,
}

const BOOT_EPOCHS: [u8; 2] = [1, 2];

impl State {
    fn is_up(&self) -> bool {
        self.host.at == HostAt::Running
            && self.board.at == BoardAt::Session
            && self.board.regions == Life::Current
            && self.board.session == self.host.session
            && self.bar.accepted == self.host.session
            && self.bar.boot == self.host.boot
            && self.posted.is_empty()
    }

    /// A read across the bus pushes the host's writes ahead of it.
    fn flush(&mut self) {
        for write in std::mem::take(&mut self.posted) {
            self.arrive(write);
        }
    }

    fn arrive(&mut self, write: Write) {
        match write {
            Write::Status(status) => {
                self.bar.host_status = status;
                if status == Status::Init {
                    self.bar.request = Life::None;
                }
            }
            Write::Boot(boot) => self.bar.host_boot = boot,
            Write::Session(session) => self.bar.session = session,
            Write::Request(life) => self.bar.request = life,
        }
    }

    /// `HostLink::sign_off`.
    fn sign_off(&mut self) {
        self.host.at = HostAt::Leaving;
        if self.host.status != Status::Shutdown {
            self.host.status = Status::Shutdown;
            self.posted.push(Write::Status(Status::Shutdown));
        }
        self.posted.push(Write::Session(0));
    }

    /// The next attach, with another session epoch.
    fn try_again(&mut self, sessions: u8) {
        self.reused_too_early |= self.board.regions == Life::Current;
        let session = self.host.session % sessions + 1;
        self.host = Host { session, ..Host::default() };
    }

    /// `Channel::poll` of the host. `false`: broken.
    fn host_channel(&mut self) -> bool {
        let theirs = self.bar.board_status;
        if theirs == Status::Absent {
            return self.host.status == Status::Init;
        }
        if theirs > Status::Run || theirs < self.host.seen {
            return false;
        }
        self.host.seen = theirs;
        let before = self.host.status;
        if self.host.status == Status::Init {
            self.host.status = Status::Ready;
        }
        if self.host.status == Status::Ready && theirs != Status::Init {
            self.host.status = Status::Run;
        }
        if self.host.status != before {
            self.posted.push(Write::Status(self.host.status));
        }
        true
    }

    /// `HostLink::keep_watch`.
    fn session_stands(&self) -> bool {
        self.bar.boot == self.host.boot && self.bar.accepted == self.host.session
    }

    /// One `HostLink::step`: reads across the bus, then goes on if it can.
    fn host_step(&mut self, link: &Link) {
        self.flush();
        match self.host.at {
            HostAt::Find => {
                if self.bar.magic && self.bar.boot != 0 {
                    self.host.boot = self.bar.boot;
                    self.host.status = Status::Init;
                    self.host.seen = Status::Init;
                    self.host.at = HostAt::Await;
                    self.posted.extend([
                        Write::Status(Status::Init),
                        Write::Boot(self.host.boot),
                        Write::Session(self.host.session),
                    ]);
                }
            }
            HostAt::Await => {
                if self.session_stands() {
                    self.host.at = HostAt::Start;
                } else if self.bar.boot != self.host.boot || self.bar.refused == self.host.session {
                    self.sign_off();
                }
            }
            HostAt::Start => {
                if !self.session_stands() || !self.host_channel() {
                    self.sign_off();
                } else if (self.host.status, self.host.seen) == (Status::Run, Status::Run) {
                    self.host.at = HostAt::Attach;
                    self.posted.push(Write::Request(Life::Current));
                }
            }
            HostAt::Attach => {
                if !self.session_stands() || !self.host_channel() {
                    self.sign_off();
                } else if self.bar.answer == Life::Current {
                    self.host.at = HostAt::Running;
                }
            }
            HostAt::Running => {
                if !self.session_stands() || !self.host_channel() {
                    self.sign_off();
                }
            }
            HostAt::Leaving => {
                if !self.session_stands() || link.mutation == Mutation::NoWaitAtDetach {
                    self.try_again(link.sessions);
                }
            }
        }
    }

    /// `BoardLink::end`.
    fn end(&mut self) {
        self.board.status = Status::Shutdown;
        self.bar.board_status = Status::Shutdown;
        self.board.done_with = self.board.session;
        self.board.at = BoardAt::Draining;
    }

    /// One store of `BoardLink::publish`, or one `BoardLink::look`.
    fn board_step(&mut self, mutation: Mutation) {
        match self.board.at {
            BoardAt::Reset => {
                if mutation != Mutation::OldSessionAccepted {
                    self.board.done_with = self.bar.session;
                }
                self.board.at = BoardAt::PassedOver;
            }
            BoardAt::PassedOver => {
                if mutation != Mutation::AcceptanceKept {
                    self.bar.accepted = 0;
                }
                self.board.at = BoardAt::Withdrawn;
            }
            BoardAt::Withdrawn => {
                self.bar.boot = 0;
                self.board.at = BoardAt::BootCleared;
            }
            BoardAt::BootCleared => {
                self.bar.magic = false;
                self.bar.refused = 0;
                self.board.at = BoardAt::MagicCleared;
            }
            BoardAt::MagicCleared => {
                self.bar.boot = self.board.boot;
                self.board.at = BoardAt::BootSet;
            }
            BoardAt::BootSet => {
                self.bar.magic = true;
                self.board.at = BoardAt::Ready;
            }
            BoardAt::Ready => {
                let written = self.bar.session;
                if written != 0 && written != self.board.done_with {
                    self.board.at = BoardAt::Read(written);
                }
            }
            BoardAt::Read(session) if self.bar.host_boot == self.board.boot => {
                self.board.session = session;
                self.board.status = Status::Init;
                self.board.seen = Status::Init;
                self.board.at = BoardAt::Session;
                self.bar.board_status = Status::Init;
                self.bar.answer = Life::None;
                self.bar.accepted = session;
            }
            BoardAt::Read(session) => {
                self.board.done_with = session;
                self.bar.refused = session;
                self.board.at = BoardAt::Ready;
            }
            BoardAt::Session => self.serve(),
            BoardAt::Draining => {
                self.bar.accepted = 0;
                self.board.regions = Life::None;
                self.board.at = BoardAt::Ready;
                if mutation == Mutation::EndedSessionAccepted {
                    self.board.done_with = 0;
                }
            }
        }
    }

    fn serve(&mut self) {
        let theirs = self.bar.host_status;
        if self.bar.session != self.board.session {
            self.end();
            return;
        }
        if theirs == Status::Absent {
            if self.board.status != Status::Init {
                self.end();
            }
            return;
        }
        if theirs > Status::Run || theirs < self.board.seen {
            self.end();
            return;
        }
        self.board.seen = theirs;
        if self.board.status == Status::Init {
            self.board.status = Status::Ready;
        }
        if self.board.status == Status::Ready && theirs != Status::Init {
            self.board.status = Status::Run;
        }
        self.bar.board_status = self.board.status;
        if (self.board.status, theirs) == (Status::Run, Status::Run)
            && self.bar.request != Life::None
        {
            // ATTACH names both epochs; they were compared when the session
            // was accepted. What follows it adds the host's regions.
            self.bar.answer = self.bar.request;
            self.board.regions = self.bar.request;
            self.bar.request = Life::None;
        }
    }

    fn reboot(&mut self, epoch: u8, memory_kept: bool, writes_kept: bool) {
        if !memory_kept {
            self.bar = Bar::default();
        }
        if !writes_kept {
            self.posted.clear();
        }
        self.board = Board { boot: epoch, ..Board::default() };
    }

    fn restart(&mut self, session: u8) {
        let old = |life: &mut Life| {
            if *life == Life::Current {
                *life = Life::Old;
            }
        };
        old(&mut self.bar.request);
        old(&mut self.bar.answer);
        old(&mut self.board.regions);
        for write in &mut self.posted {
            if let Write::Request(life) = write {
                old(life);
            }
        }
        self.host = Host { session, ..Host::default() };
    }
}

impl Link {
    /// What happens by itself, timers apart.
    fn progress(&self, state: &State, out: &mut Vec<(Step, State)>) {
        if let Some(&write) = state.posted.first() {
            let mut to = state.clone();
            to.posted.remove(0);
            to.arrive(write);
            out.push((Step::Arrive(write), to));
        }
        let mut to = state.clone();
        to.host_step(self);
        if to != *state {
            let step = Step::Host(state.host.at, to.host.at);
            out.push((step, to));
        }
        let mut to = state.clone();
        to.board_step(self.mutation);
        if to != *state {
            let step = Step::Board(state.board.at, to.board.at);
            out.push((step, to));
        }
    }

    /// Timers are long: they run out only where nothing else happens.
    fn timers(&self, state: &State, out: &mut Vec<(Step, State)>) {
        if self.mutation == Mutation::NoTimers || state.is_up() {
            return;
        }
        let at = state.host.at;
        let mut to = state.clone();
        match at {
            // In a session the board's heartbeat is the timer, and it beats.
            HostAt::Find | HostAt::Running => {}
            HostAt::Await | HostAt::Start | HostAt::Attach => to.sign_off(),
            HostAt::Leaving => {
                // Not clean: the bus resets the board before memory is used again.
                to.reboot(state.board.boot % 2 + 1, true, true);
                to.try_again(self.sessions);
            }
        }
        if !matches!(at, HostAt::Find | HostAt::Running) {
            out.push((Step::HostTimer(at), to));
        }
        // A host that beats is in the session, or waits for it.
        let beats = matches!(at, HostAt::Start | HostAt::Attach | HostAt::Running);
        if state.board.at == BoardAt::Session && !beats {
            let mut to = state.clone();
            to.end();
            out.push((Step::BoardTimer, to));
        }
    }

    fn faults(&self, state: &State, out: &mut Vec<(Step, State)>) {
        for epoch in BOOT_EPOCHS {
            for (memory_kept, writes_kept) in [(true, true), (true, false), (false, true)] {
                let mut to = state.clone();
                to.reboot(epoch, memory_kept, writes_kept);
                to.faults |= 1;
                out.push((Step::Reboot { epoch, memory_kept, writes_kept }, to));
            }
        }
        for session in 1..=self.sessions {
            let mut to = state.clone();
            to.restart(session);
            to.faults |= 2;
            out.push((Step::Restart { session }, to));
        }
        if state.bar.request != Life::None {
            let mut to = state.clone();
            to.bar.request = Life::None;
            out.push((Step::LoseRequest, to));
        }
        if state.bar.answer != Life::None {
            let mut to = state.clone();
            to.bar.answer = Life::None;
            out.push((Step::LoseAnswer, to));
        }
        if state.board.at == BoardAt::Session {
            let mut to = state.clone();
            to.end();
            out.push((Step::HostTakenForDead, to));
        }
    }
}

impl Model for Link {
    type State = State;
    type Step = Step;

    fn initial(&self) -> Vec<State> {
        vec![State {
            host: Host { session: 1, ..Host::default() },
            board: Board { boot: 1, ..Board::default() },
            bar: Bar::default(),
            posted: Vec::new(),
            faults: 0,
            reused_too_early: false,
        }]
    }

    fn steps(&self, state: &State, out: &mut Vec<(Step, State)>) {
        self.progress(state, out);
        if out.is_empty() {
            self.timers(state, out);
        }
        for (_, to) in out.iter_mut() {
            if to.is_up() {
                to.faults = 0;
            }
        }
        self.faults(state, out);
    }

    fn violation(&self, state: &State) -> Option<&'static str> {
        let attached = state.host.at == HostAt::Running && state.session_stands();
        if attached && state.posted.is_empty() && state.board.regions == Life::Old {
            Some("the board uses the memory of a host that is gone, in a session that stands")
        } else if attached
            && state.board.at == BoardAt::Session
            && state.board.regions == Life::None
        {
            Some("the host runs a session that the board knows nothing of")
        } else if state.reused_too_early {
            Some("the host uses memory again that the board may write")
        } else {
            None
        }
    }

    fn finished(&self, state: &State) -> bool {
        state.is_up()
    }

    fn is_stimulus(&self, step: &Step) -> bool {
        step.is_fault()
    }

    fn must_finish(&self) -> bool {
        true
    }

    fn witness(&self, step: &Step, state: &State) -> u32 {
        let mut seen = 0;
        let mut note = |happened, what| seen |= if happened { what } else { 0 };
        note(state.is_up(), witness::UP);
        note(matches!(step, Step::Board(BoardAt::Read(_), BoardAt::Ready)), witness::REFUSED);
        note(state.faults == 3, witness::BOTH_RESET);
        note(
            state.board.at == BoardAt::Ready
                && state.bar.boot == state.host.boot
                && state.host.at == HostAt::Running,
            witness::SAME_EPOCHS,
        );
        note(matches!(step, Step::HostTimer(_) | Step::BoardTimer), witness::TIMEOUT);
        seen
    }
}
