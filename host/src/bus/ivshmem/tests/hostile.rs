//! A client before servers that do everything wrong.

use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, SealFlag, fcntl};
use nix::sys::eventfd::EventFd;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use nix::unistd::{ftruncate, pipe2, read};
use std::os::fd::AsRawFd;

use super::{Folder, LONG};
use crate::bus::ivshmem::client::{BUDGET, Client, MAX_PEERS, MAX_VECTORS};
use crate::bus::ivshmem::error::{IvshmemError, Nonsense, Step};
use crate::raw::MapError;

/// One thing that a server does.
enum Act<'a> {
    Say(i64),
    /// With these descriptors.
    With(i64, Vec<BorrowedFd<'a>>),
    Bytes(&'a [u8]),
    Close,
}

use Act::{Bytes, Close, Say, With};

fn play(stream: &mut Option<UnixStream>, act: Act<'_>) {
    let Some(socket) = stream.as_mut() else { return };
    let (number, descriptors) = match act {
        Close => return *stream = None,
        Bytes(bytes) => return socket.write_all(bytes).unwrap(),
        Say(number) => (number, Vec::new()),
        With(number, descriptors) => (number, descriptors),
    };
    let raw: Vec<_> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&raw)];
    let rights = if raw.is_empty() { &[][..] } else { &rights[..] };
    let bytes = number.to_le_bytes();
    let parts = [std::io::IoSlice::new(&bytes)];
    sendmsg::<()>(socket.as_raw_fd(), &parts, rights, MsgFlags::empty(), None).unwrap();
}

/// Connects to a server that does `acts` at once, and looks for vector 0.
fn meet(acts: Vec<Act<'_>>, patience: Duration) -> Result<Client, IvshmemError> {
    let folder = Folder::new();
    let listener = UnixListener::bind(folder.socket()).unwrap();
    std::thread::scope(|scope| {
        let server = scope.spawn(move || {
            let mut stream = Some(listener.accept().unwrap().0);
            for act in acts {
                play(&mut stream, act);
            }
            stream
        });
        let client = Client::connect(&folder.socket(), patience);
        // The connection stays open until the client has seen enough.
        let client = client.and_then(|mut client| {
            client.await_some(patience, |client| client.vector(0))?;
            Ok(client)
        });
        drop(server.join().unwrap());
        client
    })
}

fn sealed(len: i64) -> OwnedFd {
    let file = memfd_create("test", MFdFlags::MFD_ALLOW_SEALING).unwrap();
    ftruncate(&file, len).unwrap();
    fcntl(&file, FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_SHRINK)).unwrap();
    file
}

fn event() -> EventFd {
    EventFd::new().unwrap()
}

fn nonsense(acts: Vec<Act<'_>>) -> (Step, Nonsense, i64) {
    match meet(acts, LONG) {
        Err(IvshmemError::Nonsense { step, what, number }) => (step, what, number),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_server_by_the_book_is_taken() {
    let (memory, event) = (sealed(1 << 20), event());
    let acts = vec![Say(0), Say(7), With(-1, vec![memory.as_fd()]), With(7, vec![event.as_fd()])];
    let client = meet(acts, LONG).unwrap();
    assert_eq!((client.id(), client.vectors(), client.memory().half()), (7, 1, 1 << 19));
}

#[test]
fn messages_in_pieces_are_put_together() {
    let (memory, event) = (sealed(1 << 20), event());
    let greeting: Vec<u8> = [0_i64, 7].iter().flat_map(|n| n.to_le_bytes()).collect();
    let mut acts: Vec<Act<'_>> = greeting.chunks(3).map(Bytes).collect();
    acts.push(With(-1, vec![memory.as_fd()]));
    acts.push(With(7, vec![event.as_fd()]));
    assert_eq!(meet(acts, LONG).unwrap().id(), 7);
}

#[test]
fn another_version_is_refused() {
    for version in [1, -1, i64::MIN, i64::MAX, 0x0100_0000_0000_0000] {
        assert_eq!(nonsense(vec![Say(version)]), (Step::Version, Nonsense::Version, version));
    }
}

#[test]
fn numbers_that_are_none_are_refused() {
    let memory = sealed(1 << 20);
    for id in [-1, 65_536, i64::MIN, i64::MAX] {
        let (step, _, number) = nonsense(vec![Say(0), Say(id)]);
        assert_eq!((step, number), (Step::Identity, id));
        let event = event();
        let greeting = || vec![Say(0), Say(7), With(-1, vec![memory.as_fd()])];
        let mut bare = greeting();
        bare.push(Say(id));
        assert_eq!(nonsense(bare), (Step::Peers, Nonsense::Number, id));
        let mut acts = greeting();
        acts.push(With(id, vec![event.as_fd()]));
        assert_eq!(nonsense(acts), (Step::Peers, Nonsense::Number, id));
    }
}

#[test]
fn descriptors_in_the_wrong_place_are_refused() {
    let memory = sealed(1 << 20);
    let fd = || vec![memory.as_fd()];
    let both = || vec![memory.as_fd(), memory.as_fd()];
    let no = Nonsense::NoDescriptor;
    let extra = Nonsense::Descriptors;
    assert_eq!(nonsense(vec![With(0, fd())]), (Step::Version, extra, 0));
    assert_eq!(nonsense(vec![Say(0), With(7, fd())]), (Step::Identity, extra, 7));
    assert_eq!(nonsense(vec![Say(0), Say(7), Say(-1)]), (Step::Memory, no, -1));
    assert_eq!(nonsense(vec![Say(0), Say(7), With(-1, both())]), (Step::Memory, extra, -1));
    let wrong = nonsense(vec![Say(0), Say(7), With(7, fd())]);
    assert_eq!(wrong, (Step::Memory, Nonsense::Number, 7));
    let acts = vec![Say(0), Say(7), With(-1, fd()), With(3, both())];
    assert_eq!(nonsense(acts), (Step::Peers, extra, 3));
    let acts = vec![Say(0), Say(7), With(-1, fd()), Say(7)];
    assert_eq!(nonsense(acts), (Step::Peers, no, 7));
}

#[test]
fn vectors_that_are_no_eventfds_are_refused() {
    let memory = sealed(1 << 20);
    let (reading, writing) = pipe2(OFlag::O_CLOEXEC).unwrap();
    let terminal = std::fs::File::open("/dev/null").unwrap();
    for stray in [reading.as_fd(), writing.as_fd(), terminal.as_fd(), memory.as_fd()] {
        // Our own vector, and another peer's.
        for id in [7, 3] {
            let acts = vec![Say(0), Say(7), With(-1, vec![memory.as_fd()]), With(id, vec![stray])];
            assert_eq!(nonsense(acts), (Step::Peers, Nonsense::NotAnEvent, id));
        }
    }
}

/// Legal messages, of peers that have left, as many as a server likes.
#[test]
fn a_flood_of_farewells_makes_no_wait_longer() {
    let (memory, event, folder) = (sealed(1 << 20), event(), Folder::new());
    let listener = UnixListener::bind(folder.socket()).unwrap();
    let mut client = std::thread::scope(|scope| {
        let server = scope.spawn(|| {
            let mut stream = Some(listener.accept().unwrap().0);
            let mut acts = vec![Say(0), Say(7), With(-1, vec![memory.as_fd()])];
            // More than one look takes, and behind them what is waited for.
            let farewells = 3_i64.to_le_bytes().repeat(BUDGET + 1);
            acts.extend([Bytes(&farewells), With(7, vec![event.as_fd()])]);
            for act in acts {
                play(&mut stream, act);
            }
            stream
        });
        let client = Client::connect(&folder.socket(), LONG).unwrap();
        // All of it lies there before the wait begins.
        (client, server.join().unwrap())
    });
    let mut wait = |patience| client.0.await_some(patience, |client| client.vector(0)).unwrap();
    assert!(wait(Duration::ZERO).is_none(), "it waited beyond its time");
    assert!(wait(LONG).is_some());
}

#[test]
fn memory_that_cannot_be_trusted_is_refused() {
    let refused =
        |file: BorrowedFd<'_>| match meet(vec![Say(0), Say(7), With(-1, vec![file])], LONG) {
            Err(IvshmemError::Memory(error)) => error,
            other => panic!("{other:?}"),
        };
    assert!(matches!(refused(sealed(0).as_fd()), MapError::Length(0)));
    assert!(matches!(refused(sealed(4096).as_fd()), MapError::Length(4096)));
    assert!(matches!(refused(sealed(3 << 20).as_fd()), MapError::Length(_)));
    assert!(matches!(refused(event().as_fd()), MapError::NotAFile));
    let (pipe, _other) = pipe2(OFlag::O_CLOEXEC).unwrap();
    assert!(matches!(refused(pipe.as_fd()), MapError::NotAFile));
    let shrinks = memfd_create("test", MFdFlags::MFD_ALLOW_SEALING).unwrap();
    ftruncate(&shrinks, 1 << 20).unwrap();
    assert!(matches!(refused(shrinks.as_fd()), MapError::MayShrink));
    let folder = Folder::new();
    let plain = std::fs::File::create(folder.0.join("plain")).unwrap();
    plain.set_len(1 << 20).unwrap();
    assert!(matches!(refused(plain.as_fd()), MapError::NotAFile));
    // A file of /dev/shm is memory, and anybody may cut it off.
    let path = std::path::PathBuf::from(format!("/dev/shm/vphys-test-{}", std::process::id()));
    let shared = std::fs::File::create_new(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    shared.set_len(1 << 20).unwrap();
    assert!(matches!(refused(shared.as_fd()), MapError::MayShrink));
    // Sealed against the very mapping that is wanted.
    let frozen = sealed(1 << 20);
    fcntl(&frozen, FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_WRITE)).unwrap();
    assert!(matches!(refused(frozen.as_fd()), MapError::System(_)));
}

#[test]
fn closing_at_each_step_is_told() {
    let (memory, event) = (sealed(1 << 20), event());
    let steps = [Step::Version, Step::Identity, Step::Memory, Step::Peers];
    for (said, expected) in steps.into_iter().enumerate() {
        for half in [false, true] {
            let mut acts = vec![Say(0), Say(7), With(-1, vec![memory.as_fd()])];
            acts.truncate(said);
            if half {
                acts.push(Bytes(b"half"));
            }
            acts.push(Close);
            let error = meet(acts, LONG).unwrap_err();
            let found = matches!(error, IvshmemError::Closed { step } if step == expected);
            assert!(found, "{said} {half}: {error}");
        }
    }
    // Another peer's vector: ours, which is waited for, never comes.
    let mut acts = vec![Say(0), Say(7), With(-1, vec![memory.as_fd()])];
    acts.extend([With(3, vec![event.as_fd()]), Close]);
    let error = meet(acts, LONG).unwrap_err();
    assert!(matches!(error, IvshmemError::Closed { step: Step::Peers }), "{error}");
}

#[test]
fn silence_at_each_step_ends() {
    // One that is stopped: connections wait and nobody takes them.
    let folder = Folder::new();
    let _listener = UnixListener::bind(folder.socket()).unwrap();
    let error = Client::connect(&folder.socket(), Duration::from_millis(20)).unwrap_err();
    assert!(matches!(error, IvshmemError::Silent { step: Step::Version, .. }), "{error}");

    let memory = sealed(1 << 20);
    for (said, expected) in [(1, Step::Identity), (2, Step::Memory)] {
        let mut patience = Duration::from_millis(50);
        loop {
            let mut acts = vec![Say(0), Say(7), With(-1, vec![memory.as_fd()])];
            acts.truncate(said);
            match meet(acts, patience).unwrap_err() {
                IvshmemError::Silent { step, .. } if step == expected => break,
                // It was given up before the server had said all.
                IvshmemError::Silent { .. } if patience < LONG => patience *= 4,
                error => panic!("{expected:?}: {error}"),
            }
        }
    }
}

#[test]
fn nobody_at_the_socket_is_told() {
    let folder = Folder::new();
    let missing = Client::connect(&folder.socket(), LONG).unwrap_err();
    assert!(missing.to_string().contains("start the board"), "{missing}");
    drop(UnixListener::bind(folder.socket()).unwrap());
    assert!(matches!(
        Client::connect(&folder.socket(), LONG),
        Err(IvshmemError::Connect { error, .. })
            if error.raw_os_error() == Some(Errno::ECONNREFUSED as i32)
    ));
    let long = folder.0.join("x".repeat(200));
    assert!(matches!(Client::connect(&long, LONG), Err(IvshmemError::Connect { .. })));
}

#[test]
fn endless_peers_and_vectors_end() {
    let (memory, event) = (sealed(1 << 20), event());
    let greeting = || vec![Say(0), Say(7), With(-1, vec![memory.as_fd()])];
    let mut acts = greeting();
    let peers = (100..).take(MAX_PEERS + 1);
    acts.extend(peers.map(|id| With(id, vec![event.as_fd()])));
    let (step, what, _) = nonsense(acts);
    assert_eq!((step, what), (Step::Peers, Nonsense::Peers));

    // Vectors beyond what is kept are closed, as the specification has it.
    let mut acts = greeting();
    acts.extend((0..2 * MAX_VECTORS).map(|_| With(3, vec![event.as_fd()])));
    acts.extend((0..2 * MAX_VECTORS).map(|_| With(7, vec![event.as_fd()])));
    let mut client = meet(acts, LONG).unwrap();
    let _ = client.service();
    assert_eq!(usize::from(client.vectors()), MAX_VECTORS);
    let last = u16::try_from(MAX_VECTORS).unwrap();
    assert!(client.bell(3, last - 1).is_some() && client.bell(3, last).is_none());
}

#[test]
fn descriptors_that_are_not_kept_are_closed() {
    let memory = sealed(1 << 20);
    // The reading end sees the end only when every copy of the other is closed.
    let closed = |acts: &dyn Fn(OwnedFd) -> (Vec<OwnedFd>, usize)| {
        let (reading, writing) = pipe2(OFlag::O_CLOEXEC).unwrap();
        let (fds, at) = acts(writing);
        let many: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
        let mut script = vec![Say(0), Say(7), With(-1, vec![memory.as_fd()])];
        script.truncate(at);
        script.push(With(if at == 3 { 7 } else { 0 }, many));
        let outcome = meet(script, LONG);
        assert!(outcome.is_err(), "{outcome:?}");
        drop(fds);
        assert_eq!(read(&reading, &mut [0; 1]).unwrap(), 0);
    };
    for at in 0..=3 {
        for count in [2, 64, 253] {
            closed(&move |fd| ((0..count).map(|_| fd.try_clone().unwrap()).collect(), at));
        }
    }
}
