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
    WorkerOptions,
};

use crate::exit::Failure;

/// Longest reason of a failure in an answer, in bytes.
const LONGEST_REASON: usize = 400;

/// The boards. The lock is held for copies only, never for a board's sake.
#[derive(Debug, Default)]
pub(crate) struct Fleet {
    boards: Mutex<Vec<(String, Board)>>,
}

/// What the daemon hears of one board.
#[derive(Debug)]
pub(crate) struct Ear {
    pub(crate) name: String,
    /// Readable when its status has changed.
    pub(crate) changed: OwnedFd,
    /// Readable when its thread has died.
    pub(crate) ended: OwnedFd,
}

impl Fleet {
    fn lock(&self) -> MutexGuard<'_, Vec<(String, Board)>> {
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
                Board::start(bus.host(), options(settings)).map_err(of_board)?
            }
            BusSettings::Ivshmem { socket } => {
                let bus = IvshmemBus::new(IvshmemOptions::new(socket));
                Board::start(bus, options(settings)).map_err(of_board)?
            }
        };
        log::info!("{name}: looking for the board of {}", board.status().interface);
        self.lock().push((name.clone(), board));
        Ok(())
    }

    /// Takes these boards out, to be stopped.
    pub(crate) fn take(&self, names: &[String]) -> Vec<(String, Board)> {
        let mut boards = self.lock();
        let (taken, left) =
            std::mem::take(&mut *boards).into_iter().partition(|(name, _)| names.contains(name));
        *boards = left;
        taken
    }

    /// Takes all of them out.
    pub(crate) fn take_all(&self) -> Vec<(String, Board)> {
        std::mem::take(&mut *self.lock())
    }

    /// Gives a running board what may change.
    pub(crate) fn apply(&self, settings: &BoardSettings) {
        if let Some((_, board)) = self.lock().iter().find(|(name, _)| *name == settings.name) {
            board.apply(LiveOptions {
                addresses: settings.addresses.clone(),
                worker: WorkerOptions { idle_looks: settings.looks },
                coalescing: settings.session.coalescing,
            });
        }
    }

    /// Puts them into the order of the configuration.
    pub(crate) fn sort(&self, settings: &[BoardSettings]) {
        let place = |name: &str| settings.iter().position(|settings| settings.name == name);
        self.lock().sort_by_key(|(name, _)| place(name));
    }

    /// What to listen to.
    pub(crate) fn ears(&self) -> std::io::Result<Vec<Ear>> {
        let ear = |(name, board): &(String, Board)| {
            Ok(Ear {
                name: name.clone(),
                changed: board.changed().try_clone_to_owned()?,
                ended: board.ended().try_clone_to_owned()?,
            })
        };
        self.lock().iter().map(ear).collect()
    }

    /// Takes notice of what has changed, for the next change to be heard.
    pub(crate) fn acknowledge(&self) {
        self.lock().iter().for_each(|(_, board)| board.acknowledge());
    }

    /// How it goes, in a few words.
    pub(crate) fn summary(&self) -> String {
        let boards = self.lock();
        let up = boards.iter().filter(|(_, board)| board.status().state == LinkState::Up).count();
        match (boards.len(), up) {
            (1, 1) => "1 board, up".to_owned(),
            (1, _) => "1 board, not up".to_owned(),
            (all, up) => format!("{all} boards, {up} up"),
        }
    }
}

/// What the daemon's layer is told of a board.
fn options(settings: &BoardSettings) -> BoardOptions {
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
    }
}

impl Answers for Fleet {
    fn answer(&self, request: &Request) -> Answer {
        let boards = self.lock();
        let named = |wanted: &str| {
            boards.iter().find(|(name, _)| name == wanted).map(|(_, board)| board).ok_or_else(
                || Refusal::no_such_board(wanted, boards.iter().map(|(name, _)| name.as_str())),
            )
        };
        let statuses = boards.iter().map(|(_, board)| board.status());
        match request {
            Request::Status => Answer::Status { boards: statuses.map(report).collect() },
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
                let found = named(board).and_then(|found| features(&found.status()));
                found.map_or_else(Answer::Refused, Answer::Features)
            }
            Request::Reset { board } => match named(board) {
                Ok(found) => {
                    found.reset();
                    Answer::ResetAsked
                }
                Err(refusal) => Answer::Refused(refusal),
            },
        }
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

fn report(status: BoardStatus) -> BoardReport {
    let millis =
        |duration: std::time::Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let now = Instant::now();
    BoardReport {
        state: match status.state {
            LinkState::Attaching => State::Attaching,
            LinkState::Up => State::Up,
            LinkState::NoLink => State::NoLink,
            LinkState::Waiting => State::Waiting,
            LinkState::Stopping => State::Stopping,
            LinkState::Stopped => State::Stopped,
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
    fn a_long_reason_is_cut_between_characters() {
        assert_eq!(shortened("short".into()), "short");
        for filler in ["x", "\u{e9}", "\u{1f4a9}"] {
            let cut = shortened(filler.repeat(500));
            assert!(cut.len() <= LONGEST_REASON && cut.ends_with("..."), "{cut}");
        }
    }
}
