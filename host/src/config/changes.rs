//! What a configuration that is read again changes: what can change while a
//! board runs, does; what cannot, stays, and is said.

use std::fmt;

use super::{BoardSettings, Configuration};
use crate::session::SessionConfig;

/// What to do to get from one configuration to the next.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Update {
    /// What is in force once the rest is done.
    pub configuration: Configuration,
    /// Boards to let go of, by name. First, for their interfaces' names.
    pub removed: Vec<String>,
    /// Boards whose live settings differ, by name.
    pub changed: Vec<String>,
    /// Boards to start, by name.
    pub added: Vec<String>,
    /// Keys that keep their old value.
    pub kept: Vec<Kept>,
}

/// A key that cannot change while the daemon, or the board, runs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Kept {
    /// The board's name; `None`: the daemon itself.
    pub board: Option<String>,
    /// The key.
    pub key: &'static str,
}

impl fmt::Display for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.board {
            Some(board) => write!(
                f,
                "{board}: {} cannot change while the board runs and stays as it was: restart the \
                 daemon, or give the board another name to have it started anew",
                self.key
            ),
            None => write!(
                f,
                "daemon.{} cannot change while the daemon runs and stays as it was: restart the \
                 daemon",
                self.key
            ),
        }
    }
}

impl Configuration {
    /// What it takes to get from here to `next`.
    #[must_use]
    pub fn update(&self, next: Self) -> Update {
        let mut kept = Vec::new();
        let mut keep = |board: Option<&str>, key| {
            kept.push(Kept { board: board.map(str::to_owned), key });
        };
        let mut daemon = next.daemon;
        stay(&self.daemon.socket, &mut daemon.socket, || keep(None, "socket"));
        stay(&self.daemon.socket_group, &mut daemon.socket_group, || keep(None, "socket_group"));
        let named = |boards: &[BoardSettings], name: &str| {
            boards.iter().find(|board| board.name == name).cloned()
        };
        let removed = self.boards.iter().filter(|old| named(&next.boards, &old.name).is_none());
        let removed = removed.map(|old| old.name.clone()).collect();
        let (mut changed, mut added, mut boards) = (Vec::new(), Vec::new(), Vec::new());
        for mut board in next.boards {
            match named(&self.boards, &board.name) {
                None => added.push(board.name.clone()),
                Some(old) => {
                    let name = board.name.clone();
                    settle(&old, &mut board, |key| keep(Some(&name), key));
                    if board != old {
                        changed.push(name);
                    }
                }
            }
            boards.push(board);
        }
        let configuration = Self { daemon, boards };
        Update { configuration, removed, changed, added, kept }
    }
}

/// Puts the old value back, and says so, where the new one differs.
fn stay<T: PartialEq + Clone>(old: &T, new: &mut T, differs: impl FnOnce()) {
    if old != new {
        new.clone_from(old);
        differs();
    }
}

/// Puts back what a running board cannot change. What is not named here can:
/// addresses, polling, coalescing and what is received.
fn settle(old: &BoardSettings, new: &mut BoardSettings, mut keep: impl FnMut(&'static str)) {
    // A field that is added later has to be named, here or above.
    let BoardSettings {
        name: _,
        bus,
        interface,
        mode,
        persistent,
        addresses: _,
        session,
        looks: _,
        console,
    } = new;
    stay(&old.bus, bus, || keep("bus"));
    stay(&old.interface, interface, || keep("interface"));
    stay(&old.mode, mode, || keep("mode"));
    stay(&old.persistent, persistent, || keep("persistent"));
    stay(&old.console, console, || keep("console"));
    let SessionConfig {
        layout,
        feature_mask,
        to_host_size,
        to_board_size,
        push_limit,
        mtu,
        mac,
        coalescing: _,
        receive: _,
        vlans,
        board_mac,
        console,
    } = session;
    let old = &old.session;
    stay(&old.mac, mac, || keep("mac"));
    stay(&old.board_mac, board_mac, || keep("board_mac"));
    stay(&old.vlans, vlans, || keep("vlans"));
    stay(&old.mtu, mtu, || keep("mtu"));
    stay(&old.feature_mask, feature_mask, || keep("features"));
    let mut sizes = (*to_host_size, *to_board_size);
    stay(&(old.to_host_size, old.to_board_size), &mut sizes, || keep("queue_size"));
    (*to_host_size, *to_board_size) = sizes;
    stay(&old.push_limit, push_limit, || keep("push_limit"));
    stay(&old.layout, layout, || keep("layout"));
    // Goes with the path above.
    *console = old.console;
}
