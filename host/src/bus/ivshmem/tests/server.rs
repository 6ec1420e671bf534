//! The server, as any client of the protocol sees it.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::time::Instant;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::epoll::EpollTimeout;
use nix::sys::stat::fstat;
use nix::unistd::{ftruncate, read, write};

use shared::address::BusAddress;
use shared::region::Rights;
use shared::window::Window;

use super::{Folder, LONG, OPTIONS, host_options, serve};
use crate::bus::Bus;
use crate::bus::ivshmem::wire::{Arrival, Inbox};
use crate::bus::ivshmem::{IvshmemBoard, IvshmemBus, IvshmemError, Server, ServerOptions};

/// A client that takes messages one by one.
struct Raw {
    socket: UnixStream,
    inbox: Inbox,
}

impl Raw {
    fn connect(folder: &Folder) -> Self {
        Self { socket: UnixStream::connect(folder.socket()).unwrap(), inbox: Inbox::default() }
    }

    fn wait(&self) {
        let mut fds = [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)];
        let ready = poll(&mut fds, PollTimeout::try_from(LONG).unwrap()).unwrap();
        assert!(ready > 0, "the server says nothing");
    }

    /// The next message; `None` at the end.
    fn next(&mut self) -> Option<(i64, Option<OwnedFd>)> {
        loop {
            match self.inbox.next(self.socket.as_fd()).unwrap() {
                Arrival::Message(message) => {
                    let mut descriptors = message.descriptors.into_iter();
                    let first = descriptors.next();
                    assert!(descriptors.next().is_none());
                    return Some((message.number, first));
                }
                Arrival::Closed => return None,
                Arrival::Nothing => self.wait(),
            }
        }
    }

    fn number(&mut self) -> i64 {
        let (number, descriptor) = self.next().unwrap();
        assert!(descriptor.is_none(), "{number} came with a descriptor");
        number
    }

    fn descriptor(&mut self, expected: i64) -> OwnedFd {
        let (number, descriptor) = self.next().unwrap();
        assert_eq!(number, expected);
        descriptor.unwrap_or_else(|| panic!("{number} came without a descriptor"))
    }

    /// The greeting up to the memory: our number, and the memory.
    fn greeted(&mut self) -> (i64, OwnedFd) {
        assert_eq!(self.number(), 0);
        let id = self.number();
        (id, self.descriptor(-1))
    }

    fn vectors(&mut self, id: i64) -> Vec<OwnedFd> {
        (0..OPTIONS.vectors).map(|_| self.descriptor(id)).collect()
    }
}

#[test]
fn the_greeting_is_the_one_of_the_specification() {
    let folder = Folder::new();
    let _server = serve(&folder);
    let mut first = Raw::connect(&folder);
    let (one, memory) = first.greeted();
    assert_eq!(one, 0, "the first client is number 0");
    assert_eq!(fstat(&memory).unwrap().st_size, 4 << 20);
    let own = first.vectors(one);

    let mut second = Raw::connect(&folder);
    let (two, same) = second.greeted();
    assert_ne!(one, two);
    assert_eq!(fstat(&memory).unwrap().st_ino, fstat(&same).unwrap().st_ino);
    // The others first, then its own; and the others hear of it.
    let others = second.vectors(one);
    second.vectors(two);
    first.vectors(two);

    // The same eventfds, in the same order.
    for (number, (theirs, ours)) in others.iter().zip(&own).enumerate() {
        write(theirs, &(number as u64 + 1).to_ne_bytes()).unwrap();
        let mut bytes = [0; 8];
        assert_eq!(read(ours, &mut bytes).unwrap(), 8);
        assert_eq!(u64::from_ne_bytes(bytes), number as u64 + 1);
    }
    drop(second);
    assert_eq!(first.number(), two, "gone");
    // Its number is not given to the next one.
    let mut third = Raw::connect(&folder);
    let (three, _) = third.greeted();
    assert!(three != one && three != two);
}

#[test]
fn the_memory_can_neither_shrink_nor_grow() {
    let folder = Folder::new();
    let _server = serve(&folder);
    let (_, memory) = Raw::connect(&folder).greeted();
    assert!(ftruncate(&memory, 4096).is_err());
    assert!(ftruncate(&memory, 8 << 20).is_err());
}

#[test]
fn a_peer_that_speaks_or_closes_at_any_moment_harms_no_other() {
    let folder = Folder::new();
    let _server = serve(&folder);
    let mut watching = Raw::connect(&folder);
    let (own, _) = watching.greeted();
    watching.vectors(own);
    for messages in 0..8 {
        let mut other = Raw::connect(&folder);
        for _ in 0..messages {
            other.next().unwrap();
        }
        if messages % 2 == 0 {
            drop(other);
        } else {
            // Nothing that a client says is in the protocol.
            let _ = std::io::Write::write(&mut other.socket, b"hello");
        }
        let (id, descriptor) = watching.next().unwrap();
        assert!(descriptor.is_some());
        for _ in 1..OPTIONS.vectors {
            watching.descriptor(id);
        }
        assert_eq!(watching.number(), id, "gone");
    }
}

#[test]
fn a_peer_comes_back_under_another_number_and_is_heard_again() {
    let folder = Folder::new();
    let _server = serve(&folder);
    let mut watching = Raw::connect(&folder);
    let (own, _) = watching.greeted();
    let vectors = watching.vectors(own);
    let mut numbers = vec![own];
    for round in 1..=20_u64 {
        let mut peer = Raw::connect(&folder);
        let (id, _) = peer.greeted();
        assert!(!numbers.contains(&id), "{id} again");
        numbers.push(id);
        let theirs = peer.vectors(own);
        peer.vectors(id);
        watching.vectors(id);
        // It rings, and goes without a word; those that are there go on.
        write(&theirs[1], &round.to_ne_bytes()).unwrap();
        drop(peer);
        assert_eq!(watching.number(), id, "gone");
        let mut bytes = [0; 8];
        read(&vectors[1], &mut bytes).unwrap();
        assert_eq!(u64::from_ne_bytes(bytes), round);
    }
}

#[test]
fn more_peers_than_there_is_room_for_are_closed() {
    let folder = Folder::new();
    let _server = serve(&folder);
    let mut all = Vec::new();
    for _ in 0..OPTIONS.peers {
        let mut peer = Raw::connect(&folder);
        peer.greeted();
        all.push(peer);
    }
    assert!(Raw::connect(&folder).next().is_none());
    all.pop();
    // The server hears of that in its own time.
    let deadline = Instant::now() + LONG;
    while Raw::connect(&folder).next().is_none() {
        assert!(Instant::now() < deadline, "a place that became free stays taken");
    }
}

#[test]
fn a_peer_that_never_reads_is_let_go_and_the_others_go_on() {
    let folder = Folder::new();
    let mut server = Server::bind(folder.socket(), OPTIONS).unwrap();
    let turn = |server: &mut Server| assert!(server.turn(EpollTimeout::ZERO));
    let lazy = Raw::connect(&folder);
    turn(&mut server);
    let mut alive = Raw::connect(&folder);
    turn(&mut server);
    alive.greeted();
    assert_eq!(server.peers(), 2);
    for coming in 0..10_000 {
        drop(Raw::connect(&folder));
        turn(&mut server);
        turn(&mut server);
        // What it is told it takes.
        while let Arrival::Message(_) = alive.inbox.next(alive.socket.as_fd()).unwrap() {}
        if server.peers() == 1 {
            break;
        }
        assert!(coming < 9_999, "the queue of a peer that never reads is endless");
    }
    drop(lazy);
    assert_eq!(server.peers(), 1);
}

#[test]
fn a_socket_that_nobody_serves_is_replaced() {
    let folder = Folder::new();
    let path = folder.socket();
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let server = Server::bind(&path, OPTIONS).unwrap();
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let second = Server::bind(&path, OPTIONS).unwrap_err();
    assert!(matches!(second, IvshmemError::Served { .. }), "{second}");
    drop(server);
    assert!(!path.exists(), "its name goes with it");
}

#[test]
fn a_file_that_is_no_socket_is_left_alone() {
    let folder = Folder::new();
    let path = folder.socket();
    std::fs::write(&path, "precious").unwrap();
    let error = Server::bind(&path, OPTIONS).unwrap_err();
    assert!(matches!(error, IvshmemError::NotASocket { .. }), "{error}");
    assert_eq!(std::fs::read(&path).unwrap(), b"precious");
}

#[test]
fn the_name_of_another_server_is_left_alone() {
    let folder = Folder::new();
    let path = folder.socket();
    let old = Server::bind(&path, OPTIONS).unwrap();
    std::fs::remove_file(&path).unwrap();
    let _new = Server::bind(&path, OPTIONS).unwrap();
    drop(old);
    assert!(path.exists());
}

#[test]
fn memory_of_a_wrong_length_is_refused() {
    let folder = Folder::new();
    for memory in [0, 4096, 3 << 20, 1 << 63, u64::MAX] {
        let error = Server::bind(folder.socket(), ServerOptions { memory, ..OPTIONS }).unwrap_err();
        assert!(matches!(error, IvshmemError::Memory(_)), "{error}");
        assert!(!folder.socket().exists());
    }
}

/// Where the kernel has huge pages to give they are used; else it says what to do.
#[test]
fn huge_pages_are_all_there_or_none_is() {
    let folder = Folder::new();
    let huge = ServerOptions { memory: 4 << 20, huge_pages: true, ..OPTIONS };
    match Server::bind(folder.socket(), huge) {
        Ok(server) => {
            let _server = server.start().unwrap();
            let mut bus = IvshmemBus::connect(host_options(&folder)).unwrap();
            let board = IvshmemBoard::connect(&folder.socket(), 3, LONG).unwrap();
            let all = board.outbound(BusAddress::new(0), board.bar_len()).unwrap();
            all.write(0, &vec![0xA5; 2 << 20]);
            let shared = bus.share(64 << 10, Rights::READ_WRITE).unwrap();
            let mut bytes = vec![1; 64 << 10];
            shared.window.read(0, &mut bytes);
            assert!(bytes.iter().all(|byte| *byte == 0), "what it held is gone");
        }
        Err(error) => {
            assert!(matches!(error, IvshmemError::HugePages { .. }), "{error}");
            let text = error.to_string();
            assert!(text.contains("sysctl vm.nr_hugepages="), "{text}");
            assert!(!folder.socket().exists(), "nothing is left behind");
        }
    }
    let error = Server::bind(folder.socket(), ServerOptions { memory: 1 << 20, ..huge });
    let text = error.unwrap_err().to_string();
    assert!(text.contains("are less than one huge page"), "{text}");
}
