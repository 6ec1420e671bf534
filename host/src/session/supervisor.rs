//! One session after the other, for as long as the daemon runs: attach, watch,
//! clean up, back off, attach again (docs/protocol.md, "Sessions").
//!
//! A plain state machine, as everything here. Guarantee: it never gives up on
//! a board. Whatever ended a session, the next attempt is at most the longest
//! back-off away, and the memory of the old one was out of the board's reach
//! before the new one shares any.

#[cfg(test)]
mod tests;

use std::fmt;
use std::net::IpAddr;

use shared::link::{Backoff, Epoch};
use shared::wire::net_control::Coalescing;

use super::attach::{Event, Session};
use super::config::SessionConfig;
use super::error::SessionError;
use super::lines::Lines;
use crate::bridge::BridgeError;
use crate::bus::Bus;
use crate::net_control::Receive;

/// How long a board may take to boot again that was asked to, in ms.
const RESET: u64 = 5_000;

/// Why a session ended that nobody asked to end.
#[derive(Debug)]
pub enum Ended {
    /// The bring-up was refused, or the link was lost.
    Session(SessionError),
    /// The data path found the board breaking the protocol or hanging.
    Bridge(BridgeError),
    /// The caller could not go on, in its own words.
    Caller(String),
    /// The operator asked for the board to be reset.
    ResetAsked,
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Session(error) => error.fmt(f),
            Self::Bridge(error) => error.fmt(f),
            Self::Caller(text) => f.write_str(text),
            Self::ResetAsked => f.write_str("the operator asked for a reset of the board"),
        }
    }
}

/// What [`Supervisor::step`] tells.
pub enum Supervised<B: Bus> {
    /// Something happened in the session.
    Event(Event<B>),
    /// The session is over, or none came of the attempt. Stop all that touches
    /// its queues, then call [`Supervisor::released`].
    Ended(Ended),
    /// All is over, as [`Supervisor::stop`] asked. The error: the board did
    /// not let go by itself.
    Stopped(Result<(), SessionError>),
}

/// What a step of the supervisor wants.
pub struct Step<B: Bus> {
    /// What happened.
    pub event: Option<Supervised<B>>,
    /// Step again at this time at the latest, in ms, or on an interrupt.
    pub wait_until: u64,
}

/// Where a board's link stands.
#[derive(Debug)]
enum Mode {
    /// Until the next attempt.
    Waiting { until: u64 },
    /// A session is being brought up, or runs.
    Session,
    /// It is over, and the caller was not told yet.
    Over(Ended, Cleanup),
    /// The caller was told, and has not answered yet.
    Releasing(Cleanup),
    /// The session is being detached.
    Leaving,
    /// All is over and told.
    Stopped,
}

/// What is left to do for a session that is over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Cleanup {
    /// The board still answers: detach.
    Detach,
    /// It does not, or not to be trusted: take everything away from it.
    Abandon,
    /// The same, and reset it whatever it says.
    Reset,
}

/// One board's sessions.
pub struct Supervisor<B: Bus> {
    config: SessionConfig,
    /// While there is no session.
    bus: Option<B>,
    session: Option<Session<B>>,
    mode: Mode,
    stopping: bool,
    /// The operator wants the board reset: by then (ms) it has booted again by
    /// itself, or the bus resets it.
    reset_by: Option<u64>,
    backoff: Backoff,
    /// What its sessions had said in the log.
    lines: Lines,
    /// The host's IP addresses.
    addresses: Vec<IpAddr>,
    random: u32,
    up_since: Option<u64>,
    sessions: u64,
}

impl<B: Bus> Supervisor<B> {
    /// A supervisor whose first attempt is due at once. `random` differs from
    /// daemon to daemon: epochs and jitter come of it.
    #[must_use]
    pub const fn new(bus: B, config: SessionConfig, random: u32) -> Self {
        Self {
            config,
            bus: Some(bus),
            session: None,
            mode: Mode::Waiting { until: 0 },
            stopping: false,
            reset_by: None,
            backoff: Backoff::new(),
            lines: Lines::new(),
            addresses: Vec::new(),
            random: random | 1,
            up_since: None,
            sessions: 0,
        }
    }

    /// Goes on at time `now` (ms). Never waits.
    pub fn step(&mut self, now: u64) -> Step<B> {
        let (event, wait_until) = match std::mem::replace(&mut self.mode, Mode::Stopped) {
            Mode::Waiting { .. } if self.stopping => (Some(Supervised::Stopped(Ok(()))), u64::MAX),
            Mode::Waiting { until } if now < until => {
                self.mode = Mode::Waiting { until };
                (None, until)
            }
            Mode::Waiting { .. } => {
                self.begin();
                (None, now)
            }
            Mode::Session if self.reset_by.is_some_and(|by| now >= by) => {
                self.mode = Mode::Over(Ended::ResetAsked, self.cleanup(Cleanup::Reset));
                (None, now)
            }
            mode @ (Mode::Session | Mode::Leaving) => self.step_session(mode, now),
            Mode::Over(why, cleanup) => {
                self.mode = Mode::Releasing(cleanup);
                (Some(Supervised::Ended(why)), u64::MAX)
            }
            Mode::Releasing(cleanup) => {
                self.mode = Mode::Releasing(cleanup);
                (None, u64::MAX)
            }
            Mode::Stopped => (None, u64::MAX),
        };
        Step { event, wait_until }
    }

    /// Begins an attempt.
    fn begin(&mut self) {
        let epoch = Epoch::from_random(self.draw());
        let Some(bus) = self.bus.take() else { return };
        self.mode = match Session::begin(bus, self.config, epoch) {
            Ok(mut session) => {
                session.lines = self.lines;
                session.addresses.clone_from(&self.addresses);
                self.session = Some(session);
                Mode::Session
            }
            Err((error, bus)) => {
                self.bus = Some(bus);
                Mode::Over(Ended::Session(error), Cleanup::Abandon)
            }
        };
    }

    fn step_session(&mut self, mode: Mode, now: u64) -> (Option<Supervised<B>>, u64) {
        let leaving = matches!(mode, Mode::Leaving);
        self.mode = mode;
        let Some(session) = &mut self.session else {
            self.wait(now);
            return (None, now);
        };
        match session.step(now) {
            Ok(step) => match step.event {
                Some(Event::Down) => (self.down(now, Ok(())), now),
                // Nobody touches queues any more.
                Some(_) if leaving => (None, now),
                Some(event) => {
                    if matches!(event, Event::Up(_)) {
                        self.sessions += 1;
                        self.up_since = Some(now);
                    }
                    (Some(Supervised::Event(event)), now)
                }
                None => (None, step.wait_until.min(self.reset_by.unwrap_or(u64::MAX))),
            },
            Err(error) if leaving => {
                session.abandon();
                (self.down(now, Err(error)), now)
            }
            Err(error) => {
                let orderly = matches!(error, SessionError::NeedsReset);
                let cleanup = if orderly { Cleanup::Detach } else { Cleanup::Abandon };
                self.mode = Mode::Over(Ended::Session(error), self.cleanup(cleanup));
                (None, now)
            }
        }
    }

    /// What is left to do for a session that `usual` is enough for, unless a
    /// reset was asked for and the board has not booted again.
    fn cleanup(&mut self, usual: Cleanup) -> Cleanup {
        let left = self.session.as_ref().is_some_and(Session::board_left);
        match self.reset_by.take() {
            Some(_) if !left => Cleanup::Reset,
            _ => usual,
        }
    }

    /// The session is released.
    fn down(&mut self, now: u64, outcome: Result<(), SessionError>) -> Option<Supervised<B>> {
        if let Some(session) = self.session.take() {
            self.lines = session.lines;
            self.bus = Some(session.into_bus());
        }
        if self.stopping {
            self.mode = Mode::Stopped;
            return Some(Supervised::Stopped(outcome));
        }
        self.wait(now);
        None
    }

    /// Backs off.
    fn wait(&mut self, now: u64) {
        if self.reset_by.take().is_some()
            && let Some(Err(error)) = self.bus.as_mut().map(Bus::reset)
        {
            log::error!("cannot reset the board: {error}");
        }
        if let Some(since) = self.up_since.take() {
            self.backoff.session_lasted(now.saturating_sub(since));
        }
        let random = self.draw();
        self.mode = Mode::Waiting { until: now.saturating_add(self.backoff.next_ms(random)) };
    }

    /// Answers [`Supervised::Ended`]: nothing touches the session's queues any
    /// more.
    pub fn released(&mut self, now: u64) {
        let Mode::Releasing(cleanup) = self.mode else { return };
        let Some(session) = &mut self.session else {
            self.wait(now);
            return;
        };
        match cleanup {
            Cleanup::Detach => {
                session.detach(now);
                self.mode = Mode::Leaving;
                return;
            }
            Cleanup::Abandon => session.abandon(),
            Cleanup::Reset => session.reset_board(),
        }
        // Not asked to stop in between: `stop` would have changed the mode.
        let _ = self.down(now, Ok(()));
    }

    /// The caller cannot go on with the session, and touches none of its
    /// queues any more; [`Supervised::Ended`] follows all the same.
    pub fn fail(&mut self, why: Ended) {
        if matches!(self.mode, Mode::Session) {
            self.mode = Mode::Over(why, self.cleanup(Cleanup::Detach));
        }
    }

    /// Resets the board, as the operator asks: a board in a session is asked to
    /// boot again, and reset by the bus if it will not, does not answer or is
    /// still there 5 s later; without a session the bus resets it at once. The
    /// next attempt follows.
    ///
    /// # Errors
    /// The bus cannot.
    pub fn reset_board(&mut self, now: u64) -> Result<(), SessionError> {
        match &self.mode {
            // Asking again puts the end of its time off no further.
            Mode::Session if self.reset_by.is_some() => {}
            Mode::Session => {
                self.backoff = Backoff::new();
                if self.session.as_mut().is_some_and(Session::ask_for_reboot) {
                    self.reset_by = Some(now.saturating_add(RESET));
                } else {
                    self.mode = Mode::Over(Ended::ResetAsked, Cleanup::Reset);
                }
            }
            Mode::Waiting { .. } => {
                let reset = self.bus.as_mut().map_or(Ok(()), Bus::reset);
                // Whoever asks has just seen to the board: where the bus cannot
                // reset it, it may be there all the same.
                self.backoff = Backoff::new();
                self.wait(now);
                reset?;
            }
            // It is being taken apart already, and reset in the course of it.
            Mode::Over(..) | Mode::Releasing(_) | Mode::Leaving => self.reset_by = Some(now),
            Mode::Stopped => {}
        }
        Ok(())
    }

    /// Begins the end: the session is detached, and [`Supervised::Stopped`]
    /// follows. Nothing may touch its queues any more.
    pub fn stop(&mut self, now: u64) {
        self.stopping = true;
        match (&self.mode, &mut self.session) {
            (Mode::Session | Mode::Over(..) | Mode::Releasing(_), Some(session)) => {
                session.detach(now);
                self.mode = Mode::Leaving;
            }
            (Mode::Leaving | Mode::Stopped, _) => {}
            (_, _) => self.mode = Mode::Waiting { until: 0 },
        }
    }

    /// Settings of the next attempts.
    pub const fn set_config(&mut self, config: SessionConfig) {
        self.config = config;
    }

    /// Has a device reset and left alone, as the caller makes nothing of it.
    pub fn leave_device(&mut self, device: u16) {
        if let Some(session) = &mut self.session {
            session.leave_device(device);
        }
    }

    /// The host has announced itself, as the board had asked.
    pub fn announced(&mut self) {
        if let Some(session) = &mut self.session {
            session.announced();
        }
    }

    /// Has interrupts put off so long from now on.
    pub fn set_coalescing(&mut self, coalescing: Option<Coalescing>) {
        self.config.coalescing = coalescing;
        if let Some(session) = &mut self.session {
            session.set_coalescing(coalescing);
        }
    }

    /// Has the board send these frames from now on, to a host with these
    /// addresses.
    pub fn set_receive(&mut self, receive: Receive, addresses: Vec<IpAddr>) {
        self.config.receive = receive;
        if let Some(session) = &mut self.session {
            session.set_receive(receive, &addresses);
        }
        self.addresses = addresses;
    }

    /// The session at hand, if there is one.
    #[must_use]
    pub const fn session(&self) -> Option<&Session<B>> {
        self.session.as_ref()
    }

    /// When the next attempt is due, in ms, while it waits for one.
    #[must_use]
    pub const fn next_attempt(&self) -> Option<u64> {
        match self.mode {
            Mode::Waiting { until } => Some(until),
            _ => None,
        }
    }

    /// Sessions that came up so far.
    #[must_use]
    pub const fn sessions(&self) -> u64 {
        self.sessions
    }

    /// A number that nobody else draws next (xorshift32, Marsaglia 2003).
    const fn draw(&mut self) -> u32 {
        let mut x = self.random;
        x ^= x << 13;
        x ^= x >> 17;
        x ^= x << 5;
        self.random = x;
        x
    }
}
