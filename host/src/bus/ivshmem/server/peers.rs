//! Who is connected to a server, and what they are still to be told.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use nix::sys::eventfd::{EfdFlags, EventFd};

use super::ServerOptions;
use super::lines::{Lines, Why};
use crate::bus::ivshmem::client::{MAX_PEERS, MAX_VECTORS};
use crate::bus::ivshmem::vector::Watch;
use crate::bus::ivshmem::wire::{MEMORY, VERSION, send};

/// Messages that wait for one peer at most: all peers with all vectors, and as
/// many again that come and go meanwhile.
const OUTBOX: usize = 2 * MAX_PEERS * MAX_VECTORS;

/// A message that has not been taken yet.
type Waiting = (i64, Option<Arc<OwnedFd>>);

#[derive(Debug)]
struct Peer {
    socket: OwnedFd,
    vectors: Vec<Arc<OwnedFd>>,
    outbox: VecDeque<Waiting>,
    /// Whether the watch says when it takes messages again.
    watched: bool,
}

impl Peer {
    /// Sends what can be sent. `Ok(true)`: nothing waits any more.
    fn flush(&mut self) -> io::Result<bool> {
        while let Some((number, descriptor)) = self.outbox.front() {
            let descriptor = descriptor.as_ref().map(|fd| fd.as_fd());
            match send(self.socket.as_fd(), *number, descriptor) {
                Ok(()) => drop(self.outbox.pop_front()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }
}

/// All that are connected.
#[derive(Debug)]
pub(super) struct Peers {
    memory: Arc<OwnedFd>,
    vectors: u16,
    most: usize,
    peers: BTreeMap<u16, Peer>,
    next: u16,
    lines: Lines,
}

impl Peers {
    pub(super) fn new(memory: Arc<OwnedFd>, options: ServerOptions) -> Self {
        let most = u16::try_from(MAX_VECTORS).unwrap_or(u16::MAX);
        Self {
            memory,
            vectors: options.vectors.clamp(1, most),
            most: options.peers.min(MAX_PEERS),
            peers: BTreeMap::new(),
            next: 0,
            lines: Lines::new(),
        }
    }

    pub(super) fn count(&self) -> usize {
        self.peers.len()
    }

    /// A number that nobody has: the next one, so that one that has just become
    /// free stays free for long.
    fn number(&mut self) -> u16 {
        while self.peers.contains_key(&self.next) {
            self.next = self.next.wrapping_add(1);
        }
        let number = self.next;
        self.next = number.wrapping_add(1);
        number
    }

    /// Somebody connected: the greeting for it, and word of it for the others.
    pub(super) fn join(&mut self, watch: &Watch, socket: OwnedFd) {
        if self.peers.len() >= self.most {
            self.lines.refused(format_args!("{} peers are there already", self.most));
            return;
        }
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        let vectors = (0..self.vectors).map(|_| Ok(Arc::new(make_event(flags)?)));
        let vectors = match vectors.collect::<io::Result<Vec<_>>>() {
            Ok(vectors) => vectors,
            Err(error) => {
                self.lines.refused(format_args!("cannot make its vectors: {error}"));
                return;
            }
        };
        let id = self.number();
        if let Err(error) = watch.add_socket(socket.as_fd(), id.into()) {
            self.lines.refused(format_args!("cannot listen to it: {error}"));
            return;
        }
        let with = |number: u16, fd: &Arc<OwnedFd>| (i64::from(number), Some(Arc::clone(fd)));
        let mut outbox = VecDeque::from([
            (VERSION, None),
            (id.into(), None),
            (MEMORY, Some(Arc::clone(&self.memory))),
        ]);
        for (number, peer) in &self.peers {
            outbox.extend(peer.vectors.iter().map(|vector| with(*number, vector)));
        }
        outbox.extend(vectors.iter().map(|vector| with(id, vector)));
        let news: Vec<Waiting> = vectors.iter().map(|vector| with(id, vector)).collect();
        self.lines.came(id, socket.as_fd(), self.peers.len() + 1, self.most);
        self.peers.insert(id, Peer { socket, vectors, outbox, watched: false });
        for peer in self.others(id) {
            self.tell(watch, peer, &news);
        }
        self.flush(watch, id);
    }

    /// Somebody is let go, or went: word of it for the others.
    pub(super) fn leave(&mut self, watch: &Watch, id: u16, why: Why) {
        let mut leaving = vec![(id, why)];
        // Each turn takes one away, for which the others may prove too slow.
        while let Some((id, why)) = leaving.pop() {
            let Some(peer) = self.peers.remove(&id) else { continue };
            watch.remove(peer.socket.as_fd());
            drop(peer);
            self.lines.left(id, why, self.peers.len());
            let others = self.others(id);
            let news = [(id.into(), None)];
            let gone = |peer| Some((peer, self.try_tell(watch, peer, &news).err()?));
            leaving.extend(others.into_iter().filter_map(gone));
        }
    }

    /// A peer takes messages again.
    pub(super) fn flush(&mut self, watch: &Watch, id: u16) {
        self.tell(watch, id, &[]);
    }

    fn others(&self, id: u16) -> Vec<u16> {
        self.peers.keys().copied().filter(|other| *other != id).collect()
    }

    fn tell(&mut self, watch: &Watch, id: u16, news: &[Waiting]) {
        if let Err(why) = self.try_tell(watch, id, news) {
            self.leave(watch, id, why);
        }
    }

    /// An error says why this peer is to be let go.
    fn try_tell(&mut self, watch: &Watch, id: u16, news: &[Waiting]) -> Result<(), Why> {
        let Some(peer) = self.peers.get_mut(&id) else { return Ok(()) };
        peer.outbox.extend(news.iter().cloned());
        if peer.outbox.len() > OUTBOX {
            return Err(Why::Slow);
        }
        let done = peer.flush().map_err(|_| Why::Left)?;
        if peer.watched == done {
            peer.watched = !done;
            let changed = watch.change(peer.socket.as_fd(), id.into(), peer.watched);
            return changed.map_err(|_| Why::Left);
        }
        Ok(())
    }
}

fn make_event(flags: EfdFlags) -> io::Result<OwnedFd> {
    Ok(EventFd::from_flags(flags)?.into())
}
