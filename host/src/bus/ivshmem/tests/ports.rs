//! Host and board on one server.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use shared::address::BusAddress;
use shared::link::DoorbellDescription;
use shared::raw::StoreWidth;
use shared::region::Rights;
use shared::window::Window;
use shared::wire::control::{field, live};

use super::{Folder, LONG, OPTIONS, host_options, serve};
use crate::bus::ivshmem::client::Client;
use crate::bus::ivshmem::{HOST_PEER, IvshmemBoard, IvshmemBus, IvshmemError, peer_of};
use crate::bus::{Bus, BusError, KernelMemory, Latch, Ring};

const DOORBELLS: u16 = 3;

fn board(folder: &Folder) -> IvshmemBoard {
    IvshmemBoard::connect(&folder.socket(), DOORBELLS, LONG).unwrap()
}

fn wait(fd: BorrowedFd<'_>) {
    let mut fds = [PollFd::new(fd, PollFlags::POLLIN)];
    assert!(poll(&mut fds, PollTimeout::try_from(LONG).unwrap()).unwrap() > 0, "nothing came");
}

fn is_quiet(fd: BorrowedFd<'_>) -> bool {
    poll(&mut [PollFd::new(fd, PollFlags::POLLIN)], PollTimeout::ZERO).unwrap() == 0
}

#[test]
fn each_sees_what_the_other_writes() {
    let folder = Folder::new();
    let _server = serve(&folder);
    let mut bus = IvshmemBus::connect(host_options(&folder)).unwrap();
    let board = board(&folder);
    let bar = bus.bar(0, StoreWidth::Bits64).unwrap();
    assert_eq!((bus.bar_len(0), board.bar_len(), bar.len()), (2 << 20, 2 << 20, 2 << 20));
    board.memory(4096, 64).unwrap().store(8, 0x1122_3344_u32);
    assert_eq!(bar.load::<u32>(4104), 0x1122_3344);
    bar.write(5000, b"from the host");
    let mut bytes = [0; 13];
    board.memory(4096, 4096).unwrap().read(904, &mut bytes);
    assert_eq!(&bytes, b"from the host");

    let shared = bus.share(64 << 10, Rights::READ_WRITE).unwrap();
    let there = board.outbound(shared.iova, 64 << 10).unwrap();
    there.write(100, b"from the board");
    let mut bytes = [0; 14];
    shared.window.read(100, &mut bytes);
    assert_eq!(&bytes, b"from the board");
    // The kernel may copy on this bus, in both memories.
    assert!(shared.window.kernel_range(0, 4096).is_some() && bar.kernel_range(0, 64).is_some());
    assert!(shared.window.kernel_range(0, (64 << 10) + 1).is_none());
}

#[test]
fn no_window_leaves_its_half() {
    let folder = Folder::new();
    let _server = serve(&folder);
    let board = board(&folder);
    let half = board.bar_len();
    for (offset, len) in [(0, half + 8), (half, 8), (half - 8, 16), (u64::MAX - 7, 16)] {
        assert!(board.memory(offset, len).is_err(), "{offset} {len}");
        assert!(board.outbound(BusAddress::new(offset), len).is_err(), "{offset} {len}");
    }
    assert_eq!(board.reach().windows_for(0, half), Some(1));
    assert_eq!(board.reach().windows_for(8, half), None);
}

#[test]
fn notifications_arrive_one_by_one_and_in_both_directions() {
    let folder = Folder::new();
    let _server = serve(&folder);
    let bus = IvshmemBus::connect(host_options(&folder)).unwrap();
    let board = board(&folder);
    let described = board.doorbells();
    assert_eq!(described.register(1).unwrap().1 & 0xFFFF, 1);
    let bells: Vec<_> = (0..3).map(|i| bus.doorbell(&described, i).unwrap()).collect();
    assert_eq!(board.take_doorbells(), 0);
    for (number, bell) in bells.iter().enumerate() {
        for _ in 0..1000 {
            bell.ring();
        }
        wait(board.fd());
        assert_eq!(board.take_doorbells(), 1 << number);
        assert_eq!(board.take_doorbells(), 0, "several are one");
        assert!(is_quiet(board.fd()));
    }
    bells[0].ring();
    bells[2].ring();
    assert_eq!(board.take_doorbells(), 0b101);

    let latches: Vec<_> = (0..4).map(|i| bus.interrupt(i).unwrap()).collect();
    for (number, latch) in latches.iter().enumerate() {
        // The others' news may have made the first one's socket readable.
        let _ = latches[0].drain();
        assert!(!latch.drain());
        board.raise(u16::try_from(number).unwrap());
        wait(latch.fd().unwrap());
        for (other, latch) in latches.iter().enumerate() {
            assert_eq!(latch.drain(), other == number, "{other} {number}");
        }
        assert!(is_quiet(latch.fd().unwrap()));
    }
    board.raise(63);
}

/// The word that says which peer the host is.
fn host_word(board: &IvshmemBoard) -> impl Window {
    board.outbound(BusAddress::new(HOST_PEER), 4).unwrap()
}

#[test]
fn only_the_host_is_interrupted() {
    let folder = Folder::new();
    let _server = serve(&folder);
    let board = board(&folder);
    let mut other = Client::connect(&folder.socket(), LONG).unwrap();
    let event = other.await_some(LONG, |client| client.vector(0)).unwrap().unwrap();
    board.raise(0);
    let bus = IvshmemBus::connect(host_options(&folder)).unwrap();
    let latch = bus.interrupt(0).unwrap();
    // News for the board, which it takes with its doorbells.
    let _ = board.take_doorbells();
    while latch.drain() {}
    board.raise(0);
    wait(latch.fd().unwrap());
    assert!(latch.drain());
    assert!(is_quiet(event.as_fd()), "somebody else was rung");
    // Each look at the board's BAR says it anew, and not every other word.
    let word = host_word(&board);
    word.store(0, u32::from(other.id()) + 1);
    board.raise(0);
    wait(event.as_fd());
    assert!(is_quiet(latch.fd().unwrap()));
    let _ = bus.bar(0, StoreWidth::Bits64).unwrap();
    assert_ne!(word.load::<u32>(0), u32::from(other.id()) + 1);
    board.raise(0);
    wait(latch.fd().unwrap());
}

#[test]
fn whoever_the_host_is_said_to_be_nobody_else_is_rung() {
    let folder = Folder::new();
    let _server = serve(&folder);
    let board = board(&folder);
    let mut other = Client::connect(&folder.socket(), LONG).unwrap();
    let event = other.await_some(LONG, |client| client.vector(0)).unwrap().unwrap();
    let _ = board.take_doorbells();
    let named = u32::from(other.id()) + 1;
    for word in [0, named - 1, named + 1, named | 1 << 16, 1 << 16, u32::MAX] {
        host_word(&board).store(0, word);
        board.raise(0);
        assert!(is_quiet(event.as_fd()), "{word:#x}");
    }
    assert_eq!(
        [0, 1, 0x1_0000, 0x1_0001, u32::MAX].map(peer_of),
        [None, Some(0), Some(u16::MAX), None, None]
    );
}

#[test]
fn a_host_that_ends_says_so_and_harms_no_other() {
    let folder = Folder::new();
    let _server = serve(&folder);
    let board = board(&folder);
    let word = host_word(&board);
    let first = IvshmemBus::connect(host_options(&folder)).unwrap();
    assert_ne!(word.load::<u32>(0), 0);
    drop(first);
    assert_eq!(word.load::<u32>(0), 0, "there is no host");
    let second = IvshmemBus::connect(host_options(&folder)).unwrap();
    let _third = IvshmemBus::connect(host_options(&folder)).unwrap();
    let third = word.load::<u32>(0);
    drop(second);
    assert_eq!(word.load::<u32>(0), third, "the third one is still there");
}

#[test]
fn the_first_page_of_host_memory_is_never_shared() {
    let folder = Folder::new();
    let _server = serve(&folder);
    let mut bus = IvshmemBus::connect(host_options(&folder)).unwrap();
    for _ in 0..4 {
        while let Ok(memory) = bus.share(4096, Rights::READ_WRITE) {
            assert!(memory.iova.bits() >= 4096);
        }
        bus.unshare_all();
    }
}

#[test]
fn the_kernel_may_copy_into_each_window_as_long_as_it_is_there() {
    let folder = Folder::new();
    let _server = serve(&folder);
    let mut bus = IvshmemBus::connect(host_options(&folder)).unwrap();
    let board = board(&folder);
    let bar = bus.bar(0, StoreWidth::Bits64).unwrap();
    let _bell = bus.doorbell(&board.doorbells(), 0).unwrap();
    let latch = bus.interrupt(0).unwrap();
    let _ = latch.drain();
    // Two regions: what of the BAR a board shows, and what the host shares.
    let region = bar.part(16 << 10, (2 << 20) - (16 << 10)).unwrap();
    let shared = bus.share(512 << 10, Rights::READ_WRITE).unwrap().window;
    for (name, window) in [("BAR", &bar), ("region", &region), ("host memory", &shared)] {
        let len = usize::try_from(window.len()).unwrap();
        assert!(window.kernel_range(0, len).is_some(), "{name}");
        assert!(window.kernel_range(window.len() - 8, 8).is_some(), "{name}");
        assert!(window.kernel_range(window.len() - 8, 9).is_none(), "{name}");
        assert!(window.kernel_range(u64::MAX, 1).is_none(), "{name}");
    }
    drop(board);
    wait(latch.fd().unwrap());
    assert!(latch.drain());
    assert!(bar.kernel_range(0, 8).is_none() && region.kernel_range(0, 8).is_none());
    assert!(shared.kernel_range(0, 512 << 10).is_some(), "host memory does not go");
}

#[test]
fn what_is_not_there_is_refused() {
    let folder = Folder::new();
    let _server = serve(&folder);
    let mut bus = IvshmemBus::new(host_options(&folder));
    assert_eq!(bus.bar_len(0), 0, "nothing is connected yet");
    assert!(matches!(bus.share(4096, Rights::READ), Err(BusError::Gone)));
    bus.bar(0, StoreWidth::Bits64).unwrap();
    // What there is has all come: the rest is not to be waited for.
    let _last = bus.interrupt(3).unwrap();
    bus.set_patience(Duration::from_millis(10));
    let good = board(&folder).doorbells();
    let wrong = [
        DoorbellDescription { bar: 0, ..good },
        DoorbellDescription { offset: 8, ..good },
        DoorbellDescription { stride: 4, ..good },
        DoorbellDescription { value: 0, ..good },
        DoorbellDescription { value: 99 << 16, ..good },
        DoorbellDescription { step: 1 << 16, ..good },
        DoorbellDescription { step: 40, ..good },
    ];
    for described in wrong {
        let refused = bus.doorbell(&described, 1);
        assert!(matches!(refused, Err(BusError::BadDoorbell { .. })), "{described:?}");
    }
    assert!(matches!(bus.doorbell(&good, 3), Err(BusError::BadDoorbell { .. })));
    assert!(matches!(bus.interrupt(4), Err(BusError::NoVector { vector: 4, count: 4 })));
    assert!(matches!(bus.bar(1, StoreWidth::Bits64), Err(BusError::NoBar { index: 1 })));
    for len in [0, 1, 4095, 4097] {
        assert!(matches!(bus.share(len, Rights::READ), Err(BusError::BadLength { .. })));
    }
    assert!(matches!(bus.share(2 << 20, Rights::READ), Err(BusError::NoHostMemory { .. })));
    let few = IvshmemBoard::connect(&folder.socket(), 4, Duration::from_millis(10));
    assert!(matches!(few, Err(IvshmemError::Silent { .. })), "four vectors are three doorbells");
}

#[test]
fn shared_memory_is_zero_and_not_that_of_the_session_before() {
    let folder = Folder::new();
    let _server = serve(&folder);
    let mut bus = IvshmemBus::connect(host_options(&folder)).unwrap();
    let board = board(&folder);
    let all = board.outbound(BusAddress::new(0), board.bar_len()).unwrap();
    let mut last = None;
    for _ in 0..4 {
        all.write(0, &vec![0xA5; 2 << 20]);
        let memory = bus.share(256 << 10, Rights::READ_WRITE).unwrap();
        assert_ne!(last, Some(memory.iova));
        let mut bytes = vec![1; 256 << 10];
        memory.window.read(0, &mut bytes);
        assert!(bytes.iter().all(|byte| *byte == 0));
        last = Some(memory.iova);
        bus.unshare_all();
    }
}

#[test]
fn a_board_that_goes_is_gone_until_the_next_attach() {
    let folder = Folder::new();
    let _server = serve(&folder);
    let mut bus = IvshmemBus::connect(host_options(&folder)).unwrap();
    for _ in 0..3 {
        let board = board(&folder);
        board.memory(0, 64).unwrap().store(0, 7_u32);
        let bar = bus.bar(0, StoreWidth::Bits64).unwrap();
        let part = bar.part(0, 64).unwrap();
        let shared = bus.share(4096, Rights::READ_WRITE).unwrap();
        let described = board.doorbells();
        let bell = bus.doorbell(&described, 0).unwrap();
        let latch = bus.interrupt(0).unwrap();
        let _ = latch.drain();
        assert_eq!(part.load::<u32>(0), 7);
        drop(board);
        wait(latch.fd().unwrap());
        assert!(latch.drain(), "its end is heard like an interrupt");
        assert_eq!((part.load::<u32>(0), part.load::<u64>(8)), (u32::MAX, u64::MAX));
        let mut bytes = [0; 3];
        part.read(0, &mut bytes);
        assert_eq!(bytes, [0xFF; 3]);
        assert!(part.kernel_range(0, 8).is_none());
        part.store(0, 9_u32);
        part.write(0, b"gone");
        bell.ring();
        // Host memory stays what it is.
        shared.window.store(0, 5_u32);
        assert_eq!(shared.window.load::<u32>(0), 5);
        assert!(matches!(bus.reset(), Err(BusError::Gone)));
        bus.unshare_all();
        let again = bus.bar(0, StoreWidth::Bits64).unwrap();
        assert_eq!(again.load::<u32>(0), 7, "what was stored after the end went nowhere");
        assert_eq!(part.load::<u32>(0), u32::MAX, "the old attach stays over");
    }
}

#[test]
fn a_server_that_goes_takes_the_board_with_it_and_another_is_found() {
    let folder = Folder::new();
    let server = serve(&folder);
    let mut bus = IvshmemBus::connect(host_options(&folder)).unwrap();
    let first = board(&folder);
    let bar = bus.bar(0, StoreWidth::Bits64).unwrap();
    let _bell = bus.doorbell(&first.doorbells(), 0).unwrap();
    let latch = bus.interrupt(0).unwrap();
    let _ = latch.drain();
    drop(server);
    wait(latch.fd().unwrap());
    assert!(latch.drain());
    assert_eq!(bar.load::<u32>(0), u32::MAX);
    assert!(is_quiet(latch.fd().unwrap()), "it does not say so for ever");
    assert!(matches!(bus.reset(), Err(BusError::Gone)));
    assert!(matches!(
        bus.bar(0, StoreWidth::Bits64),
        Err(BusError::Ivshmem(IvshmemError::Connect { .. }))
    ));
    assert!(matches!(bus.share(4096, Rights::READ), Err(BusError::Gone)));
    wait(first.fd());
    let _ = first.take_doorbells();
    assert!(!first.is_connected() && is_quiet(first.fd()));

    let _server = serve(&folder);
    let bar = bus.bar(0, StoreWidth::Bits64).unwrap();
    assert_eq!(bar.load::<u32>(0), 0, "another memory");
    let second = board(&folder);
    second.memory(0, 8).unwrap().store(0, 3_u32);
    assert_eq!(bar.load::<u32>(0), 3);
    bus.doorbell(&second.doorbells(), 1).unwrap().ring();
    wait(second.fd());
}

/// The words that a reset looks at.
fn publish(board: &IvshmemBoard, epoch: u32) {
    let control = board.memory(0, 4096).unwrap();
    control.store(field::LIVE as u64, 0xF00_u32);
    control.store(0xF00 + live::BOOT_EPOCH, epoch);
}

#[test]
fn a_reset_is_a_reboot_that_was_seen() {
    let folder = Folder::new();
    let _server = serve(&folder);
    let mut bus = IvshmemBus::connect(host_options(&folder)).unwrap();
    let board = board(&folder);
    publish(&board, 1);
    let described = board.doorbells();
    let _bell = bus.doorbell(&described, 0).unwrap();
    let (tell, told) = mpsc::channel();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            wait(board.fd());
            assert_eq!(board.take_doorbells(), 0, "it is no doorbell");
            tell.send(board.take_reset()).unwrap();
            publish(&board, 2);
        });
        bus.reset().unwrap();
    });
    assert!(told.recv().unwrap());
    assert!(!board.take_reset());
}

#[test]
fn a_board_that_does_not_reboot_is_not_called_reset() {
    let folder = Folder::new();
    let _server = serve(&folder);
    let mut bus = IvshmemBus::connect(host_options(&folder)).unwrap();
    assert!(matches!(bus.reset(), Err(BusError::NotReset { .. })), "none is known");
    let board = board(&folder);
    publish(&board, 1);
    let described = board.doorbells();
    let _bell = bus.doorbell(&described, 0).unwrap();
    bus.set_patience(Duration::from_millis(50));
    let start = Instant::now();
    let error = bus.reset().unwrap_err();
    assert!(matches!(error, BusError::NotReset { .. }), "{error}");
    assert!(start.elapsed() >= Duration::from_millis(50), "it was given its time");
    // A block without a word of its own at that place.
    board.memory(0, 4096).unwrap().store(field::LIVE as u64, u32::MAX);
    assert!(bus.reset().is_err());
    // One whose vector is beyond those of its peer.
    let many = DoorbellDescription { count: u32::from(OPTIONS.vectors), ..described };
    let _bell = bus.doorbell(&many, 0).unwrap();
    assert!(bus.reset().unwrap_err().to_string().contains("no vector"));
}
