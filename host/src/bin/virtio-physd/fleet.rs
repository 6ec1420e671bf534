//! The boards that the daemon cares for, and the answers about them.

use std::os::fd::OwnedFd;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use virtio_phys_host::bus::ivshmem::{IvshmemBus, IvshmemOptions};
use virtio_phys_host::bus::sim::{SimBus, SimOptions};
use virtio_phys_host::config::{BoardSettings, BusSettings};
use virtio_phys_host::control_socket::Answers;
use virtio_phys_host::control_socket::message::{
    Answer, BoardReport, FeatureReport, Identity, Reason, Refusal, Request, State, StatsReport,
};
use virtio_phys_host::daemon::{
    Board, BoardOptions, BoardStatus, DaemonError, InterfaceOptions, LinkState, LiveOptions,
    Stations, WorkerOptions,
};

use crate::exit::Failure;

/// Longest reason of a failure in an answer, in bytes.
const LONGEST_REASON: usize = 400;

/// The boards. The lock is held for copies only, never for a board's sake.
#[derive(Debug, Default)]
pub(crate) struct Fleet {
    boards: Mutex<Vec<Member>>,
    stations: Stations,
}

#[derive(Debug)]
struct Member {
    name: String,
    board: Board,
    stage: Stage,
}

/// How far a board's time with the daemon has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    /// The configuration has it.
    Kept,
    /// The same, but its thread has died, and that was said.
    Dead,
    /// It is being stopped.
    Leaving,
    /// The same, but nobody waits for it any more.
    Late,
}

impl Member {
    fn is_leaving(&self) -> bool {
        matches!(self.stage, Stage::Leaving | Stage::Late)
    }
}

/// A board that has stopped: its name, and how that went.
pub(crate) type Stopped = (String, Result<(), DaemonError>);

impl Fleet {
    fn lock(&self) -> MutexGuard<'_, Vec<Member>> {
        self.boards.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts a board; it is attached in the background.
    pub(crate) fn start(&self, settings: &BoardSettings) -> Result<(), Failure> {
        let name = &settings.name;
        let of_board = |error: DaemonError| Failure::of_board(name, &error);
        let board = match &settings.bus {
            BusSettings::Sim => {
                let bus = SimBus::new(SimOptions::counted())
                    .map_err(|error| Failure::new(format_args!("{name}: {error}")))?;
                Board::start(bus.host(), self.options(settings)).map_err(of_board)?
            }
            BusSettings::Ivshmem { socket } => {
                let bus = IvshmemBus::new(IvshmemOptions::new(socket));
                Board::start(bus, self.options(settings)).map_err(of_board)?
            }
        };
        log::info!("{name}: looking for the board of {}", board.status().interface);
        self.lock().push(Member { name: name.clone(), board, stage: Stage::Kept });
        Ok(())
    }

    /// Begins to stop the boards of these names.
    pub(crate) fn begin_stop(&self, names: &[String]) {
        self.begin_stop_if(|member| names.contains(&member.name) && !member.is_leaving());
    }

    /// Begins to stop all of them, and waits once more for those that are late.
    pub(crate) fn begin_stop_all(&self) {
        self.begin_stop_if(|_| true);
    }

    fn begin_stop_if(&self, chosen: impl Fn(&Member) -> bool) {
        for member in self.lock().iter_mut().filter(|member| chosen(member)) {
            if !member.is_leaving() {
                member.board.begin_stop();
            }
            member.stage = Stage::Leaving;
        }
    }

    /// The names of those that are waited for while they stop.
    pub(crate) fn leaving(&self) -> Vec<String> {
        let boards = self.lock();
        let leaving = boards.iter().filter(|member| member.stage == Stage::Leaving);
        leaving.map(|member| member.name.clone()).collect()
    }

    /// Waits no longer for those that are leaving: their names.
    pub(crate) fn give_up(&self) -> Vec<String> {
        let mut boards = self.lock();
        let leaving = boards.iter_mut().filter(|member| member.stage == Stage::Leaving);
        leaving
            .map(|member| {
                member.stage = Stage::Late;
                member.name.clone()
            })
            .collect()
    }

    /// Takes out those that have stopped.
    pub(crate) fn take_stopped(&self) -> Vec<Stopped> {
        let mut boards = self.lock();
        let gone = boards.extract_if(.., |member| member.is_leaving() && member.board.has_ended());
        // Their threads have ended, so this waits for nothing.
        gone.map(|member| (member.name, member.board.stop())).collect()
    }

    /// The names of those whose thread has died since the last time.
    pub(crate) fn take_dead(&self) -> Vec<String> {
        let mut boards = self.lock();
        let dead = boards
            .iter_mut()
            .filter(|member| member.stage == Stage::Kept && member.board.has_ended());
        dead.map(|member| {
            member.stage = Stage::Dead;
            member.name.clone()
        })
        .collect()
    }

    /// Gives a running board what may change.
    pub(crate) fn apply(&self, settings: &BoardSettings) {
        let boards = self.lock();
        let mut kept = boards.iter().filter(|member| !member.is_leaving());
        if let Some(member) = kept.find(|member| member.name == settings.name) {
            member.board.apply(LiveOptions {
                addresses: settings.addresses.clone(),
                worker: WorkerOptions { idle_looks: settings.looks },
                coalescing: settings.session.coalescing,
                receive: settings.session.receive,
            });
        }
    }

    /// Puts them into the order of the configuration, those that are leaving
    /// behind.
    pub(crate) fn sort(&self, settings: &[BoardSettings]) {
        let place = |name: &str| settings.iter().position(|settings| settings.name == name);
        self.lock().sort_by_key(|member| {
            let place = place(&member.name).filter(|_| !member.is_leaving());
            place.unwrap_or(usize::MAX)
        });
    }

    /// What becomes readable when there is something to look at: a status has
    /// changed, a board has stopped, a thread has died.
    pub(crate) fn ears(&self) -> std::io::Result<Vec<OwnedFd>> {
        let boards = self.lock();
        // The dead have said it.
        let living = boards.iter().filter(|member| member.stage != Stage::Dead);
        living
            .flat_map(|member| [member.board.changed(), member.board.ended()])
            .map(|fd| fd.try_clone_to_owned())
            .collect()
    }

    /// Takes notice of what has changed, for the next change to be heard.
    pub(crate) fn acknowledge(&self) {
        self.lock().iter().for_each(|member| member.board.acknowledge());
    }

    /// What the daemon's layer is told of a board.
    fn options(&self, settings: &BoardSettings) -> BoardOptions {
        BoardOptions {
            name: settings.name.clone(),
            interface: InterfaceOptions {
                mode: settings.mode,
                persistent: settings.persistent,
                mac: settings.session.mac,
                mtu: settings.session.mtu,
                addresses: settings.addresses.clone(),
                ..InterfaceOptions::new(&settings.interface)
            },
            session: settings.session,
            worker: WorkerOptions { idle_looks: settings.looks },
            console: settings.console.clone(),
            stations: self.stations.clone(),
        }
    }

    /// How it goes, in a few words.
    pub(crate) fn summary(&self) -> String {
        let boards = self.lock();
        let states: Vec<_> = boards
            .iter()
            .filter(|member| !member.is_leaving())
            .map(|member| member.board.status().state)
            .collect();
        let up = states.iter().filter(|state| **state == LinkState::Up).count();
        match (states.len(), up) {
            (1, 1) => "1 board, up".to_owned(),
            (1, _) => "1 board, not up".to_owned(),
            (all, up) => format!("{all} boards, {up} up"),
        }
    }
}

impl Answers for Fleet {
    fn answer(&self, request: &Request) -> Answer {
        let boards = self.lock();
        let named = |wanted: &str| {
            // A board that is leaving may have a successor of its name.
            let found = boards.iter().filter(|member| member.name == wanted);
            found.min_by_key(|member| member.is_leaving()).ok_or_else(|| {
                Refusal::no_such_board(wanted, boards.iter().map(|member| member.name.as_str()))
            })
        };
        let statuses = boards.iter().map(|member| member.board.status());
        match request {
            Request::Status => Answer::Status { boards: boards.iter().map(report).collect() },
            Request::Stats { .. } => Answer::Stats {
                boards: statuses
                    .map(|status| StatsReport {
                        name: status.name,
                        interface: status.interface,
                        counters: status.counters,
                    })
                    .collect(),
            },
            Request::Features { board } => {
                let found = named(board).and_then(|found| features(&found.board.status()));
                found.map_or_else(Answer::Refused, Answer::Features)
            }
            Request::Reset { board } => {
                let found = named(board).and_then(|found| resettable(found).map(Board::reset));
                found.map_or_else(Answer::Refused, |()| Answer::ResetAsked)
            }
        }
    }
}

/// The member's board, if its link would come back behind a reset.
fn resettable(member: &Member) -> Result<&Board, Refusal> {
    match no_reset(&member.name, member.is_leaving(), member.board.has_ended()) {
        Some(text) => Err(Refusal::new(Reason::NotAttached, text)),
        None => Ok(&member.board),
    }
}

/// Why a board is not reset, if it is not.
fn no_reset(name: &str, leaving: bool, dead: bool) -> Option<String> {
    if leaving {
        Some(format!("the board {name} is being let go of: it is not attached again"))
    } else if dead {
        Some(format!("the board {name} is cared for no more: `vphys status` says why"))
    } else {
        None
    }
}

fn features(status: &BoardStatus) -> Result<FeatureReport, Refusal> {
    let report = status.features.ok_or_else(|| {
        let text =
            format!("the board {} has not been attached yet: `vphys status` says why", status.name);
        Refusal::new(Reason::NotAttached, text)
    })?;
    let (offered, masked) = (report.offered, report.masked);
    Ok(FeatureReport::new(&status.name, offered, masked, report.negotiated))
}

fn report(member: &Member) -> BoardReport {
    let status = member.board.status();
    let millis =
        |duration: std::time::Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let now = Instant::now();
    BoardReport {
        state: match status.state {
            _ if member.is_leaving() => State::Stopping,
            LinkState::Attaching => State::Attaching,
            LinkState::Up => State::Up,
            LinkState::NoLink => State::NoLink,
            LinkState::Waiting => State::Waiting,
            // Its interface is about to go.
            LinkState::Stopping | LinkState::Stopped => State::Stopping,
            LinkState::Failed => State::Failed,
        },
        name: status.name,
        interface: status.interface,
        since_ms: millis(now.saturating_duration_since(status.since)),
        board: status.terms.map(|terms| Identity {
            name: terms.board.name.to_string(),
            firmware: terms.board.firmware.to_string(),
        }),
        sessions: status.sessions,
        failures: status.failures,
        last_failure: status.last_failure.map(shortened),
        retry_in_ms: status.retry_at.map(|at| millis(at.saturating_duration_since(now))),
    }
}

fn shortened(mut text: String) -> String {
    if text.len() > LONGEST_REASON {
        let cut = (0..=LONGEST_REASON - 3).rev().find(|at| text.is_char_boundary(*at));
        text.truncate(cut.unwrap_or(0));
        text.push_str("...");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn why_a_board_is_not_reset() {
        for (leaving, dead, text) in [
            (false, false, None),
            (true, false, Some("the board b0 is being let go of: it is not attached again")),
            (true, true, Some("the board b0 is being let go of: it is not attached again")),
            (false, true, Some("the board b0 is cared for no more: `vphys status` says why")),
        ] {
            assert_eq!(no_reset("b0", leaving, dead).as_deref(), text);
        }
    }

    #[test]
    fn a_long_reason_is_cut_between_characters() {
        assert_eq!(shortened("short".into()), "short");
        for filler in ["x", "\u{e9}", "\u{1f4a9}"] {
            let cut = shortened(filler.repeat(500));
            assert!(cut.len() <= LONGEST_REASON && cut.ends_with("..."), "{cut}");
        }
    }
}
